"""Artifacts: scikit-learn models whose answers tell them apart, and code that ends the server or takes its time."""

import io
import json
import tarfile

import joblib
from sklearn.dummy import DummyRegressor

ROW = [[1.0, 2.0, 3.0, 4.0]]

CRASH = b"""
import os
from mlserver import MLModel


class Crash(MLModel):
    async def load(self) -> bool:
        os._exit(70)
"""
CRASH_SETTINGS = json.dumps({"name": "other", "implementation": "crash.Crash"}).encode()
SLOW_SECONDS = 2.0
SLOW = f"""
import asyncio
from mlserver import MLModel
from mlserver.types import InferenceResponse


class Slow(MLModel):
    async def predict(self, payload):
        await asyncio.sleep({SLOW_SECONDS})
        return InferenceResponse(model_name=self.name, outputs=[])
""".encode()
SLOW_TO_LOAD_SECONDS = 0.2
SLOW_TO_LOAD = f"""
import asyncio
from mlserver import MLModel


class Slow(MLModel):
    async def load(self):
        await asyncio.sleep({SLOW_TO_LOAD_SECONDS})
        return True
""".encode()
SLOW_SETTINGS = json.dumps({"name": "other", "implementation": "slow.Slow"}).encode()


def model(answer: float) -> bytes:
    """A scikit-learn model that answers ``answer`` to everything."""
    content = io.BytesIO()
    joblib.dump(DummyRegressor(strategy="constant", constant=answer).fit([[0.0]], [answer]), content)
    return content.getvalue()


def tar_gz(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return content.getvalue()
