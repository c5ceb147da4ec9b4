"""Which copies count as moves that are under way: no more of them are begun at once than a service can load."""

from shoal_operator.state.owners import evening_out
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from .overcommitted import Cold


def under_way(hand: Cold) -> int:
    return evening_out.candidates(hand.world, hand.service)[1]


def test_what_is_unloaded_or_has_failed_is_no_move_under_way() -> None:
    """Else pods that joined would stay empty for as long as many models leave the others."""
    hand = Cold("pod-1", "pod-2", room=5)
    hand.broken.add("bad")
    hand.add("a", "b", "c", "bad")
    assert under_way(hand) == 0
    for name in ("a", "b"):
        hand.do(events.ModelGone(ModelKey("ns", name), f"uid-{name}"))
    assert under_way(hand) == 0
    hand.ask("c")
    hand.do(events.ModelSeen(hand.model("bad").spec))
    assert under_way(hand) == 0
