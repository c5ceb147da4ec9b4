"""Events in unlucky orders: what was found by reading the code against a cluster's worst days, one defect a test."""

from dataclasses import replace

import pytest
from shoal_api.messages import CopyPhase, ServerReport, content_digest, copy_id
from shoal_operator.state.pods.health import drained
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import (
    ClaimEpoch,
    DesiredChanged,
    GateChanged,
    ServiceStatusChanged,
    WakeAt,
)
from shoal_operator.state.world.entities import Stage
from shoal_operator.state.world.values import ModelKey, ServiceKey

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot

OTHER = {"pod-1": "pod-2", "pod-2": "pod-1"}


def updated(name: str = "m", uri: str = "s3://models/new", memory: int = 10 * MI) -> events.ModelSeen:
    spec = model_spec(name, storage_uri=uri, content=content_digest(uri, "sklearn"), generation=2, memory_bytes=memory)
    return events.ModelSeen(spec)


def until_quiet(hand: Hand, steps: int = 200) -> int:
    """Follow the timer as core.py does (the latest WakeAt counts); the number of ticks until none is asked for."""
    wake = hand.world.wake
    for count in range(steps):
        if wake is None:
            return count
        hand.now = max(hand.now, wake)
        wakes = [e.at for e in hand.do(events.Tick()) if isinstance(e, WakeAt)]
        wake = wakes[-1] if wakes else None
    return steps


class TestDraining:
    def test_a_drain_that_was_given_up_ends(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        held = slot("m", hand.desired()["m"])
        hand.report("pod-1", held, draining=True)
        hand.report("pod-1", held, draining=False)
        hand.do(events.ModelSeen(model_spec("late")))
        assert set(hand.desired()) == {"m", "late"}

    def test_a_new_agent_process_ends_the_drain_of_a_dead_one(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        held = slot("m", hand.desired()["m"])
        hand.report("pod-1", held, draining=True)
        hand.report("pod-1", held, session="0000000002")
        hand.do(events.ModelSeen(model_spec("late")))
        assert set(hand.desired()) == {"m", "late"}

    def test_a_pod_that_drains_while_no_operator_runs_gets_no_models_after_recovery(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
        hand.do(events.ModelSeen(model_spec("late")))
        hand.report("pod-1", draining=True)
        hand.recover()
        hand.wait(30)
        assert not hand.desired()


class TestMessages:
    def test_a_late_message_says_nothing_of_the_server(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.report("pod-1", observed_version=1, server=ServerReport(type="mlserver", ready=False))
        assert hand.route() == {"pod-1"}

    def test_a_late_message_is_known_by_its_version_also_while_everything_is_asked_for(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.report("pod-1", observed_base=77)
        hand.report("pod-1", observed_version=1, desired_version=0)
        assert hand.route() == {"pod-1"}

    def test_an_agent_that_obeyed_a_higher_epoch_is_no_stranger_after_recovery(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.PodSeen(pod_spec("pod-2")))
        assert ClaimEpoch(8) in hand.report("pod-2", epoch=7)
        assert ClaimEpoch(8) not in hand.report("pod-2", epoch=7), "asked for once"
        found = hand.do(events.EpochClaimed(8))
        assert DesiredChanged("pod-2") in found


class TestMoving:
    def given(self) -> Hand:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        for name, pod in (("other", "pod-2"), ("third", "pod-3")):
            hand.do(events.ServiceSeen(service_spec(name=name, uid=f"service-{name}")))
            hand.do(events.PodSeen(pod_spec(pod, service=name)))
            hand.report(pod)
        return hand

    def test_back_before_it_was_loaded_costs_nothing(self) -> None:
        hand = self.given()
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        hand.do(events.ModelSeen(model_spec(generation=3)))
        assert hand.route() == {"pod-1"}
        assert hand.route(service="other") is None
        hand.acknowledge()
        hand.wait(1.1)
        assert set(hand.desired("pod-1")) == {"m"}
        assert not hand.desired("pod-2")
        hand.wait(700)
        assert hand.route() == {"pod-1"}

    def test_on_to_a_third_one_the_first_serves_until_that_one_does(self) -> None:
        hand = self.given()
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        hand.do(events.ModelSeen(model_spec(service="third", generation=3)))
        assert hand.route() == {"pod-1"}
        assert hand.route(service="other") is None
        assert not hand.desired("pod-2")
        hand.loaded("pod-3")
        assert hand.route(service="third") == {"pod-3"}
        assert hand.route() is None


class TestMemory:
    def test_raised_beyond_the_pods_room_it_is_loaded_elsewhere(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec("a"), model_spec("b"))
        first = hand.pod_of("a")
        for name in ("c", "d"):
            hand.do(events.ModelSeen(model_spec(name, memory_bytes=60 * MI)))
        spec = model_spec("a", memory_bytes=50 * MI, generation=2)
        hand.do(events.ModelSeen(spec))
        assert hand.world.pods[first].committed <= 100 * MI
        assert hand.route("a") == {first}
        assert hand.world.models[spec.key].refusal is not None
        gone = next(name for name in ("c", "d") if name in hand.desired(OTHER[first]))
        hand.do(events.ModelGone(ModelKey("ns", gone), f"uid-{gone}"))
        hand.report(OTHER[first], *(slot(n, c) for n, c in hand.desired(OTHER[first]).items() if n != gone))
        hand.wait(1)
        assert "a" in hand.desired(OTHER[first])
        hand.loaded(OTHER[first])
        assert hand.route("a") == {OTHER[first]}
        hand.acknowledge()
        hand.wait(1.1)
        assert "a" not in hand.desired(first)

    def test_raised_where_it_fits_nothing_moves(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        hand.do(events.ModelSeen(model_spec(memory_bytes=90 * MI, generation=2)))
        assert hand.world.pods[first].committed == 90 * MI
        assert not hand.desired(OTHER[first])

    def test_raised_with_room_that_comes_later_stays_where_it_is(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b", memory_bytes=80 * MI))
        spec = model_spec("a", memory_bytes=40 * MI, generation=2)
        hand.do(events.ModelSeen(spec))
        assert hand.world.pods["pod-1"].committed == 90 * MI
        hand.do(events.ModelGone(ModelKey("ns", "b"), "uid-b"))
        hand.acknowledge()
        hand.wait(1.1)
        hand.report("pod-1", slot("a", hand.desired()["a"]))
        hand.wait(1)
        assert hand.world.pods["pod-1"].committed == 40 * MI
        assert hand.world.models[spec.key].refusal is None
        assert hand.route("a") == {"pod-1"}

    def test_with_another_update_each_content_is_counted_with_its_own_size(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b", memory_bytes=30 * MI))
        hand.do(events.ModelSeen(model_spec("a", storage_uri="s3://models/a2", generation=2)))
        assert hand.world.pods["pod-1"].committed == 50 * MI
        hand.do(events.ModelSeen(model_spec("a", storage_uri="s3://models/a3", memory_bytes=40 * MI, generation=3)))
        assert hand.world.pods["pod-1"].committed == 90 * MI, (
            "the one that serves, the one that may be loading, the new"
        )
        assert hand.route("a") == {"pod-1"}
        first, third = (copy_id("uid-a", content_digest(f"s3://models/{key}", "sklearn")) for key in ("a", "a3"))
        kept = slot("b", copy_id("uid-b", content_digest("s3://models/b", "sklearn")))
        hand.report("pod-1", slot("a", first, target=third), kept)
        assert hand.world.pods["pod-1"].committed == 80 * MI, "its agent has let go of the second"

    def test_an_update_that_is_smaller_frees_nothing_before_it_has_loaded(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("a", memory_bytes=60 * MI))
        hand.do(events.ModelSeen(model_spec("a", storage_uri="s3://models/a2", memory_bytes=5 * MI, generation=2)))
        assert hand.world.pods["pod-1"].committed == 65 * MI
        hand.loaded()
        assert hand.world.pods["pod-1"].committed == 5 * MI

    def test_raised_together_with_an_update_that_finds_no_room_it_waits(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b", memory_bytes=30 * MI))
        spec = model_spec("a", storage_uri="s3://models/a2", memory_bytes=70 * MI, generation=2)
        hand.do(events.ModelSeen(spec))
        assert hand.world.pods["pod-1"].committed == 40 * MI
        assert hand.route("a") == {"pod-1"}
        assert hand.world.models[spec.key].refusal is not None

    def test_lowered_it_makes_room_for_those_who_wait(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("big", memory_bytes=95 * MI))
        hand.do(events.ModelSeen(model_spec()))
        assert hand.route() == "InsufficientMemory"
        hand.do(events.ModelSeen(model_spec("big", memory_bytes=50 * MI, generation=2)))
        hand.wait(1)
        assert "m" in hand.desired()

    def test_a_copy_that_goes_in_the_middle_of_an_update_is_charged_for_both(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec(memory_bytes=40 * MI))
        hand.do(updated(memory=40 * MI))
        assert hand.world.pods["pod-1"].committed == 80 * MI
        hand.do(events.ModelGone(KEY, "uid-m"))
        assert hand.world.pods["pod-1"].committed == 80 * MI, "the agent still loads the one beside the other"
        hand.acknowledge()
        hand.wait(1.1)
        hand.report("pod-1")
        assert hand.world.pods["pod-1"].committed == 0


class TestLeaving:
    def test_nothing_but_the_acknowledgement_of_every_envoy_ends_the_wait(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.wait(60)
        hand.do(events.GatewayAcknowledged(hand.world.sequence - 1))
        hand.wait(60)
        assert set(hand.desired()) == {"m"}
        hand.acknowledge()
        hand.wait(1.1)
        assert not hand.desired()

    def test_a_delta_that_does_not_fit_confirms_nothing(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        loading = slot("m", None, target=hand.desired()["m"], phase=CopyPhase.LOADING)
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.report("pod-1", loading, observed_base=77)
        assert hand.world.pods["pod-1"].committed == 10 * MI
        hand.report("pod-1")
        assert hand.world.pods["pod-1"].committed == 0


class TestCopies:
    def test_more_and_fewer(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        hand.do(events.ModelSeen(model_spec(min_copies=2, generation=2)))
        hand.loaded("pod-1")
        hand.loaded("pod-2")
        assert hand.route() == {"pod-1", "pod-2"}
        hand.do(events.ModelSeen(model_spec(generation=3)))
        assert len(hand.route() or ()) == 1

    def test_on_a_pod_whose_agent_is_lost_what_has_not_loaded_goes_elsewhere(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec("kept"))
        first = hand.pod_of("kept")
        hand.do(events.ModelSeen(model_spec("a")))
        hand.do(events.ModelSeen(model_spec("b")))
        stuck = next(name for name in ("a", "b") if name in hand.desired(first))
        hand.do(events.PodSeen(pod_spec(first, gate_open=True, ready=True)))
        hand.do(events.AgentLost(first, "0000000001"))
        assert hand.route("kept") == {first}
        assert stuck in hand.desired(OTHER[first])
        assert "kept" not in hand.desired(OTHER[first])

    def test_a_lost_agents_pod_that_kubernetes_calls_not_ready_is_given_up(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        alive = pod_spec(first, ready=True, gate_open=True)
        hand.do(events.PodSeen(alive))
        hand.do(events.AgentLost(first, "0000000001"))
        assert hand.route() == {first}
        hand.do(events.PodSeen(replace(alive, ready=False)))
        assert not isinstance(hand.route(), set)
        hand.wait(15)
        assert set(hand.desired(OTHER[first])) == {"m"}
        hand.do(events.PodSeen(alive))
        assert hand.route() == {first}

    def test_a_lost_agent_and_its_return_show_in_the_services_status(self) -> None:
        hand = Hand().with_pods("pod-1")
        changed = ServiceStatusChanged(ServiceKey("ns", "svc"))
        assert changed in hand.do(events.AgentLost("pod-1", "0000000001"))
        assert changed in hand.report("pod-1")


class TestServices:
    def test_deleted_and_made_again_while_old_pods_end(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
        assert hand.refused() == "InferenceServiceNotFound"
        hand.do(events.ServiceSeen(service_spec(uid="service-2")))
        assert hand.route() == {"pod-1"}, "the old pod serves until it goes"
        hand.do(events.PodSeen(pod_spec("pod-1", deleting=True)))
        hand.do(events.PodSeen(pod_spec("pod-2")))
        hand.report("pod-2")
        hand.wait(1)
        assert set(hand.desired("pod-2")) == {"m"}
        hand.loaded("pod-2")
        hand.acknowledge()
        hand.wait(1.1)
        assert drained(hand.world, "pod-1")
        hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
        assert hand.route() == {"pod-2"}, "a late word of the old one"

    def test_gone_while_its_agents_report(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
        hand.loaded()
        hand.do(events.ModelSeen(model_spec("late")))
        assert hand.refused("late") == "InferenceServiceNotFound"
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.acknowledge()
        hand.wait(1.1)
        hand.report("pod-1")
        assert hand.world.pods["pod-1"].committed == 0

    def test_another_runtime_and_back(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ServiceSeen(service_spec(formats=frozenset({"onnx"}), generation=2)))
        hand.do(events.ModelSeen(model_spec("late")))
        assert (hand.route(), hand.route("late")) == ({"pod-1"}, "FrameworkNotSupported")
        hand.do(events.ServiceSeen(service_spec(generation=3)))
        assert set(hand.desired()) == {"m", "late"}


class TestTimers:
    def test_a_gate_opens_while_other_events_keep_coming(self) -> None:
        hand = Hand().with_pods("pod-1")
        wake, opened = hand.world.wake, False
        for _ in range(20):
            hand.now += 0.1
            tick = wake is not None and hand.now >= wake
            for effect in hand.do(events.Tick()) if tick else hand.report("pod-1"):
                opened |= isinstance(effect, GateChanged)
                wake = effect.at if isinstance(effect, WakeAt) else wake
        assert opened

    @pytest.mark.parametrize("memory", [10, 40])
    def test_broken_models_and_a_difference_that_stays_do_not_plan_for_ever(self, memory: int) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec("a"), model_spec("big", memory_bytes=30 * MI))
        hand.do(events.ModelSeen(model_spec("broken", memory_bytes=memory * MI)))
        where = next(uid for uid in OTHER if "broken" in hand.desired(uid))
        slots = [slot(name, copy) for name, copy in hand.desired(where).items() if name != "broken"]
        wanted = hand.desired(where)["broken"]
        bad = slot("broken", None, target=wanted, phase=CopyPhase.WAITING, failure=failure())
        hand.report(where, *slots, bad)
        hand.do(events.PodSeen(pod_spec("pod-1", gate_open=True)))
        hand.do(events.PodSeen(pod_spec("pod-2", gate_open=True)))
        hand.do(events.PodSeen(pod_spec("pod-3", gate_open=True, capacity_bytes=1 * MI)))
        hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
        hand.report("pod-3")
        assert until_quiet(hand) < 10
        assert all(copy.stage is Stage.PLACED for pod in hand.world.pods.values() for copy in pod.copies.values())
