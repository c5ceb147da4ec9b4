"""What agents hold when an operator starts counts with its real size, whoever placed it."""

import pytest
from shoal_api.messages import Action, CopyPhase, content_digest
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import CopyStored, Recovered
from shoal_operator.state.world.values import Content

from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec, slot


def _started(*specs: str, memory_bytes: int | None = 10 * MI) -> Hand:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(min_replicas=1)))
    hand.do(events.PodSeen(pod_spec("pod-1", ready=True, gate_open=True)))
    for name in specs:
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=memory_bytes)))
    return hand


def _actions(hand: Hand) -> list[Action]:
    return [intent.action for intent in hand.world.pods["pod-1"].desired]


def test_strays_of_models_deleted_while_no_operator_ran_take_what_their_agent_was_told() -> None:
    hand = _started(*(f"new{index}" for index in range(9)))
    strays = [slot(f"old{index}", f"uid-old{index}.abc", held_bytes=10 * MI) for index in range(9)]
    hand.report("pod-1", *strays)
    hand.recover(2)
    assert hand.world.pods["pod-1"].committed == 100 * MI
    (recovered,) = (effect for effect in hand.effects if isinstance(effect, Recovered))
    assert (recovered.models, recovered.adopted) == (9, 0)
    assert _actions(hand).count(Action.LOAD) == 1, "90 of 100 MiB are loaded still"
    hand.report("pod-1")
    assert _actions(hand).count(Action.LOAD) == 9


def test_a_stray_that_nobody_knows_the_size_of_has_others_wait_until_it_is_gone() -> None:
    hand = _started("new")
    hand.report("pod-1", slot("old", "uid-old.abc"))
    hand.recover(2)
    assert _actions(hand) == [Action.PULL]
    hand.report("pod-1")
    assert _actions(hand) == [Action.LOAD]


def test_a_stray_of_an_older_agent_is_estimated_from_its_artifact() -> None:
    hand = _started()
    hand.report("pod-1", slot("old", "uid-old.abc", artifact_bytes=20 * MI))
    hand.recover(2)
    assert hand.world.pods["pod-1"].committed == 40 * MI


def test_estimates_survive_a_restart_by_the_agents_reports() -> None:
    hand = _started("m", memory_bytes=None)
    held = f"uid-m.{content_digest('s3://models/m', 'sklearn')}"
    hand.report("pod-1", slot("m", held, held_bytes=35 * MI))
    hand.recover(2)
    assert hand.world.models[model_spec("m").key].memory == 35 * MI
    assert hand.world.pods["pod-1"].committed == 35 * MI
    assert hand.world.models[model_spec("m").key].probe is None, "nothing is left to be looked up"


def test_what_another_content_takes_is_no_estimate_of_the_wanted_one() -> None:
    hand = _started("m", memory_bytes=None)
    hand.report("pod-1", slot("m", "uid-m.before", held_bytes=35 * MI))
    hand.recover(2)
    assert hand.world.models[model_spec("m").key].size is None
    assert hand.world.pods["pod-1"].committed == 35 * MI, "it is counted all the same"


def test_estimates_of_cold_models_survive_a_restart_by_their_status() -> None:
    """All of them were looked up again, and whoever asked for the last one waited for all others."""
    hand = _started()
    spec = model_spec("m", memory_bytes=None)
    known = Content(spec.storage_uri, spec.framework, spec.content, 35 * MI)
    hand.do(events.ServiceSeen(service_spec(min_replicas=1, strict=False, generation=2)))
    hand.report("pod-1")
    hand.do(events.ModelSeen(spec, vouched=True, last_good=known))
    hand.recover(2)
    assert Action.STAT not in _actions(hand)
    hand.do(events.Requested(service_spec().key, "m"))
    assert _actions(hand) == [Action.LOAD]
    assert hand.world.pods["pod-1"].committed == 35 * MI


def test_both_contents_of_an_update_that_was_under_way_count_with_their_own_sizes() -> None:
    hand = _started("m")
    new = f"uid-m.{content_digest('s3://models/m', 'sklearn')}"
    report = slot("m", "uid-m.before", target=new, phase=CopyPhase.LOADING, held_bytes=70 * MI)
    hand.report("pod-1", report)
    hand.recover(2)
    assert hand.world.pods["pod-1"].copies["m"].account.sizes == {new: 10 * MI, "uid-m.before": 60 * MI}


def test_what_only_waited_for_memory_is_not_what_the_store_says_a_pod_holds() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a", memory_bytes=60 * MI, min_copies=0))
    hand.do(events.ServiceSeen(service_spec(strict=False, generation=2)))
    hand.wait(100.0)
    hand.do(events.ModelSeen(model_spec("b", memory_bytes=60 * MI)))
    hand.do(events.Requested(service_spec().key, "b"))
    stored = [effect.model.name for effect in hand.effects if isinstance(effect, CopyStored)]
    assert "b" in hand.desired()
    assert stored == ["a"]
    hand.acknowledge()
    hand.report("pod-1")
    assert [effect.model.name for effect in hand.effects if isinstance(effect, CopyStored)] == ["a", "b"]


def test_what_waits_for_memory_is_not_counted_before_what_has_it() -> None:
    hand = _started("a-waits", "loaded")
    hand.do(events.ModelSeen(model_spec("loaded", memory_bytes=95 * MI, generation=2)))
    want = {name: f"uid-{name}.{content_digest(f's3://models/{name}', 'sklearn')}" for name in ("a-waits", "loaded")}
    waits = slot("a-waits", None, target=want["a-waits"], action=Action.PULL, phase=CopyPhase.PULLED, held_bytes=0)
    for reported in ([waits], [waits, slot("loaded", want["loaded"], held_bytes=95 * MI)]):
        hand.report("pod-1", *reported)
    hand.recover(2)
    assert hand.world.pods["pod-1"].copies["loaded"].charged == 95 * MI
    assert "a-waits" not in hand.desired()


def test_copies_found_on_the_pods_of_a_former_service_make_it_hot_in_its_own() -> None:
    """A new operator finds a move under way: the model has two copies where it was, and belongs elsewhere by now."""
    hand = Hand(recovered=False)
    for name in ("svc", "other"):
        hand.do(events.ServiceSeen(service_spec(name=name, uid=f"service-{name}", min_replicas=1)))
    held = f"uid-m.{content_digest('s3://models/m', 'sklearn')}"
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid, ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec("m", service="other")))
    for uid in ("pod-1", "pod-2"):
        hand.report(uid, slot("m", held))
    hand.recover(2)
    key = model_spec("m").key
    hot = {service.spec.name for service in hand.world.services.values() if key in service.hot}
    assert hot == {"other"}


@pytest.mark.parametrize(
    ("found", "least", "hot"), [(1, None, False), (2, 2, False), (2, None, True)], ids=["one", "its minimum", "more"]
)
def test_only_copies_beyond_the_minimum_are_reviewed_after_a_restart(found: int, least: int | None, hot: bool) -> None:
    """Else the first review would go through all models that there are, in one step."""
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    hand.do(events.ModelSeen(model_spec("m", min_copies=least)))
    held = f"uid-m.{content_digest('s3://models/m', 'sklearn')}"
    for number in (1, 2):
        hand.do(events.PodSeen(pod_spec(f"pod-{number}", ready=True, gate_open=True)))
        hand.report(f"pod-{number}", *([slot("m", held)] if number <= found else []))
    hand.recover(2)
    service = hand.world.services[service_spec().key]
    assert (model_spec("m").key in service.hot) == hot
    assert (service.spec.key in hand.world.reviewing) == hot


def test_what_only_waited_for_memory_takes_what_its_agent_was_told_to_load_since() -> None:
    """It has heard of that after it last said what it does."""
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    target = f"uid-m.{model_spec().content}"
    waits = {"target": target, "phase": CopyPhase.WAITING, "action": Action.PULL}
    hand.report("pod-1", slot("m", None, **waits, held_bytes=10 * MI))
    hand.recover(2)
    assert hand.world.pods["pod-1"].copies["m"].charged == 10 * MI
