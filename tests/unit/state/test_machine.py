"""State in, event, state out: the life of models, pods and services, one behaviour a test."""

from dataclasses import replace

import pytest
from shoal_api.messages import CopyPhase, FailureStage, ServerReport, content_digest
from shoal_operator.state.owners.project import model_view, service_view
from shoal_operator.state.pods.health import drained
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import (
    DesiredChanged,
    GateChanged,
    ModelStatusChanged,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
)
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey
from shoal_operator.state.world.views import CopyState
from shoal_operator.status.model_status import diagnose

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def updated(uri: str = "s3://models/new") -> ModelSpec:
    return model_spec(storage_uri=uri, content=content_digest(uri, "sklearn"), generation=2)


class TestLoading:
    def test_from_apply_to_a_route(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        assert hand.route() == "Cold"
        assert set(hand.desired()) == {"m"}
        hand.report("pod-1", slot("m", None, target=hand.desired()["m"], phase=CopyPhase.PULLING))
        assert hand.route() == "Cold"
        hand.loaded()
        assert hand.route() == {"pod-1"}

    def test_a_model_before_its_service_waits(self) -> None:
        hand = Hand()
        hand.do(events.ModelSeen(model_spec()))
        assert hand.refused() == "InferenceServiceNotFound"
        hand.with_pods("pod-1")
        hand.loaded()
        assert hand.route() == {"pod-1"}

    def test_no_route_before_the_server_holds_it(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        hand.report("pod-1", slot("m", None, target=hand.desired()["m"], phase=CopyPhase.LOADING))
        assert not isinstance(hand.route(), set)

    @pytest.mark.parametrize(
        ("stage", "reason"), [(FailureStage.STORAGE, "StorageFailed"), (FailureStage.LOAD, "LoadFailed")]
    )
    def test_a_failure_is_named_and_heals(self, stage: FailureStage, reason: str) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        want = hand.desired()["m"]
        hand.report("pod-1", slot("m", None, target=want, phase=CopyPhase.WAITING, failure=failure(stage)))
        assert hand.route() == reason
        hand.loaded()
        assert hand.route() == {"pod-1"}

    def test_a_framework_without_runtime(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec(framework="onnx")))
        assert hand.route() == "FrameworkNotSupported"
        assert not hand.desired()

    def test_no_room_says_how_much_is_missing_and_loads_when_there_is(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec("big", memory_bytes=95 * MI))
        hand.do(events.ModelSeen(model_spec()))
        assert hand.route() == "InsufficientMemory"
        view = model_view(hand.world, KEY, hand.now, url="")
        assert view is not None
        assert view.refusal is not None
        assert view.refusal.missing_bytes == 5 * MI
        hand.do(events.ModelGone(ModelKey("ns", "big"), "uid-big"))
        hand.acknowledge()
        hand.wait(1)
        hand.report("pod-1")
        hand.wait(1)
        assert set(hand.desired()) == {"m"}

    def test_a_new_service_waits_for_all_its_pods_but_not_for_ever(self) -> None:
        hand = Hand()
        hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
        hand.do(events.PodSeen(pod_spec("pod-1")))
        hand.report("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        assert not hand.desired()
        hand.wait(21)
        assert set(hand.desired()) == {"m"}


class TestUnloading:
    def test_routes_first_then_grace_then_the_agent_then_memory(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        pod = hand.world.pods["pod-1"]
        hand.do(events.ModelGone(KEY, "uid-m"))
        assert hand.route() is None
        assert set(hand.desired()) == {"m"}, "Envoys have not acknowledged yet"
        hand.acknowledge()
        assert set(hand.desired()) == {"m"}, "requests may be on the wire"
        hand.wait(1.1)
        assert not hand.desired()
        assert pod.committed == 10 * MI, "the agent has not confirmed yet"
        hand.report("pod-1", slot("m", "uid-m.x", phase=CopyPhase.UNLOADING))
        assert pod.committed == 10 * MI
        hand.report("pod-1")
        assert pod.committed == 0

    def test_an_agent_that_does_not_know_the_list_yet_confirms_nothing(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.report("pod-1", desired_version=0)
        assert hand.world.pods["pod-1"].committed == 10 * MI
        hand.report("pod-1")
        assert hand.world.pods["pod-1"].committed == 0

    def test_a_name_used_again_waits_for_the_old_one_to_go_and_is_never_mixed_up(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.do(events.ModelSeen(model_spec(uid="uid-2")))
        assert hand.route() == "Cold"
        hand.acknowledge()
        hand.wait(1.1)
        hand.report("pod-1")
        hand.wait(1)
        assert hand.desired()["m"].startswith("uid-2.")
        hand.loaded()
        assert hand.route() == {"pod-1"}

    def test_a_slot_that_nobody_wants_is_not_in_the_desired_list(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.report("pod-1", slot("ghost", "uid-ghost.x"))
        assert not hand.desired()
        assert "ghost" in hand.world.pods["pod-1"].copies
        hand.report("pod-1")
        assert "ghost" not in hand.world.pods["pod-1"].copies


class TestUpdating:
    def test_the_old_content_serves_until_the_new_one_has_loaded(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        old = hand.desired()["m"]
        hand.do(events.ModelSeen(updated()))
        new = hand.desired()["m"]
        assert new != old
        assert hand.route() == {"pod-1"}
        assert hand.world.pods["pod-1"].committed == 20 * MI, "both are in memory for a while"
        hand.report("pod-1", slot("m", old, target=new, phase=CopyPhase.LOADING))
        assert hand.route() == {"pod-1"}
        hand.loaded()
        assert hand.route() == {"pod-1"}
        assert hand.world.pods["pod-1"].committed == 10 * MI

    @pytest.mark.parametrize(
        ("phase", "state"),
        [
            (CopyPhase.WAITING, CopyState.PENDING),
            (CopyPhase.PULLING, CopyState.PULLING),
            (CopyPhase.PULLED, CopyState.PULLED),
            (CopyPhase.LOADING, CopyState.LOADING),
        ],
    )
    def test_how_far_a_load_is_can_be_seen(self, phase: CopyPhase, state: CopyState) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        hand.report("pod-1", slot("m", None, target=hand.desired()["m"], phase=phase))
        view = model_view(hand.world, KEY, hand.now, url="")
        assert view is not None
        assert [(c.state, c.serving) for c in view.copies] == [(state, False)]
        assert not view.update_blocked

    def test_a_broken_update_keeps_the_old_one_and_says_so(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        old = hand.desired()["m"]
        hand.do(events.ModelSeen(updated()))
        broken = slot("m", old, target=hand.desired()["m"], phase=CopyPhase.WAITING, failure=failure())
        hand.report("pod-1", broken)
        assert hand.route() == {"pod-1"}
        view = model_view(hand.world, KEY, hand.now, url="")
        assert view is not None
        assert [(c.state, c.serving) for c in view.copies] == [(CopyState.OUTDATED, True)]
        assert view.failure is not None
        assert diagnose(view)["Ready"].reason == "UpdateFailed"

    def test_without_room_for_both_it_is_loaded_on_another_pod(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec(memory_bytes=60 * MI))
        first = hand.pod_of()
        other = {"pod-1": "pod-2", "pod-2": "pod-1"}[first]
        hand.do(events.ModelSeen(replace(updated(), memory_bytes=60 * MI)))
        assert set(hand.desired(other)) == {"m"}
        hand.loaded(other)
        hand.acknowledge()
        hand.wait(1.1)
        assert hand.route() == {other}
        assert not hand.desired(first)

    def test_without_room_anywhere_it_is_blocked_and_serves(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec(memory_bytes=60 * MI))
        hand.do(events.ModelSeen(replace(updated(), memory_bytes=60 * MI)))
        view = model_view(hand.world, KEY, hand.now, url="")
        assert view is not None
        assert view.update_blocked
        assert view.answers
        said = diagnose(view)
        assert "20Mi are missing" in said["Ready"].message
        assert said["Ready"].action
        assert said["MemoryResourceAvailable"].reason == "UpdateBlocked"

    def test_to_another_service_the_old_one_serves_until_the_new_one_does(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
        hand.do(events.PodSeen(pod_spec("pod-2", service="other")))
        hand.report("pod-2")
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        assert hand.route(service="svc") == {"pod-1"}
        assert not isinstance(hand.route(service="other"), set)
        hand.loaded("pod-2")
        assert hand.route(service="other") == {"pod-2"}
        assert hand.route(service="svc") is None

    def test_to_a_service_that_never_loads_it_the_old_one_gives_up_after_ten_minutes(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        hand.wait(599)
        assert hand.route(service="svc") == {"pod-1"}
        hand.wait(2)
        assert hand.route(service="svc") is None


class TestPods:
    def test_a_lost_pod_moves_its_own_models_only(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(*(model_spec(f"m{i}") for i in range(4)))
        kept = hand.desired("pod-2")
        hand.do(events.PodGone("pod-1"))
        assert kept.items() <= hand.desired("pod-2").items()
        assert set(hand.desired("pod-2")) == {"m0", "m1", "m2", "m3"}
        assert any(isinstance(e, PodEndpointChanged) and not e.ip for e in hand.effects)

    def test_a_lost_pods_models_move_though_no_step_does_more_than_one(self) -> None:
        names = {f"m{number}" for number in range(6)}
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(*map(model_spec, sorted(names)))
        hand.world.pieces.size = 1
        hand.do(events.PodGone("pod-1"))
        assert set(hand.desired("pod-2")) == names
        assert "pod-1" not in hand.world.pods

    def test_a_drained_pod_serves_until_others_do(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        other = {"pod-1": "pod-2", "pod-2": "pod-1"}[first]
        want = hand.desired(first)["m"]
        hand.report(first, slot("m", want), draining=True)
        assert hand.route() == {first}
        assert not drained(hand.world, first)
        hand.loaded(other)
        assert hand.route() == {other}
        hand.acknowledge()
        hand.wait(1.1)
        assert drained(hand.world, first)

    def test_the_last_pod_is_drained_at_once_when_its_service_goes(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        assert not drained(hand.world, "pod-1")
        hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
        assert drained(hand.world, "pod-1")

    def test_a_server_that_went_leaves_the_routes_at_once_and_is_given_up_after_a_while(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        other = {"pod-1": "pod-2", "pod-2": "pod-1"}[first]
        hand.report(first, slot("m", None, phase=CopyPhase.WAITING), server=ServerReport(type="mlserver", ready=False))
        assert not isinstance(hand.route(), set)
        assert not hand.desired(other), "the agent restores its models by itself"
        hand.wait(15)
        assert set(hand.desired(other)) == {"m"}

    def test_a_server_that_comes_back_in_time_moves_nothing(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        other = {"pod-1": "pod-2", "pod-2": "pod-1"}[first]
        hand.report(first, slot("m", None, phase=CopyPhase.WAITING), server=ServerReport(type="mlserver", ready=False))
        hand.wait(10)
        hand.loaded(first)
        hand.wait(10)
        assert hand.route() == {first}
        assert not hand.desired(other)

    def test_a_lost_agent_keeps_its_routes_and_gets_no_new_models(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.PodSeen(pod_spec(gate_open=True, ready=True)))
        hand.do(events.AgentLost("pod-1", "0000000001"))
        assert hand.route() == {"pod-1"}
        hand.do(events.ModelSeen(model_spec("late")))
        assert "late" not in hand.desired()

    def test_the_gate_opens_when_the_share_is_loaded(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        assert not [e for e in hand.wait(0.3) if isinstance(e, GateChanged)]
        hand.loaded()
        opened = [e for e in hand.wait(0.3) if isinstance(e, GateChanged)]
        assert [(e.open, e.message) for e in opened] == [(True, "all placed models are loaded")]

    def test_the_gate_opens_in_the_end_though_models_are_still_loading(self) -> None:
        hand = Hand(gate=60.0).with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        hand.wait(1.0)
        assert not [e for e in hand.wait(30.0) if isinstance(e, GateChanged)]
        opened = [e for e in hand.wait(31.0) if isinstance(e, GateChanged)]
        assert [(e.open, e.message) for e in opened] == [(True, "1 models are still loading")]

    def test_a_broken_model_does_not_keep_the_gate_closed(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.ModelSeen(model_spec()))
        want = hand.desired()["m"]
        hand.report("pod-1", slot("m", None, target=want, phase=CopyPhase.WAITING, failure=failure()))
        assert [e.open for e in hand.wait(0.3) if isinstance(e, GateChanged)] == [True]


class TestMessages:
    def test_a_delta_that_does_not_fit_asks_for_everything(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.report("pod-1", observed_base=77)
        assert hand.world.pods["pod-1"].observed_version == 0
        assert hand.route() == {"pod-1"}, "what was known stays true until something else is known"

    def test_a_late_message_changes_nothing(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.report("pod-1", observed_version=1)
        assert hand.route() == {"pod-1"}

    def test_a_late_message_of_an_ended_process_changes_nothing(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.report("pod-1", session="0000000002")
        hand.with_loaded(model_spec())
        hand.report("pod-1", slot("m", hand.desired()["m"]), session="0000000002")
        hand.report("pod-1", observed_version=99, session="0000000001")
        assert hand.route() == {"pod-1"}


class TestQuiet:
    def test_the_same_again_does_nothing(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.wait(1)
        for event in (
            events.ModelSeen(model_spec()),
            events.ServiceSeen(service_spec(min_replicas=1)),
            events.PodSeen(hand.world.pods["pod-1"].spec),
        ):
            assert [e for e in hand.do(event) if type(e).__name__ != "WakeAt"] == []
        assert [e for e in hand.loaded() if type(e).__name__ != "WakeAt"] == []

    def test_one_model_more_touches_no_other(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(*(model_spec(f"m{i}") for i in range(5)))
        found = hand.do(events.ModelSeen(model_spec("new")))
        assert {e.key.name for e in found if isinstance(e, ModelStatusChanged)} == {"new"}
        assert {e.model for e in found if isinstance(e, RouteChanged)} == {"new"}
        assert len([e for e in found if isinstance(e, DesiredChanged)]) == 1


def test_counts_and_service_routes() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b"))
    hand.do(events.ModelSeen(model_spec("c", framework="onnx")))
    view = service_view(hand.world, ServiceKey("ns", "svc"), hand.now, url="", gateways=2)
    assert view is not None
    assert (view.models_total, view.models_ready, view.models_failed) == (3, 2, 1)
    assert [e.pods for e in hand.effects if isinstance(e, ServiceRouteChanged)][-1] == {"pod-1"}


def test_requests_without_a_model_go_to_few_pods_that_stay_the_same() -> None:
    hand = Hand().with_pods(*(f"pod-{number:02d}" for number in range(20)))
    first = hand.world.services[service_spec().key].route
    assert len(first) == 8
    other = next(uid for uid in hand.world.pods if uid not in first)
    assert not [each for each in hand.do(events.PodGone(other)) if isinstance(each, ServiceRouteChanged)]
    one = min(first)
    hand.do(events.PodGone(one))
    after = hand.world.services[service_spec().key].route
    assert len(after) == 8
    assert first - {one} < after
