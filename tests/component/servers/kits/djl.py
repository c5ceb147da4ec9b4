"""DJL Serving with its Python and ONNX engines: the parts that no registry has are in SHOAL_DJL_SERVING, or in the
folder that lies beside this checkout (runtimes/djl/collect.sh says what they are); Maven has the rest."""

import json
import subprocess
import sys
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from demo.server_names import djl_parts
from tests.component.agent.parts import HOST, Process
from tests.component.made_once import made_once, place

from . import Answer, Files, Ground, ProcessGroup, asked

FOLDER = djl_parts()
_MODEL = """
import os
import signal
import time

from djl_python import Output

{load}


def handle(inputs):
    if inputs.is_empty():
        return None
    {predict}
    answer = Output()
    for number in range(inputs.get_batch_size()):
        answer.add_as_json({{"answer": {answer}, "threads": os.environ.get("OMP_NUM_THREADS")}}, batch_index=number)
    return answer
"""


def jars(engine: str) -> Path:
    """What Maven has of it, compared with the list of checksums: the server's own, and those of one engine beside
    Python's (onnxruntime, pytorch)."""

    def make(making: Path) -> None:
        making.mkdir()
        fetch = [str(FOLDER / "fetch-dependencies.sh"), str(making), engine]
        subprocess.run(["sh", *fetch], check=True, stdout=subprocess.DEVNULL)

    name = "djl" if engine == "onnxruntime" else f"djl-{engine}"
    return made_once(place(f"servers/{name}", FOLDER / "maven-dependencies.txt"), make)


class DjlKit:
    """``engine``: the one that is there beside Python's."""

    engine = "onnxruntime"
    server_type = "djl"
    framework = "djl"
    many = 20  # each a process of 35 MiB that takes a second of a processor to start
    management = (
        ("GET", "/models"),
        ("GET", "/models/m1"),
        ("POST", "/models?url=file:///etc/"),
        ("DELETE", "/models/m1"),
        ("GET", "/workflows"),
        ("GET", "/server/metrics"),
        ("GET", "/server/logging"),
        ("POST", "/invocations?model_name=m1"),
        ("GET", "/ping"),
    )

    @property
    def absent(self) -> str:
        return "" if (FOLDER / "lib").is_dir() else f"DJL Serving is in no registry, and not in {FOLDER}"

    def start(self, ground: Ground) -> Process:
        parts = ground.parts()
        home = ground.folder / "home"
        for folder in ("plugins", "models", "tmp"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        environment = {
            **ground.environment(parts),
            "MODEL_SERVER_HOME": str(home),
            "DJL_CACHE_DIR": str(home / "cache"),
            "PYTHON_EXECUTABLE": sys.executable,
            "PYTHONPATH": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        options = [f"-Djava.io.tmpdir={home / 'tmp'}", f"-Dlog4j.configurationFile={FOLDER}/conf/log4j2-console.xml"]
        path = f"{FOLDER}/lib/*:{jars(self.engine)}/*"
        command = ["java", *environment["JAVA_OPTS"].split(), *options, "-cp", path, "ai.djl.serving.ModelServer"]
        return ProcessGroup(command, environment, ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self._model(answer)

    def broken(self) -> Files:
        return self._model(0.0, load="raise ValueError('the weights are missing')")

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self._model(answer, f"time.sleep({load_seconds})", f"time.sleep({predict_seconds})")

    def crashing(self) -> Files:
        # A Python model's own end is survived by the server: this one takes it along.
        return self._model(0.0, load="os.kill(os.getppid(), signal.SIGKILL)")

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked(session, f"{base}/predictions/{name}", {"x": 1.0}, lambda said: said["answer"])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return (
            Tuning(workers_min=1, workers_max=1, batch_size=4, batch_delay=0.05, queue_size=50, threads=1),
            Tuning(workers_min=1, workers_max=2, batch_size=2, batch_delay=0.03, queue_size=40, threads=2),
        )

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        async with session.get(f"http://{HOST}:{ground.ports['management']}/models/{name}") as response:
            ((model,),) = [workflow["models"] for workflow in await response.json()]
        (group,) = model["workerGroups"]
        assert (group["minWorkers"], group["maxWorkers"]) == (tuning.workers_min, tuning.workers_max)
        assert (model["batchSize"], model["queueSize"]) == (tuning.batch_size, tuning.queue_size)
        assert model["maxBatchDelayMillis"] == round((tuning.batch_delay or 0) * 1000)
        answer = await self.predict(session, ground.base, name)
        assert json.loads(answer.body)["threads"] == str(tuning.threads)

    def _model(self, answer: float, load: str = "", predict: str = "") -> Files:
        code = _MODEL.format(answer=answer, load=load, predict=predict or "pass")
        return {"serving.properties": b"engine=Python\n", "model.py": code.encode()}


KIT = DjlKit()
