"""Room for the next request is made ahead, by those who are least in use, and only because requests have come."""

from shoal_operator.state.copies import freshness
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Stage

from .overcommitted import Cold
from .world_in_hand import model_spec

MANY = 40


def crowded(**timing: float) -> Cold:
    """A full pod, on which a00, a01 ... were used in that order, long enough ago; b, c and d are cold."""
    hand = Cold("pod-1", room=MANY, **timing)
    hand.add(*names())
    for name in names():
        hand.now += 1
        hand.use(name)
    hand.now += 100
    hand.add("b", "c", "d")
    return hand


def names(first: int = 0) -> list[str]:
    return [f"a{number:02d}" for number in range(first, MANY)]


def test_the_next_request_need_not_wait_for_anybody_to_make_way() -> None:
    hand = crowded()
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {*names(3), "b"}, "one made way for it, and two for whoever comes next"
    hand.ask("c")
    assert hand.model("c").copies["pod-1"].stage is Stage.PLACED


def test_nobody_makes_way_ahead_without_a_request_since() -> None:
    """Agents tell of use each second: a look at room that was owed once must not be taken each time."""
    hand = crowded(use_wait=0.1)
    hand.ask("b")
    hand.wait(0.2)  # its agent was too slow to say what is used now, so that nobody makes way ahead before it has
    hand.use("a39", 2)
    hand.agents()
    assert hand.loaded_models() == {*names(3), "b"}
    hand.add("kept", min_copies=1)
    hand.use("a39", 3)
    hand.agents()
    assert hand.loaded_models() == {*names(3), "b", "kept"}


def test_what_was_just_in_use_makes_way_for_a_request_and_not_ahead_of_one() -> None:
    hand = crowded()
    for name in names():
        hand.use(name, 2)
    hand.ask("b")
    hand.agents()
    assert hand.loaded_models() == {*names(1), "b"}


def test_where_there_is_room_no_agent_is_asked_who_could_make_way() -> None:
    hand = Cold("pod-1", room=MANY, use_wait=0.1)
    hand.add("a")
    hand.now += 10
    hand.engine.handle(events.ModelSeen(model_spec("b")), hand.now)
    hand.ask("b")
    assert hand.model("b").copies["pod-1"].stage is Stage.PLACED
    assert not freshness.wanted(hand.world, "pod-1")
