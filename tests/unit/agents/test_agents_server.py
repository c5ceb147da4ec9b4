"""The sync endpoint, as an agent meets it."""

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from shoal_api.messages import MAX_METADATA_TOLD, ModelMetadata, SyncResponse
from shoal_operator.agents import border
from shoal_operator.agents.bodies import PLACES_OF_A_NAMESPACE, LargeBodies
from shoal_operator.state.pods.limits import MAX_STRAYS

from tests.patience import BUSY
from tests.unit.agents.agents_parts import MUTE, Running, message, slots, token, until

EARLIER = {
    "namespace": "team",
    "pod": {"name": "pod-1", "uid": "uid-of-an-earlier-pod-1"},
    "serviceaccount": {"name": "default", "uid": "x"},
}


async def soon(task: asyncio.Task[SyncResponse], seconds: float = 1) -> SyncResponse:
    return await asyncio.wait_for(task, seconds)


def polling(running: Running, pod: str = "pod-1", **changes: Any) -> asyncio.Task[SyncResponse]:
    return asyncio.create_task(running.client.sync(message(pod, wait_seconds=20, **changes)))


async def settled() -> None:
    await asyncio.sleep(0.1)


async def test_a_new_agent_gets_its_whole_list_at_once(running: Running) -> None:
    running.change("a")
    running.change("b")
    answer = await soon(polling(running))
    assert (answer.desired_base, [i.name for i in answer.desired], answer.epoch) == (None, ["a", "b"], 1)
    assert answer.observed_acknowledged == 1
    assert running.backend.reports[0].pod_uid == "uid-pod-1"


async def test_a_poll_waits_for_a_change_and_gets_only_that(running: Running) -> None:
    running.change("a")
    held = (await running.client.sync(message())).desired_version or 0
    poll = polling(running, desired_version=held)
    await settled()
    assert not poll.done()
    started = time.perf_counter()
    running.change("b")
    answer = await soon(poll)
    assert time.perf_counter() - started < BUSY
    assert (answer.desired_base, [i.name for i in answer.desired]) == (held, ["b"])
    poll = polling(running, desired_version=answer.desired_version)
    await settled()
    running.backend.pod().remove("a")
    running.server.wake("uid-pod-1")
    assert (await soon(poll)).desired_gone == ["a"]


async def test_who_is_let_go_comes_by_a_new_connection_and_is_answered_as_ever(running: Running) -> None:
    held = running.backend.pod().version
    waiting = asyncio.create_task(running.client.post(message(wait_seconds=20, desired_version=held)))
    await settled()
    running.server.let_go()
    async with await asyncio.wait_for(waiting, BUSY) as answer:
        assert (answer.status, answer.headers.get("Connection")) == (200, "close")
    again = asyncio.create_task(running.client.post(message(wait_seconds=20, desired_version=held)))
    await settled()
    assert not again.done(), "by a new connection nobody is hurried"
    running.change("a")
    async with await asyncio.wait_for(again, BUSY) as answer:
        assert answer.headers.get("Connection") != "close"


async def test_a_poll_ends_when_use_is_wanted_at_once(running: Running) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held)
    await settled()
    running.backend.asked_for_use.add("uid-pod-1")
    running.server.wake("uid-pod-1")
    answer = await soon(poll)
    assert answer.use_now
    assert answer.desired_version is None
    running.backend.asked_for_use.clear()
    assert not (await running.client.sync(message(use_now=True, desired_version=held))).use_now


async def test_a_wake_without_a_change_does_not_end_the_poll(running: Running) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held)
    await settled()
    running.server.wake("uid-pod-1")
    running.server.wake("uid-somebody-else")
    await settled()
    assert not poll.done()
    poll.cancel()


async def test_nothing_new_within_the_wait(running: Running) -> None:
    held = running.backend.pod().version
    started = time.perf_counter()
    answer = await running.client.sync(message(desired_version=held, wait_seconds=0.3))
    assert 0.25 < time.perf_counter() - started < BUSY
    assert (answer.desired_version, answer.desired) == (None, [])


async def test_while_recovering_agents_keep_what_they_have(running: Running) -> None:
    poll = polling(running, desired_version=12)
    await settled()
    assert not poll.done()
    running.backend.pod()
    running.server.wake_all()
    assert (await soon(poll)).desired_version == running.backend.pod().version


async def test_an_agent_that_obeyed_a_later_operator_is_sent_no_list(running: Running) -> None:
    running.change("a")
    answer = await running.client.sync(message(epoch=2))
    assert (answer.epoch, answer.desired_version) == (1, None)
    poll = polling(running, epoch=2)
    await settled()
    running.backend.claimed = 3
    running.server.wake("uid-pod-1")
    answer = await soon(poll)
    assert (answer.epoch, [i.name for i in answer.desired]) == (3, ["a"])


async def test_a_newer_poll_ends_the_older_one_at_once(running: Running) -> None:
    held = running.backend.pod().version
    older = polling(running, desired_version=held)
    await settled()
    newer = polling(running, desired_version=held, observed_version=2)
    assert (await soon(older)).desired_version is None
    assert not newer.done()
    running.change("a")
    assert [i.name for i in (await soon(newer)).desired] == ["a"]
    assert running.backend.gone == []


async def test_a_restarted_agent_takes_the_place_of_the_dead_one(running: Running) -> None:
    held = running.backend.pod().version
    older = polling(running, desired_version=held)
    await settled()
    newer = polling(running, desired_version=held, session="s2")
    await soon(older)
    await asyncio.sleep(0.5)
    assert not newer.done()
    assert running.backend.gone == []
    newer.cancel()
    await asyncio.sleep(1.1)
    assert running.backend.gone == [("uid-pod-1", "s2")]


async def test_an_agent_that_hangs_up_is_lost_after_the_grace(running: Running, registry: CollectorRegistry) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held)
    await settled()
    assert registry.get_sample_value("shoal_agents_connected") == 1
    poll.cancel()
    await settled()
    assert registry.get_sample_value("shoal_agents_waiting_polls") == 0
    assert running.backend.gone == []
    await until(lambda: bool(running.backend.gone))
    assert running.backend.gone == [("uid-pod-1", "s1")]
    assert registry.get_sample_value("shoal_agents_connected") == 0


@pytest.mark.parametrize(("is_news", "told"), [(True, ("WARNING", "AgentLost")), (False, ("INFO", "AgentEnded"))])
async def test_an_agent_that_ends_with_its_pod_is_no_warning(
    running: Running,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    is_news: bool,
    told: tuple[str, str],
) -> None:
    """Its InferenceService was deleted, say: nobody has to look for it."""
    running.backend.is_news = is_news
    poll = polling(running, desired_version=running.backend.pod().version)
    await until(lambda: registry.get_sample_value("shoal_agents_waiting_polls") == 1)
    with caplog.at_level("INFO"):
        poll.cancel()
        await until(lambda: bool(running.backend.gone))
    assert told in [(r.levelname, r.__dict__["event"]) for r in caplog.records if "event" in r.__dict__]
    assert registry.get_sample_value("shoal_agents_lost_total") == float(is_news)


async def test_an_agent_that_comes_back_in_time_is_not_lost(running: Running) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held)
    await settled()
    poll.cancel()
    await settled()
    again = polling(running, desired_version=held)
    await asyncio.sleep(1.0)
    assert running.backend.gone == []
    again.cancel()


async def test_an_answered_agent_that_never_asks_again_is_lost(running: Running) -> None:
    await running.client.sync(message())
    await asyncio.sleep(0.6)
    assert running.backend.gone == []
    await asyncio.sleep(1.4)
    assert running.backend.gone == [("uid-pod-1", "s1")]


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_the_pod_of_an_agent_that_is_not_heard_any_more_is_looked_for(running: Running, hangs_up: bool) -> None:
    """At once where the kernel ended its connection, soon where it has not come back after an answer."""
    if hangs_up:
        poll = polling(running, desired_version=running.backend.pod().version)
        await settled()
        running.backend.address = MUTE
        poll.cancel()
    else:
        await running.client.sync(message())
        await settled()
        running.backend.address = MUTE
    await until(lambda: running.backend.reaches[:1] == [("uid-pod-1", False)])
    running.backend.address = "127.0.0.1"
    await running.client.sync(message())
    assert running.backend.reaches[-1] == ("uid-pod-1", True)


async def test_everything_is_asked_for_at_once_when_versions_do_not_meet(running: Running) -> None:
    held = running.backend.pod().version
    running.backend.acknowledge_nothing = True
    answer = await soon(polling(running, desired_version=held, observed_version=7, observed_base=6))
    assert answer.observed_acknowledged == 0
    whole = polling(running, desired_version=held, observed_version=7)
    await settled()
    assert not whole.done()  # everything was sent: there is no hurry, and no spinning
    whole.cancel()


async def test_drained_is_told_at_once_and_then_without_spinning(running: Running) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held, draining=True)
    await settled()
    assert not poll.done()
    running.backend.drained_pods.add("uid-pod-1")  # nobody wakes the poll for this
    assert (await soon(poll)).drained
    started = time.perf_counter()
    assert (await polling(running, desired_version=held, draining=True)).drained
    assert time.perf_counter() - started > 0.8
    assert not (await running.client.sync(message(desired_version=held))).drained


@pytest.mark.parametrize(
    ("bearer", "status", "reason"),
    [
        ("", 401, "TokenMissing"),
        ("nonsense", 401, "TokenInvalid"),
        (token(seconds=-10), 401, "TokenExpired"),
        (token(aud=["https://kubernetes.default.svc"]), 401, "TokenAudience"),
        (token(sub="system:admin"), 401, "TokenNotOfAServiceAccount"),
        (token(pod=""), 401, "TokenNotOfAPod"),
        (token()[:-4] + "AAAA", 401, "TokenInvalid"),
        (token(pod="pod-2"), 403, "AnotherPodsToken"),
        (token(namespace="another-team"), 403, "AnotherPodsToken"),
        (
            token(**{"kubernetes.io": EARLIER}),
            403,
            "AnotherPodsToken",
        ),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_who_may_speak_for_a_pod(running: Running, bearer: str, status: int, reason: str) -> None:
    async with await running.client.post(message(), bearer) as response:
        assert response.status == status
        body = json.loads(await response.text())
        assert body["reason"] == reason
        assert bearer not in body["message"] or not bearer
    assert running.backend.reports == []


async def test_a_pod_that_the_watch_has_not_shown_comes_again(running: Running) -> None:
    running.backend.unknown.add("uid-pod-1")
    async with await running.client.post(message()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        assert (await response.json())["reason"] == "PodUnknown"
    await asyncio.sleep(1.3)
    assert running.backend.gone == []


async def test_the_api_server_away_is_no_refusal(running: Running) -> None:
    running.reviews.away = True
    async with await running.client.post(message()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
    running.reviews.away = False
    assert (await running.client.sync(message())).epoch == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "RequestInvalid"),
        (b"{", "RequestInvalid"),
        (b"[]", "RequestInvalid"),
        (b'{"namespace": "team"}', "RequestInvalid"),
        (message(protocol=99).model_dump_json().encode(), "ProtocolUnsupported"),
    ],
)
async def test_requests_that_are_not_syncs(running: Running, body: bytes, reason: str) -> None:
    async with await running.client.post(body) as response:
        assert response.status == 400
        answer = await response.json()
    assert answer["reason"] == reason
    assert len(answer["message"]) < 600


async def test_other_paths_and_methods_are_refused_as_json(running: Running) -> None:
    for method, path, status in (("GET", "/v1/sync", 405), ("POST", "/", 404)):
        async with running.client.session.request(method, running.client.url + path) as response:
            assert response.status == status
            assert (await response.json())["reason"] == "NotServed"


async def test_a_fault_of_ours_tells_the_agent_nothing_secret(running: Running) -> None:
    async with await running.client.post(message("breaks-the-operator")) as response:
        assert response.status == 500
        assert "secret" not in await response.text()
    assert (await running.client.sync(message())).epoch == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "nonsense"])
async def test_a_report_in_another_encoding_is_refused_unread(running: Running, encoding: str) -> None:
    """It was 500 with two traces in the log, and could have been any size once unpacked."""
    async with await running.client.post(message(), **{"Content-Encoding": encoding}) as response:
        assert response.status == 415
        assert (await response.json())["reason"] == "EncodingNotSupported"
    async with await running.client.post(message(), **{"Content-Encoding": "identity"}) as response:
        assert response.status == 200


async def test_a_pod_that_calls_each_request_another_session_does_not_fill_the_log(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        for number in range(30):
            await running.client.sync(message(session=f"s{number}"))
    assert sum(getattr(record, "event", "") == "AgentConnected" for record in caplog.records) == 2


async def test_a_full_report_of_20000_models_fits_and_a_larger_one_is_refused(running: Running) -> None:
    answer = await running.client.sync(message(observed=slots(20_000)))
    assert answer.observed_acknowledged == 1
    assert len(running.backend.reports[0].observed) == 20_000
    async with await running.client.post(b" " * (17 * 1024 * 1024)) as response:
        assert response.status == 413
        assert (await response.json())["reason"] == "RequestTooLarge"


async def test_a_whole_list_of_20000_models_is_answered(running: Running) -> None:
    for number in range(20_000):
        running.change(f"m{number}")
    assert len((await running.client.sync(message())).desired) == 20_000


async def test_a_pod_that_asks_too_often_is_slowed_down_and_others_are_not(running: Running) -> None:
    statuses = []
    for _ in range(300):
        async with await running.client.post(message()) as response:
            statuses.append(response.status)
    assert statuses[:100] == [200] * 100
    assert 429 in statuses
    assert (await running.client.sync(message("pod-2"))).epoch == 1


async def test_a_pod_that_reports_much_time_and_again_is_slowed_down_and_others_are_not(running: Running) -> None:
    """A report of 20,000 slots costs the loop a hundred milliseconds."""
    running.backend.models = 0
    sent = message().model_dump_json().encode() + b" " * (border.FREE_BYTES - 10_000)
    statuses = []
    for _ in range(6):
        async with await running.client.post(sent, token()) as response:
            statuses.append(response.status)
    assert statuses == [200] * 4 + [429] * 2
    assert (await running.client.sync(message("pod-2"))).epoch == 1


async def test_agents_beyond_the_limit_are_told_to_come_later(running: Running) -> None:
    for number in range(20):
        await running.client.sync(message(f"pod-{number}"))
    async with await running.client.post(message("one-too-many")) as response:
        assert response.status == 503
        assert (await response.json())["reason"] == "TooManyAgents"
    await running.client.sync(message("pod-3"))


async def test_a_wait_that_is_no_sensible_number_is_bounded(running: Running) -> None:
    held = running.backend.pod().version
    body = message(desired_version=held).model_dump(mode="json")
    for wait in (-1, "NaN"):
        raw = json.dumps(body | {"wait_seconds": wait}).replace('"NaN"', "NaN").encode()
        async with asyncio.timeout(2), await running.client.post(raw) as response:
            assert response.status in (200, 400)


async def test_closing_answers_those_who_wait(running: Running) -> None:
    held = running.backend.pod().version
    poll = polling(running, desired_version=held)
    await settled()
    await running.server.close()
    assert (await soon(poll)).desired_version is None
    await asyncio.sleep(1.2)
    assert running.backend.gone == []


async def test_a_thousand_changes_during_a_poll_are_one_delta_each_time(running: Running) -> None:
    held, got = running.backend.pod().version, 0
    syncs = 0
    feeder = asyncio.create_task(feed(running))
    while got < 1000:
        answer = await running.client.sync(message(desired_version=held, wait_seconds=5))
        held, got, syncs = answer.desired_version or held, got + len(answer.desired), syncs + 1
        await asyncio.sleep(0.05)
    await feeder
    assert syncs < 60


async def feed(running: Running) -> None:
    for number in range(1000):
        running.change(f"m{number}")
        if number % 20 == 0:
            await asyncio.sleep(0.005)


async def test_an_epoch_that_nobody_can_have_had_is_refused_counted_and_harms_nobody_else(
    running: Running, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Finding exp_epoch: one POST of a tenant's pod stopped every agent, or the operator."""
    others = polling(running, pod="pod-2", desired_version=running.backend.pod("uid-pod-2").version)
    await settled()
    far = running.backend.epoch_limit() + 1
    for epoch, status, reason in [
        (str(far), 409, "EpochTooFar"),
        (str(2**63 - 1), 409, "EpochTooFar"),
        (str(2**63), 400, "RequestInvalid"),
        ("1" + "0" * 400, 400, "RequestInvalid"),
        ("9" * 4300, 400, "RequestInvalid"),
        ("9" * 100_000, 400, "RequestInvalid"),
    ]:
        raw = message().model_dump_json().replace('"epoch":0', f'"epoch":{epoch}').encode()
        async with await running.client.post(raw) as response:
            body = await response.json()
            assert (response.status, body["reason"]) == (status, reason)
            assert len(body["message"]) < 600
    assert running.backend.reports[-1].pod_uid == "uid-pod-2"
    refused = [dict(record.__dict__) for record in caplog.records if record.__dict__.get("event") == "SyncRefused"]
    assert {each["reason"] for each in refused} == {"EpochTooFar", "RequestInvalid"}
    assert registry.get_sample_value("shoal_agents_syncs_total", {"outcome": "EpochTooFar"}) == 2
    assert not others.done()
    running.change("a", pod_uid="uid-pod-2")
    assert [each.name for each in (await soon(others)).desired] == ["a"]
    # As far as it is believed, it is heard.
    assert (await running.client.sync(message(epoch=far - 1, observed_version=2))).desired_version is None


async def test_a_report_larger_than_its_pod_can_have_is_not_read(running: Running) -> None:
    running.backend.models = 0
    async with await running.client.post(message(observed=slots(20_000))) as response:
        assert response.status == 413
        assert (await response.json())["reason"] == "RequestTooLarge"
    assert running.backend.reports == []


async def test_slots_that_were_not_wanted_are_counted_and_the_rest_is_heard(
    running: Running, registry: CollectorRegistry
) -> None:
    made_up = [{"name": f"stray-{n}", "phase": "Loaded"} for n in range(5_000)]
    mine = [{"name": "mine", "phase": "Loaded"}]
    answer = await running.client.sync(message(observed=[*made_up, *mine]))
    assert answer.observed_acknowledged == 1
    assert len(running.backend.reports[0].observed) == MAX_STRAYS + 1
    assert registry.get_sample_value("shoal_agents_stray_slots_total") == 5_000 - MAX_STRAYS


async def test_slow_bodies_of_one_namespace_keep_another_namespaces_from_nothing() -> None:
    places = LargeBodies()
    async with contextlib.AsyncExitStack() as theirs:
        for _ in range(PLACES_OF_A_NAMESPACE):
            await theirs.enter_async_context(places.place("slow"))
        more = asyncio.create_task(theirs.enter_async_context(places.place("slow")))
        async with asyncio.timeout(2), places.place("other"):
            assert not more.done()
        more.cancel()
    async with asyncio.timeout(2), places.place("slow"):
        pass
    assert not places._of


async def test_what_a_server_says_of_its_models_is_passed_on_within_bounds(running: Running) -> None:
    said = [ModelMetadata(name=f"m{number}", copy_id="uid.1", body="{}") for number in range(MAX_METADATA_TOLD)]
    await running.client.sync(message(metadata=said))
    assert running.described == [("uid-pod-1", each) for each in said]
    sent = message(metadata=said).model_dump(mode="json")
    sent["metadata"] += sent["metadata"][:1]
    async with await running.client.post(json.dumps(sent).encode()) as refused:
        assert (refused.status, (await refused.json())["reason"]) == (400, "RequestInvalid")
    assert len(running.described) == MAX_METADATA_TOLD
