"""Routes that the plug-in adds to MLServer's application: KServe's v1 protocol, and what the agent needs to see.

- ``POST /v1/models/{name}:predict``, ``GET /v1/models/{name}``, ``GET /v1/models``: KServe's v1; errors as
  ``{"error": ...}``: 404 unknown, 503 not ready, 400 bad input (see ``errors``).
- ``GET /v2/health/live``, ``GET /v2/health/ready``: with a body, as KServe's server has it: ``{"live": true}``.
- ``GET /shoal/v1/state``: ``{"boot": id of this process, "models": [{"name", "copy", "ready"}]}``; ``copy`` is the
  name of the staged folder that the model was loaded from.
- ``GET /shoal/v1/state/{name}``: ``{"boot", "model": {...} or null}``, for one model.

The agent's routes read the server's own registry, so they tell what is loaded, not what was asked for.
"""

import asyncio
import functools
import logging
import os
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from mlserver.errors import MLServerError, ModelNotFound, ModelNotReady
from mlserver.rest import server as rest_server
from mlserver.types import InferenceRequest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import (
    batching,
    binary,
    errors,
    health,
    keep_alive,
    named,
    not_loaded,
    offload,
    said_headers,
    spaces,
    tensors,
    unreadable,
    v1,
    versions,
)
from .bodies import Bodies
from .counters import CounterTable, NoCounters
from .memory import MemoryWatch

BOOT = uuid.uuid4().hex
COUNTERS_FILE = "counters/mlserver"
MAX_MESSAGE_BYTES = (64 << 20) + (1 << 20)
"""Of gRPC: a tensor of 64 MiB and what is around it."""

_logger = logging.getLogger("shoal_mlserver")


def install() -> None:
    """Have MLServer's application carry our routes, and its data plane our counters. Once per process."""
    original = rest_server.create_app
    if getattr(original, "shoal", False):
        return

    @functools.wraps(original)
    def create_app(settings: Any, data_plane: Any, model_repository_handlers: Any) -> Any:
        _watch(data_plane, model_repository_handlers)
        health.begin(settings.host, asyncio.get_running_loop())
        offload.watch(data_plane._model_registry)
        versions.watch(data_plane._model_registry)
        not_loaded.watch(data_plane._model_registry)
        not_loaded.watch_grpc()
        errors.install()
        batching.install(data_plane._model_registry)
        named.install_in_grpc()
        unreadable.install()
        keep_alive.install()
        tensors.install_in_rest()
        if settings.grpc_max_message_length is None:
            settings.grpc_max_message_length = MAX_MESSAGE_BYTES
        settings.extensions = [*settings.extensions, binary.EXTENSION]
        app = original(settings, data_plane=data_plane, model_repository_handlers=model_repository_handlers)
        app.router.routes[:0] = _health(data_plane)
        app.router.routes.extend(_routes(data_plane))
        errors.install_in_rest(app)
        # The last one added is the first that a request meets.
        app.add_middleware(Bodies)
        app.add_middleware(errors.ErrorObjects)
        app.add_middleware(not_loaded.NotLoadedHeader)
        return app

    create_app.shoal = True  # type: ignore[attr-defined]
    rest_server.create_app = create_app


def _watch(data_plane: Any, handlers: Any) -> None:
    """Wrap the two calls that serve requests and the two that change models; REST and gRPC both go through them."""
    table = _counters()
    memory = MemoryWatch(table.memory)
    infer, infer_stream = data_plane.infer, data_plane.infer_stream
    registry = data_plane._model_registry
    load, unload = handlers.load, handlers.unload

    async def counted_infer(payload: Any, name: str, version: str | None = None) -> Any:
        started, succeeded = table.started(name), False
        try:
            model = await registry.get_model(name, version)
            tensors.refuse_what_is_not_offered(payload, spaces.is_own(type(model).__module__))
            response = await infer(payload, name, version)
            succeeded = True
            return said_headers.carried(versions.tell(response, model))
        finally:
            table.finished(started, succeeded)

    async def counted_stream(payloads: Any, name: str, version: str | None = None) -> AsyncIterator[Any]:
        started, succeeded = table.started(name), False
        try:
            model = await registry.get_model(name, version)
            async for response in infer_stream(payloads, name, version):
                yield said_headers.carried(versions.tell(response, model))
            succeeded = True
        finally:
            table.finished(started, succeeded)

    async def explained_load(name: str) -> bool:
        memory.begin()
        try:
            done: bool = await load(name)
        except MLServerError:
            raise
        except Exception as error:
            # MLServer answers "Internal Server Error", or a traceback in debug mode: the agent wants the cause.
            _logger.exception("Model %s failed to load", name)
            raise MLServerError(_cause(error), 500) from error
        table.add(name)
        return done

    async def counted_unload(name: str) -> bool:
        done: bool = await unload(name)
        table.remove(name)
        return done

    metadata = data_plane.model_metadata

    async def versioned_metadata(name: str, version: str | None = None) -> Any:
        said = await metadata(name, version)
        own = versions.declared(await registry.get_model(name, version))
        # What its author listed there are versions of libraries; clients read it as the model's own.
        return said if own is None else said.model_copy(update={"versions": [own]})

    data_plane.infer, data_plane.infer_stream = errors.told(counted_infer), errors.told_stream(counted_stream)
    data_plane.model_metadata = errors.told(versioned_metadata)
    handlers.load, handlers.unload = explained_load, counted_unload


def _counters() -> CounterTable | NoCounters:
    shared = os.environ.get("SHOAL_SHARED_DIR", "")
    if not shared:
        return NoCounters()
    path = os.path.join(shared, COUNTERS_FILE)
    try:
        return CounterTable(path, BOOT)
    except OSError as error:  # a server without counters serves all the same
        _logger.warning("No request counters: cannot write %s: %s", path, error)
        return NoCounters()


def _cause(error: BaseException) -> str:
    """One line: what a traceback ends with."""
    return spaces.readable(traceback.format_exception_only(error)[-1].strip())


def _routes(data_plane: Any) -> list[Route]:
    registry = data_plane._model_registry

    async def predict(request: Request) -> Response:
        name = request.path_params["name"]
        # An unknown name is answered before a bad body: a caller without a model should hear that first.
        await registry.get_model(name)
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise v1.BadInput(f"The request body is not JSON: {error}") from error
        inputs, content_type = v1.inputs_of(body)
        parameters: dict[str, Any] = {"headers": dict(request.headers)}
        if content_type:
            parameters["content_type"] = content_type
        payload = InferenceRequest.model_validate({"inputs": inputs, "parameters": parameters})
        try:
            response = await data_plane.infer(payload, name)
        except MLServerError as error:
            gap = v1.first_null(body.get("instances", body.get("inputs")))
            if gap is None or error.status_code != errors.BAD_INPUT:
                raise
            raise MLServerError(
                f"{error} (null is a missing value, NaN; the first is at instances{gap})", 400
            ) from error
        outputs = [
            {"name": output.name, "shape": output.shape, "data": getattr(output.data, "root", output.data)}
            for output in response.outputs
        ]
        return _json({"predictions": v1.predictions_of(outputs)})

    async def ready(request: Request) -> Response:
        name = request.path_params["name"]
        if not await data_plane.model_ready(name):
            raise ModelNotReady(name)
        return _json({"name": name, "ready": True})

    async def names(_: Request) -> Response:
        return _json({"models": sorted({model.name for model in await registry.get_models()})})

    async def state(_: Request) -> Response:
        return _json({"boot": BOOT, "models": [_describe(model) for model in await registry.get_models()]})

    async def state_of(request: Request) -> Response:
        try:
            model = _describe(await registry.get_model(request.path_params["name"]))
        except ModelNotFound:
            model = None
        return _json({"boot": BOOT, "model": model})

    return [
        Route("/v1/models/{name}:predict", _answered(predict), methods=["POST"]),
        Route("/v1/models/{name}", _answered(ready), methods=["GET"]),
        Route("/v1/models", _answered(names), methods=["GET"]),
        Route("/shoal/v1/state", _answered(state), methods=["GET"]),
        Route("/shoal/v1/state/{name}", _answered(state_of), methods=["GET"]),
    ]


def _health(data_plane: Any) -> list[Route]:
    """In place of MLServer's own, which say it by the status alone: KServe's SDK reads the body."""

    def says(word: str, ask: Callable[[], Awaitable[bool]]) -> Route:
        async def answer(_: Request) -> Response:
            well = await ask()
            return _json({word: well}, 200 if well else 503)

        return Route(f"/v2/health/{word}", answer, methods=["GET"])

    return [says("live", data_plane.live), says("ready", data_plane.ready)]


def _describe(model: Any) -> dict[str, Any]:
    source = model.settings._source or ""
    return {"name": model.name, "copy": os.path.basename(os.path.dirname(source)), "ready": bool(model.ready)}


def _answered(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """KServe's error shape for whatever goes wrong."""

    @functools.wraps(endpoint)
    async def wrapped(request: Request) -> Response:
        name = request.path_params.get("name", "")
        try:
            return await endpoint(request)
        except ModelNotFound:
            return _json({"error": f"Model with name {name} does not exist."}, 404)
        except ModelNotReady:
            return _json({"error": f"Model with name {name} is not ready."}, 503)
        except MLServerError as error:
            return _json({"error": str(error)}, error.status_code)
        except ValueError as error:  # of the request: what a model raises has become an MLServerError
            return _json({"error": errors.bounded(str(error))}, errors.BAD_INPUT)

    return wrapped


def _json(content: object, status: int = 200) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(body, status_code=status, media_type="application/json")
