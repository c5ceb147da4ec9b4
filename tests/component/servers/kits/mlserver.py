"""MLServer: scikit-learn models, and code of its own for what these cannot do."""

import asyncio
import json
import time

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.artifacts import CRASH, CRASH_SETTINGS, ROW, model
from tests.component.agent.parts import Process, mlserver_binary

from . import Answer, Files, Ground, asked_by_v2

_SLOW = """
import asyncio
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
import numpy


class Slow(MLModel):
    async def load(self) -> bool:
        await asyncio.sleep({load})
        return True

    async def predict(self, payload):
        await asyncio.sleep({predict})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", numpy.array([[{answer}]]))]
        )
"""


class MLServerKit:
    server_type = "mlserver"
    framework = "sklearn"
    many = 200
    management = (
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/m1/unload"),
        ("GET", "/shoal/v1/state"),
        ("GET", "/docs"),
        ("GET", "/metrics"),
    )

    def start(self, ground: Ground) -> Process:
        slots = str(ground.models / "slots")
        environment = ground.environment(ground.parts())
        return Process([str(mlserver_binary()), "start", slots], environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return {"model.joblib": model(answer)}

    def broken(self) -> Files:
        return {"model.joblib": b"this is no pickle"}

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        module = f"slow{abs(hash((answer, load_seconds, predict_seconds)))}"
        code = _SLOW.format(answer=answer, load=load_seconds, predict=predict_seconds)
        settings = {"name": "other", "implementation": f"{module}.Slow"}
        return {f"{module}.py": code.encode(), "model-settings.json": json.dumps(settings).encode()}

    def crashing(self) -> Files:
        return {"crash.py": CRASH, "model-settings.json": CRASH_SETTINGS}

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked_by_v2(session, base, name, ROW[0], "FP64")

    def tuning(self) -> tuple[Tuning, Tuning]:
        return Tuning(batch_size=4, batch_delay=0.5), Tuning(batch_size=2, batch_delay=0.3)

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        assert tuning.batch_size is not None
        assert tuning.batch_delay is not None
        # A lone request waits for others; a full batch does not.
        began = time.monotonic()
        assert (await self.predict(session, ground.base, name)).status == 200
        assert time.monotonic() - began >= tuning.batch_delay * 0.9
        began = time.monotonic()
        full = await asyncio.gather(*(self.predict(session, ground.base, name) for _ in range(tuning.batch_size)))
        assert [answer.status for answer in full] == [200] * tuning.batch_size
        settings = json.loads((ground.models / "slots" / name / "model-settings.json").read_text())
        assert (settings["max_batch_size"], settings["max_batch_time"]) == (tuning.batch_size, tuning.batch_delay)


KIT = MLServerKit()
