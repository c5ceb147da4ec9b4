"""The real MLServer with our plug-in behind the real Envoy: what it says of models it does not have is understood."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged

from tests.component.agent import staged
from tests.component.agent.parts import HOST, Server

from .test_grpc_routes import HEADER, an_input, client
from .world import SERVICE, Envoy, World

pytestmark = pytest.mark.component


@pytest.fixture
async def mlserver() -> AsyncIterator[Server]:
    async with staged.mlserver({}) as server:
        yield server


async def test_mlserver_without_the_model_is_passed_by(world: World, envoy: Envoy, mlserver: Server) -> None:
    stub = await world.pod("b")
    world.service(stub)
    world.gateway.apply([PodEndpointChanged("mlserver", HOST, mlserver.http, mlserver.grpc)])
    sequence = next(world.sequence)
    world.gateway.apply([RouteChanged(SERVICE, "m1", sequence, frozenset({"mlserver"}))])
    await world.applied(sequence)
    world.state_says("m1", stub)
    async with aiohttp.ClientSession(base_url=envoy.base, headers={"Host": "iris.default"}) as http:
        for method, path in [
            ("POST", "/v2/models/m1/infer"),
            ("POST", "/v2/models/m1/versions/1/infer"),
            ("GET", "/v2/models/m1"),
            ("GET", "/v2/models/m1/ready"),
            ("POST", "/v1/models/m1:predict"),
            ("GET", "/v1/models/m1"),
        ]:
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}], "instances": [[1.0]]}
            async with http.request(method, path, json=body if method == "POST" else None) as response:
                assert (path, response.status) == (path, 200), await response.text()
                assert (await response.json())["pod"] == "b"
    async with client(envoy) as server:
        for headers in (None, HEADER):
            result = await server.infer("m1", [an_input()], headers=headers)
            assert result.get_response().model_version == "b"
            assert await server.is_model_ready("m1", headers=headers)
            assert (await server.get_model_metadata("m1", headers=headers)).platform == "b"

            async def one() -> AsyncIterator[dict[str, Any]]:
                yield {"model_name": "m1", "inputs": [an_input()]}

            stream = [answer async for answer, _ in server.stream_infer(one(), headers=headers)]
            assert [answer.get_response().model_version for answer in stream] == ["b"]
