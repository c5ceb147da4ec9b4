"""A double of OpenVINO Model Server 2026.3, written from its documentation and source: its command line, REST and gRPC.

``python -m ovms --config_path=FILE --port=N --rest_port=N ...``. The real one is in no package registry.
"""

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy
from aiohttp import web
from models import NOT_LOADED_YET, Instance, Models, Refused
from tritonclient.grpc import service_pb2, service_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
MODEL = r"/v2/models/([^/]+)(?:/versions/([0-9]+))?"
RELOAD_FAILED = "Reloading config file failed. Check server logs for more info."


class Rest:
    """HTTP. As many requests at a time as there are ``rest_workers``; a reload is one of them."""

    def __init__(self, models: Models, workers: int) -> None:
        self._models, self._workers = models, asyncio.Semaphore(workers)
        self.ready = False

    async def __call__(self, request: web.Request) -> web.Response:
        async with self._workers:
            try:
                return await self._answer(request)
            except Refused as error:
                return web.json_response({"error": error.message}, status=error.status)

    async def _answer(self, request: web.Request) -> web.Response:
        method, path = request.method, request.path
        if method not in ("GET", "POST"):
            raise Refused("Unsupported method", 406)
        if found := re.fullmatch(f"{MODEL}/infer", path):
            _only(method, "POST")
            return await self._infer(found[1], int(found[2] or 0), await request.json())
        if path == "/v1/config/reload":
            _only(method, "POST")
            return await self._reload()
        _only(method, "GET")
        return self._told(path)

    def _told(self, path: str) -> web.Response:
        if found := re.fullmatch(f"{MODEL}(/ready)?/?", path):
            instance = self._models.of(found[1], int(found[2] or 0))
            if found[3] and instance.state != "AVAILABLE":
                raise Refused(*NOT_LOADED_YET)
            told = {"name": instance.name, "versions": [str(instance.version)], "platform": "OpenVINO"}
            return web.Response() if found[3] else _json(told)
        if path == "/metrics" and self._models.metrics is not None:
            return web.Response(text=self._metrics())
        if path == "/v2/health/ready" and not self.ready:
            raise Refused("Server not ready", 503)
        answers: dict[str, Any] = {
            "/v1/config": self._statuses(),
            "/v2": {"name": "OpenVINO Model Server", "version": "2026.3"},
            "/v2/health/live": {},
            "/v2/health/ready": {},
            "/v1/models": {"object": "list", "data": []},  # OpenAI's, not TensorFlow Serving's
        }
        if path not in answers:
            raise Refused("Invalid request URL", 404)
        return _json(answers[path])

    async def _reload(self) -> web.Response:
        try:
            status = await self._models.reload()
        except Refused as error:
            print(f"reload: {error.message}", flush=True)
            return web.Response(
                text=f'{{\n\t"error": "{RELOAD_FAILED}"\n}}', status=error.status, content_type="application/json"
            )
        return _json(self._statuses(), status)

    def _statuses(self) -> dict[str, Any]:
        return {
            name: {
                "model_version_status": [
                    {
                        "version": str(each.version),
                        "state": each.state,
                        "status": {"error_code": each.error, "error_message": each.error},
                    }
                    for each in versions.values()
                ]
            }
            for name, versions in self._models.models.items()
        }

    async def _infer(self, name: str, version: int, body: dict[str, Any]) -> web.Response:
        answer = await self._models.infer(name, version, "REST")
        rows = body["inputs"][0]["shape"][0]
        output = {"name": "y", "shape": [rows, 1], "datatype": "FP32", "data": [answer] * rows}
        return _json({"model_name": name, "model_version": "1", "outputs": [output]})

    def _metrics(self) -> str:
        told, lines = self._models.metrics or set(), list[str]()
        for versions in self._models.models.values():
            for each in versions.values():
                lines += [line for line in _samples(each) if line.partition("{")[0] in told]
        return "\n".join(lines) + "\n"


def _samples(each: Instance) -> list[str]:
    labels = f'name="{each.name}",version="{each.version}"'
    lines = [
        f"ovms_streams{{{labels}}} {each.streams}",
        f"ovms_infer_req_queue_size{{{labels}}} {each.nireq}",
        f"ovms_current_requests{{{labels}}} {each.running}",
    ]
    for interface in ("REST", "gRPC"):
        for method in ("ModelInfer", "ModelMetadata"):
            which = f'api="KServe",interface="{interface}",method="{method}",{labels}'
            lines.append(f"ovms_requests_success{{{which}}} {each.counts.get((interface, method), 0)}")
            lines.append(f"ovms_requests_fail{{{which}}} 0")
    return lines


class Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The Open Inference Protocol's calls."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        async def ready() -> Any:
            found = self._models.of(request.name, int(request.version or 0))
            return service_pb2.ModelReadyResponse(ready=found.state == "AVAILABLE")

        return await _told(ready, context)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        async def infer() -> Any:
            answer = await self._models.infer(request.model_name, int(request.model_version or 0), "gRPC")
            rows = request.inputs[0].shape[0]
            made = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
            made.outputs.add(name="y", datatype="FP32", shape=[rows, 1])
            made.raw_output_contents.append(numpy.full((rows, 1), answer, numpy.float32).tobytes())
            return made

        return await _told(infer, context)


async def _told(call: Callable[[], Awaitable[Any]], context: Any) -> Any:
    try:
        return await call()
    except Refused as error:
        await context.abort(CODES[error.code], error.message)


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise Refused("Unsupported method", 406)


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(content), status=status, content_type="application/json")


def _options() -> argparse.Namespace:
    """An option that it does not know, or one of a single model beside --config_path, ends it."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config_path", type=Path, required=True)
    for name in ("port", "rest_port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rest_bind_address", default="0.0.0.0")  # noqa: S104
    parser.add_argument("--grpc_bind_address", default="0.0.0.0")  # noqa: S104
    parser.add_argument("--rest_workers", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--grpc_workers", type=int, default=1)
    parser.add_argument("--file_system_poll_wait_seconds", type=int, default=1)
    for name in ("log_level", "grpc_max_threads", "grpc_memory_quota", "grpc_channel_arguments"):
        parser.add_argument(f"--{name}")
    made = parser.parse_args()
    if made.rest_workers < 2 or not 1 <= made.grpc_workers <= (os.cpu_count() or 1):
        sys.exit("rest_workers or grpc_workers is out of range")
    if made.file_system_poll_wait_seconds:
        sys.exit("the double does not poll")
    return made


async def main() -> None:
    options = _options()
    models = Models(options.config_path)
    rest = Rest(models, options.rest_workers)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", rest)
    runner = web.AppRunner(app, keepalive_timeout=3600.0, access_log=None)  # it closes no connection by itself
    await runner.setup()
    await web.TCPSite(runner, options.rest_bind_address, options.rest_port).start()
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Grpc(models), server)
    server.add_insecure_port(f"{options.grpc_bind_address}:{options.port}")
    await server.start()
    try:
        await models.start()
    except Refused as error:
        sys.exit(f"The configuration file is wrong: {error.message}")
    rest.ready = True
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
