"""Models that nobody uses any more are unloaded, where spec.serving.idleUnload says so, and stay out."""

import pytest
from shoal_api.messages import CopyPhase
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from .overcommitted import Cold
from .world_in_hand import MI, model_spec, service_spec, slot


def test_an_idle_model_is_unloaded_and_stays_out_until_it_is_asked_for() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=60.0)
    hand.now += 40
    hand.use("a")
    hand.pass_time(50, step=5)
    assert hand.loaded_models() == {"a"}
    hand.pass_time(15, step=5)
    assert hand.loaded_models() == set()
    assert (hand.route("a"), hand.model("a").ready) == ("Cold", True)
    hand.pass_time(200, step=10)
    assert hand.loaded_models() == set(), "there is room, but nobody wants it"
    assert hand.world.agenda.next is None
    hand.ask("a")
    hand.agents()
    assert hand.loaded_models() == {"a"}
    assert hand.service.stats.idle_unloads == 1


def test_a_model_with_requests_in_flight_is_not_idle() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=10.0)
    hand.use("a", in_flight=1)
    hand.pass_time(30, step=1)
    assert hand.loaded_models() == {"a"}
    hand.use("a", in_flight=0, idle=30.0)
    hand.pass_time(3, step=1)
    assert hand.loaded_models() == set()


def test_requests_that_a_crash_of_the_server_ended_are_not_in_flight_any_more() -> None:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=10.0)
    hand.use("a", in_flight=1)
    hand.report("pod-1", slot("a", None, target=hand.want("a"), phase=CopyPhase.WAITING))
    hand.agents()
    hand.pass_time(12, step=1)
    assert hand.loaded_models() == set()


@pytest.mark.parametrize("how", ["minCopies", "strict"])
def test_a_kept_model_is_idle_once_it_need_not_be_kept(how: str) -> None:
    given = {"strict": True} if how == "strict" else {}
    hand = Cold("pod-1", service=given)
    hand.add("a", idle_unload=10.0, min_copies=1 if how == "minCopies" else None)
    hand.pass_time(30, step=5)
    assert hand.loaded_models() == {"a"}
    if how == "strict":
        hand.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=20 * MI, generation=2)))
    else:
        hand.do(events.ModelSeen(model_spec("a", idle_unload=10.0)))
    hand.pass_time(2, step=1)
    assert hand.loaded_models() == set()


def test_models_that_came_and_went_leave_nothing_to_be_looked_at() -> None:
    hand = Cold("pod-1")
    for index in range(3000):
        hand.do(events.ModelSeen(model_spec(f"m{index}", memory_bytes=1, idle_unload=86400.0)))
        hand.report("pod-1", *(slot(name, want) for name, want in hand.desired().items()))
        hand.do(events.ModelGone(ModelKey("ns", f"m{index}"), f"uid-m{index}"))
        hand.acknowledge()
        hand.wait(2.0)
        hand.report("pod-1")
    assert sum(map(len, (hand.world.agenda._heap, *hand.world.agenda._older))) < 1200
