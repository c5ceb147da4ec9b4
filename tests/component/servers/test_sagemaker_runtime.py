"""boto3's client of SageMaker's runtime API against every real server: what each kit's own client asks, asked by it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from shoal_operator.state.world.values import RoutePolicy

from tests.component.gateway.sagemaker_client import client, invoke
from tests.component.gateway.world import World

from .life import Life
from .test_conformance import before

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

ENDPOINT = "default--iris"
ANSWER_TO_ANYTHING = ("djl", "sagemaker", "torchserve")
"""Models of these kits never look at what they are asked."""


class Answered:
    """As much of aiohttp's response as kits read."""

    def __init__(self, body: bytes) -> None:
        self.status = 200
        self._body = body

    async def text(self) -> str:
        return self._body.decode()


class ByBoto3:
    """As much of aiohttp's session as kits use: the protocol is the InferenceService's, the rest boto3's."""

    def __init__(self, world: World, kind: str, runtime: Any) -> None:
        self._world, self._kind, self._runtime = world, kind, runtime

    @asynccontextmanager
    async def post(self, url: str, json: object) -> AsyncIterator[Answered]:
        protocol = "v1" if "/v1/models/" in url else "v2"
        policy = RoutePolicy(server_type=self._kind, protocol=protocol)
        await self._world.applied(self._world.service(policy=policy))
        yield Answered(await self.body(json))

    async def body(self, content: object) -> bytes:
        answer = await invoke(
            self._runtime,
            ENDPOINT,
            TargetModel="team/Asked_1.tar.gz",
            ContentType="application/json",
            Body=json.dumps(content).encode(),
        )
        said: bytes = answer["Body"]
        return said


async def test_a_model_answers_and_its_error_is_a_model_error(calm: Life, world: World) -> None:
    name = "team--asked-1"
    await calm.serve(**{name: 21.0})
    envoy = await before(world, calm, name)
    runtime = client(envoy.base)
    session = ByBoto3(world, calm.kit.server_type, runtime)
    answer = await calm.kit.predict(session, envoy.base, name)  # type: ignore[arg-type]
    assert (answer.status, answer.value) == (200, 21.0)
    if calm.kit.server_type in ANSWER_TO_ANYTHING:
        return
    with pytest.raises(ClientError) as caught:
        await invoke(runtime, ENDPOINT, TargetModel=name, ContentType="application/json", Body=b"no JSON")
    assert type(caught.value).__name__ == "ModelError", caught.value
    said = caught.value.response
    assert 400 <= said["OriginalStatusCode"] < 600
    assert said["OriginalMessage"]
    assert (await calm.kit.predict(session, envoy.base, name)).value == 21.0  # type: ignore[arg-type]
