"""Which events are about an InferenceService that is out of the world, and what is known of it by them."""

from collections import deque

import pytest
from shoal_api.messages import ServerReport, SyncRequest
from shoal_operator.agents.border import facts
from shoal_operator.state.aside import Known
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey, Problem, ServiceKey

from .world_in_hand import KEY, Hand, model_spec, pod_spec, service_spec, slot

OWN, OTHER = service_spec().key, ServiceKey("ns", "other")
WRONG = Problem("Wrong", "mend it")


def report(pod: str = "pod-1", version: int = 1, *names: str, base: int | None = None) -> events.AgentReported:
    request = SyncRequest(
        namespace="ns",
        pod=pod,
        pod_uid=pod,
        session="1",
        epoch=0,
        server=ServerReport(type="mlserver", ready=True),
        observed=[slot(name, f"uid-{name}.x") for name in names],
        observed_base=base,
        observed_version=version,
        desired_version=0,
    )
    return events.AgentReported(facts(request))


def known() -> Known:
    """A pod and a model are its own."""
    found = Known(OWN)
    for event in (events.PodSeen(pod_spec(ready=True)), events.ModelSeen(model_spec()), report()):
        assert found.note(event)
    return found


@pytest.mark.parametrize(
    ("event", "about_it"),
    [
        (events.ServiceSeen(service_spec()), True),
        (events.ServiceSeen(service_spec(name="other")), False),
        (events.ServiceGone(OWN, "service-1"), True),
        (events.ServiceGone(OTHER, "service-1"), False),
        (events.ModelSeen(model_spec("n")), True),
        (events.ModelSeen(model_spec("n", service="other")), False),
        (events.ModelGone(KEY, "uid-m"), True),
        (events.ModelGone(ModelKey("ns", "n"), "uid-n"), False),
        (events.ModelGone(ModelKey("elsewhere", "m"), "uid-m"), False),
        (events.PodSeen(pod_spec("pod-2")), True),
        (events.PodSeen(pod_spec("pod-2", service="other")), False),
        (events.PodGone("pod-1"), True),
        (events.PodGone("pod-2"), False),
        (report(version=2), True),
        (report("pod-2"), False),
        (events.AgentLost("pod-1", "1"), True),
        (events.AgentLost("pod-2", "1"), False),
        (events.Requested(OWN, "m"), True),
        (events.Requested(OTHER, "m"), False),
        (events.Tick(), False),
        (events.Listed(events.Kind.POD), False),
    ],
    ids=str,
)
def test_whose_event_it_is(event: events.Event, about_it: bool) -> None:
    """All others are the world's, which is told of them."""
    assert known().note(event) is about_it


def test_what_is_said_while_it_is_put_back_is_said_to_it_too_but_what_comes_again_by_itself() -> None:
    aside = known()
    aside.later = deque()
    gone = events.PodGone("pod-1")
    for event in (gone, events.Requested(OWN, "m"), events.PodGone("pod-2")):
        aside.note(event)
    assert list(aside.later) == [gone]


def test_what_goes_is_not_known_any_more() -> None:
    aside = known()
    assert (aside.models, list(aside.pods), list(aside.reports)) == (1, ["pod-1"], ["pod-1"])
    aside.note(events.ServiceSeen(service_spec()))
    aside.note(events.AgentLost("pod-1", "1"))
    assert not aside.reports
    assert aside.late == ["pod-1"], "its agent is asked for, and has not come"
    aside.note(report())
    aside.note(events.PodGone("pod-1"))
    assert (aside.pods, aside.reports, aside.late) == ({}, {}, [])
    aside.note(events.ModelGone(KEY, "uid-of-an-earlier-one"))
    assert aside.models == 1
    aside.note(events.ModelGone(KEY, "uid-m"))
    assert aside.models == 0
    aside.note(events.ServiceGone(OWN, "service-1"))
    assert aside.service is None


def test_a_pod_that_is_not_ready_has_no_late_agent() -> None:
    aside = Known(OWN)
    aside.note(events.PodSeen(pod_spec()))
    assert aside.late == []


def test_a_model_that_moves_away_is_not_its_own_any_more_and_the_world_is_told() -> None:
    aside = known()
    moved = events.ModelSeen(model_spec(service="other", generation=2))
    assert not aside.note(moved)
    assert KEY not in aside
    assert not aside.note(events.ModelGone(KEY, "uid-m")), "it is the other's"


class TestAnEditThatCannotBeUsed:
    def test_leaves_the_last_usable_spec_in_force(self) -> None:
        aside = known()
        aside.note(events.ModelSeen(model_spec(problem=WRONG, generation=2)))
        model, complaint = aside.model(KEY), aside.complaint(KEY)
        assert model is not None
        assert complaint is not None
        assert (model.spec.problem, complaint.spec.problem) == (None, WRONG)
        aside.note(events.ModelSeen(model_spec(generation=3)))
        assert aside.complaint(KEY) is None

    @pytest.mark.parametrize("before", ["another of that name", "never usable", "nothing"])
    def test_is_what_there_is_where_nothing_usable_was(self, before: str) -> None:
        aside = known() if before == "another of that name" else Known(OWN)
        if before == "never usable":
            aside.note(events.ModelSeen(model_spec(uid="uid-2", problem=WRONG)))
        aside.note(events.ModelSeen(model_spec(uid="uid-2", problem=WRONG, generation=2)))
        model = aside.model(KEY)
        assert model is not None
        assert (model.spec.uid, model.spec.problem, model.spec.generation) == ("uid-2", WRONG, 2)
        assert aside.complaint(KEY) is None

    def test_of_before_is_known_still(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ModelSeen(model_spec(problem=WRONG, generation=2)))
        aside, _ = hand.engine.take_out(OWN, hand.now)
        complaint = aside.complaint(KEY)
        assert complaint is not None
        assert complaint.spec.problem == WRONG
        aside.note(events.ModelSeen(model_spec(generation=3)))
        assert aside.complaint(KEY) is None


def test_what_is_known_of_a_model_by_its_status_is_what_the_operator_knew() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec(), model_spec("n"))
    hand.do(events.ModelSeen(model_spec("n", storage_uri="s3://models/other", generation=2)))
    aside, _ = hand.engine.take_out(OWN, hand.now)
    for name, vouched in (("m", True), ("n", False)):
        model = aside.model(ModelKey("ns", name))
        assert model is not None
        assert model.vouched is vouched
        assert model.last_good is not None
    assert aside.models == 2
    aside.note(events.ModelSeen(model_spec("m", generation=2)))
    aside.note(events.ModelSeen(model_spec("new")))
    assert aside.models == 3
    assert aside.model(ModelKey("ns", "nobody")) is None


def test_a_model_that_goes_meanwhile_leaves_its_routes_to_be_taken_back() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    aside, _ = hand.engine.take_out(OWN, hand.now)
    aside.note(events.ModelGone(KEY, "uid-m"))
    assert aside.routed == {(OWN, "m")}
    assert not aside.models


def test_what_an_agent_says_again_of_a_slot_is_what_counts() -> None:
    aside = known()
    aside.note(report("pod-1", 2, "a", "b"))
    changed = SyncRequest(
        namespace="ns", pod="pod-1", pod_uid="pod-1", session="1", epoch=0,
        server=ServerReport(type="mlserver", ready=True), observed=[slot("a", "uid-a.y")],
        observed_base=2, observed_version=3, desired_version=0,
    )  # fmt: skip
    aside.note(events.AgentReported(facts(changed)))
    assert {each.name: each.serving for each in aside.reports["pod-1"].observed} == {"a": "uid-a.y", "b": "uid-b.x"}
    assert aside.reports["pod-1"].observed_base is None
    aside.note(report("pod-1", 4, "c"))
    assert {each.name for each in aside.reports["pod-1"].observed} == {"c"}, "this one is whole"


def test_pods_that_are_gone_already_are_not_put_back_and_their_addresses_are_known() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(*(model_spec(f"m{number}") for number in range(4)))
    hand.world.pieces.size = 1
    hand.engine.handle(events.PodGone("pod-1"), hand.now)
    assert "pod-1" in hand.world.pods, "it is given up in pieces"
    aside, _ = hand.engine.take_out(OWN, hand.now)
    assert set(aside.pods) == {"pod-2"}
    assert aside.endpoints == {"pod-1", "pod-2"}


def test_a_model_of_another_service_that_moves_meanwhile_does_so_no_longer_than_it_may() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    for name in ("other", "third"):
        hand.do(events.ServiceSeen(service_spec(name=name, uid=f"service-{name}")))
    hand.do(events.ModelSeen(model_spec("n", service="third")))
    hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
    hand.engine.take_out(ServiceKey("ns", "third"), hand.now)
    hand.wait(600.0)
    assert hand.route(service="svc") is None


def test_a_model_that_moves_away_from_there_is_its_new_services_alone_from_then_on() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec(), model_spec("stays"))
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
    hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
    model = hand.world.models[KEY]
    assert model.former == OWN
    hand.engine.take_out(OWN, hand.now)
    assert (model.former, model.copies) == (None, {})
    hand.do(events.Tick())
    assert hand.route(service="svc") is None, "nobody answers for it there any more"
    hand.do(events.PodSeen(pod_spec("pod-2", service="other")))
    hand.report("pod-2")
    assert set(hand.desired("pod-2")) == {"m"}
