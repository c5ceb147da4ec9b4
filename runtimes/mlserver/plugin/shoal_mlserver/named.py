"""Which model a gRPC call is for, when its metadata names one: ModelMesh's clients leave the message's own name empty.

The gateway routes by the metadata and does not read the message, so it is here that they meet: an empty name becomes
the metadata's, and another one is refused, since the call would be answered by a model that it was not routed to.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from mlserver.grpc.servicers import InferenceServicer

HEADERS = ("mm-model-id", "mm-vmodel-id")
"""The first that is there counts, as in the gateway."""
_FIELDS = {"ModelInfer": "model_name", "ModelReady": "name", "ModelMetadata": "name"}
_MAX_SHOWN = 256


def install_in_grpc(servicer: Any = InferenceServicer) -> None:
    """Have calls named by their metadata. Once per process: this changes the class."""
    for method, field in _FIELDS.items():
        setattr(servicer, method, _unary(getattr(servicer, method), field))
    servicer.ModelStreamInfer = _stream(servicer.ModelStreamInfer, "model_name")


def _unary(method: Callable[..., Awaitable[Any]], field: str) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def naming(self: Any, request: Any, context: Any) -> Any:
        await _name(request, field, _named(context), context)
        return await method(self, request, context)

    return naming


def _stream(method: Callable[..., AsyncIterator[Any]], field: str) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(method)
    async def naming(self: Any, requests: Any, context: Any) -> AsyncIterator[Any]:
        named = _named(context)

        async def each() -> AsyncIterator[Any]:
            async for request in requests:
                await _name(request, field, named, context)
                yield request

        async for response in method(self, each(), context):
            yield response

    return naming


def _named(context: Any) -> str:
    metadata = dict(reversed(context.invocation_metadata() or ()))  # the first of several counts
    return next((str(metadata[each]) for each in HEADERS if metadata.get(each)), "")


async def _name(request: Any, field: str, named: str, context: Any) -> None:
    said = getattr(request, field)
    if said == named or not named:
        return
    if said:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{field} of the message is {said[:_MAX_SHOWN]!r}, but metadata {' or '.join(HEADERS)} says"
            f" {named[:_MAX_SHOWN]!r}: send one name, or leave one of them out",
        )
    setattr(request, field, named)
