"""Updates where the pods are full: idle models make way for the new content beside the old one, or a cause is said."""

from typing import Any

import pytest
from shoal_operator.state.demand import victims
from shoal_operator.state.owners.project import model_view
from shoal_operator.state.world import events
from shoal_operator.status.conditions import Finding
from shoal_operator.status.explain import explain
from shoal_operator.status.model_status import diagnose

from .overcommitted import Cold
from .world_in_hand import MI, model_spec


def update(hand: Cold, name: str, **given: Any) -> None:
    hand.do(events.ModelSeen(model_spec(name, storage_uri=f"s3://models/new-{name}", generation=2, **given)))
    hand.agents()


def said(hand: Cold, name: str) -> dict[str, Finding]:
    view = model_view(hand.world, model_spec(name).key, hand.now, url="")
    assert view is not None
    found = diagnose(view)
    if found["Ready"].reason == "UpdateBlocked":
        missing = explain(view)["refused"]["missingBytes"]
        assert missing > 0
        assert f"{missing // MI}Mi are missing" in found["Ready"].message
        assert found["Ready"].action, "what to do about it"
        assert found["MemoryResourceAvailable"].reason == "UpdateBlocked"
    return found


def is_updated(hand: Cold, name: str, pod: str = "pod-1") -> bool:
    return name in hand.loaded_models() and hand.world.pods[pod].copies[name].serving == hand.want(name)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_whichever_is_updated_an_idle_one_makes_way(name: str) -> None:
    """The one that was used longest ago counted as making way for itself."""
    hand = Cold("pod-1", room=3)
    hand.add("a", "b", "c")
    hand.pass_time(60, 10)
    for used in ("a", "b", "c"):
        hand.use(used, requests=1)
        hand.wait(1.0)
    hand.pass_time(60, 10)
    update(hand, name)
    hand.pass_time(3)
    assert is_updated(hand, name)
    assert len(hand.loaded_models()) == 2


def test_all_of_them_at_once() -> None:
    hand = Cold("pod-1", room=3)
    hand.add("a", "b", "c")
    hand.pass_time(60, 10)
    for name in ("a", "b", "c"):
        hand.do(events.ModelSeen(model_spec(name, storage_uri=f"s3://models/new-{name}", generation=2)))
    hand.agents()
    hand.pass_time(10)
    for name in ("a", "b", "c"):
        assert said(hand, name)["Ready"].reason == "OnDemand"


def test_those_that_were_just_loaded_make_way_once_they_are_not() -> None:
    hand = Cold("pod-1", room=3)
    hand.add("a", "b", "c")
    hand.pass_time(5)
    update(hand, "a")
    assert said(hand, "a")["Ready"].reason == "UpdateBlocked"
    hand.pass_time(10, 5)
    assert said(hand, "a")["Ready"].reason == "UpdateBlocked"
    hand.pass_time(20, 5)
    assert is_updated(hand, "a")


def test_beside_a_full_pod_of_models_that_are_kept() -> None:
    """The other pod might have taken it, so nobody made way on its own."""
    hand = Cold("pod-1", "pod-2")
    hand.add("k1", "k2", "a", "b")
    hand.pass_time(60, 10)
    pod = hand.pod_of("a")
    for name in ("k1", "k2", "b"):
        if hand.pod_of(name) != pod:
            hand.do(events.ModelSeen(model_spec(name, min_copies=1, generation=2)))
    hand.agents()
    update(hand, "a")
    hand.pass_time(3)
    assert is_updated(hand, "a", pod)


def test_beside_models_that_are_kept_it_says_what_is_missing_and_no_timer_runs_on() -> None:
    hand = Cold("pod-1", room=3)
    hand.add("a", "b", "c", min_copies=1)
    hand.pass_time(5)
    update(hand, "a")
    hand.pass_time(60, 10)
    assert said(hand, "a")["Ready"].reason == "UpdateBlocked"
    assert "10Mi are missing" in said(hand, "a")["Ready"].message
    assert hand.service.retry_at is None


def test_a_loaded_model_that_is_declared_larger_needs_no_more_than_the_difference() -> None:
    """Where there is none for that yet, it gets it as soon as somebody goes, and is not loaded elsewhere for it."""
    hand = Cold("pod-1", room=10, service={"strict": True})
    hand.add("m", memory_bytes=50 * MI)
    hand.add("n", memory_bytes=45 * MI)
    hand.do(events.ModelSeen(model_spec("m", memory_bytes=60 * MI, generation=2)))
    ledger = hand.world.pods["pod-1"].ledger
    assert ledger.accounts["m"].charged == 50 * MI
    hand.do(events.ModelGone(model_spec("n").key, "uid-n"))
    hand.acknowledge()
    hand.wait(1.0)
    hand.report("pod-1", hand._slot("pod-1", "m"))
    hand.wait(1.0)
    assert (ledger.accounts["m"].charged, ledger.committed) == (60 * MI, 60 * MI)
    copy = hand.model("m").copies["pod-1"]
    assert copy.current
    assert not copy.replacing, "its agent has nothing to do for it"


@pytest.mark.parametrize(
    ("now", "in_flight", "at"),
    [(29.0, 0, 30.0), (29.0, 1, 30.0), (30.0, 0, None), (30.0, 1, 60.0), (31.0, 0, None), (31.0, 1, 61.0)],
)
def test_when_somebody_may_make_way_for_an_update(now: float, in_flight: int, at: float | None) -> None:
    """Once he has been there for a while; whoever answers requests then, a while later."""
    hand = Cold("pod-1", residency=30.0)
    hand.add("a")
    pod = hand.world.pods["pod-1"]
    pod.copies["a"].in_flight = in_flight
    assert victims.next_of_age(hand.world, pod, now, set()) == at
    assert victims.next_of_age(hand.world, pod, now, {model_spec("a").key}) is None
