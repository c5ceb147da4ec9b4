"""Loads, unloads and the list, by Triton's gRPC repository API.

Over HTTP each load would hold, until it is done, one of the threads that also answer clients.
"""

from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from shoal_agent.model_server import MODEL_LOAD_FAILED, MODEL_LOAD_TIMEOUT, ServerError, ServerGone
from shoal_agent.model_server.rest import STATE_SECONDS

_SERVICE: Final = "/inference.GRPCInferenceService"
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    # It is on the same machine; when it comes back it is to be reached at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_MAX_SAID: Final = 600


def _messages() -> dict[str, Any]:
    """Requests and answers by name: of the protocol's messages only what is needed here."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="shoal/triton.proto", package="shoal.triton", syntax="proto3")
    index = file.message_type.add(name="Index")
    row = index.nested_type.add(name="Row")
    index.field.add(
        name="models", number=1, type=kind.TYPE_MESSAGE, label=kind.LABEL_REPEATED, type_name=".shoal.triton.Index.Row"
    )
    for message, name, number, type_ in (
        (row, "name", 1, kind.TYPE_STRING),
        (row, "state", 3, kind.TYPE_STRING),
        (file.message_type.add(name="IndexRequest"), "ready", 2, kind.TYPE_BOOL),
        (file.message_type.add(name="ModelRequest"), "model_name", 2, kind.TYPE_STRING),
    ):
        message.field.add(name=name, number=number, type=type_, label=kind.LABEL_OPTIONAL)
    file.message_type.add(name="Empty")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shoal.triton.{name}"))
        for name in ("Index", "IndexRequest", "ModelRequest", "Empty")
    }


_MESSAGES: Final = _messages()


@dataclass(frozen=True, slots=True)
class Row:
    """A model of the repository, or one version of it: ``state`` as Triton says it, empty where it never was loaded."""

    name: str
    state: str


class Control:
    """Opens its channel with the first call, on that call's event loop."""

    def __init__(self, host: str, port: int) -> None:
        self._target = f"{host}:{port}"
        self._channel: grpc.aio.Channel | None = None

    async def load(self, name: str, seconds: float, reason: str) -> None:
        """Raises ServerError (``reason``, or ModelLoadTimeout), ServerGone."""
        await self._call("RepositoryModelLoad", _MESSAGES["ModelRequest"](model_name=name), "Empty", seconds, reason)

    async def unload(self, name: str, seconds: float, reason: str) -> None:
        """Raises as ``load``. Returns before the model's last requests are answered."""
        await self._call("RepositoryModelUnload", _MESSAGES["ModelRequest"](model_name=name), "Empty", seconds, reason)

    async def index(self, *, ready: bool) -> list[Row]:
        """All of the repository, or what answers. Raises as ``load``, for ModelLoadFailed."""
        request = _MESSAGES["IndexRequest"](ready=ready)
        answer = await self._call("RepositoryIndex", request, "Index", STATE_SECONDS, MODEL_LOAD_FAILED)
        return [Row(row.name, row.state) for row in answer.models]

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def _call(self, method: str, request: Any, answer: str, seconds: float, reason: str) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        call = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=_MESSAGES[answer].FromString,
        )
        try:
            return await call(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise ServerGone(f"{error.code().name}: {error.details()}") from error
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerError(
                    MODEL_LOAD_TIMEOUT,
                    f"Triton did not answer {method} within {seconds:g} s. Raise modelLoadingTimeoutMillis of the "
                    "runtime, or look at the server's log.",
                ) from error
            raise ServerError(reason, said(error.details() or error.code().name)) from error


def said(text: str) -> str:
    """The server's own words on one line, cut short: what a Python model raised, without the lines of code."""
    line = " ".join(text.split("\n\nAt:", 1)[0].split()).rstrip("; .")
    return line if len(line) <= _MAX_SAID else f"{line[: _MAX_SAID - 1]}…"
