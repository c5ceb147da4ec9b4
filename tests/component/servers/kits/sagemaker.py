"""A container by SageMaker's contract, written from its documentation (programs/sagemaker_container.py)."""

import json
import sys
from pathlib import Path

import aiohttp
from shoal_api.tuning import UNTUNED, Tuning

from tests.component.agent.parts import HOST, Process

from . import Answer, Files, Ground, asked

PROGRAM = Path(__file__).parents[1] / "programs" / "sagemaker_container.py"


class SageMakerKit:
    server_type = "sagemaker"
    framework = "custom"
    many = 200
    management = (
        ("GET", "/models"),
        ("POST", "/models"),
        ("GET", "/models/m1"),
        ("DELETE", "/models/m1"),
        ("GET", "/ping"),
        ("POST", "/invocations"),
    )

    def start(self, ground: Ground) -> Process:
        environment = {**ground.environment(ground.parts()), "HOST": HOST}
        return Process([sys.executable, str(PROGRAM)], environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer=answer)

    def broken(self) -> Files:
        return {"model.json": b"{"}

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer=answer, load=load_seconds, predict=predict_seconds)

    def large(self, answer: float, memory: int) -> Files:
        """One that takes so many bytes of the container's memory."""
        return self._model(answer=answer, bytes=memory)

    def crashing(self) -> Files:
        return self._model(end=1)

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked(session, f"{base}/models/{name}/invoke", [1.0, 2.0], lambda said: said["answer"])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return UNTUNED, UNTUNED

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        raise AssertionError("there is nothing to honour")

    def _model(self, **said: float) -> Files:
        return {"model.json": json.dumps(said).encode()}


KIT = SageMakerKit()
