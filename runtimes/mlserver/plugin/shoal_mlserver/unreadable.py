"""gRPC messages that are no message: INVALID_ARGUMENT, as their sender's fault.

gRPC reads a request before it asks the servicer, and calls what cannot be read an error of the server's own, UNKNOWN.
Here reading never fails; what could not be read is refused where the request would be answered.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from mlserver.errors import MLServerError
from mlserver.grpc import server as grpc_server

from .errors import BAD_INPUT

_MAX_SHOWN = 256


class _Unreadable:
    """In place of the request."""

    def __init__(self, error: Exception) -> None:
        self.said = f"The message cannot be read: {str(error)[:_MAX_SHOWN]}"


def install() -> None:
    """Have MLServer's inference service refuse them. Once per process: this changes the module."""
    add = grpc_server.add_GRPCInferenceServiceServicer_to_server

    def added(servicer: Any, server: Any) -> None:
        add(servicer, _Refusing(server))

    grpc_server.add_GRPCInferenceServiceServicer_to_server = added


class _Refusing:
    """A server to which handlers are added that refuse what they cannot read."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(tuple(map(_Generic, handlers)))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Of newer generated code, which adds the same once more."""
        add = getattr(self._server, "add_registered_method_handlers", None)
        if add is not None:
            add(service, {name: refusing(handler) for name, handler in handlers.items()})


class _Generic(grpc.GenericRpcHandler):
    def __init__(self, handler: grpc.GenericRpcHandler) -> None:
        self._handler = handler

    def service(self, handler_call_details: Any) -> Any:
        found = self._handler.service(handler_call_details)
        return refusing(found) if found is not None else None


def refusing(handler: Any) -> Any:
    """The same handler of calls, but for what cannot be read."""
    wrapped = {
        kind: _stream(method) if inspect.isasyncgenfunction(method) else _unary(method)
        for kind in ("unary_unary", "stream_stream")
        if (method := getattr(handler, kind)) is not None
    }
    return handler._replace(request_deserializer=_reading(handler.request_deserializer), **wrapped)


def _reading(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def reading(message: bytes) -> Any:
        try:
            return read(message)
        except Exception as error:
            return _Unreadable(error)

    return reading


def _unary(method: Callable[..., Any]) -> Callable[..., Any]:
    async def reading(request: Any, context: Any) -> Any:
        if isinstance(request, _Unreadable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.said)
        return await method(request, context)

    return reading


def _stream(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def reading(requests: Any, context: Any) -> AsyncIterator[Any]:
        async def each() -> AsyncIterator[Any]:
            async for request in requests:
                if isinstance(request, _Unreadable):
                    raise MLServerError(request.said, BAD_INPUT)  # which MLServer makes a status of
                yield request

        async for response in method(each(), context):
            yield response

    return reading
