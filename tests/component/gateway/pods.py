"""Stand-ins for model-server pods: real HTTP/1.1 and gRPC servers that say who they are and what they were asked.

They answer everything, the management paths included, so that a request the gateway must not pass on shows.
"""

import asyncio

import grpc
from aiohttp import web
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs

from tests.component.ports import free_port


class Pod(stubs.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated without types
    """``requests``: "<method> <path>" over HTTP, "grpc <method> <model>" over gRPC; ``headers``: the last request's.

    ``lacks``: models that are not loaded, said as our plug-in for MLServer says it. ``refuses``: models whose own
    application answers 404. ``says``: what every request over HTTP is answered with instead: status, headers, and body,
    which is sent without its length where the headers say that it comes in chunks.
    """

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.lacks: set[str] = set()
        self.refuses: set[str] = set()
        self.says: tuple[int, dict[str, str], bytes] | None = None

    async def start(self) -> "Pod":
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._http)
        # MLServer's uvicorn closes an idle connection after 5 s; so do we.
        # It takes headers up to 64 KiB, and so do we.
        self._runner = web.AppRunner(app, keepalive_timeout=5, max_line_size=2**16, max_field_size=2**16)
        await self._runner.setup()
        self.http_port = free_port(self.host)
        await web.TCPSite(self._runner, self.host, self.http_port, backlog=2048).start()  # as uvicorn
        self._grpc = grpc.aio.server(options=[("grpc.max_receive_message_length", 1 << 28), ("grpc.so_reuseport", 0)])
        stubs.add_GRPCInferenceServiceServicer_to_server(self, self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"{self.host}:0")
        await self._grpc.start()
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._grpc.stop(None)

    async def _http(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.says is not None:
            status, headers, said = self.says
            answer = web.StreamResponse(status=status, headers=headers)
            if "Transfer-Encoding" in headers:
                answer.enable_chunked_encoding()
            else:
                answer.content_length = len(said)
            await answer.prepare(request)
            await answer.write(said)
            await answer.write_eof()
            return answer
        model = next(iter(request.path.split("/")[3:]), "").partition(":")[0]
        if model in self.lacks:
            return web.json_response({"error": "Model not found"}, status=404, headers={"x-model-not-loaded": "true"})
        if model in self.refuses:
            return web.json_response({"error": "my own 404"}, status=404)
        return web.json_response({"pod": self.name, "path": request.path_qs, "bytes": len(body)})

    async def _grpc_call(self, method: str, model: str, context: "grpc.aio.ServicerContext[object, object]") -> None:
        self.requests.append(f"grpc {method} {model}")
        self.headers = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
        if self.delay:
            await asyncio.sleep(self.delay)
        if model in self.lacks:
            context.set_trailing_metadata((("x-model-not-loaded", "true"),))
            await context.abort(grpc.StatusCode.NOT_FOUND, "Model not found")
        if model in self.refuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "my own 404")

    async def ServerLive(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ServerLive", "", context)
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ServerReady", "", context)
        return messages.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ServerMetadata", "", context)
        return messages.ServerMetadataResponse(name=self.name)

    async def ModelReady(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ModelReady", request.name, context)
        return messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ModelMetadata", request.name, context)
        return messages.ModelMetadataResponse(name=request.name, platform=self.name)

    async def ModelInfer(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("ModelInfer", request.model_name, context)
        return messages.ModelInferResponse(model_name=request.model_name, model_version=self.name)

    async def ModelStreamInfer(self, request_iterator, context):  # type: ignore[no-untyped-def]
        async for request in request_iterator:
            await self._grpc_call("ModelStreamInfer", request.model_name, context)
            yield messages.ModelStreamInferResponse(
                infer_response=messages.ModelInferResponse(model_name=request.model_name, model_version=self.name)
            )

    async def RepositoryIndex(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("RepositoryIndex", "", context)
        return messages.RepositoryIndexResponse()

    async def RepositoryModelUnload(self, request, context):  # type: ignore[no-untyped-def]
        await self._grpc_call("RepositoryModelUnload", request.model_name, context)
        return messages.RepositoryModelUnloadResponse()
