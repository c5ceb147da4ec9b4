"""Clients with wrong input beside clients with right input, on the real MLServer behind the real Envoy."""

import asyncio
import io
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import joblib
import numpy as np
import tritonclient.grpc.aio as triton
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged
from sklearn.linear_model import LinearRegression
from tritonclient.utils import InferenceServerException

from tests.component.agent.parts import HOST, Server
from tests.component.agent.staged import Staged, mlserver

from .world import SERVICE, Envoy, World

SECONDS = float(os.environ.get("SHOAL_BAD_NEIGHBOURS_SECONDS", "60"))
CLIENTS = 4
PAUSE = 0.01
GRPC_STATUS = {"StatusCode.INVALID_ARGUMENT": 400}


def _of_four() -> bytes:
    content = io.BytesIO()
    joblib.dump(LinearRegression().fit(np.eye(4), [1.0, 2.0, 3.0, 4.0]), content)
    return content.getvalue()


@dataclass
class Outcomes:
    """``statuses`` of all requests; ``examples`` of those that were not as they should be."""

    expected: int
    statuses: Counter[int | str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, status: int | str, said: str) -> None:
        self.statuses[status] += 1
        if status != self.expected and len(self.examples) < 5:
            self.examples.append(f"{status}: {said[:300]}")


async def test_wrong_input_costs_no_neighbour_a_request(world: World, envoy: Envoy) -> None:
    """Four good clients and four bad ones of another model on the same pod, each over v1, v2 and gRPC in turn."""
    async with mlserver({"good": Staged.sklearn(_of_four()), "bad": Staged.sklearn(_of_four())}) as server:
        await _route(world, server)
        good, bad = Outcomes(200), Outcomes(400)
        async with (
            aiohttp.ClientSession(envoy.base, headers={"Host": "iris.default"}) as session,
            triton.InferenceServerClient(
                envoy.address, channel_args=[("grpc.default_authority", "iris.default")]
            ) as calls,
        ):
            ends = asyncio.get_running_loop().time() + SECONDS
            clients = [
                _ask_until(ends, _ways(session, calls, model, width), outcomes)
                for model, width, outcomes in (("good", 4, good), ("bad", 3, bad))
                for _ in range(CLIENTS)
            ]
            await asyncio.gather(*clients)
    assert set(good.statuses) == {200}, (good, bad)
    assert set(bad.statuses) == {400}, (good, bad)
    assert good.statuses[200] > SECONDS * CLIENTS, good


async def _route(world: World, server: Server) -> None:
    world.service()
    world.gateway.apply([PodEndpointChanged("mlserver", HOST, server.http, server.grpc)])
    for model in ("good", "bad"):
        sequence = next(world.sequence)
        world.gateway.apply([RouteChanged(SERVICE, model, sequence, frozenset({"mlserver"}))])
    await world.applied(sequence)


Way = Callable[[], Awaitable[tuple[int | str, str]]]


def _ways(session: aiohttp.ClientSession, calls: triton.InferenceServerClient, model: str, width: int) -> list[Way]:
    """The same question over each protocol; each gives a status and what was said."""
    row = np.ones((1, width))

    async def rest(path: str, body: object) -> tuple[int | str, str]:
        async with session.post(path, data=json.dumps(body)) as answer:
            return answer.status, await answer.text()

    async def v1() -> tuple[int | str, str]:
        return await rest(f"/v1/models/{model}:predict", {"instances": row.tolist()})

    async def v2() -> tuple[int | str, str]:
        given = {"name": "x", "shape": [1, width], "datatype": "FP64", "data": row.ravel().tolist()}
        return await rest(f"/v2/models/{model}/infer", {"inputs": [given]})

    async def grpc() -> tuple[int | str, str]:
        given = triton.InferInput("x", [1, width], "FP64")
        given.set_data_from_numpy(row)
        try:
            await calls.infer(model, [given], headers={"mm-model-id": model})
        except InferenceServerException as error:
            return GRPC_STATUS.get(error.status(), error.status()), error.message()
        return 200, ""

    return [v1, v2, grpc]


async def _ask_until(ends: float, ways: list[Way], outcomes: Outcomes) -> None:
    number = 0
    while asyncio.get_running_loop().time() < ends:
        try:
            status, said = await ways[number % len(ways)]()
        except aiohttp.ClientError as error:
            status, said = type(error).__name__, str(error)
        outcomes.note(status, said)
        number += 1
        await asyncio.sleep(PAUSE)
