"""multi-model-server from its published package, with our plug-in in its workers."""

import contextlib
import json
import random
import socket
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.parts import HOST, REPOSITORY, Process
from tests.component.made_once import virtual_environment

from . import Answer, Files, Ground, ProcessGroup, asked

_HANDLER = """
import os
import signal
import time

import psutil

{load}


def handle(data, context):
    if data is None:
        return None
    {predict}
    return [{{"answer": {answer}, "batch": len(data)}} for _ in data]
"""
_MANIFEST = {
    "runtime": "python",
    "model": {"modelName": "as-the-user-called-it", "handler": "handler.py:handle"},
    "specificationVersion": "1.0",
}


def python() -> Path:
    """Of a virtual environment with the published package."""
    return virtual_environment("mms", REPOSITORY / "runtimes" / "mms" / "requirements.txt") / "bin" / "python"


def low_port() -> int:
    """The server refuses those that the kernel gives out."""
    for number in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, number))
            return number
    raise AssertionError("no port is free")


class MmsKit:
    server_type = "mms"
    framework = "mms"
    many = 20  # each two processes of 16 MiB that take half a second of a processor to start
    management = (
        ("GET", "/models"),
        ("GET", "/models/m1"),
        ("POST", "/models?url=elsewhere"),
        ("PUT", "/models/m1?min_worker=0"),
        ("DELETE", "/models/m1"),
        ("POST", "/m1/predict"),
        ("POST", "/invocations?model_name=m1"),
        ("GET", "/api-description"),
        ("GET", "/ping"),
    )

    def start(self, ground: Ground) -> Process:
        ground.ports.update({name: low_port() for name in ground.ports})
        parts = ground.parts()
        assert parts.command is not None
        assert parts.args is not None
        temporary = ground.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**ground.environment(parts), "TEMP": str(temporary), "TMPDIR": str(temporary)}
        # The launcher looks for relative files, and its log is written to where it is started.
        words = ["env", "-C", str(temporary), str(python()), *parts.command[1:], *parts.args]
        return ProcessGroup(words, environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer)

    def broken(self) -> Files:
        return self._model(0.0, load="raise ValueError('the weights are missing')")

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer, f"time.sleep({load_seconds})", f"time.sleep({predict_seconds})")

    def crashing(self) -> Files:
        # A worker's own end is survived by the server: this one takes it along.
        return self._model(0.0, load="os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)")

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked(session, f"{base}/predictions/{name}", {"x": 1.0}, lambda said: said["answer"])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return (
            Tuning(workers_max=1, batch_size=4, batch_delay=0.05),
            Tuning(workers_max=2, batch_size=2, batch_delay=0.03),
        )

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        async with session.get(f"http://{HOST}:{ground.ports['management']}/models/{name}") as response:
            model = await response.json()
        assert len(model["workers"]) == tuning.workers
        assert model["batchSize"] == tuning.batch_size
        assert model["maxBatchDelay"] == round((tuning.batch_delay or 0) * 1000)

    def _model(self, answer: float, load: str = "", predict: str = "pass") -> Files:
        code = _HANDLER.format(answer=answer, load=load, predict=predict)
        return {"MAR-INF/MANIFEST.json": json.dumps(_MANIFEST).encode(), "handler.py": code.encode()}


KIT = MmsKit()
