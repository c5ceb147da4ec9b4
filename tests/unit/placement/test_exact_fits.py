"""What fits exactly fits, and a byte more does not: for copies, updates, moves, and whoever makes way."""

from dataclasses import replace

import pytest
from shoal_operator.placement import planner
from shoal_operator.placement.eviction import cheapest
from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import CopyAt, ModelKey, ModelNeed, PlanInput, ServiceKey, Victim

from .test_planner import MI, at, need, planned, pod, where


def older(pod_uid: str = "a", growth: int = 10, **given: bool) -> CopyAt:
    known = {"answers": True, "current": False, "loaded": False, "leaving": False}
    return CopyAt(pod_uid, **{**known, **given}, growth=growth * MI)


def asking(name: str, memory: int, *copies: CopyAt, **given: object) -> ModelNeed:
    return replace(need(name, memory, copies=copies), evict_idle=0.0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("committed", "fits"), [(90, True), (91, False)])
class TestWithTenLeftOrNine:
    def test_a_copy(self, committed: int, fits: bool) -> None:
        assert bool(planned([pod("a", committed=committed)], need("m")).add) == fits

    def test_a_copy_beside_others_of_its_model(self, committed: int, fits: bool) -> None:
        made = planned([pod("a"), pod("b", committed=committed)], need("m", wanted=2, copies=(at("a"),)))
        assert bool(made.add) == fits

    def test_an_update(self, committed: int, fits: bool) -> None:
        made = planned([pod("a", committed=committed)], need("m", copies=(older(),)))
        assert bool(made.replace) == fits
        assert bool(made.refused) == (not fits)

    def test_an_update_that_was_taken_back(self, committed: int, fits: bool) -> None:
        made = planned([pod("a", committed=committed)], need("m", copies=(older(loaded=True),)))
        assert bool(made.replace) == fits

    def test_an_update_that_nothing_is_known_of_but_its_size(self, committed: int, fits: bool) -> None:
        made = planned([pod("a", committed=committed)], need("m", copies=(older(growth=0),)))
        assert bool(made.replace) == fits

    def test_a_model_that_comes_after_an_update_of_the_same_plan(self, committed: int, fits: bool) -> None:
        pods = [pod("a", committed=committed - 10)]
        made = planned(pods, asking("m1", 10, older()), replace(need("m2"), evict_idle=1.0))
        assert where(made.replace) == {"m1": ["a"]}
        assert bool(made.add) == fits


def test_an_update_that_takes_less_is_made_where_there_is_no_room_left() -> None:
    shrunk = older(growth=-5, loaded=True)
    assert where(planned([pod("a", committed=100)], need("m", copies=(shrunk,))).replace) == {"m": ["a"]}


def test_what_is_taken_back_where_it_goes_is_not_taken_back() -> None:
    leaving = older(loaded=True, leaving=True)
    assert not planned([pod("a", leaving=True)], need("m", copies=(leaving,))).replace


def test_copies_on_pods_that_are_not_offered_are_left_as_they_are() -> None:
    """A plan for a few models looks at a few pods."""
    made = planned([pod("b", committed=95)], need("m", copies=(older("elsewhere"),)))
    assert (made.replace, made.retire) == ((), ())
    made = planned([pod("b")], need("m", wanted=1, copies=(at("b"), at("elsewhere"))))
    assert where(made.retire) == {"m": ["elsewhere"]}, "nothing is known of it: it counts as full"


def test_several_copies_of_what_is_in_use_go_to_the_least_busy_pods_one_after_the_other() -> None:
    """Each copy that a plan adds brings its part of the requests with it."""
    pods = [replace(pod("a"), rate=0.0), replace(pod("b"), rate=3.0), replace(pod("c"), rate=100.0)]
    needs = [replace(need(f"m{number}", wanted=2), rate=10.0, copies=(at("c"),)) for number in range(2)]
    assert where(planned(pods, *needs).add) == {"m0": ["a"], "m1": ["b"]}


class TestMakingWayForAnUpdate:
    def blocked(self, *victims: Victim, committed: int = 100, growth: int = 10) -> list[str]:
        """Who leaves the one pod for an update that finds no room there."""
        offer = replace(pod("a", committed=committed), victims=victims)
        made = planned([offer], asking("m", 10, older(growth=growth)))
        assert not made.replace, "it finds the room when it is planned again"
        return [eviction.model.name for eviction in made.evict]

    def test_who_was_used_longest_ago_leaves(self) -> None:
        assert self.blocked(victim("old", 90.0), victim("new", 10.0)) == ["old"]
        assert self.blocked(victim("old", 90.0), victim("new", 10.0), growth=20) == ["old", "new"]

    def test_nobody_leaves_for_half_of_what_it_takes(self) -> None:
        assert self.blocked(victim("old", 90.0), growth=20) == []

    def test_nobody_leaves_who_has_hardly_come(self) -> None:
        assert self.blocked(victim("young", 90.0, young=True)) == []

    def test_the_least_that_is_missing_anywhere_is_said(self) -> None:
        offers = [pod("a", committed=97), pod("b", committed=95)]
        made = planned(offers, need("m", copies=(older(growth=8),)))
        assert made.refused[ModelKey("ns", "m")].missing_bytes == 5 * MI
        made = planned([offers[0], pod("b", committed=80, leaving=True)], need("m", copies=(older(growth=8),)))
        assert made.refused[ModelKey("ns", "m")].missing_bytes == 5 * MI, "beside the old content"


def victim(name: str, idle: float, memory: int = 10, *, young: bool = False) -> Victim:
    return Victim(ModelKey("ns", name), memory * MI, idle, young)


@pytest.mark.parametrize(
    ("idle", "lacking", "gone"),
    [
        (50.0, 10, ["a"]),
        (50.0, 11, ["a", "b"]),
        (50.0, 20, ["a", "b"]),
        (50.0, 21, None),
        (60.0, 10, ["a"]),  # exactly so long ago
        (61.0, 10, None),
        (None, 10, None),
        (50.0, 0, []),
    ],
)
def test_who_has_to_go_for_how_much(idle: float | None, lacking: int, gone: list[str] | None) -> None:
    offer = PodLedger.of(replace(pod("p", committed=100), victims=(victim("a", 60.0), victim("b", 55.0))))
    found = offer.making_room(replace(need("m"), evict_idle=idle), lacking * MI, young=False)
    assert (None if found is None else [each.model.name for each in found]) == gone


def test_nobody_makes_way_for_himself() -> None:
    offer = PodLedger.of(replace(pod("p", committed=100), victims=(victim("m", 60.0), victim("a", 55.0))))
    found = offer.making_room(asking("m", 10), 10 * MI, young=False)
    assert found is not None
    assert [each.model.name for each in found] == ["a"]


def test_of_pods_that_cost_the_same_the_one_that_fewer_leave() -> None:
    two = replace(pod("two", committed=100), victims=(victim("a", 60.0, 5), victim("b", 50.0, 5)))
    one = replace(pod("one", committed=100), victims=(victim("c", 50.0),))
    for pods in ([two, one], [one, two]):
        found = cheapest(asking("m", 10), [PodLedger.of(each) for each in pods])
        assert found is not None
        assert found[0].offer.uid == "one"


def test_who_makes_way_frees_a_place_and_its_bytes_for_the_plan() -> None:
    ledger = PodLedger.of(replace(pod("p", committed=100, copies=2), victims=(victim("a", 60.0), victim("b", 55.0))))
    ledger.evict([ledger.victims[0]])
    assert ([each.model.name for each in ledger.victims], ledger.outgoing, ledger.copies) == (["b"], 10 * MI, 1)


def test_the_words_of_very_many_pods_are_bounded() -> None:
    pods = [pod(f"p{number:03}", committed=100) for number in range(3 * planner.MAX_VERDICTS)]
    refusal = planned(pods, need("m")).refused[ModelKey("ns", "m")]
    assert len(refusal.verdicts) == planner.MAX_VERDICTS


class TestEveningOut:
    def test_a_move_is_at_most_half_the_difference(self) -> None:
        """A larger one would come back."""
        for size, moves in ((10, 1), (11, 0)):
            made = planned([pod("a", committed=20), pod("b")], need("m", size, copies=(at("a"),)), balance=True)
            assert len(made.add) == moves, size

    def test_what_is_in_use_moves_first(self) -> None:
        needs = [replace(need(name, 10, copies=(at("a"),)), rate=rate) for name, rate in (("m1", 5.0), ("m2", 0.0))]
        made = planned([pod("a", committed=20), pod("b")], *needs, balance=True)
        assert [placement.model.name for placement in made.add] == ["m1"]

    @pytest.mark.parametrize(
        "copy",
        [
            at("a", loaded=False),
            CopyAt("a", answers=False, current=True, loaded=False, leaving=False, failed=True),
        ],
        ids=["on its way", "failed"],
    )
    def test_what_is_not_loaded_does_not_move(self, copy: CopyAt) -> None:
        made = planned([pod("a", committed=40), pod("b")], need("m", 10, copies=(copy,)), balance=True)
        assert not made.add

    def test_nor_to_a_pod_where_it_is_or_its_name_is_taken(self) -> None:
        here = need("m1", 10, wanted=2, copies=(at("a"), at("b")))
        taken = need("m2", 10, copies=(at("a"),), occupied=("b",))
        assert not planned([pod("a", committed=40), pod("b", committed=10)], here, taken, balance=True).add

    def test_with_one_pod_or_none_nothing_moves(self) -> None:
        for pods in ([], [pod("a", committed=90)], [pod("a", committed=90), pod("b", capacity=0)]):
            made = planned(pods, need("m", 10, copies=(at("a"),)), balance=True)
            assert (made.add, made.unbalanced) == ((), False)

    def test_what_is_being_moved_counts_where_it_will_be(self) -> None:
        """Its source is only free later; were it counted as full, more would move than evens out."""
        moving = need("m1", 40, copies=(at("a"), at("b", loaded=False)))
        rest = [need(f"m{number}", 10, copies=(at("a"),)) for number in range(2, 6)]
        made = planned([pod("a", committed=80), pod("b", committed=40)], moving, *rest, balance=True)
        assert not made.add

    @pytest.mark.parametrize(("more", "moves"), [(0, 0), (1, 1)])
    def test_a_difference_of_a_tenth_of_the_mean_is_left_alone(self, more: int, moves: int) -> None:
        """In numbers that are exact in floating point: 21 and 19 of 64."""
        pods = [pod("a", capacity=64, committed=21 + more), pod("b", capacity=64, committed=19 - more)]
        needs = (need("m", 1, copies=(at("a"),)),)
        made = planner.plan(PlanInput(ServiceKey("ns", "svc"), tuple(pods), needs, balance=True, in_flight=1))
        assert (len(made.add), made.unbalanced) == (moves, False)

    @pytest.mark.parametrize(("in_flight", "more"), [(1, True), (0, False)])
    def test_where_nothing_can_move_before_others_have_it_is_tried_again(self, in_flight: int, more: bool) -> None:
        pods = (pod("a", committed=40), pod("b", committed=20))
        needs = (need("m", 10, copies=(at("a", loaded=False),)),)
        made = planner.plan(PlanInput(ServiceKey("ns", "svc"), pods, needs, balance=True, in_flight=in_flight))
        assert (made.add, made.unbalanced) == ((), more)
