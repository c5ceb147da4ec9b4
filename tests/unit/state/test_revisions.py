"""Artifacts that are overwritten in place: whose word counts, who follows whom, and what stays as it is."""

from typing import Any

import pytest
from shoal_api.messages import Action, CopyPhase, SlotReport, content_digest
from shoal_operator.state import wish
from shoal_operator.state.owners.project import held_as, model_view
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Copy, Model
from shoal_operator.state.world.values import Content
from shoal_operator.status.explain import explain
from shoal_operator.status.model_status import diagnose

from .world_in_hand import KEY, Hand, failure, model_spec, pod_spec, service_spec, slot

A, B, C = "a" * 16, "b" * 16, "c" * 16
URI = "s3://models/m"


def named(revision: str = "") -> str:
    return f"uid-m.{content_digest(URI, 'sklearn', revision=revision)}"


class Two(Hand):
    """One model on two pods; ``say`` what an agent has, in the words that it was told."""

    def __init__(self, *, copies: int = 2, room: int = 100, **model: Any) -> None:
        super().__init__()
        self.do(events.ServiceSeen(service_spec(capacity_bytes=room << 20)))
        for uid in ("pod-1", "pod-2"):
            self.do(events.PodSeen(pod_spec(uid, ip=f"10.0.0.{uid[-1]}", capacity_bytes=room << 20)))
            self.report(uid)
        self.wait(20.0)
        self.do(events.ModelSeen(model_spec(min_copies=copies, max_copies=copies, **model)))

    @property
    def model(self) -> Model:
        return self.world.models[KEY]

    def copy(self, pod: str) -> Copy:
        return self.world.pods[pod].copies["m"]

    def told(self, pod: str) -> str:
        return self.desired(pod)["m"]

    def say(self, pod: str, revision: str, **given: Any) -> None:
        """It has loaded what it was told to load, and found that revision."""
        self.report(pod, slot("m", self.told(pod), **{"revision": revision, **given}))

    def stays(self, pod: str, *, revision: str, by: str, **given: Any) -> None:
        """It serves a revision that it knows by another name than what it is told to load."""
        known: dict[str, Any] = {"target": self.told(pod), "phase": CopyPhase.PULLING}
        self.report(pod, slot("m", by, revision=revision, **{**known, **given}))

    @property
    def current(self) -> set[str]:
        """Pods whose copies are what is wanted now."""
        return {uid for uid, copy in self.model.copies.items() if copy.serving == self.model.aim_id}


def two(**given: Any) -> Two:
    hand = Two(**given)
    for pod in ("pod-1", "pod-2"):
        hand.say(pod, A)
    return hand


def test_the_first_revision_changes_nothing() -> None:
    hand = two()
    assert (hand.model.revision, hand.model.wanted_id, hand.current) == (A, named(), {"pod-1", "pod-2"})
    assert {hand.told("pod-1"), hand.told("pod-2")} == {named()}
    assert hand.model.last_good == Content(URI, "sklearn", hand.model.spec.content, 10 << 20, revision=A)


def test_when_a_pod_fetches_a_newer_one_the_others_follow_and_serve_meanwhile() -> None:
    hand = two()
    hand.report("pod-2")  # its server has lost it, or another pod took its place
    hand.say("pod-2", B)
    assert hand.model.wanted_id == named(B)
    assert hand.current == {"pod-2"}
    assert hand.told("pod-2") == named(), "it has it, by whatever name"
    assert hand.told("pod-1") == named(B)
    assert hand.route() == {"pod-1", "pod-2"}
    # Memory for both, until the former is gone.
    assert hand.world.pods["pod-1"].committed == 20 << 20
    assert hand.world.pods["pod-2"].committed == 10 << 20
    hand.stays("pod-1", revision=A, by=named())
    assert hand.route() == {"pod-1", "pod-2"}
    hand.say("pod-1", B)
    assert hand.current == {"pod-1", "pod-2"}
    assert hand.world.pods["pod-1"].committed == 10 << 20
    assert hand.route() == {"pod-1", "pod-2"}


def test_what_is_restored_to_an_older_one_is_followed_as_well() -> None:
    hand = two()
    for revision in (B, A, B):
        hand.wait(700.0)
        hand.report("pod-2")
        hand.say("pod-2", revision)
        hand.say("pod-1", revision)
        assert hand.current == {"pod-1", "pod-2"}
        assert hand.model.revision == revision


def test_who_follows_and_finds_yet_another_one_is_followed() -> None:
    hand = two()
    hand.report("pod-2")
    hand.say("pod-2", B)
    hand.wait(700.0)
    hand.say("pod-1", C)
    assert (hand.model.wanted_id, hand.current) == (named(C), {"pod-1"})
    assert hand.told("pod-2") == named(C)
    hand.say("pod-2", C)
    assert hand.current == {"pod-1", "pod-2"}


def test_one_that_flaps_is_followed_after_growing_pauses() -> None:
    hand = two()
    revised = []
    for turn in range(40):
        hand.report("pod-2")
        hand.say("pod-2", (B, C)[turn % 2])
        revised.append(hand.model.revision)
        hand.wait(1.0)
    changes = [turn for turn in range(1, 40) if revised[turn] != revised[turn - 1]]
    assert 3 <= len(changes) <= 6
    # Once it is quiet again the last one wins, without anybody's doing.
    hand.wait(700.0)
    check = hand.world.pods["pod-2"].desired.get("m")
    assert check is not None
    assert check.check
    hand.say("pod-2", C, checked=check.check, listed_revision=C)
    assert hand.model.revision == C


def test_without_room_for_both_it_is_said_and_nothing_is_lost() -> None:
    hand = two(room=15)
    hand.report("pod-2")
    hand.say("pod-2", B)
    assert hand.current == {"pod-2"}
    assert hand.told("pod-1") == named()
    assert hand.route() == {"pod-1", "pod-2"}
    assert hand.world.pods["pod-2"].committed == 10 << 20


def test_one_after_the_other() -> None:
    hand = two()
    hand.wait(700.0)
    # A look finds it, so that nobody has it yet.
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    number = hand.copy("pod-1").check or hand.copy("pod-2").check
    asked = "pod-1" if hand.copy("pod-1").check else "pod-2"
    hand.say(asked, A, checked=number, listed_revision=B)
    assert hand.model.revision == B
    first = {pod for pod in ("pod-1", "pod-2") if hand.told(pod) == named(B)}
    assert len(first) == 1
    (one,), (other,) = first, {"pod-1", "pod-2"} - first
    hand.say(one, B)
    assert hand.told(other) == named(B)


def test_a_broken_one_takes_nothing_away_and_is_said() -> None:
    hand = two()
    hand.report("pod-2")
    hand.stays("pod-2", revision=A, by=named(), target_revision=B, failure=failure())
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    asked = "pod-1"
    number = hand.copy(asked).check
    hand.say(asked, A, checked=number, listed_revision=B)
    hand.stays(asked, revision=A, by=named(), target_revision=B, failure=failure())
    assert hand.route() == {"pod-1", "pod-2"}
    assert hand.model.failure is not None
    assert hand.model.fallback
    good = hand.model.last_good
    assert good is not None
    assert good.revision == A
    # Whoever is to load it again, loads what is left of it on its disk.
    for pod in ("pod-1", "pod-2"):
        assert hand.told(pod) == named(), "it goes on with what it has"
    view = model_view(hand.world, KEY, hand.now, url="")
    assert view is not None
    said = explain(view)
    assert {copy["revision"] for copy in said["copies"]} - {None} == {A}
    assert said["model"]["revision"] == B
    # It is mended, which the next try finds.
    hand.wait(400.0)
    trying = {pod for pod in ("pod-1", "pod-2") if hand.told(pod) != named()}
    assert len(trying) == 1
    (one,) = trying
    hand.say(one, C)
    assert hand.model.revision == C
    assert hand.model.failure is None
    (other,) = {"pod-1", "pod-2"} - trying
    hand.say(other, C)
    assert hand.current == {"pod-1", "pod-2"}
    view = model_view(hand.world, KEY, hand.now, url="")
    assert view is not None
    findings = diagnose(view)
    assert findings["MemoryResourceAvailable"].reason == "Fits", findings


@pytest.mark.parametrize("revision", [A, ""])
def test_another_operator_has_the_storage_say_which_of_two_is_the_newer_one(revision: str) -> None:
    """Whatever the status says."""
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    good = Content(URI, "sklearn", content_digest(URI, "sklearn"), 10 << 20, revision=revision)
    hand.do(events.ModelSeen(model_spec(min_copies=2, max_copies=2), vouched=True, last_good=good))
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid, ready=True)))
    hand.report("pod-1", slot("m", named(), revision=A))
    hand.report("pod-2", slot("m", named(B), revision=B))
    hand.recover(2)
    hand.wait(0.1)
    hand.wait(0.1)
    model, checks = hand.world.models[KEY], {}
    assert hand.route() == {"pod-1", "pod-2"}
    for uid in ("pod-1", "pod-2"):
        wanted = hand.world.pods[uid].desired.get("m")
        assert wanted is not None
        if wanted.check:
            checks[uid] = wanted
    (uid,) = checks
    own = {"pod-1": A, "pod-2": B}[uid]
    hand.report(uid, slot("m", checks[uid].copy_id, revision=own, checked=checks[uid].check, listed_revision=B))
    assert model.revision == B
    assert {pod for pod, copy in model.copies.items() if copy.serving == model.wanted_id} == {"pod-2"}
    wanted = hand.world.pods["pod-1"].desired.get("m")
    assert wanted is not None
    assert wanted.copy_id != named()


def test_an_agent_that_knows_no_revisions_is_left_alone() -> None:
    hand = Two()
    hand.report("pod-1", slot("m", named()))
    hand.say("pod-2", A)
    assert hand.current == {"pod-1", "pod-2"}
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    assert hand.copy("pod-1").check == 0


def test_an_edit_forgets_what_was_known_of_the_former_artifact() -> None:
    hand = two()
    hand.report("pod-2")
    hand.say("pod-2", B)
    hand.do(events.ModelSeen(model_spec(min_copies=2, max_copies=2, storage_uri="s3://models/other", generation=2)))
    assert (hand.model.revision, hand.model.spec.revision) == ("", "")
    # And an edit of something else does not.
    hand = two()
    hand.report("pod-2")
    hand.say("pod-2", B)
    wanted = hand.model.wanted_id
    hand.do(events.ModelSeen(model_spec(min_copies=2, max_copies=3, generation=2)))
    assert (hand.model.revision, hand.model.wanted_id) == (B, wanted)


@pytest.mark.parametrize("room", [100, 15], ids=["it is being replaced", "there is no room for that"])
def test_a_look_at_what_was_edited_meanwhile_says_nothing(room: int) -> None:
    hand = two(room=room)
    hand.world.checks.add(KEY)
    hand.wait(0.1)
    number = hand.copy("pod-1").check
    assert number
    before = hand.told("pod-1")
    hand.do(events.ModelSeen(model_spec(min_copies=2, max_copies=2, storage_uri="s3://models/other", generation=2)))
    hand.report("pod-1", slot("m", before, revision=A, checked=number, listed_revision=B))
    assert hand.model.revision == ""


@pytest.mark.parametrize(
    ("model", "service", "looks"),
    [(None, 0.0, 0), (None, 60.0, 4), (0.0, 60.0, 0), (30.0, 60.0, 9), (60.0, 0.0, 4)],
    ids=["never", "as the service says", "not this one", "more often", "only this one"],
)
def test_a_model_is_looked_at_every_so_often_by_one_pod(model: float | None, service: float, looks: int) -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(check=service)))
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid)))
        hand.report(uid)
    hand.wait(20.0)
    hand.do(events.ModelSeen(model_spec(min_copies=2, max_copies=2, check=model)))
    numbers: set[int] = set()
    for _ in range(300):
        for uid in ("pod-1", "pod-2"):
            wanted = hand.world.pods[uid].desired.get("m")
            assert wanted is not None
            numbers |= {wanted.check} - {0}
            hand.report(uid, slot("m", wanted.copy_id, revision=A, checked=wanted.check, listed_revision=A))
        hand.wait(1.0)
    assert len(numbers) == looks


def test_looks_are_paced_whatever_is_asked_for() -> None:
    hand = Hand(check_pace=0.5)
    hand.do(events.ServiceSeen(service_spec(check=1.0, capacity_bytes=1000 << 20)))
    hand.do(events.PodSeen(pod_spec(capacity_bytes=1000 << 20)))
    hand.report()
    hand.wait(20.0)
    for number in range(50):
        hand.do(events.ModelSeen(model_spec(f"m{number}")))

    def agent() -> set[int]:
        wanted = list(hand.world.pods["pod-1"].desired)
        hand.report(
            "pod-1",
            *(slot(each.name, each.copy_id, revision=A, checked=each.check, listed_revision=A) for each in wanted),
        )
        return {each.check for each in wanted} - {0}

    numbers: set[int] = set()
    for _ in range(40):
        numbers |= agent()
        hand.wait(0.5)
    assert 30 <= len(numbers) <= 42
    assert len(hand.world.checks) <= 50


def test_what_a_server_says_of_a_copy_is_known_by_the_name_that_counts() -> None:
    hand = two()
    hand.report("pod-2")
    hand.say("pod-2", B)
    assert held_as(hand.world, "pod-2", "m", named()) == named(B)
    assert held_as(hand.world, "pod-2", "m", "uid-m.other") is None


def test_names_of_revisions() -> None:
    model = wish.begin(model_spec(), None, vouched=False)
    assert wish.known_as(model, named(), A) == named(), "nobody knows which one that is"
    wish.learn(model, A)
    assert wish.known_as(model, named(), A) == named()
    assert wish.known_as(model, named(), B) == named(B)
    wish.revise(model, B)
    assert wish.known_as(model, named(), A) == named(A)
    assert wish.known_as(model, named(), B) == named(B)
    assert wish.known_as(model, named(), None) == named()
    assert wish.known_as(model, "uid-m.0123", B) == "uid-m.0123"
    assert wish.known_as(model, "uid-m.0123", B, told=True) == named(B)
    assert wish.known_as(model, None, B) is None


def test_only_a_report_that_says_so_counts() -> None:
    """What an agent still says of what it was told before is no news."""
    hand = two()
    hand.report("pod-2")
    hand.say("pod-2", B)
    before = hand.model.revision
    for _ in range(3):
        hand.wait(700.0)
        hand.stays("pod-1", revision=A, by=named())
        hand.report("pod-1", SlotReport(name="m", serving=named(), target=named(), phase=CopyPhase.LOADED, revision=A))
    assert hand.model.revision == before == B


def test_a_model_that_is_only_looked_up_says_its_revision_with_the_first_status() -> None:
    """Else its first load would write another one."""
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.wait(20.0)
    hand.do(events.ModelSeen(model_spec("other", memory_bytes=90 << 20)))
    hand.loaded()
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    other, wanted = (hand.desired()[name] for name in ("other", "m"))
    found: dict[str, Any] = {"phase": CopyPhase.SEEN, "action": Action.STAT, "listed_revision": A}
    said = slot("m", None, target=wanted, artifact_bytes=20 << 20, **found)
    hand.report("pod-1", slot("other", other, revision=B), said)
    model = hand.world.models[KEY]
    assert not model.copies
    assert model.revision == A
    assert model.last_good is not None
    assert model.last_good.revision == A
