"""The only pod of an InferenceService is replaced while a request waits: what minCopies keeps has its place again.

The request may come first on the new pod, and is answered; its model then makes way, however much it is used.
"""

import pytest
from shoal_operator.state.owners import plans
from shoal_operator.state.owners.project import model_view
from shoal_operator.state.world import events
from shoal_operator.state.world.context import Context
from shoal_operator.status.model_status import diagnose

from .overcommitted import Cold
from .world_in_hand import MI, model_spec, pod_spec


def ready(hand: Cold, name: str) -> tuple[bool, str]:
    view = model_view(hand.world, model_spec(name).key, hand.now, url="")
    assert view is not None
    found = diagnose(view)["Ready"]
    return found.good, found.reason


def filled_by_kept(pod: str = "pod-1") -> Cold:
    """Room for two, both kept; four others that a request would have loaded if there were room."""
    hand = Cold(pod, room=2)
    hand.add("p1", "p2", memory_bytes=10 * MI, min_copies=1)
    hand.add("p3", "p4", "p5", "p6", memory_bytes=10 * MI)
    hand.pass_time(60, 5)
    assert hand.loaded_models() == {"p1", "p2"}
    return hand


def replace_pod(hand: Cold, asked: str) -> None:
    """A request comes in between, and has its model loaded on the new pod before what is kept."""
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, deleting=True)))
    hand.agents()
    hand.do(events.PodGone("pod-1"))
    hand.ask(asked)
    hand.pass_time(10, 1)
    hand.join("pod-2")
    hand.ask(asked)
    hand.agents()


def test_a_model_in_use_makes_way_for_one_that_is_kept() -> None:
    hand = filled_by_kept()
    replace_pod(hand, "p3")
    assert "p3" in hand.loaded_models(), "its request is answered"
    for requests in range(1, 11):
        if "p3" in hand.desired("pod-2"):
            hand.use("p3", requests=requests, pod="pod-2", in_flight=1)
        hand.pass_time(1)
    assert hand.loaded_models() == {"p1", "p2"}
    assert ready(hand, "p3") == ready(hand, "p4") == (False, "InsufficientMemory")


def test_requests_that_take_turns_leave_it_its_place() -> None:
    """They evict each other: no place is ever free, and some are asked for whenever one could be."""
    hand = filled_by_kept()
    replace_pod(hand, "p3")
    assert "p3" in hand.loaded_models()
    for _ in range(12):
        for name in ("p3", "p4", "p5", "p6"):
            if name not in hand.loaded_models():
                hand.ask(name)
        hand.pass_time(0.5)
    assert hand.loaded_models() == {"p1", "p2"}


def test_while_the_last_pod_leaves_others_find_no_more_room_than_before() -> None:
    """They turned Ready, and a request for them waited in vain."""
    hand = filled_by_kept()
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, deleting=True)))
    hand.agents()
    assert ready(hand, "p3") == (False, "InsufficientMemory")
    hand.join("pod-2")
    hand.agents()
    hand.wait(0.5)
    assert set(hand.desired("pod-2")) == {"p1", "p2"}
    assert hand.desired("pod-1").keys() >= {"p1", "p2"}, "it serves them until they are loaded on the new one"
    assert ready(hand, "p3") == (False, "InsufficientMemory")
    hand.do(events.PodGone("pod-1"))
    assert ready(hand, "p3") == (False, "InsufficientMemory")


def test_room_that_a_leaving_pod_has_is_room() -> None:
    hand = filled_by_kept()
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI, deleting=True)))
    hand.do(events.ModelSeen(model_spec("p2", memory_bytes=10 * MI, generation=2)))
    hand.agents()
    assert ready(hand, "p3") == (True, "OnDemand")


@pytest.mark.parametrize(("strict", "first"), [(False, {"p1"}), (True, set())])
def test_only_where_models_may_be_cold_what_is_kept_is_planned_with_what_is_asked_for(
    strict: bool, first: set[str]
) -> None:
    hand = Cold("pod-1", room=1, service={"strict": strict})
    hand.add("big", memory_bytes=10 * MI, min_copies=1)
    hand.add("p1", memory_bytes=10 * MI, min_copies=1)
    assert {key.name for key in hand.service.refused} == {"p1"}
    ctx = Context(hand.world, hand.now)
    ctx.retry_at(hand.service, hand.now)
    plans.retry(ctx)
    assert {key.name for key in hand.service.dirty.asked} == first
    assert "p1" in {key.name for key in hand.service.dirty}
