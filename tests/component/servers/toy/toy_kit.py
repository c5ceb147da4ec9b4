"""What the conformance suite needs to know of the toy server."""

import json
import sys
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.parts import Process
from tests.component.servers.kits import Answer, Files, Ground


class ToyKit:
    server_type = framework = "toy"
    many = 200
    management = (("POST", "/unload/m1"), ("GET", "/list"), ("POST", "/load/m2?folder=/"), ("GET", "/alive"))

    def start(self, ground: Ground) -> Process:
        _, _, *arguments = ground.parts().command or ()
        program = [sys.executable, str(Path(__file__).with_name("toy_server.py")), *arguments]
        return Process(program, {}, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return {"model.json": json.dumps({"answer": answer}).encode()}

    def broken(self) -> Files:
        return {"model.json": b"no json"}

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        model = {"answer": answer, "load_seconds": load_seconds, "predict_seconds": predict_seconds}
        return {"model.json": json.dumps(model).encode()}

    def crashing(self) -> Files:
        return {"model.json": b'{"answer": 1, "crash": true}'}

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        async with session.post(f"{base}/toy/{name}", json={}) as response:
            body = await response.text()
            return Answer(response.status, json.loads(body).get("answer"), body)

    def tuning(self) -> tuple[Tuning, Tuning]:
        return Tuning(workers_max=1), Tuning(workers_max=3)

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        async with session.get(f"{ground.base}/list") as response:
            assert (await response.json())[name]["workers"] == tuning.workers


KIT = ToyKit()
