"""Triton with its Python backend: models are Python code, one of which runs an ONNX graph."""

import asyncio
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.parts import REPOSITORY, Process
from tests.component.made_once import install, made_once, place

from . import Answer, Files, Ground, asked_by_v2

_MODEL = """
import os
import signal
import time

import numpy
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        {execute}
        answers = []
        for request in requests:
            asked = backend.get_input_tensor_by_name(request, "x").as_numpy()
            value = numpy.full((len(asked), 1), {answer}, numpy.float32)
            answers.append(backend.InferenceResponse([backend.Tensor("y", value)]))
        return answers
"""
CONFIG = b"""
name: "as-the-user-called-it"
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [1] }]
"""


def home() -> Path:
    """What the image has."""
    runtime = REPOSITORY / "runtimes" / "triton"
    requirements, arrange = runtime / "requirements.txt", runtime / "arrange.sh"

    def make(making: Path) -> None:
        install(requirements, "--target", str(making))
        subprocess.run(["sh", str(arrange), str(making)], check=True)

    return made_once(place("servers/triton", requirements, arrange), make) / "pytriton" / "tritonserver"


class TritonKit:
    server_type = "triton"
    framework = "triton"
    many = 25  # each a process of 25 MiB that takes a second of a processor to start
    management = (
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/m1/unload"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/metrics"),
    )

    def start(self, ground: Ground) -> Process:
        parts, here = ground.parts(), home()
        assert parts.args is not None
        environment = {
            **ground.environment(parts),
            # Python models are run by the interpreter that is found first, and import from its site-packages: not from
            # our virtual environment's.
            "PATH": f"{here / 'bin'}:{sys.base_prefix}/bin:/usr/bin:/bin",
            "PYTHONPATH": "",
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        }
        arguments = [*parts.args, f"--backend-directory={here / 'backends'}"]
        return Process(arguments, environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer)

    def broken(self) -> Files:
        return self._model(0.0, initialize="raise ValueError('the weights are missing')")

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer, f"time.sleep({load_seconds})", f"time.sleep({predict_seconds})")

    def crashing(self) -> Files:
        # A Python model's own end is survived by the server: this one takes it along. In a container the server is the
        # first process, and nothing outlives it; here this one would, with all connections of the server open.
        return self._model(0.0, initialize="os.kill(os.getppid(), signal.SIGKILL); os._exit(1)")

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked_by_v2(session, base, name, [1.0, 2.0, 3.0, 4.0])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return (
            Tuning(workers_max=1, batch_size=4, batch_delay=0.5, queue_size=50, threads=1),
            Tuning(workers_max=2, batch_size=2, batch_delay=0.3, queue_size=40, threads=2),
        )

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        assert tuning.batch_delay is not None
        assert tuning.batch_size is not None
        # A lone request waits for others; a full batch does not.
        began = time.monotonic()
        assert (await self.predict(session, ground.base, name)).status == 200
        assert time.monotonic() - began >= tuning.batch_delay * 0.9
        full = await asyncio.gather(*(self.predict(session, ground.base, name) for _ in range(tuning.batch_size)))
        assert [answer.status for answer in full] == [200] * tuning.batch_size
        async with session.get(f"{ground.base}/v2/models/{name}/config") as response:
            config = await response.json()
        assert sum(group["count"] for group in config["instance_group"]) == tuning.workers
        assert config["max_batch_size"] == tuning.batch_size
        batching = config["dynamic_batching"]
        assert int(batching["max_queue_delay_microseconds"]) == round(tuning.batch_delay * 1e6)
        assert batching["default_queue_policy"]["max_queue_size"] == tuning.queue_size
        assert config["parameters"]["intra_op_thread_count"]["string_value"] == str(tuning.threads)

    def _model(self, answer: float, initialize: str = "pass", execute: str = "pass") -> Files:
        code = _MODEL.format(answer=answer, initialize=initialize, execute=execute)
        return {"config.pbtxt": CONFIG, "1/model.py": code.encode()}


KIT = TritonKit()
