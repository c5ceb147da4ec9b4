"""Where models go, and the words said when they go nowhere."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.placement import planner
from shoal_operator.placement.filters import DESCRIPTIONS, FILTERS
from shoal_operator.placement.planner import plan
from shoal_operator.placement.sorters import DESCRIPTIONS as SORTER_DESCRIPTIONS
from shoal_operator.placement.sorters import SORTERS
from shoal_operator.state.world.values import (
    CopyAt,
    ModelKey,
    ModelNeed,
    Placement,
    Plan,
    PlanInput,
    PodOffer,
    ServiceKey,
)

SERVICE = ServiceKey("ns", "svc")
MI = 1 << 20


def pod(
    uid: str,
    *,
    capacity: int = 100,
    committed: int = 0,
    copies: int = 0,
    node: str = "",
    zone: str = "",
    leaving: bool = False,
    server_ready: bool = True,
    agent_connected: bool = True,
) -> PodOffer:
    return PodOffer(
        uid, uid, node or uid, zone, capacity * MI, committed * MI, copies, server_ready, agent_connected, leaving
    )


def need(
    name: str, memory: int = 10, *, wanted: int = 1, copies: tuple[CopyAt, ...] = (), occupied: tuple[str, ...] = ()
) -> ModelNeed:
    return ModelNeed(ModelKey("ns", name), memory * MI, wanted, copies, frozenset(occupied))


def at(
    pod_uid: str, *, answers: bool = True, current: bool = True, loaded: bool = True, leaving: bool = False
) -> CopyAt:
    return CopyAt(pod_uid, answers, current, loaded, leaving)


def planned(pods: list[PodOffer], *needs: ModelNeed, balance: bool = False) -> Plan:
    return plan(PlanInput(SERVICE, tuple(pods), tuple(needs), balance))


def where(found: tuple[Placement, ...]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for placement in found:
        result.setdefault(placement.model.name, []).append(placement.pod_uid)
    return result


class TestPlacing:
    def test_a_further_copy_of_what_is_in_use_goes_to_the_least_busy_pod(self) -> None:
        """However little it is used."""
        pods = [replace(pod("a"), rate=5.0), replace(pod("b"), rate=5.0), replace(pod("c", committed=50), rate=1.0)]
        used = replace(need("m", wanted=2, copies=(at("a"),)), rate=0.5)
        assert where(planned(pods, used).add) == {"m": ["c"]}
        assert where(planned(pods, replace(used, rate=0.0)).add) == {"m": ["b"]}, "the emptiest"

    def test_models_spread_by_memory(self) -> None:
        found = planned([pod("a"), pod("b"), pod("c")], *(need(f"m{i}") for i in range(9)))
        per_pod = [placement.pod_uid for placement in found.add]
        assert sorted(per_pod) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3

    def test_the_least_full_pod_is_taken(self) -> None:
        assert where(planned([pod("a", committed=50), pod("b", committed=20)], need("m")).add) == {"m": ["b"]}

    def test_fullness_is_relative_to_capacity(self) -> None:
        found = planned([pod("small", capacity=40, committed=20), pod("large", capacity=400, committed=100)], need("m"))
        assert where(found.add) == {"m": ["large"]}

    def test_large_models_are_placed_first(self) -> None:
        found = planned([pod("a", capacity=30), pod("b", capacity=20)], need("s1"), need("s2"), need("big", 30))
        assert not found.refused

    def test_copies_go_to_different_nodes(self) -> None:
        pods = [pod("a", node="n1"), pod("b", node="n1"), pod("c", node="n2", committed=80)]
        assert set(where(planned(pods, need("m", wanted=2)).add)["m"]) in ({"a", "c"}, {"b", "c"})

    def test_a_further_copy_keeps_away_from_the_node_of_the_first(self) -> None:
        pods = [pod("a", node="n1"), pod("b", node="n1"), pod("c", node="n2", committed=80)]
        assert where(planned(pods, need("m", wanted=2, copies=(at("a"),))).add) == {"m": ["c"]}

    def test_zones_count_more_than_nodes(self) -> None:
        pods = [pod("a", zone="z1"), pod("b", zone="z1"), pod("c", zone="z2", committed=80)]
        assert "c" in where(planned(pods, need("m", wanted=2)).add)["m"]

    def test_what_is_placed_stays(self) -> None:
        found = planned([pod("a", committed=90), pod("b")], need("m", copies=(at("a"),)))
        assert not found.add
        assert not found.retire


class TestRefusing:
    def test_the_smallest_lack_of_memory_is_told(self) -> None:
        found = planned([pod("a", committed=95), pod("b", committed=97)], need("m"))
        refusal = found.refused[ModelKey("ns", "m")]
        assert refusal.missing_bytes == 5 * MI
        assert {verdict.filter for verdict in refusal.verdicts} == {"FitsMemory"}
        assert "needs 10Mi, 5Mi of 100Mi are free" in refusal.verdicts[0].message

    def test_every_pod_has_a_word(self) -> None:
        pods = [
            pod("starting", server_ready=False),
            pod("mute", agent_connected=False),
            pod("leaving", leaving=True),
            pod("full", committed=99),
            pod("busy"),
        ]
        refusal = planned(pods, need("m", occupied=("busy",))).refused[ModelKey("ns", "m")]
        assert {verdict.pod: verdict.filter for verdict in refusal.verdicts} == {
            "starting": "PodReady",
            "mute": "PodReady",
            "leaving": "NotLeaving",
            "full": "FitsMemory",
            "busy": "NameFree",
        }

    def test_what_an_update_takes_beside_the_old_content_is_missing_to_who_comes_after_it(self) -> None:
        """The same size was refused before it; what its status says must not be the shortage of then."""
        update = replace(at("a", current=False, loaded=False), growth=30 * MI)
        needs = (need("m1", 50), need("m2", 50, copies=(update,)), need("m3", 50))
        found = planned([pod("a", committed=60, copies=1)], *needs)
        assert where(found.replace) == {"m2": ["a"]}
        missing = {key.name: refusal.missing_bytes // MI for key, refusal in found.refused.items()}
        assert missing == {"m1": 10, "m3": 40}

    def test_without_pods_nothing_is_missing(self) -> None:
        assert planned([], need("m")).refused[ModelKey("ns", "m")].missing_bytes == 0

    def test_filters_and_sorters_describe_themselves(self) -> None:
        assert FILTERS.keys() == DESCRIPTIONS.keys()
        assert SORTERS.keys() == SORTER_DESCRIPTIONS.keys()
        assert all(text.endswith(".") for text in (*DESCRIPTIONS.values(), *SORTER_DESCRIPTIONS.values()))


class TestMoving:
    def test_a_leaving_pods_model_is_placed_elsewhere_and_serves_meanwhile(self) -> None:
        found = planned([pod("a", leaving=True, committed=10), pod("b")], need("m", copies=(at("a", leaving=True),)))
        assert where(found.add) == {"m": ["b"]}
        assert not found.retire

    def test_it_retires_once_another_answers(self) -> None:
        copies = (at("a", leaving=True), at("b"))
        found = planned([pod("a", leaving=True, committed=10), pod("b", committed=10)], need("m", copies=copies))
        assert where(found.retire) == {"m": ["a"]}

    def test_a_copy_that_has_not_loaded_retires_nothing(self) -> None:
        copies = (at("a", leaving=True), at("b", answers=False, loaded=False))
        found = planned([pod("a", leaving=True, committed=10), pod("b", committed=10)], need("m", copies=copies))
        assert not found.retire
        assert not found.add

    def test_surplus_retires_from_the_fullest_pod(self) -> None:
        found = planned([pod("a", committed=60), pod("b", committed=20)], need("m", copies=(at("a"), at("b"))))
        assert where(found.retire) == {"m": ["a"]}


class TestUpdating:
    def test_with_room_for_both_it_is_replaced_in_place(self) -> None:
        found = planned([pod("a", committed=10), pod("b")], need("m", copies=(at("a", current=False, loaded=False),)))
        assert where(found.replace) == {"m": ["a"]}
        assert not found.add

    def test_on_a_full_pod_it_is_loaded_elsewhere(self) -> None:
        copies = (at("a", current=False, loaded=False),)
        found = planned([pod("a", committed=95), pod("b", committed=50)], need("m", copies=copies))
        assert where(found.add) == {"m": ["b"]}
        assert not found.retire

    def test_with_room_nowhere_the_old_one_serves_on(self) -> None:
        copies = (at("a", current=False, loaded=False),)
        found = planned([pod("a", committed=95), pod("b", committed=95)], need("m", copies=copies))
        assert found.refused[ModelKey("ns", "m")].missing_bytes == 5 * MI
        assert not found.retire

    def test_one_that_answers_nothing_makes_way(self) -> None:
        copies = (at("a", answers=False, current=False, loaded=False),)
        found = planned([pod("a", committed=95)], need("m", copies=copies))
        assert where(found.retire) == {"m": ["a"]}

    def test_what_is_not_needed_any_more_is_not_updated_on_its_way_out(self) -> None:
        copies = (at("a", current=False, loaded=False), at("b"))
        found = planned([pod("a", committed=10), pod("b", committed=10)], need("m", copies=copies))
        assert where(found.retire) == {"m": ["a"]}
        assert not found.replace

    def test_a_surplus_copy_that_cannot_be_loaded_retires(self) -> None:
        copies = (at("a"), CopyAt("b", answers=False, current=True, loaded=False, leaving=False, failed=True))
        found = planned([pod("a", committed=10), pod("b", committed=10)], need("m", copies=copies))
        assert where(found.retire) == {"m": ["b"]}

    def test_a_copy_that_only_needs_more_memory_takes_the_difference(self) -> None:
        grown = CopyAt("a", answers=True, current=False, loaded=False, leaving=False, growth=10 * MI)
        assert where(planned([pod("a", committed=85)], need("m", 50, copies=(grown,))).replace) == {"m": ["a"]}


class TestBalancing:
    def test_a_new_pod_gets_its_share_and_nothing_else_moves(self) -> None:
        needs = [need(f"m{i}", copies=(at("a" if i % 2 else "b"),)) for i in range(12)]
        found = planned([pod("a", committed=60), pod("b", committed=60), pod("c")], *needs, balance=True)
        assert [placement.pod_uid for placement in found.add] == ["c"] * 4
        assert not found.retire

    @pytest.mark.parametrize(
        "new", [pod("c", server_ready=False), pod("c", agent_connected=False), pod("c", leaving=True)]
    )
    def test_nothing_moves_to_a_pod_that_could_not_load_it(self, new: PodOffer) -> None:
        needs = [need(f"m{i}", copies=(at("a" if i % 2 else "b"),)) for i in range(12)]
        assert not planned([pod("a", committed=60), pod("b", committed=60), new], *needs, balance=True).add

    def test_small_differences_stay(self) -> None:
        needs = [need(f"m{i}", copies=(at("a" if i % 2 else "b"),)) for i in range(11)]
        assert not planned([pod("a", committed=50), pod("b", committed=60)], *needs, balance=True).add

    def test_moves_in_flight_are_bounded(self) -> None:
        needs = [need(f"m{i:03}", 1, copies=(at("a"),)) for i in range(400)]
        found = planned([pod("a", capacity=1000, committed=400), pod("b", capacity=1000)], *needs, balance=True)
        assert len(found.add) == 64
        assert found.unbalanced

    def test_one_round_moves_between_few_pods(self) -> None:
        """Each pair of pods is routes of its own in every Envoy."""
        full = [pod(f"p{i:03}", capacity=100, committed=50) for i in range(100)]
        needs = [need(f"m{i:04}", 1, copies=(at(f"p{i % 100:03}"),)) for i in range(5000)]
        found = planned([*full, pod("new", capacity=100)], *needs, balance=True)
        assert len(found.add) == 12
        assert found.unbalanced

    def test_what_is_loading_anyway_counts_as_in_flight(self) -> None:
        needs = tuple(need(f"m{i:03}", 1, copies=(at("a"),)) for i in range(400))
        pods = (pod("a", capacity=1000, committed=400), pod("b", capacity=1000))
        found = plan(PlanInput(SERVICE, pods, needs, balance=True, in_flight=60))
        assert len(found.add) == 4
        assert found.unbalanced


@given(
    capacities=st.lists(st.integers(10, 200), min_size=1, max_size=6),
    memories=st.lists(st.integers(1, 60), max_size=40),
    wanted=st.integers(1, 3),
)
def test_capacity_is_never_exceeded_and_refusals_are_true(
    capacities: list[int], memories: list[int], wanted: int
) -> None:
    pods = [pod(f"p{i}", capacity=capacity) for i, capacity in enumerate(capacities)]
    needs = [need(f"m{i}", memory, wanted=wanted) for i, memory in enumerate(memories)]
    found = planned(pods, *needs)
    used: dict[str, int] = {}
    sizes = {n.key: n.memory_bytes for n in needs}
    for placement in found.add:
        used[placement.pod_uid] = used.get(placement.pod_uid, 0) + sizes[placement.model]
    assert all(used.get(p.uid, 0) <= p.capacity for p in pods)
    held = where(found.add)
    assert all(len(set(uids)) == len(uids) for uids in held.values()), "two copies on one pod"
    for each in needs:
        copies = held.get(each.key.name, [])
        assert (each.key in found.refused) == (len(copies) < wanted)


def test_a_plan_looks_at_a_few_pods_for_a_model_not_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, refuse = 0, planner._refuse

    def counted(*given: Any) -> Any:
        nonlocal looked
        looked += 1
        return refuse(*given)

    monkeypatch.setattr(planner, "_refuse", counted)
    pods = [pod(f"p{n}") for n in range(200)]
    needs = [need(f"m{n}", copies=(at("leaving", leaving=True),)) for n in range(100)]
    assert len(planned(pods, *needs).add) == 100
    assert looked < 10 * len(needs)
