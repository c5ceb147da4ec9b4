"""What goes wrong while a model answers, told as its protocol tells it: whose fault it was, and the connection kept.

MLServer answers a wrong shape with 500 and plain text, and closes the connection unannounced: the gateway's next
request on it, another model's, then fails. Here every answer is the Open Inference Protocol's error object
(``{"error": "..."}``; over gRPC a status):

- the input cannot be read, or the model refuses it (ValueError, TypeError, LookupError, its framework's own word for
  it): 400, INVALID_ARGUMENT;
- anything else that a model's code does: 500, INTERNAL.

A model's traceback goes to the log, never to the client. Messages are bounded: some libraries quote the whole input.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import orjson
from fastapi.exceptions import RequestValidationError
from mlserver.errors import MLServerError, ModelNotFound, ModelNotReady
from mlserver.grpc import utils as grpc_utils
from mlserver.grpc.servicers import InferenceServicer
from mlserver.model import MLModel
from mlserver.parallel.errors import WorkerError
from mlserver.rest.endpoints import Endpoints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from . import spaces
from .asgi import Application, Receive, Scope, Send
from .bodies import BadBody

MAX_MESSAGE = 1024
MAX_DETAILS = 5
BAD_INPUT, NOT_READY, FAILED = 400, 503, 500

_OF_THE_INPUT = (ValueError, TypeError, LookupError)
_OF_THE_INPUT_BY_NAME = frozenset({"LightGBMError", "XGBoostError", "InvalidArgument", "InvalidInput"})
"""Exceptions of frameworks that say "this input does not fit the model" without being a ValueError."""
_BUILTIN = frozenset({"builtins.ValueError", "builtins.TypeError", "builtins.KeyError", "builtins.IndexError"})
_OF_THE_ANSWER = frozenset({"InferenceResponse", "ResponseOutput"})
"""What pydantic was building when it refused: the model's answer is not the client's fault."""

_logger = logging.getLogger("shoal_mlserver")


def as_answer(error: BaseException) -> MLServerError:
    """The same error with the status and the message that its client gets."""
    if isinstance(error, ModelNotReady):
        return MLServerError(bounded(str(error)), NOT_READY)
    if isinstance(error, WorkerError) and error.status_code == FAILED:
        return _from_worker(error)
    if isinstance(error, MLServerError):
        return error if len(str(error)) <= MAX_MESSAGE else MLServerError(bounded(str(error)), error.status_code)
    status = BAD_INPUT if of_the_input(error) else FAILED
    return MLServerError(bounded(describe(error, status)), status)


def of_the_input(error: BaseException) -> bool:
    """The client's input caused it, as far as its type tells."""
    if type(error).__name__ in _OF_THE_INPUT_BY_NAME:
        return True
    return isinstance(error, _OF_THE_INPUT) and getattr(error, "title", None) not in _OF_THE_ANSWER


def describe(error: BaseException, status: int) -> str:
    """One message for the caller: what the exception says, with its type where that is not obvious from the words."""
    said = str(error).strip()
    if status == BAD_INPUT and said and not isinstance(error, LookupError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def bounded(message: str) -> str:
    """At most MAX_MESSAGE characters."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def _from_worker(error: WorkerError) -> MLServerError:
    """A worker process says "module.Class: message" of what its model raised, and always 500."""
    name, _, said = spaces.readable(str(error)).partition(": ")
    if name in _BUILTIN or name.rpartition(".")[2] in _OF_THE_INPUT_BY_NAME:
        return MLServerError(bounded(said or name), BAD_INPUT)
    return MLServerError(bounded(spaces.readable(str(error))), FAILED)


def told(infer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a call into a model: whatever it raises leaves as an MLServerError."""

    @functools.wraps(infer)
    async def telling(*arguments: Any, **named: Any) -> Any:
        try:
            return await infer(*arguments, **named)
        except ModelNotFound:
            raise
        except (Exception, SystemExit) as error:  # a model's sys.exit() must not end the server for all others
            raise _noted(error) from error

    return telling


def told_stream(infer: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """The same for a call that streams."""

    @functools.wraps(infer)
    async def telling(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        try:
            async for each in infer(*arguments, **named):
                yield each
        except ModelNotFound:
            raise
        except (Exception, SystemExit) as error:
            raise _noted(error) from error

    return telling


def _noted(error: BaseException) -> MLServerError:
    answer = as_answer(error)
    if answer.status_code >= FAILED and answer.status_code != NOT_READY:
        _logger.error("A model failed: %s", answer, exc_info=error)
    return answer


def install() -> None:
    """Change MLServer's classes and tables. Once per process."""
    for name in ("decode", "decode_request"):
        # What cannot be decoded is the client's input, whatever the codec raises.
        setattr(MLModel, name, _reading(getattr(MLModel, name)))
    InferenceServicer._InsertHeaders = _reading(InferenceServicer._InsertHeaders)
    InferenceServicer.ModelReady = grpc_utils.handle_mlserver_error(InferenceServicer.ModelReady)
    grpc_utils.STATUS_CODE_MAPPING[NOT_READY] = grpc.StatusCode.UNAVAILABLE
    grpc_utils.logger.addFilter(_not_told_already)
    Endpoints.infer_stream = _first_answer_first(Endpoints.infer_stream)


def _reading(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what reads a request: whatever it raises is the client's input."""

    @functools.wraps(method)
    def reading(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except MLServerError:
            raise
        except Exception as error:
            raise MLServerError(bounded(describe(error, BAD_INPUT)), BAD_INPUT) from error

    return reading


def _not_told_already(record: logging.LogRecord) -> bool:
    """MLServer's gRPC side logs a traceback for each error: ours were logged, a client's own would fill the disk."""
    return not (record.exc_info and isinstance(record.exc_info[1], MLServerError))


def _first_answer_first(infer_stream: Callable[..., Awaitable[StreamingResponse]]) -> Callable[..., Awaitable[Any]]:
    """A stream that fails before its first event gets a status of its own; later, a last event says why."""

    @functools.wraps(infer_stream)
    async def answering(*arguments: Any, **named: Any) -> Any:
        response = await infer_stream(*arguments, **named)
        # One task reads the stream from begin to end: MLServer's context variables want that.
        events: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        reader = asyncio.create_task(_read(response.body_iterator, events))
        first = await events.get()
        if isinstance(first, Exception):
            raise first
        response.body_iterator = _told_to_the_end(first, events, reader)
        return response

    return answering


async def _read(stream: AsyncIterator[Any], events: "asyncio.Queue[Any]") -> None:
    try:
        async for event in stream:
            await events.put(event)
        await events.put(None)
    except Exception as error:
        await events.put(error)


async def _told_to_the_end(
    event: Any, events: "asyncio.Queue[Any]", reader: "asyncio.Task[None]"
) -> AsyncIterator[Any]:
    try:
        while event is not None:
            if isinstance(event, Exception):
                yield b"data: " + orjson.dumps({"error": str(as_answer(event))}) + b"\n\n"
                return
            yield event
            event = await events.get()
    finally:
        reader.cancel()


def install_in_rest(app: Any) -> None:
    """What FastAPI refuses before a model is asked: error objects instead of its own."""
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _refused)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _object(str(error.detail), error.status_code, dict(error.headers or {}))
    details = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in details[:MAX_DETAILS])
    return _object(f"The request cannot be read: {said}", BAD_INPUT)


def _object(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": bounded(message)})
    return Response(body, status_code=status, headers=headers, media_type="application/json")


class ErrorObjects:
    """ASGI middleware: what nothing else answered becomes a 500 with an error object, and the connection lives.

    An answer that has begun cannot be taken back: then the connection is closed, so that the client sees it cut.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except (Exception, SystemExit) as error:
            if begun:
                raise
            if isinstance(error, BadBody):
                answer = _object(str(error), error.status)
            else:
                _logger.error("%s %s failed", scope["method"], bounded(scope["path"]), exc_info=error)
                answer = _object(describe(error, FAILED), FAILED)
            await answer(scope, receive, send)
