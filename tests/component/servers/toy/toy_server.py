"""A model server that stands for the awkward ones: it holds one copy of a name, refuses a repeated load, ends running
requests with an unload, names neither its process nor whose copy it holds, and has management on its one port.

Run as ``toy_server.py PORT HOST``. A model is a folder with ``model.json``: ``answer``, and how long it takes.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

models: dict[str, dict[str, Any]] = {}


async def load(request: web.Request) -> web.Response:
    name, folder = request.match_info["name"], Path(request.query["folder"])
    if name in models:
        return web.json_response({"error": f"{name} is loaded already"}, status=409)
    try:
        model = json.loads((folder / "model.json").read_text())
        answer = float(model["answer"])
    except (OSError, ValueError, KeyError) as error:
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=500)
    if model.get("crash"):
        os._exit(70)
    await asyncio.sleep(model.get("load_seconds", 0.0))
    workers = int(request.query["workers"])
    models[name] = {"answer": answer, "folder": str(folder), "workers": workers, "done": 0, "running": set(), **model}
    return web.json_response({})


async def unload(request: web.Request) -> web.Response:
    model = models.pop(request.match_info["name"], None)
    for task in model["running"] if model else ():
        task.cancel()
    return web.json_response({}, status=200 if model else 404)


async def scale(request: web.Request) -> web.Response:
    models[request.match_info["name"]]["workers"] = int(request.query["workers"])
    return web.json_response({})


async def listed(_: web.Request) -> web.Response:
    keys = ("folder", "workers", "done")
    shown = {n: {**{k: m[k] for k in keys}, "running": len(m["running"])} for n, m in models.items()}
    return web.json_response(shown)


async def predict(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    model = models.get(name)
    if model is None:
        return web.json_response({"error": f"toy: nothing is loaded as {name}"}, status=404)
    task = asyncio.current_task()
    model["running"].add(task)
    try:
        await asyncio.sleep(model.get("predict_seconds", 0.0))
        model["done"] += 1
        return web.json_response({"answer": model["answer"]})
    except asyncio.CancelledError:
        return web.json_response({"error": "the worker died"}, status=500)
    finally:
        model["running"].discard(task)


async def alive(_: web.Request) -> web.Response:
    return web.Response(text="ok")


app = web.Application(client_max_size=1 << 26)
app.add_routes(
    [
        web.get("/alive", alive),
        web.get("/list", listed),
        web.post("/load/{name}", load),
        web.post("/unload/{name}", unload),
        web.post("/scale/{name}", scale),
        web.post("/toy/{name}", predict),
    ]
)

if __name__ == "__main__":
    web.run_app(app, port=int(sys.argv[1]), host=sys.argv[2], print=None)
