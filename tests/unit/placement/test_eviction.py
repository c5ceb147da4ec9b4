"""Whose copies make way for a model that no pod has room for."""

import math
from collections.abc import Sequence

import pytest
from shoal_operator.placement.planner import plan
from shoal_operator.state.world.values import ModelKey, ModelNeed, Plan, PlanInput, PodOffer, ServiceKey, Victim

SERVICE = ServiceKey("ns", "svc")


def key(name: str) -> ModelKey:
    return ModelKey("ns", name)


def victim(name: str, idle: float, memory: int = 10, *, young: bool = False) -> Victim:
    return Victim(key(name), memory, idle, young)


def pod(uid: str, *victims: Victim, free: int = 0, outgoing: int = 0, ready: bool = True, **given: bool) -> PodOffer:
    return PodOffer(
        uid=uid,
        name=uid,
        node=uid,
        zone="",
        capacity=100,
        committed=100 - free,
        copies=len(victims),
        server_ready=ready,
        agent_connected=True,
        leaving=given.get("leaving", False),
        outgoing=outgoing,
        victims=victims,
    )


def need(name: str = "new", memory: int = 10, evict_idle: float | None = 0.0, asked_at: float = 0.0) -> ModelNeed:
    return ModelNeed(key(name), memory, 1, (), evict_idle=evict_idle, asked_at=asked_at)


def planned(pods: Sequence[PodOffer], *needs: ModelNeed) -> Plan:
    return plan(PlanInput(SERVICE, tuple(pods), needs))


def gone(made: Plan) -> set[str]:
    return {eviction.model.name for eviction in made.evict}


EVENTS = [
    ("room costs nobody anything", [pod("p", victim("a", 9), free=10)], need(), set(), "p"),
    ("nor does room that is on its way", [pod("p", victim("a", 9)), pod("q", outgoing=10)], need(), set(), "q"),
    ("the longest unused", [pod("p", victim("a", 9), victim("b", 5))], need(), {"a"}, "p"),
    ("of all pods", [pod("p", victim("a", 5)), pod("q", victim("b", 9)), pod("r", victim("c", 7))], need(), {"b"}, "q"),
    ("as many as it takes", [pod("p", *(victim(n, 9) for n in "abc"))], need(memory=20), {"a", "b"}, "p"),
    (
        "counting the most recently used of them",
        [pod("p", victim("a", 99), victim("b", 1)), pod("q", victim("c", 9), victim("d", 8))],
        need(memory=20),
        {"c", "d"},
        "q",
    ),
    (
        "fewer of equals",
        [pod("p", victim("a", 9), victim("b", 9)), pod("q", victim("c", 9, 20))],
        need(memory=20),
        {"c"},
        "q",
    ),
    ("beside what is free", [pod("p", victim("a", 9), victim("b", 8), free=10)], need(memory=20), {"a"}, "p"),
    (
        "an old one rather than a young",
        [pod("p", victim("y", 50, young=True)), pod("q", victim("o", 2))],
        need(),
        {"o"},
        "q",
    ),
    ("a young one if there is no other", [pod("p", victim("y", 50, young=True))], need(), {"y"}, "p"),
    ("nobody who is in use, for a copy more", [pod("p", victim("a", 59))], need(evict_idle=60.0), set(), None),
    ("who is unused, for a copy more", [pod("p", victim("a", 61))], need(evict_idle=60.0), {"a"}, "p"),
    (
        "only who failed, for one that nobody asked for",
        [pod("p", victim("f", math.inf), victim("a", 9))],
        need(evict_idle=math.inf),
        {"f"},
        "p",
    ),
    ("nobody, for one that failed itself", [pod("p", victim("f", math.inf))], need(evict_idle=None), set(), None),
    ("nobody where it is not enough", [pod("p", victim("a", 9))], need(memory=20), set(), None),
    ("nobody on a pod that leaves", [pod("p", victim("a", 9), leaving=True)], need(), set(), None),
    ("nobody on a pod that does not answer", [pod("p", victim("a", 9), ready=False)], need(), set(), None),
]


@pytest.mark.parametrize(("pods", "wanted", "evicted", "where"), [e[1:] for e in EVENTS], ids=[e[0] for e in EVENTS])
def test_who_makes_way(pods: list[PodOffer], wanted: ModelNeed, evicted: set[str], where: str | None) -> None:
    made = planned(pods, wanted)
    assert gone(made) == evicted
    assert [each.pod_uid for each in made.add] == ([where] if where else [])
    assert (wanted.key in made.refused) == (where is None)


def test_only_young_ones_count_as_early() -> None:
    made = planned([pod("p", victim("a", 9), victim("y", 8, young=True))], need(memory=20))
    assert {eviction.model.name: eviction.early for eviction in made.evict} == {"a": False, "y": True}


def test_nobody_makes_way_twice() -> None:
    made = planned([pod("p", victim("a", 9), victim("b", 8))], need("n1"), need("n2"), need("n3"))
    assert gone(made) == {"a", "b"}
    assert len(made.add) == 2
    assert len(made.refused) == 1


def test_who_asked_first_comes_first() -> None:
    """Whatever its name or its size: others would wait for ever."""
    needs = [need("a", 20, asked_at=9.0), need("z", 10, asked_at=3.0), need("m", 10, asked_at=5.0)]
    made = planned([pod("p", victim("v", 9), victim("w", 8))], *needs)
    assert [each.model.name for each in made.add] == ["z", "m"]


def test_who_may_evict_most_comes_before_who_just_needs_room() -> None:
    made = planned([pod("p", free=10)], need("a", evict_idle=math.inf, asked_at=math.inf), need("z"))
    assert [each.model.name for each in made.add] == ["z"]
