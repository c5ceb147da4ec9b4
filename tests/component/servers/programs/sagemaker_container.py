"""A container by SageMaker's contract, as AWS documents it for those who bring their own: one port for everything.

Each model's folder has a model.json: ``answer``, how long to ``load`` and ``predict`` in seconds, ``bytes`` that it
takes; ``end`` ends the process.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from aiohttp import web

MEMORY = 1 << 30
PAGE = 7


class Container:
    def __init__(self) -> None:
        self.models: dict[str, tuple[str, dict[str, Any]]] = {}
        self.running: dict[str, int] = {}

    async def load(self, request: web.Request) -> web.Response:
        said = await request.json()
        name, url = said["model_name"], said["url"]
        if name in self.models:
            return web.json_response({"message": f"{name} is loaded"}, status=409)
        try:
            model = json.loads((Path(url) / "model.json").read_text())
        except (OSError, ValueError) as error:
            return web.json_response({"message": f"no model in {url}: {error}"}, status=400)
        if model.get("end"):
            os._exit(1)
        if sum(taken.get("bytes", 0) for _, taken in self.models.values()) + model.get("bytes", 0) > MEMORY:
            return web.json_response({"message": "insufficient memory"}, status=507)
        await asyncio.sleep(model.get("load", 0))
        self.models[name] = (url, model)
        return web.json_response({})

    async def list(self, request: web.Request) -> web.Response:
        names = sorted(self.models)
        after = request.query.get("next_page_token", "")
        page = [name for name in names if name > after][:PAGE]
        more = {"nextPageToken": page[-1]} if page and page[-1] != names[-1] else {}
        return web.json_response({"models": [self._shown(name) for name in page], **more})

    async def describe(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response(self._shown(name)) if name in self.models else self._lacks(name)

    async def unload(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self.models.pop(name, None) is None:
            return self._lacks(name)
        while self.running.get(name):  # noqa: ASYNC110  # few, and soon over
            await asyncio.sleep(0.01)
        return web.json_response({})

    async def invoke(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.models:
            return self._lacks(name)
        _, model = self.models[name]
        self.running[name] = self.running.get(name, 0) + 1
        try:
            await asyncio.sleep(model.get("predict", 0))
            return web.json_response({"answer": model["answer"]})
        finally:
            self.running[name] -= 1

    def _shown(self, name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": self.models[name][0]}

    def _lacks(self, name: str) -> web.Response:
        return web.json_response({"message": f"model {name} not found"}, status=404)


async def ping(_: web.Request) -> web.Response:
    return web.Response()


if __name__ == "__main__":
    container = Container()
    application = web.Application()
    application.add_routes(
        [
            web.get("/ping", ping),
            web.post("/models", container.load),
            web.get("/models", container.list),
            web.get("/models/{name}", container.describe),
            web.delete("/models/{name}", container.unload),
            web.post("/models/{name}/invoke", container.invoke),
        ]
    )
    web.run_app(application, host=os.environ["HOST"], port=int(os.environ["SAGEMAKER_BIND_TO_PORT"]), print=None)
