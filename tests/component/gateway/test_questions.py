"""What one client, or one pod that has lost its models, may have the activator asked: so much, and others nothing less.

Envoy counts the questions before it asks them; here with small numbers.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp
import grpc
import pytest
from shoal_operator.gateway import questions
from shoal_operator.gateway.questions import Rate
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ServiceKey
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs

from .pods import Pod
from .world import SERVICE, Envoy, World

pytestmark = pytest.mark.component

EVIL = ServiceKey("tenant-b", "evil")
EVIL_HOST = "evil.tenant-b"
MANY = 400


class Looked(dict[Any, Any]):
    """The views of models; ``times``: how often the activator looked at one, by InferenceService and model."""

    def __init__(self) -> None:
        self.times: Counter[tuple[ServiceKey, str]] = Counter()

    def get(self, key: Any, default: Any = None) -> Any:
        self.times[key] += 1
        return super().get(key, default)

    def of(self, service: ServiceKey) -> int:
        return sum(times for (owner, _), times in self.times.items() if owner == service)


@pytest.fixture
async def gateway(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Envoy, Looked, Pod]:
    monkeypatch.setattr(questions, "OF_A_MODEL", Rate(20, 10))
    monkeypatch.setattr(questions, "OF_A_SERVICE", Rate(40, 20))
    looked = Looked()
    world.views = looked
    world.bounds = {"timeout": 20.0}
    envoy = await world.envoy()
    pod = await world.pod("a")
    world.service(pod)
    world.service(pod, service=EVIL)
    return envoy, looked, pod


async def ask(session: aiohttp.ClientSession, model: str, host: str, seconds: float = 3) -> tuple[int, str]:
    """Status and reason; (0, "") where the client gave up."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        path = f"/v2/models/{model}/infer"
        async with session.post(path, data=b"{}", headers={"Host": host}, timeout=timeout) as response:
            said = await response.json()
            if response.status == 503:
                assert int(response.headers["Retry-After"]) >= 1
            return response.status, said.get("reason", "")
    except TimeoutError:
        return 0, ""


async def innocent(world: World, session: aiohttp.ClientSession, pod: Pod, model: str) -> None:
    """Someone else's request for a cold model: held, loaded, answered."""
    await world.applied(world.route(model, unavailable=Unavailable.COLD))
    asyncio.get_running_loop().call_later(0.5, world.route, model, pod)
    assert await ask(session, model, "iris.default", 15) == (200, "")


def session_to(envoy: Envoy) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(base_url=envoy.base, connector=aiohttp.TCPConnector(limit=2 * MANY))


async def test_a_thousand_cold_names_are_a_bounded_number_of_questions(
    world: World, gateway: tuple[Envoy, Looked, Pod]
) -> None:
    envoy, looked, pod = gateway
    for number in range(MANY):
        sequence = world.route(f"m{number}", unavailable=Unavailable.COLD, service=EVIL)
    await world.applied(sequence)
    async with session_to(envoy) as session:
        started = time.monotonic()
        flood = [asyncio.create_task(ask(session, f"m{number}", EVIL_HOST)) for number in range(MANY)]
        await innocent(world, session, pod, "mine")
        answers = Counter(await asyncio.gather(*flood))
        seconds = time.monotonic() - started
    assert set(answers) <= {(0, ""), (503, "TooManyColdRequests")}
    assert answers[503, "TooManyColdRequests"] >= MANY - 40 - 20 * (seconds + 1)
    assert 0 < len([key for key in looked.times if key[0] == EVIL]) <= 40 + 20 * (seconds + 1)


async def test_names_that_are_not_there_are_no_questions(world: World, gateway: tuple[Envoy, Looked, Pod]) -> None:
    envoy, looked, _ = gateway
    await world.applied(world.service(service=ServiceKey("default", "other")))
    async with session_to(envoy) as session:
        asked = [ask(session, f"missing-{n}", EVIL_HOST, 10) for n in range(MANY)]
        asked += [ask(session, "m1", f"nowhere-{n}.default", 10) for n in range(MANY)]
        answers = Counter(await asyncio.gather(*asked))
    assert answers == {(404, "ModelNotFound"): MANY, (404, "InferenceServiceNotFound"): MANY}
    assert looked.times == {}


async def test_a_pod_that_never_has_its_models_costs_a_bounded_number_of_questions(
    world: World, gateway: tuple[Envoy, Looked, Pod]
) -> None:
    """Each request would be a question, as healing asks where the model is instead."""
    envoy, looked, pod = gateway
    evil = await world.pod("b")
    world.service(evil, service=EVIL)
    evil.lacks.add("m1")
    await world.applied(world.route("m1", evil, service=EVIL))
    async with session_to(envoy) as session:
        started = time.monotonic()
        flood = [asyncio.create_task(ask(session, "m1", EVIL_HOST, 10)) for _ in range(MANY)]
        await innocent(world, session, pod, "mine")
        await innocent(world, session, pod, "dear")
        # Another model of the same InferenceService has its own number of questions.
        world.route("cold", unavailable=Unavailable.COLD, service=EVIL)
        answers = Counter(await asyncio.gather(*flood))
        seconds = time.monotonic() - started
    assert set(answers) <= {(503, "ModelNotLoaded"), (503, "TooManyColdRequests")}
    assert answers[503, "TooManyColdRequests"] > MANY / 2
    # Each is looked at when it comes, when it has waited, and with what is asked for again.
    assert looked.times[EVIL, "m1"] <= 3 * (20 + 10 * (seconds + 1))


async def test_a_models_flood_leaves_questions_for_others_of_its_service(
    world: World, gateway: tuple[Envoy, Looked, Pod]
) -> None:
    envoy, _, pod = gateway
    await world.applied(world.route("busy", unavailable=Unavailable.COLD))
    async with session_to(envoy) as session:
        started = time.monotonic()
        flood = [asyncio.create_task(ask(session, "busy", "iris.default")) for _ in range(MANY)]
        await innocent(world, session, pod, "quiet")
        answers = Counter(await asyncio.gather(*flood))
        seconds = time.monotonic() - started
    assert answers[503, "TooManyColdRequests"] >= MANY - 20 - 10 * (seconds + 1)


async def test_over_grpc_it_is_unavailable(world: World, gateway: tuple[Envoy, Looked, Pod]) -> None:
    envoy, _, _ = gateway
    await world.applied(world.route("busy", unavailable=Unavailable.COLD))
    options = [("grpc.default_authority", "iris.default")]
    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for metadata in ((), (("mm-model-id", "busy"),)):
            calls = [
                stub.ModelInfer(messages.ModelInferRequest(model_name="busy"), metadata=metadata, timeout=0.5)
                for _ in range(100)
            ]
            said = await asyncio.gather(*calls, return_exceptions=True)
            refused = [each for each in said if isinstance(each, grpc.aio.AioRpcError)]
            codes = Counter(each.code() for each in refused)
            assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
            assert codes[grpc.StatusCode.UNAVAILABLE] >= 50
            texts = [each.details() or "" for each in refused if each.code() is grpc.StatusCode.UNAVAILABLE]
            assert all(text.startswith("TooManyColdRequests: ") for text in texts)


async def test_a_held_call_is_charged_with_what_it_takes_where_that_is_known(
    world: World, gateway: tuple[Envoy, Looked, Pod]
) -> None:
    """A message that the model's name was read from is there as a whole; of others only the most is known."""
    envoy, _, pod = gateway
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    activator = world.gateway._activator
    assert activator is not None
    options = [("grpc.default_authority", "iris.default")]

    async def charged(size: int, metadata: tuple[tuple[str, str], ...]) -> int:
        await world.applied(world.route("cold", unavailable=Unavailable.COLD))
        request = messages.ModelInferRequest(model_name="cold", raw_input_contents=[bytes(size)])
        call = asyncio.ensure_future(stub.ModelInfer(request, metadata=metadata, timeout=20))
        async with asyncio.timeout(10):
            while not activator._memory._services:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (taken,) = [each for (_, service), each in activator._memory._services.items() if service == SERVICE]
        world.route("cold", pod)
        assert (await call).model_version == "a"
        return taken

    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        small, large = await charged(1_000, ()), await charged(3_000_000, ())
        named = await charged(1_000, (("mm-model-id", "cold"), ("x-shoal-received", "1 1")))
    assert 2_000 <= small - 128 * 1024 <= 2_200
    assert 3_000_000 <= large - 128 * 1024 <= 3_000_200
    assert named == 768 * 1024
    assert "x-shoal-received" not in pod.headers
