"""What is known of an InferenceService that is out of the world: by what its watch and its agents have said since."""

import pytest
from shoal_api.messages import Action, CopyPhase, ServerReport, SyncRequest
from shoal_operator.agents.border import facts
from shoal_operator.state.aside import Known
from shoal_operator.state.rebuild import Rebuild
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, RouteChanged

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def told(
    *names: str, version: int, base: int | None = None, session: str = "1", gone: tuple[str, ...] = ()
) -> events.Event:
    report = SyncRequest(
        namespace="ns",
        pod="pod-1",
        pod_uid="pod-1",
        session=session,
        epoch=0,
        server=ServerReport(type="mlserver", ready=True),
        observed=[slot(name, f"uid-{name}.x") for name in names],
        observed_gone=list(gone),
        observed_base=base,
        observed_version=version,
        desired_version=0,
    )
    return events.AgentReported(facts(report))


def held(known: Known) -> set[str] | None:
    report = known.reports.get("pod-1")
    return None if report is None else {each.name for each in report.observed}


def known() -> Known:
    found = Known(service_spec().key)
    assert found.note(events.PodSeen(pod_spec()))
    return found


def test_what_an_agent_says_is_put_together() -> None:
    aside = known()
    aside.note(told("a", "b", version=1))
    aside.note(told("c", version=2, base=1, gone=("a",)))
    assert held(aside) == {"b", "c"}


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (None, told("c", version=2, base=1)),
        (told("a", version=1), told("c", version=2, base=1, session="2")),
        (told("a", version=1), told("c", version=3, base=2)),
    ],
    ids=["nothing before", "of another process", "something was missed"],
)
def test_half_a_report_is_none(before: events.Event | None, then: events.Event) -> None:
    """What a pod holds is not known then, and it is asked for everything: never is a model believed to be there that
    another process held."""
    aside = known()
    if before is not None:
        aside.note(before)
    aside.note(then)
    assert held(aside) is None


def test_what_was_learned_of_a_content_is_known_of_it_when_its_service_is_put_back() -> None:
    """Of an update that failed no status says the size: it would be looked up before it is tried again."""
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    good = hand.world.models[KEY].aim_id
    seen = slot("m", None, target=good, phase=CopyPhase.SEEN, action=Action.STAT, artifact_bytes=4 * MI)
    hand.report("pod-1", seen)
    hand.loaded()
    hand.do(events.ModelSeen(model_spec(memory_bytes=None, storage_uri="s3://models/new", generation=2)))
    bad = hand.world.models[KEY].wanted_id
    told = slot("m", good, target=bad, phase=CopyPhase.WAITING, artifact_bytes=6 * MI, failure=failure())
    hand.report("pod-1", told)
    hand.do(events.Requested(service_spec().key, "m"))
    before = hand.world.models[KEY]
    assert before.size == 12 * MI
    _put_back(hand)
    model = hand.world.models[KEY]
    assert (model.size, model.artifact_bytes, model.last_used) == (12 * MI, 6 * MI, before.last_used)
    assert model.artifact_seen == before.artifact_seen


def test_what_goes_meanwhile_is_gone_for_the_gateway_too() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec("a"), model_spec("b"))
    left = {"pod-1": "pod-2", "pod-2": "pod-1"}[hand.pod_of("a")]
    gone = events.ModelGone(model_spec("a").key, "uid-a"), events.PodGone(hand.pod_of("a"))
    told = _put_back(hand, *gone)
    assert set(hand.world.pods) == {left}
    assert [model.name for model in hand.world.models] == ["b"]
    routes = {effect.model: effect for effect in told if isinstance(effect, RouteChanged)}
    assert (routes["a"].pods, routes["a"].unavailable) == (frozenset(), None)


def test_a_service_that_waits_for_its_first_pods_goes_on_waiting_and_not_for_ever() -> None:
    hand = Hand()
    hand.now = 1000.0
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.do(events.ModelSeen(model_spec()))
    _put_back(hand, told(version=9))
    hand.wait(1.0)
    assert hand.world.pods["pod-1"].placeable
    assert not hand.desired()
    hand.wait(21)
    assert set(hand.desired()) == {"m"}


def test_what_an_agent_holds_that_says_nothing_meanwhile_is_held_on() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec("a"), model_spec("b"), model_spec("c"))
    before = {uid: hand.desired(uid) for uid in ("pod-1", "pod-2")}
    _put_back(hand)
    assert {uid: hand.desired(uid) for uid in ("pod-1", "pod-2")} == before


def test_what_is_to_be_planned_meanwhile_is_planned_once_it_is_back() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    _put_back(hand, told("m", version=9, session="0000000001"), events.ModelSeen(model_spec("new")))
    hand.do(events.Tick())
    assert set(hand.desired()) == {"m", "new"}
    hand.do(events.ModelSeen(model_spec("newer")))
    assert set(hand.desired()) == {"m", "new", "newer"}, "nor is it asked for in vain from then on"


def _put_back(hand: Hand, *said: events.Event) -> list[Effect]:
    """An exception has had its service taken out; what is said meanwhile; what the rooms are told."""
    aside, told = hand.engine.take_out(service_spec().key, hand.now)
    assert not hand.world.models
    for event in said:
        assert aside.note(event)
    back = Rebuild(hand.world, aside)
    while not back.done:
        told += hand.engine.advance(back, hand.now)
    return told
