"""TorchServe with real PyTorch: archives with handlers of their own. TorchScript and the protocols: test_torchserve."""

import asyncio
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.parts import REPOSITORY
from tests.component.made_once import install, made_once, place

from . import Answer, Files, Ground, ProcessGroup, asked

_HANDLER = """
import os
import signal
import time

import torch


class Constant:
    def initialize(self, context):
        {initialize}
        self.answer = torch.tensor({answer})
        self.batch = context.system_properties["batch_size"]

    def handle(self, data, context):
        {handle}
        threads = torch.get_num_threads()
        return [{{"answer": float(self.answer), "rows": len(data), "threads": threads}}] * len(data)
"""


def home() -> Path:
    """What the image has."""
    runtime = REPOSITORY / "runtimes" / "torchserve"
    requirements, torch = runtime / "requirements.txt", runtime / "torch.sh"

    def make(making: Path) -> None:
        install(requirements, "--target", str(making / "site"))
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["sh", str(torch), str(making / "torch")], check=True)
        (making / "torch" / "libraries").unlink()  # says where it was made
        if shutil.which("java") is None:
            subprocess.run(["apt-get", "install", "-y", "-qq", "openjdk-17-jre-headless"], check=True)

    return made_once(place("servers/torchserve", requirements, torch), make)


@cache
def environment() -> dict[str, str]:
    """In which Python finds PyTorch and TorchServe; PYTHONPATH without the plug-in's."""
    torch = home() / "torch"
    libraries = next((torch / "usr" / "lib").glob("*/libtorch_cpu.so*")).parent
    folders = (
        libraries,
        torch / "usr" / "lib",
        torch / "lib" / libraries.name,
        libraries / "blas",
        libraries / "lapack",
    )
    return {
        "LD_LIBRARY_PATH": ":".join(map(str, folders)),
        "PYTHONPATH": f"{home() / 'site'}:{torch / 'usr/lib/python3/dist-packages'}",
    }


def python() -> str:
    """Debian's PyTorch is for this version; ours, without what our virtual environment has."""
    assert sys.version_info[:2] == (3, 11), "TorchServe's tests need Python 3.11, as Debian's PyTorch does"
    return f"{sys.base_prefix}/bin/python3.11"


def archive(manifest: Mapping[str, object], files: Files) -> bytes:
    """As torch-model-archiver packs it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": manifest}))
        for path, content in files.items():
            mar.writestr(path, content)
    return packed.getvalue()


class TorchServeKit:
    server_type = "torchserve"
    framework = "pytorch"
    many = 4  # each a process of 200 MB that imports PyTorch
    management = (
        ("GET", "/models"),
        ("POST", "/models?url=m1"),
        ("DELETE", "/models/m1"),
        ("PUT", "/models/m1?min_worker=0"),
        ("GET", "/api-description"),
        ("GET", "/metrics"),
        ("GET", "/ping"),
        ("POST", "/explanations/m1"),
        ("POST", "/predictions/m1/1.0"),
        ("POST", "/invocations?model_name=m1"),
        ("POST", "/wfpredict/m1"),
    )

    def start(self, ground: Ground) -> ProcessGroup:
        parts = ground.parts()
        assert parts.args is not None
        assert parts.command is not None
        home = environment()
        scratch = ground.folder / "scratch"
        scratch.mkdir()
        own = {name: value.replace("/mnt/torchserve", str(scratch)) for name, value in parts.environment.items()}
        variables = {
            **ground.environment(parts),
            **own,
            "LD_LIBRARY_PATH": home["LD_LIBRARY_PATH"],
            "PYTHONPATH": f"{parts.python_path}:{home['PYTHONPATH']}",
        }
        return ProcessGroup([python(), *parts.command[1:], *parts.args], variables, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer)

    def broken(self) -> Files:
        return self._model(0.0, initialize="raise ValueError('the weights are missing')")

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer, f"time.sleep({load_seconds})", f"time.sleep({predict_seconds})")

    def crashing(self) -> Files:
        # A worker's own end is survived by the server: this one takes it along.
        return self._model(0.0, initialize="os.kill(os.getppid(), signal.SIGKILL); os._exit(1)")

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked(session, f"{base}/predictions/{name}", [1.0, 2.0], lambda said: said["answer"])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return (
            Tuning(workers_max=1, batch_size=4, batch_delay=0.5, queue_size=50, timeout=20.0, threads=1),
            Tuning(workers_max=2, batch_size=2, batch_delay=0.3, queue_size=40, timeout=30.0, threads=2),
        )

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        assert tuning.batch_delay is not None
        assert tuning.batch_size is not None
        # A lone request waits for others; a full batch does not.
        began = time.monotonic()
        lone = await self.predict(session, ground.base, name)
        assert time.monotonic() - began >= tuning.batch_delay * 0.9
        assert json.loads(lone.body)["threads"] == tuning.threads
        many = await asyncio.gather(*(self.predict(session, ground.base, name) for _ in range(4 * tuning.batch_size)))
        assert [answer.status for answer in many] == [200] * len(many)
        said = [json.loads(answer.body) for answer in many]
        assert max(each["rows"] for each in said) == tuning.batch_size
        management = ground.base.replace(str(ground.ports["http"]), str(ground.ports["management"]))
        async with session.get(f"{management}/models/{name}") as response:
            (model,) = await response.json()
        assert len([worker for worker in model["workers"] if worker["status"] == "READY"]) == tuning.workers
        assert (model["batchSize"], model["maxBatchDelay"]) == (tuning.batch_size, round(tuning.batch_delay * 1000))
        assert model["jobQueueStatus"]["remainingCapacity"] == tuning.queue_size
        assert model["responseTimeout"] == tuning.timeout

    def _model(self, answer: float, initialize: str = "pass", handle: str = "pass") -> Files:
        code = _HANDLER.format(answer=answer, initialize=initialize, handle=handle)
        manifest = {"modelName": "as-the-user-called-it", "handler": "constant.py", "modelVersion": "1.0"}
        return {"model.mar": archive(manifest, {"constant.py": code.encode()})}


KIT = TorchServeKit()
