"""A model that computes for long, on the real MLServer: no other model waits for it, and the server counts as well."""

import asyncio
import json
import os
import signal
import time

import aiohttp
import pytest

from .artifacts import model
from .parts import HOST, Pod, eventually, intent
from .staged import Staged, mlserver

SECONDS = 8.0
"""More than the agent's patience with a server that does not answer: two checks of 3 s, 2 s apart."""
COMPUTING = f"""
import time
from mlserver import MLModel
from mlserver.types import InferenceResponse


class Computing(MLModel):
    async def predict(self, payload):
        end = time.monotonic() + {SECONDS}
        while time.monotonic() < end:
            pass
        return InferenceResponse(model_name=self.name, outputs=[])
"""
ON_THE_LOOP = {"implementation": "runtime.Computing", "parameters": {"uri": ".", "extra": {"event_loop": True}}}
IN_A_THREAD = {"implementation": "runtime.Computing", "parameters": {"uri": "."}}
ROW = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}]}


async def test_other_models_answer_while_one_computes() -> None:
    models = {"computing": Staged({"runtime.py": COMPUTING.encode()}, IN_A_THREAD), "quick": Staged.sklearn(model(2.0))}
    async with mlserver(models) as server, aiohttp.ClientSession(server.url) as session:

        async def ask(name: str) -> int:
            async with session.post(f"/v2/models/{name}/infer", json=ROW) as answer:
                return answer.status

        long = asyncio.ensure_future(ask("computing"))
        await asyncio.sleep(0.5)
        answered = 0
        while not long.done():
            assert await ask("quick") == 200
            async with session.get("/v2/health/live") as answer:
                assert answer.status == 200
            answered += 1
        assert await long == 200
        assert answered > 10


@pytest.mark.parametrize("settings", [IN_A_THREAD, ON_THE_LOOP], ids=["in a thread", "on the loop"])
async def test_a_slow_model_is_no_frozen_server(pod: Pod, settings: object) -> None:
    pod.storage.put("computing/runtime.py", COMPUTING.encode())
    pod.storage.put("computing/model-settings.json", json.dumps(settings).encode())
    await pod.operator.want(intent("computing", framework="custom"))
    await pod.loaded("computing")
    begun = time.monotonic()
    asked = asyncio.ensure_future(pod.ask("POST", f"{pod.server.url}/v2/models/computing/infer", ROW))
    await asyncio.sleep(0.5)
    health = f"http://{HOST}:{pod.server.ports['health']}/"
    while not asked.done():
        assert (await pod.ask("GET", health))[0] == 200
        assert pod.server_up
        await asyncio.sleep(0.2)
    assert (await asked)[0] == 200
    assert time.monotonic() - begun > SECONDS - 1
    assert "server health" not in pod.agent_log()


async def test_a_server_that_gives_no_thread_a_turn_is_frozen(pod: Pod) -> None:

    os.kill(pod.server.process.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: not pod.server_up, 60, pod.agent_log)
    finally:
        os.kill(pod.server.process.pid, signal.SIGCONT)
    await eventually(lambda: pod.server_up, 60, pod.agent_log)
