"""KServe's Python server with a repository as its users write one (programs/kserve_server.py)."""

import json
from pathlib import Path

import aiohttp
from shoal_api.tuning import UNTUNED, Tuning

from tests.component.agent.parts import REPOSITORY, Process
from tests.component.made_once import virtual_environment

from . import Answer, Files, Ground, asked

PROGRAM = Path(__file__).parents[1] / "programs" / "kserve_server.py"


def python() -> Path:
    """Of a virtual environment with the published package."""
    return virtual_environment("kserve", REPOSITORY / "runtimes" / "kserve" / "requirements.txt") / "bin" / "python"


class KServeKit:
    server_type = "kserve"
    framework = "custom"
    many = 200
    management = (
        ("GET", "/v2/models"),
        ("POST", "/v2/repository/models/m1/unload"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    )

    def start(self, ground: Ground) -> Process:
        parts = ground.parts()
        assert parts.args is not None
        environment = {**ground.environment(parts), "PYTHONPATH": ""}
        return Process([str(python()), str(PROGRAM), *parts.args], environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer=answer)

    def broken(self) -> Files:
        return {"model.json": b"{"}

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer=answer, load=load_seconds, predict=predict_seconds)

    def crashing(self) -> Files:
        return self._model(end=1)

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        url = f"{base}/v1/models/{name}:predict"
        return await asked(session, url, {"instances": [[1.0, 2.0]]}, lambda said: said["predictions"][0][0])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return UNTUNED, UNTUNED

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        raise AssertionError("there is nothing to honour")

    def _model(self, **said: float) -> Files:
        return {"model.json": json.dumps(said).encode()}


KIT = KServeKit()
