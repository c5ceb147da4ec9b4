"""Artifacts: scikit-learn models whose answers tell them apart, and code that ends the server."""

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
