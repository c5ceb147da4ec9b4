"""Pods that nothing reaches: out of the routes at once, their models elsewhere, and back without a double."""

import pytest
from shoal_api.messages import ServerReport
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import PodEndpointChanged

from .overcommitted import Cold
from .world_in_hand import MI, model_spec, pod_spec


def serving(*pods: str, room: int = 6, strict: bool = False) -> Cold:
    """One model on each pod, in order."""
    hand = Cold(*pods, room=room, service={"strict": strict})
    hand.add(*(f"m{number}" for number in range(len(pods))), memory_bytes=10 * MI)
    hand.pass_time(60, 5)
    assert {hand.pod_of(f"m{number}") for number in range(len(pods))} == set(pods)
    return hand


def reach(hand: Cold, pod: str, *, reached: bool) -> None:
    hand.do(events.PodReached(pod, reached=reached))


def named_on(hand: Cold, pod: str) -> str:
    (name,) = hand.desired(pod)
    return name


def cut(hand: Cold, pod: str) -> None:
    """As it comes: the agent's connection ends, then a look finds nothing."""
    session = hand.world.pods[pod].session
    reach(hand, pod, reached=False)
    hand.do(events.AgentLost(pod, session))


def agents_but(hand: Cold, *cut_off: str) -> None:
    for _ in range(4):
        for uid in set(hand.world.pods) - set(cut_off):
            hand.report(uid, *(hand._slot(uid, name) for name in hand.desired(uid)))
        hand.acknowledge()


def test_requests_go_elsewhere_without_waiting_for_kubernetes() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    name = named_on(hand, "pod-1")
    cut(hand, "pod-1")
    assert hand.route(name) != {"pod-1"}
    agents_but(hand, "pod-1")
    assert hand.pod_of(name) in {"pod-2", "pod-3"}
    assert not hand.world.pods["pod-1"].placeable


def test_when_it_is_back_it_serves_and_nothing_is_there_twice() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    name = named_on(hand, "pod-1")
    cut(hand, "pod-1")
    agents_but(hand, "pod-1")
    reach(hand, "pod-1", reached=True)
    hand.agents()
    hand.pass_time(30, 2)
    assert hand.world.pods["pod-1"].placeable
    assert len(hand.route(name) or ()) == 1
    assert sum(name in hand.desired(pod) for pod in hand.world.pods) == 1


def test_it_comes_back_with_what_only_it_holds() -> None:
    """No other pod has room, and nothing may be cold: what it still serves is served again, and was loaded once."""
    hand = serving("pod-1", "pod-2", room=1, strict=True)
    name, copies = named_on(hand, "pod-1"), dict(hand.desired("pod-1"))
    cut(hand, "pod-1")
    agents_but(hand, "pod-1")
    reach(hand, "pod-1", reached=True)
    hand.agents()
    assert hand.route(name) == {"pod-1"}
    assert hand.desired("pod-1") == copies


@pytest.mark.parametrize(("pods", "lost", "believed"), [(1, 1, False), (2, 1, True), (3, 2, False), (4, 2, True)])
def test_when_most_are_lost_at_once_the_observer_is_the_suspect(pods: int, lost: int, believed: bool) -> None:
    names = [f"pod-{number}" for number in range(1, pods + 1)]
    hand = serving(*names)
    held = {uid: named_on(hand, uid) for uid in names[:lost]}
    for uid in names[:lost]:
        reach(hand, uid, reached=False)
    for uid, name in held.items():
        assert (hand.route(name) == {uid}) is not believed
        assert hand.world.pods[uid].cut_off is believed


def test_the_second_of_three_puts_the_first_back() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    name = named_on(hand, "pod-1")
    reach(hand, "pod-1", reached=False)
    assert hand.route(name) != {"pod-1"}
    reach(hand, "pod-2", reached=False)
    assert hand.world.pods["pod-1"].serves


def test_what_is_gone_counts_no_more_and_who_joins_does() -> None:
    """Two of three cannot be reached; Kubernetes takes one away: what is left is one of two."""
    hand = serving("pod-1", "pod-2", "pod-3")
    for uid in ("pod-1", "pod-2"):
        reach(hand, uid, reached=False)
    assert not hand.world.pods["pod-2"].cut_off
    hand.do(events.PodGone("pod-1"))
    assert hand.world.pods["pod-2"].cut_off
    other = serving("pod-1", "pod-2", "pod-3")
    for uid in ("pod-1", "pod-2"):
        reach(other, uid, reached=False)
    other.join("pod-4")
    assert other.world.pods["pod-1"].cut_off


def test_pods_that_are_being_deleted_are_no_sign_of_anything() -> None:
    hand = serving("pod-1", "pod-2", "pod-3", "pod-4")
    for uid in ("pod-2", "pod-3", "pod-4"):
        hand.do(events.PodSeen(pod_spec(uid, capacity_bytes=60 * MI, deleting=True)))
        reach(hand, uid, reached=False)
    assert hand.world.pods["pod-1"].serves
    reach(hand, "pod-1", reached=False)
    assert not hand.world.pods["pod-1"].cut_off, "the only one that stays"


def test_a_server_that_is_down_on_its_return_stays_out_until_it_answers() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    name = named_on(hand, "pod-1")
    cut(hand, "pod-1")
    reach(hand, "pod-1", reached=True)
    hand.report("pod-1", server=ServerReport(type="mlserver", ready=False, message="starting"))
    assert hand.route(name) != {"pod-1"}
    hand.agents()
    hand.pass_time(30, 2)
    assert hand.world.pods["pod-1"].placeable


def test_what_is_told_again_or_of_nobody_changes_nothing() -> None:
    hand = serving("pod-1", "pod-2")
    reach(hand, "nobody", reached=False)
    reach(hand, "pod-1", reached=True)
    assert hand.world.pods["pod-1"].serves
    reach(hand, "pod-1", reached=False)
    assert not hand.do(events.PodReached("pod-1", reached=False))


def test_a_request_for_what_was_there_is_held_and_answered_elsewhere() -> None:
    hand = serving("pod-1", "pod-2", "pod-3", room=1)
    name = named_on(hand, "pod-1")
    cut(hand, "pod-1")
    assert hand.refused(name) == "Cold", "it waits"
    hand.ask(name)
    hand.pass_time(3, 0.5)
    agents_but(hand, "pod-1")
    assert hand.route(name) is not None


def test_a_new_model_is_not_placed_there() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    cut(hand, "pod-1")
    for number in range(6):
        hand.do(events.ModelSeen(model_spec(f"new{number}")))
    agents_but(hand, "pod-1")
    assert not set(hand.desired("pod-1")) & {f"new{number}" for number in range(6)}


def freeze(hand: Cold, pod: str) -> None:
    held = [hand._slot(pod, name) for name in hand.desired(pod)]
    hand.report(pod, *held, server=ServerReport(type="mlserver", ready=False, frozen=True, message="no answer"))


def test_a_frozen_server_is_out_of_the_routes_and_back_as_soon_as_it_answers() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    name = named_on(hand, "pod-1")
    freeze(hand, "pod-1")
    assert hand.route(name) != {"pod-1"}
    hand.agents()
    assert hand.route(name) == {"pod-1"}
    assert [name in hand.desired(pod) for pod in ("pod-1", "pod-2", "pod-3")] == [True, False, False]


def test_when_most_servers_are_frozen_at_once_requests_go_on() -> None:
    """Their agents are on a machine that stood still, say: they did not hear what was answered."""
    hand = serving("pod-1", "pod-2", "pod-3")
    names = {pod: named_on(hand, pod) for pod in ("pod-1", "pod-2", "pod-3")}
    freeze(hand, "pod-1")
    assert hand.route(names["pod-1"]) != {"pod-1"}
    freeze(hand, "pod-2")
    assert hand.route(names["pod-1"]) == {"pod-1"}
    assert hand.route(names["pod-2"]) == {"pod-2"}
    hand.report("pod-2", *(hand._slot("pod-2", each) for each in hand.desired("pod-2")))
    assert hand.route(names["pod-1"]) != {"pod-1"}, "one of three is believed"


def test_what_is_frozen_and_what_cannot_be_reached_count_together() -> None:
    hand = serving("pod-1", "pod-2", "pod-3")
    freeze(hand, "pod-1")
    reach(hand, "pod-2", reached=False)
    assert hand.world.pods["pod-1"].serves
    assert hand.world.pods["pod-2"].serves


def test_a_server_that_is_down_is_no_suspect() -> None:
    """Its process ended: there is nothing to doubt about that, on however many pods."""
    hand = serving("pod-1", "pod-2")
    for pod in ("pod-1", "pod-2"):
        hand.report(pod, server=ServerReport(type="mlserver", ready=False, message="gone"))
    assert not any(pod.serves for pod in hand.world.pods.values())


def test_a_new_operator_doubts_what_the_former_one_did() -> None:
    before = serving("pod-1", "pod-2")
    held = {pod: [before._slot(pod, name) for name in before.desired(pod)] for pod in ("pod-1", "pod-2")}
    after = Cold(recovered=False)
    for pod, slots in held.items():
        after.do(events.PodSeen(pod_spec(pod, capacity_bytes=60 * MI, ready=True, gate_open=True)))
        frozen = ServerReport(type="mlserver", ready=False, frozen=True)
        after.report(pod, *slots, server=frozen)
    for name in before.world.models:
        after.do(events.ModelSeen(model_spec(name.name)))
    after.recover()
    assert all(pod.serves for pod in after.world.pods.values())


def test_what_is_told_before_the_world_is_known_keeps_no_address_from_being_said() -> None:
    before = serving("pod-1", "pod-2")
    after = Cold(recovered=False)
    for pod in ("pod-1", "pod-2"):
        after.do(events.PodSeen(pod_spec(pod, capacity_bytes=60 * MI, ready=True, gate_open=True)))
        after.report(pod, *(before._slot(pod, name) for name in before.desired(pod)))
    reach(after, "pod-1", reached=False)
    reach(after, "pod-1", reached=True)
    after.recover()
    said = {effect.pod_uid for effect in after.effects if isinstance(effect, PodEndpointChanged)}
    assert said == {"pod-1", "pod-2"}


def test_a_pod_that_is_back_takes_models_that_found_no_room() -> None:
    """As it comes: its agent says what it holds, and then it is known that it can be reached."""
    hand = serving("pod-1", "pod-2", room=2, strict=True)
    cut(hand, "pod-1")
    agents_but(hand, "pod-1")
    hand.do(events.ModelSeen(model_spec("more", memory_bytes=10 * MI)))
    assert {key.name for key in hand.service.refused} == {"more"}
    hand.report("pod-1", *(hand._slot("pod-1", name) for name in hand.desired("pod-1")))
    assert "more" not in hand.desired("pod-1")
    hand.now += 1.0
    reach(hand, "pod-1", reached=True)
    assert hand.world.pods["pod-1"].joined_at == hand.now
    hand.pass_time(1)
    assert hand.route("more") == {"pod-1"}
