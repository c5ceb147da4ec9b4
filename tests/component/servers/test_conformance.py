"""What holds for every type of model server, tried on the real one: an adapter and a profile keep their word."""

import asyncio
import contextlib
import json

import pytest
from shoal_agent.model_server import NoUsage
from shoal_api.messages import CopyFailure, CopyPhase, ModelMetadata
from shoal_operator.gateway.last_metadata import LastMetadata
from shoal_operator.server_profile import Protocol
from shoal_operator.servers import profiles
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, Unavailable
from shoal_operator.state.world.values import RoutePolicy
from shoal_operator.state.world.views import ActivationView, Endpoint

from tests.component.agent.parts import HOST, eventually
from tests.component.gateway.test_grpc_routes import an_input, client
from tests.component.gateway.world import SERVICE, Envoy, World

from .kits import Kit, kits
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


async def test_every_type_has_a_kit() -> None:
    assert set(kits()) == set(profiles())


async def test_models_are_loaded_and_answer_as_themselves(calm: Life) -> None:
    await calm.serve(one=1.0, two=2.0, three=3.0)
    assert [await calm.answers(name) for name in ("one", "two", "three")] == [1.0, 2.0, 3.0]


async def test_what_the_server_says_of_a_model_is_told_and_understood(calm: Life) -> None:
    """Where it says so at all: the operator answers with it once the model is not loaded any more."""
    profile = profiles()[calm.kit.server_type]
    await calm.serve(described=1.0)
    if Protocol.V2 not in profile.protocols or not profile.questions:
        return

    def told() -> list[ModelMetadata]:
        return [each for request in calm.operator.requests for each in request.metadata if each.name == "described"]

    await eventually(lambda: bool(told()), 20, calm.story)
    (said,) = told()
    assert said.copy_id == calm.operator.desired["described"].copy_id
    known = LastMetadata()
    known.put("team", said)
    body = known.get("team", said.copy_id)
    assert body is not None, said.body
    assert json.loads(body)["name"] == "described"


async def test_a_broken_artifact_says_why_harms_nobody_and_heals_with_its_content(calm: Life) -> None:
    await calm.serve(well=4.0)
    calm.put_files("broken", calm.kit.broken())
    await calm.operator.want(calm.intent("broken"))
    await eventually(lambda: _failure(calm, "broken") is not None, 90, calm.story)
    failure = _failure(calm, "broken")
    assert failure is not None
    assert failure.reason in ("ModelLoadFailed", "ArtifactInvalid"), failure
    assert len(failure.message) > 40, "what, where and what to do"
    assert await calm.answers("well") == 4.0
    assert calm.server_up
    for path in calm.kit.broken():
        calm.storage.delete(f"broken/{path}")
    calm.put_files("broken", calm.kit.sample(5.0))
    await calm.loaded("broken", seconds=90)
    assert await calm.answers("broken") == 5.0


async def test_a_missing_artifact_is_said_and_loads_once_it_is_there(calm: Life) -> None:
    await calm.operator.want(calm.intent("missing"))
    await calm.failed("missing", "ArtifactNotFound")
    calm.put_files("missing", calm.kit.sample(6.0))
    await calm.loaded("missing", seconds=90)
    assert await calm.answers("missing") == 6.0


async def test_a_slow_load_holds_nobody_up_and_is_not_taken_for_a_frozen_server(calm: Life) -> None:
    slow = calm.kit.slow(7.0, load_seconds=6.0)
    if slow is None:
        return
    await calm.serve(quick=8.0)
    calm.put_files("slow", slow)
    await calm.operator.want(calm.intent("slow"))
    await calm.reaches("slow", CopyPhase.LOADING, 60)
    for _ in range(5):
        assert await calm.answers("quick") == 8.0
    assert calm.operator.slots["slow"].phase is CopyPhase.LOADING, "the others were answered before it was there"
    ups = [request.server.ready for request in calm.operator.requests]
    await calm.loaded("slow", seconds=90)
    assert all(request.server.ready for request in calm.operator.requests[len(ups) :])
    assert await calm.answers("slow") == 7.0


async def test_another_content_takes_the_place_of_the_first_without_an_unanswered_request(calm: Life) -> None:
    await calm.serve(renewed=10.0)
    calm.put_files("renewed-2", calm.kit.sample(11.0))
    calm.put_files("renewed-3", calm.kit.broken())
    async with calm.under_load("renewed") as values:
        await calm.operator.want(calm.intent("renewed", "renewed-2"))
        await calm.loaded("renewed", seconds=120)
        await eventually(lambda: 11.0 in values, 30, lambda: values[-5:])
        good = calm.operator.desired["renewed"].copy_id
        await calm.operator.want(calm.intent("renewed", "renewed-3"))
        await eventually(lambda: _failure(calm, "renewed") is not None, 90, calm.story)
        await eventually(lambda: calm.operator.slots["renewed"].serving == good, 90, calm.story)
    assert set(values) == {10.0, 11.0}
    assert values.index(11.0) > 0
    await calm.operator.want(calm.intent("renewed", "renewed-2"))
    await calm.loaded("renewed", seconds=90)


async def test_an_unload_lets_the_running_request_finish(calm: Life) -> None:
    busy = calm.kit.slow(12.0, predict_seconds=2.0)
    if busy is None:
        return
    calm.put_files("busy", busy)
    await calm.operator.want(calm.intent("busy"))
    await calm.loaded("busy", seconds=90)
    running = asyncio.create_task(calm.ask_model("busy"))
    await asyncio.sleep(0.5)
    await calm.operator.drop("busy")
    answer = await running
    assert (answer.status, answer.value) == (200, 12.0), answer
    await eventually(lambda: "busy" not in calm.operator.slots, 60, calm.story)
    assert calm.lacks(await calm.ask_model("busy")), "the gateway would know"


async def test_use_is_counted(calm: Life) -> None:
    await calm.serve(used=13.0)
    calm.operator.use_seconds = 0.5
    await calm.operator.want(calm.intent("unused", "used"))
    await calm.loaded("unused", seconds=90)
    for _ in range(5):
        await calm.answers("used")
    if isinstance(calm.adapter.usage, NoUsage):
        assert "not counted" in " ".join(calm.profile.limits), "it is said"
        assert calm.operator.use == {}
        return

    def counted() -> bool:
        use = calm.operator.use.get("used")
        return use is not None and (use.requests, use.in_flight) == (5, 0) and use.idle_seconds < 60

    await eventually(counted, 30, lambda: calm.operator.use)
    assert "unused" not in calm.operator.use or calm.operator.use["unused"].requests == 0


async def test_memory_is_measured_or_said_to_be_estimated(calm: Life) -> None:
    await calm.serve(weighed=14.0)
    calm.operator.use_seconds = 0.5
    if "estimated" in calm.profile.memory and "measured" not in calm.profile.memory:
        assert calm.operator.last.server.memory_bytes is None
        return
    await eventually(lambda: (calm.operator.last.server.memory_bytes or 0) > 10 << 20, 60, calm.agent_log)


async def test_tuning_is_honoured_and_changed_without_an_unanswered_request(calm: Life) -> None:
    first, second = calm.kit.tuning()
    assert first.asked() == second.asked() == calm.profile.tuning.keys(), "the kit tries all that the profile says"
    if first == second:
        return
    calm.put_files("tuned", calm.kit.sample(15.0))
    await calm.operator.want(calm.intent("tuned", tuning=first))
    await calm.loaded("tuned", seconds=120)
    await calm.kit.honours(calm.ground, calm.session, "tuned", first)
    async with calm.under_load("tuned") as values:
        await calm.operator.want(calm.intent("tuned", tuning=second))
        await calm.loaded("tuned", seconds=120)
    assert set(values) == {15.0}
    await calm.kit.honours(calm.ground, calm.session, "tuned", second)


async def test_a_model_that_it_does_not_have_is_answered_elsewhere(calm: Life, world: World) -> None:
    """By the real Envoy: on its way to the pod, and on its way back from the activator."""
    await calm.serve(there=16.0)
    envoy = await before(world, calm, "there", "elsewhere")
    stub = await world.pod("stub")
    world.state_says("elsewhere", stub)
    calm.session.headers["Host"] = "iris.default"
    try:
        assert (await calm.kit.predict(calm.session, envoy.base, "there")).value == 16.0
        # The stub answers whatever it is asked, so that only where it comes from can be told.
        with contextlib.suppress(KeyError, ValueError, TypeError):
            await calm.kit.predict(calm.session, envoy.base, "elsewhere")
        assert [request for request in stub.requests if "elsewhere" in request], "it never came to the other pod"
        if Protocol.GRPC_V2 in calm.profile.protocols:
            async with client(envoy) as over_grpc:
                result = await over_grpc.infer("elsewhere", [an_input()], headers={"mm-model-id": "elsewhere"})
                assert result.get_response().model_version == "stub"
        # The activator names a pod that does not have it either: refused as such, not with the server's own word.
        ports = calm.ground.ports
        real = Endpoint(HOST, ports["http"], ports.get("grpc", 0), calm.kit.server_type)
        world.views[SERVICE, "nowhere"] = ActivationView((real,), None)
        sequence = next(world.sequence)
        world.gateway.apply([RouteChanged(SERVICE, "nowhere", sequence, unavailable=Unavailable.COLD)])
        await world.applied(sequence)
        refused = await calm.kit.predict(calm.session, envoy.base, "nowhere")
        assert (refused.status, json.loads(refused.body)["reason"]) == (503, "ModelNotLoaded"), refused
    finally:
        del calm.session.headers["Host"]


async def test_management_is_not_reached_through_the_gateway(calm: Life, world: World) -> None:
    await calm.serve(m1=17.0)
    envoy = await before(world, calm, "m1")
    for method, path in calm.kit.management:
        async with calm.session.request(method, f"{envoy.base}{path}", headers={"Host": "iris.default"}) as response:
            said = await response.json()
            assert response.status in (404, 405, 415), (method, path, response.status)
            assert "reason" in said, (method, path, said)
    assert await calm.answers("m1") == 17.0
    protected = calm.profile.ports.by_name().keys() - {"http", "grpc"}
    assert not {calm.profile.ports.by_name()[name] for name in protected} & set(calm.profile.ports.for_clients())


async def test_many_models_and_a_list_that_another_agent_believes(pod: Life, kit: Kit) -> None:
    names = [f"m{number}" for number in range(kit.many)]
    pod.put_files("shared", kit.sample(18.0))
    await pod.operator.want(*(pod.intent(name, "shared") for name in names))
    await pod.loaded(*names, seconds=300)
    assert await pod.answers(names[0]) == await pod.answers(names[-1]) == 18.0
    session = pod.operator.last.session
    await pod.agent.end(9)
    pod.agent.log.unlink()
    await pod.start_agent()
    await eventually(lambda: pod.operator.last.session != session, 30, pod.agent_log)
    await pod.loaded(*names, seconds=60)
    assert not pod.events("model loaded"), "what was loaded is known to the next agent, and not loaded again"
    # The server ends, however: everything comes back, without a download.
    boot = pod.operator.last.server.boot
    await pod.server.kill()
    await eventually(lambda: not pod.server_up, 5, pod.agent_log)
    pod.server.start()
    await eventually(lambda: pod.server_up, 60, pod.agent_log)
    await pod.loaded(*names, seconds=300)
    assert pod.operator.last.server.boot != boot
    assert await pod.answers(names[1]) == 18.0
    assert not [line for line in pod.events("model pulled") if line["fetched"]]


async def test_a_load_that_ends_the_server_is_given_up_and_the_others_come_back(pod: Life, kit: Kit) -> None:
    crashing = kit.crashing()
    if crashing is None:
        return
    await pod.serve(calm=19.0, quiet=20.0)
    pod.put_files("killer", crashing)
    async with pod.restarted_when_it_ends() as ends:
        await pod.operator.want(pod.intent("killer"))
        await eventually(
            lambda: (failure := _failure(pod, "killer")) is not None and failure.retry_at is None, 240, pod.story
        )
        await pod.loaded("calm", "quiet", seconds=120)
        counted = len(ends)
        await asyncio.sleep(5)
        assert len(ends) == counted <= 4
    assert [await pod.answers("calm"), await pod.answers("quiet")] == [19.0, 20.0]


def _failure(pod: Life, name: str) -> CopyFailure | None:
    report = pod.operator.slots.get(name)
    return report.failure if report is not None else None


async def before(world: World, pod: Life, *models: str) -> Envoy:
    """An Envoy whose routes lead these models to the pod's server."""
    kind, ports = pod.kit.server_type, pod.ground.ports
    world.gateway.apply(
        [PodEndpointChanged("real", HOST, ports["http"], ports.get("grpc", 0), service=SERVICE, server_type=kind)]
    )
    world.service(policy=RoutePolicy(server_type=kind))
    sequence = 0
    for model in models:
        sequence = next(world.sequence)
        world.gateway.apply([RouteChanged(SERVICE, model, sequence, frozenset({"real"}))])
    envoy = await world.envoy()
    await world.applied(sequence)
    return envoy
