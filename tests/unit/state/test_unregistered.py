"""Models that nobody registered: they come with a request, and go when there is no such artifact or nobody asks."""

from typing import Any

import pytest
from shoal_api.messages import ARTIFACT_NOT_FOUND, Action, CopyFailure, CopyPhase, FailureStage, SlotReport
from shoal_operator.state.copies.unregistered import MAX_UNKNOWN, spec_of
from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.prefix import (
    ABSENT_SECONDS,
    BURST,
    LOOK_UPS_PER_SECOND,
    NEVER_SEEN_SECONDS,
    UNUSED_SECONDS,
    Prefix,
)
from shoal_operator.state.world.values import ModelKey, Source
from shoal_operator.state.world.views import ActivationView

from .overcommitted import SERVICE, Cold
from .world_in_hand import MI, model_spec, pod_spec, slot

PLACE = Prefix("s3://models/tenants/", "sklearn")


class Open(Cold):
    """``there``: artifacts below the prefix, by name; all others are not there."""

    def __init__(self, *pods: str, place: Prefix | None = PLACE, there: tuple[str, ...] = (), **given: Any) -> None:
        self.there, self.denied = set(there), False
        super().__init__(*pods, service={"models_from": place, **given.pop("service", {})}, **given)

    def _slot(self, uid: str, name: str) -> SlotReport:
        intent = self.world.pods[uid].desired.get(name)
        model = self.world.models.get(ModelKey("ns", name))
        of_prefix = model is not None and model.spec.source is Source.PREFIX
        if intent is not None and of_prefix and name not in self.there:
            reason = "StorageAccessDenied" if self.denied else ARTIFACT_NOT_FOUND
            failure = CopyFailure(stage=FailureStage.STORAGE, reason=reason, message="nothing is there")
            waiting = CopyPhase.WAITING
            return SlotReport(name=name, target=intent.copy_id, phase=waiting, action=intent.action, failure=failure)
        return super()._slot(uid, name)

    def view(self, name: str) -> ActivationView | None:
        return activation_view(self.world, SERVICE, name, self.now)

    def known(self) -> set[str]:
        return {key.name for key in self.world.models}

    def again(self, place: Prefix | None, **given: Any) -> None:
        spec = self.spec.__class__
        fields = {name: getattr(self.spec, name) for name in spec.__dataclass_fields__}
        self.spec = spec(**{**fields, "models_from": place, **given})
        self.do(events.ServiceSeen(self.spec))


def test_a_name_costs_nothing_before_it_is_asked_for() -> None:
    hand = Open("pod-1", there=("iris",))
    view = hand.view("iris")
    assert view is not None
    assert view.unavailable is Unavailable.COLD, "a request is held until it is known whether it is there"
    assert hand.known() == set()
    assert hand.desired() == {}


def test_a_request_has_it_looked_up_and_loaded() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.ask("iris")
    (intent,) = hand.world.pods["pod-1"].desired
    assert (intent.action, intent.storage_uri) == (Action.STAT, "s3://models/tenants/iris")
    hand.agents()
    assert hand.route("iris") == {"pod-1"}
    assert hand.model("iris").memory is not None, "estimated from the artifact"


def test_what_is_not_there_is_unknown_again_and_remembered_for_a_moment() -> None:
    hand = Open("pod-1")
    hand.ask("made-up")
    hand.agents()
    assert hand.known() == set()
    assert hand.desired() == {}
    assert hand.route("made-up") is None
    assert hand.view("made-up") is None, "404"
    hand.ask("made-up")
    assert hand.known() == set(), "nothing is looked up again so soon"
    hand.pass_time(ABSENT_SECONDS)
    hand.there.add("made-up")
    hand.ask("made-up")
    hand.agents()
    assert hand.route("made-up") == {"pod-1"}


@pytest.mark.parametrize("memory", [None, 10 * MI])
def test_made_up_names_evict_nothing(memory: int | None) -> None:
    hand = Open("pod-1", place=Prefix(PLACE.uri, "sklearn", memory_bytes=memory), there=("a", "b"))
    for name in ("a", "b"):
        hand.ask(name)
        hand.agents()
    hand.pass_time(100)
    for number in range(20):
        hand.ask(f"made-up-{number}")
        hand.agents()
    assert hand.loaded_models() == {"a", "b"}
    assert hand.service.stats.evictions == 0


def test_declared_memory_counts_once_the_artifact_was_seen() -> None:
    hand = Open("pod-1", place=Prefix(PLACE.uri, "sklearn", memory_bytes=7 * MI), there=("iris",))
    hand.ask("iris")
    assert hand.model("iris").memory is None
    hand.agents()
    assert hand.model("iris").memory == 7 * MI
    assert hand.world.pods["pod-1"].committed == 7 * MI


def test_look_ups_are_bounded_and_who_waits_comes_in_turn() -> None:
    hand = Open("pod-1")
    for number in range(int(BURST) + 50):
        hand.ask(f"n-{number}")
    assert len(hand.known()) == BURST
    late = f"n-{int(BURST) + 1}"
    view = hand.view(late)
    assert view is not None
    assert view.unavailable is Unavailable.COLD, "it is held, and asked for again"
    hand.now += 1.0
    for number in range(500):
        hand.ask(f"m-{number}")
    assert len(hand.known()) == BURST + LOOK_UPS_PER_SECOND


def test_who_is_not_used_is_forgotten_once_no_pod_holds_it() -> None:
    hand = Open("pod-1", room=1, there=("a", "b"))
    hand.ask("a")
    hand.agents()
    hand.pass_time(UNUSED_SECONDS + 5, step=20.0)
    assert hand.known() == {"a"}, "memory is free: it stays loaded"
    hand.ask("b")
    hand.agents()
    hand.pass_time(5)
    assert hand.loaded_models() == {"b"}
    assert hand.known() == {"a", "b"}
    hand.pass_time(2 * UNUSED_SECONDS + 5, step=20.0)
    assert hand.known() == {"b"}
    hand.ask("a")
    hand.agents()
    hand.pass_time(5)
    assert hand.route("a") == {"pod-1"}, "and comes back like any other"


def test_there_are_no_more_than_it_says_and_those_nobody_uses_make_place() -> None:
    hand = Open("pod-1", place=Prefix(PLACE.uri, "sklearn", most=3), there=tuple("abcdef"))
    for name in "abc":
        hand.ask(name)
        hand.agents()
        hand.pass_time(70)
    hand.pass_time(130)
    assert hand.known() == {"a", "b", "c"}
    for _ in range(4):
        hand.ask("d")  # as the activator does while the request waits
        hand.agents()
        hand.pass_time(1)
    assert len(hand.known()) <= 3
    assert "d" in hand.known()
    assert hand.route("d") == {"pod-1"}


def test_a_new_operator_knows_again_what_agents_hold() -> None:
    before = Open("pod-1", there=("iris",))
    before.ask("iris")
    before.agents()
    held = [before._slot("pod-1", "iris")]
    after = Open(recovered=False)
    after.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, ready=True)))
    after.report("pod-1", *held)
    after.recover()
    assert after.route("iris") == {"pod-1"}
    assert after.desired() == before.desired(), "nothing is loaded again"


def test_what_another_place_holds_is_a_stray_for_it() -> None:
    before = Open("pod-1", there=("iris",))
    before.ask("iris")
    before.agents()
    held = [before._slot("pod-1", "iris")]
    after = Open(recovered=False, service={"uid": "another"})
    after.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, ready=True)))
    after.report("pod-1", *held)
    after.recover()
    assert after.known() == set()
    assert after.route("iris") is None


def test_a_registered_model_takes_its_name_over() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.ask("iris")
    hand.agents()
    hand.add("iris")
    assert hand.model("iris").spec.source is Source.TRAINED_MODEL
    hand.pass_time(3)
    assert hand.route("iris") == {"pod-1"}
    hand.do(events.ModelGone(ModelKey("ns", "iris"), "uid-iris"))
    hand.pass_time(3)
    hand.ask("iris")
    hand.pass_time(3)
    assert hand.model("iris").spec.source is Source.PREFIX


def test_a_name_of_another_inference_service_is_not_asked_for_here() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.add("iris", service="other")
    assert hand.view("iris") is None
    hand.ask("iris")
    assert hand.model("iris").spec.service == "other"


def test_another_place_is_followed_and_none_ends_them_all() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.ask("iris")
    hand.agents()
    hand.again(Prefix("s3://models/newer/", "sklearn"))
    hand.pass_time(5)
    assert hand.model("iris").spec.storage_uri == "s3://models/newer/iris"
    assert hand.route("iris") == {"pod-1"}
    hand.again(None)
    hand.pass_time(5)
    assert hand.known() == set()
    assert hand.view("iris") is None
    assert hand.desired() == {}


def test_a_place_that_cannot_be_changes_nothing() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.ask("iris")
    hand.agents()
    hand.again(None, place_unusable=True)
    hand.pass_time(5)
    assert hand.route("iris") == {"pod-1"}
    assert hand.view("other") is not None
    hand.again(None, place_unusable=False)
    hand.pass_time(5)
    assert hand.known() == set()


def test_they_go_with_their_inference_service() -> None:
    hand = Open("pod-1", there=("iris",))
    hand.ask("iris")
    hand.agents()
    hand.do(events.ServiceGone(SERVICE, "service-1"))
    hand.pass_time(3)
    assert hand.known() == set()


def test_an_artifact_that_was_deleted_is_unknown_once_a_pod_would_load_it() -> None:
    hand = Open("pod-1", "pod-2", there=("a",))
    hand.ask("a")
    hand.agents()
    hand.pass_time(5)
    hand.there.discard("a")
    hand.do(events.PodGone(hand.pod_of("a")))
    hand.pass_time(5)
    assert hand.view("a") is None
    assert hand.known() == set()


def test_agents_cannot_make_models_without_end() -> None:
    hand = Open("pod-1", place=Prefix(PLACE.uri, "sklearn", most=10))
    for batch in range(4):
        names = [f"n-{batch}-{number}" for number in range(600)]
        specs = {name: spec_of(hand.spec, name) for name in names}
        held = [slot(name, f"{spec.uid}.{spec.content}") for name, spec in specs.items() if spec is not None]
        hand.report("pod-1", *held)
        hand.report("pod-1")
    assert len(hand.known()) <= 10 + MAX_UNKNOWN


def test_what_storage_does_not_tell_is_forgotten_soon() -> None:
    """A key that may not list says "denied" of each name."""
    hand = Open("pod-1")
    hand.denied = True
    hand.ask("a")
    hand.agents()
    hand.pass_time(5)
    assert hand.view("a") is not None
    assert hand.known() == {"a"}
    hand.pass_time(3 * NEVER_SEEN_SECONDS, step=10.0)
    assert hand.known() == set()


def test_an_artifact_that_was_deleted_is_unknown_once_it_is_looked_for() -> None:
    hand = Open("pod-1", "pod-2", room=1, there=("a", "b", "c"))
    for name in "ab":
        hand.ask(name)
        hand.agents()
        hand.pass_time(70)
    hand.there.discard("a")
    hand.ask("c")
    hand.agents()
    hand.pass_time(60)
    assert "a" not in hand.loaded_models()
    seen = set()
    for _ in range(60):
        hand.ask("a")
        hand.pass_time(5)
        seen.add(hand.view("a") is None)
    assert True in seen


@pytest.mark.parametrize(
    "name", ["UPPER", "a/b", "", "a--zz", "x" * 254, "--2e--2e", "x--2e--2e", "a--0a", "a--00", "a--20"]
)
def test_what_can_be_no_artifact_is_not_asked_for(name: str) -> None:
    hand = Open("pod-1")
    assert hand.view(name) is None
    hand.ask(name)
    assert hand.known() == set()


def test_escaped_names_are_paths_below_the_prefix() -> None:
    place = Prefix("s3://models/tenants/", "sklearn", "{name}.tar.gz")
    hand = Open(place=place)
    spec = spec_of(hand.spec, "team-a--2ffraud--5fv2")
    assert spec is not None
    assert spec.storage_uri == "s3://models/tenants/team-a/fraud_v2.tar.gz"


def test_without_a_place_nothing_changes() -> None:
    hand = Open("pod-1", place=None)
    assert hand.view("iris") is None
    hand.ask("iris")
    assert hand.known() == set()


def test_those_registered_beside_them_count_as_ever() -> None:
    hand = Open("pod-1", room=3, there=("free",))
    hand.do(events.ModelSeen(model_spec("own")))
    hand.agents()
    hand.ask("free")
    hand.agents()
    assert hand.loaded_models() == {"own", "free"}


def test_what_agents_held_before_this_operator_makes_place_too() -> None:
    """It is one of those that requests asked for: else a place that is full of them would take no other, for good."""
    before = Open("pod-1", there=("a", "b"))
    for name in "ab":
        before.ask(name)
        before.agents()
    held = [before._slot("pod-1", name) for name in "ab"]
    after = Open(recovered=False, place=Prefix(PLACE.uri, "sklearn", most=2), there=tuple("abcd"))
    after.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, ready=True)))
    after.report("pod-1", *held)
    after.recover()
    assert after.known() == {"a", "b"}
    for name in "cd":
        for _ in range(4):
            after.ask(name)
            after.agents()
            after.pass_time(1)
        after.pass_time(20)
    assert len(after.known()) <= 3
