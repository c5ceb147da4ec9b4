"""Marks answers that say "this server does not have the model": the gateway then asks another pod, or has it loaded.

The mark is the header ``x-model-not-loaded: true`` (trailing metadata over gRPC). It is set where the registry is asked
for a model that it does not have, so that a 404 of a model's own making, or of an unknown version, is never taken for
it. Nothing was computed for a marked answer; the gateway takes the mark off.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from mlserver.errors import ModelNotFound
from mlserver.grpc.servicers import InferenceServicer

from .asgi import Application, Receive, Scope, Send

NOT_LOADED = "x-model-not-loaded"

MAX_NAME = 256
"""Of a name or version: longer ones are nobody's, and would be quoted in a status that no connection carries."""

_mark: ContextVar[Callable[[], None] | None] = ContextVar("shoal_mark", default=None)
"""Marks the answer to the request that the current task serves."""


def watch(registry: Any) -> None:
    """Have requests marked that ask ``registry`` for a model it does not have, or has not finished to load."""
    get_model = registry.get_model

    @functools.wraps(get_model)
    async def watched(name: str, version: str | None = None) -> Any:
        name, version = _shown(name), _shown(version) if version else version
        try:
            model = await get_model(name, version)
        except ModelNotFound:
            if not version or not await _has(get_model, name):
                _marked()
            raise
        if not model.ready:
            _marked()
        return model

    registry.get_model = watched


def watch_grpc(servicer: Any = InferenceServicer) -> None:
    """Have calls marked too. Once per process: this changes the class."""
    for name in ("ModelInfer", "ModelMetadata", "ModelReady"):
        setattr(servicer, name, _unary(getattr(servicer, name)))
    servicer.ModelStreamInfer = _stream(servicer.ModelStreamInfer)


class NotLoadedHeader:
    """ASGI middleware: puts the mark on failed answers."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lacks = False

        def mark() -> None:
            nonlocal lacks
            lacks = True

        async def send_marked(message: Any) -> None:
            if lacks and message["type"] == "http.response.start" and message["status"] >= 400:
                message = {**message, "headers": [*message["headers"], (NOT_LOADED.encode(), b"true")]}
            await send(message)

        _mark.set(mark)  # each request is served by a task of its own
        await self._app(scope, receive, send_marked)


def _shown(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _marked() -> None:
    mark = _mark.get()
    if mark is not None:
        mark()


async def _has(get_model: Callable[[str], Awaitable[Any]], name: str) -> bool:
    try:
        await get_model(name)
    except ModelNotFound:
        return False
    return True


def _in_trailers(context: Any) -> Callable[[], None]:
    return lambda: context.set_trailing_metadata(((NOT_LOADED, "true"),))


def _unary(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def marking(self: Any, request: Any, context: Any) -> Any:
        _mark.set(_in_trailers(context))
        return await method(self, request, context)

    return marking


def _stream(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(method)
    async def marking(self: Any, requests: Any, context: Any) -> AsyncIterator[Any]:
        _mark.set(_in_trailers(context))
        async for response in method(self, requests, context):
            yield response

    return marking
