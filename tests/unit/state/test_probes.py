"""Models without declared memory, and cold ones, are looked up before anybody loads them; whatever becomes of that."""

from typing import Any

import pytest
from shoal_api.messages import Action, CopyPhase, FailureStage, SlotReport, content_digest
from shoal_operator.state.copies import probes
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import DesiredChanged
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.values import ModelKey

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def overcommitted(*pods: str, capacity: int = 100, **timing: Any) -> Hand:
    hand = Hand(**timing)
    hand.do(events.ServiceSeen(service_spec(strict=False, min_replicas=len(pods), capacity_bytes=capacity * MI)))
    for uid in pods:
        hand.do(events.PodSeen(pod_spec(uid, capacity_bytes=capacity * MI)))
        hand.report(uid)
    return hand


def probed(hand: Hand, pod: str = "pod-1") -> set[str]:
    return {intent.name for intent in hand.world.pods[pod].desired if intent.action is Action.STAT}


def looked_up(hand: Hand, name: str, **given: Any) -> SlotReport:
    """What an agent says of an artifact that it was to look up."""
    found: dict[str, Any] = {"phase": CopyPhase.SEEN, "artifact_bytes": 4 * MI, **given}
    return SlotReport(name=name, target=model(hand, name).aim_id, action=Action.STAT, **found)


def missing(hand: Hand, name: str) -> SlotReport:
    return looked_up(hand, name, phase=CopyPhase.WAITING, artifact_bytes=None, failure=failure(FailureStage.STORAGE))


def model(hand: Hand, name: str = "m") -> Model:
    return hand.world.models[ModelKey("ns", name)]


def test_without_declared_memory_the_artifact_is_looked_up_and_the_model_loaded() -> None:
    hand = overcommitted("pod-1")
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    assert probed(hand) == {"m"}
    assert hand.route() == "Cold", "a request waits for it meanwhile"
    hand.report("pod-1", looked_up(hand, "m"))
    assert model(hand).memory == 8 * MI, "twice the artifact, as long as nothing was measured"
    assert probed(hand) == set()
    assert [(i.name, i.action) for i in hand.world.pods["pod-1"].desired] == [("m", Action.LOAD)]
    hand.loaded()
    assert hand.route() == {"pod-1"}


def test_few_are_looked_up_at_once_and_all_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_PER_POD", 2)
    hand = overcommitted("pod-1", capacity=10)
    names = {f"m{i}" for i in range(7)}
    for name in names:
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=None)))
    done: set[str] = set()
    for _ in names:
        now = probed(hand)
        assert len(now) <= 2
        hand.report("pod-1", *(looked_up(hand, name) for name in now))
        done |= now
    assert done == names


def test_artifacts_that_are_missing_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_PER_POD", 2)
    hand = overcommitted("pod-1")
    for name in ("a1", "a2", "a3", "b"):
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=None)))
    hand.report("pod-1", missing(hand, "a1"), missing(hand, "a2"))
    assert probed(hand) == {"a3", "b"}
    assert hand.route("a1") == "StorageFailed"


def test_a_missing_artifact_is_looked_for_again_less_and_less_often() -> None:
    hand = overcommitted("pod-1", failure_first=10.0, failure_last=35.0)
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    waits = []
    for _ in range(5):
        hand.report("pod-1", missing(hand, "m"))
        assert hand.route() == "StorageFailed"
        hand.report("pod-1")
        waited = 0
        while not probed(hand):
            hand.wait(1.0)
            waited += 1
        waits.append(waited)
    assert waits == [10, 20, 35, 35, 35]
    hand.report("pod-1", looked_up(hand, "m"))
    hand.loaded()
    assert hand.route() == {"pod-1"}
    assert model(hand).failures == 0


def test_what_failed_for_its_storage_is_tried_at_once_where_that_has_come() -> None:
    hand = overcommitted("pod-1", failure_first=1000.0)
    for name in ("m", "loads-not", "fine"):
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=None)))
    hand.report("pod-1", missing(hand, "m"), looked_up(hand, "loads-not"), looked_up(hand, "fine"))
    hand.report("pod-1", slot("loads-not", model(hand, "loads-not").aim_id, failure=failure(FailureStage.LOAD)))
    assert probed(hand) == set()
    keys = [model(hand, name).spec.key for name in ("m", "loads-not", "fine")]
    before = {key: hand.world.models[key].retry_at for key in keys}
    hand.do(events.Reachable((*keys, ModelKey("ns", "gone"))))
    assert probed(hand) == {"m"}
    assert {key for key in keys if hand.world.models[key].retry_at != before[key]} == {KEY}
    hand.report("pod-1", looked_up(hand, "m"))
    assert model(hand).failure is None


def test_an_update_without_declared_memory_is_loaded_where_every_pod_serves_the_old_content() -> None:
    hand = overcommitted("pod-1")
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    hand.report("pod-1", looked_up(hand, "m"))
    hand.loaded()
    uri = "s3://models/m-2"
    hand.do(events.ModelSeen(model_spec(memory_bytes=None, storage_uri=uri, content=content_digest(uri, "sklearn"))))
    assert hand.desired() == {"m": model(hand).aim_id}
    hand.report("pod-1", slot("m", model(hand).aim_id, artifact_bytes=10 * MI))
    assert hand.route() == {"pod-1"}
    assert model(hand).memory == 20 * MI, "the new content is larger"
    assert hand.world.pods["pod-1"].committed == 20 * MI, "and is counted as what it is from then on"
    hand.loaded()
    assert hand.world.pods["pod-1"].committed == 20 * MI


def test_a_name_used_again_is_looked_up_once_the_former_model_is_gone() -> None:
    hand = overcommitted("pod-1").with_loaded(model_spec())
    hand.do(events.ModelGone(KEY, "uid-m"))
    hand.do(events.ModelSeen(model_spec(uid="uid-2", memory_bytes=None)))
    assert probed(hand) == set()
    hand.acknowledge()
    hand.wait(1.0)
    hand.report("pod-1")
    assert probed(hand) == {"m"}


@pytest.mark.parametrize("how", ["gone", "draining", "agent lost"])
def test_another_pod_looks_up_what_a_lost_one_was_to(how: str) -> None:
    hand = overcommitted("pod-1", "pod-2")
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    (first,) = [uid for uid in ("pod-1", "pod-2") if probed(hand, uid)]
    other = "pod-2" if first == "pod-1" else "pod-1"
    match how:
        case "gone":
            hand.do(events.PodGone(first))
        case "draining":
            hand.report(first, draining=True)
        case _:
            hand.do(events.AgentLost(first, "0000000001"))
    assert probed(hand, other) == {"m"}


def test_a_cold_model_is_ready_once_an_agent_has_seen_its_artifact() -> None:
    hand = overcommitted("pod-1", capacity=10).with_loaded(model_spec("loaded"))
    hand.do(events.ModelSeen(model_spec("cold")))
    assert probed(hand) == {"cold"}
    assert not model(hand, "cold").ready
    hand.report("pod-1", slot("loaded", model(hand, "loaded").aim_id), looked_up(hand, "cold"))
    assert model(hand, "cold").ready
    assert probed(hand) == set()


def test_a_model_that_goes_away_is_not_looked_up_any_more() -> None:
    hand = overcommitted("pod-1")
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    assert DesiredChanged("pod-1") in hand.do(events.ModelGone(KEY, "uid-m")), "its agent is told"
    assert probed(hand) == set()
    hand.report("pod-1", SlotReport(name="m", target="uid-m.x", phase=CopyPhase.SEEN, action=Action.STAT))
    assert not hand.world.pods["pod-1"].copies


def test_models_seen_before_the_recovery_has_ended_are_looked_up_after_it() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    hand.do(events.PodSeen(pod_spec("pod-1")))
    hand.report("pod-1")
    hand.recover()
    assert probed(hand) == {"m"}
