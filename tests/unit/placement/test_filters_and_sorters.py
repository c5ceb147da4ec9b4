"""Each filter and each sorter by itself: which pods it refuses, at which boundary, and which it prefers."""

import pytest
from shoal_operator.placement.filters import FILTERS
from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.sorters import SORTERS
from shoal_operator.placement.spread import Spread
from shoal_operator.state.world.values import CopyAt, ModelKey, ModelNeed, PodOffer

MI = 1 << 20


def pod(
    uid: str = "p",
    *,
    node: str = "n",
    zone: str = "z",
    committed: int = 0,
    copies: int = 0,
    server_ready: bool = True,
    agent_connected: bool = True,
    leaving: bool = False,
    rate: float = 0.0,
) -> PodLedger:
    offer = PodOffer(uid, uid, node, zone, 100 * MI, committed, copies, server_ready, agent_connected, leaving)
    ledger = PodLedger.of(offer)
    ledger.rate = rate
    return ledger


def need(memory: int = 10 * MI, *, copies: tuple[CopyAt, ...] = (), occupied: tuple[str, ...] = ()) -> ModelNeed:
    return ModelNeed(ModelKey("ns", "m"), memory, 1, copies, frozenset(occupied))


def copy_at(uid: str) -> CopyAt:
    return CopyAt(uid, True, True, True, False)


@pytest.mark.parametrize(
    ("name", "wanted", "offered", "word"),
    [
        ("FitsMemory", need(40 * MI), pod(committed=60 * MI), None),
        ("FitsMemory", need(40 * MI + 1), pod(committed=60 * MI), "needs 40Mi, 40Mi of 100Mi are free"),
        ("FitsMemory", need(MI // 2), pod(committed=100 * MI), "needs 0.5Mi, 0Mi of 100Mi are free"),
        ("NameFree", need(occupied=("other",)), pod(), None),
        ("NameFree", need(occupied=("p",)), pod(), "an earlier model of that name is still being unloaded"),
        ("NotHere", need(copies=(copy_at("other"),)), pod(), None),
        ("NotHere", need(copies=(copy_at("other"), copy_at("p"))), pod(), "it holds a copy already"),
        ("NotLeaving", need(), pod(), None),
        ("NotLeaving", need(), pod(leaving=True), "the pod is leaving"),
        ("PodReady", need(), pod(), None),
        ("PodReady", need(), pod(server_ready=False), "its model server is not ready"),
        ("PodReady", need(), pod(agent_connected=False), "its agent is not connected"),
    ],
)
def test_a_filter_lets_pass_or_says_why(name: str, wanted: ModelNeed, offered: PodLedger, word: str | None) -> None:
    assert FILTERS[name](wanted, offered) == word


NOWHERE = Spread({}, {})
IN_USE = Spread({}, {}, used=True)
SPREAD = Spread({"z1": 2, "z2": 1}, {"n1": 2, "n2": 0, "n3": 1})


@pytest.mark.parametrize(
    ("name", "spread", "better", "worse"),
    [
        ("SpreadNodes", SPREAD, pod(zone="z3", node="n1"), pod(zone="z2", node="n2")),
        ("SpreadNodes", SPREAD, pod(zone="z2", node="n3"), pod(zone="z1", node="n2")),
        ("SpreadNodes", SPREAD, pod(zone="z1", node="n2"), pod(zone="z1", node="n3")),
        ("SpreadNodes", SPREAD, pod(zone="z1", node="n3"), pod(zone="z1", node="n1")),
        ("LeastBusy", IN_USE, pod(rate=0.5), pod(rate=0.6)),
        ("LeastFull", NOWHERE, pod(committed=1), pod(committed=2)),
        ("FewestCopies", NOWHERE, pod(copies=1), pod(copies=2)),
    ],
)
def test_a_sorter_prefers(name: str, spread: Spread, better: PodLedger, worse: PodLedger) -> None:
    assert SORTERS[name](better, spread) < SORTERS[name](worse, spread)


def test_where_nothing_is_held_all_places_are_equal_and_requests_count_only_in_use() -> None:
    assert SORTERS["SpreadNodes"](pod(zone="a", node="b"), NOWHERE) == 0
    assert SORTERS["LeastBusy"](pod(rate=0.5), NOWHERE) == SORTERS["LeastBusy"](pod(rate=5), NOWHERE)


def test_the_order_of_weight() -> None:
    assert list(FILTERS) == ["PodReady", "NotLeaving", "NotHere", "NameFree", "FitsMemory"]
    assert list(SORTERS) == ["SpreadNodes", "LeastBusy", "LeastFull", "FewestCopies"]


def test_a_pod_without_memory_counts_as_full() -> None:
    empty = PodLedger.of(PodOffer("p", "p", "n", "z", 0, 0, 0, True, True, False))
    assert (empty.fullness, empty.free) == (1.0, 0)


def test_a_copy_takes_what_is_free_else_what_is_on_its_way_out() -> None:
    ledger = pod(committed=90 * MI)
    ledger.outgoing = 30 * MI
    ledger.add(10 * MI)
    assert (ledger.committed, ledger.outgoing, ledger.copies, ledger.changed) == (100 * MI, 30 * MI, 1, True)
    ledger.add(20 * MI)
    assert (ledger.committed, ledger.outgoing, ledger.copies) == (100 * MI, 10 * MI, 2)


def test_a_copy_that_grows_is_no_further_copy() -> None:
    ledger = pod(committed=10 * MI, copies=1)
    ledger.grow(5 * MI)
    assert (ledger.committed, ledger.copies, ledger.changed) == (15 * MI, 1, True)


def test_copies_are_counted_one_by_one() -> None:
    spread = Spread({}, {})
    for _ in range(2):
        spread.count(pod().offer)
    assert (spread.zones, spread.nodes) == ({"z": 2}, {"n": 2})
