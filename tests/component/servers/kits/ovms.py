"""OpenVINO Model Server: a double of it (programs/ovms), written from its source; the real one cannot be had here."""

import re
import sys
from pathlib import Path

import aiohttp
from shoal_api.tuning import Tuning

from tests.component.agent.parts import Process

from . import Answer, Files, Ground, asked_by_v2

PROGRAM = Path(__file__).parents[1] / "programs" / "ovms"


class OpenVinoKit:
    server_type = "ovms"
    framework = "openvino"
    many = 200
    management = (
        ("GET", "/v1/config"),
        ("POST", "/v1/config/reload"),
        ("GET", "/v1/models"),
        ("POST", "/v3/chat/completions"),
        ("GET", "/metrics"),
    )

    def start(self, ground: Ground) -> Process:
        parts = ground.parts()
        assert parts.args is not None
        program = [sys.executable, str(PROGRAM), *parts.args]
        return Process(program, ground.environment(parts), ground.folder / "server.log")

    def sample(self, answer: float) -> Files:
        return self.model(answer=answer)

    def broken(self) -> Files:
        return {"model.xml": b"<net", "model.bin": b"weights"}

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files:
        return self.model(answer=answer, load_seconds=load_seconds, predict_seconds=predict_seconds)

    def crashing(self) -> Files:
        return self.model(answer=0.0, end=1.0)

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        return await asked_by_v2(session, base, name, [1.0, 2.0, 3.0, 4.0])

    def tuning(self) -> tuple[Tuning, Tuning]:
        return Tuning(workers_max=2, threads=1), Tuning(workers_max=3, threads=2)

    async def honours(self, ground: Ground, session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        async with session.get(f"{ground.base}/metrics") as response:
            text = await response.text()
        for metric in ("ovms_streams", "ovms_infer_req_queue_size"):
            found = re.findall(rf'^{metric}{{name="{name}",version="(\d+)"}} (\d+)$', text, re.M)
            assert max((int(version), int(value)) for version, value in found)[1] == tuning.workers, metric
        log = (ground.folder / "server.log").read_text()
        assert tuning.threads is not None
        assert f"key: INFERENCE_NUM_THREADS; value: {tuning.threads * tuning.workers};" in log

    def model(self, **said: float) -> Files:
        told = " ".join(f'{name}="{value}"' for name, value in said.items())
        return {"model.xml": f'<net name="m" version="11"><rt_info {told}/></net>'.encode(), "model.bin": b"weights"}


KIT = OpenVinoKit()
