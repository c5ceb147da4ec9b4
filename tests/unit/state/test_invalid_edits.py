"""An edit that cannot be used changes the condition and nothing else: what is loaded stays loaded, charged and kept."""

from typing import Any

import pytest
from shoal_api.messages import Action
from shoal_operator.state.owners.project import model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ModelStatusChanged
from shoal_operator.status.model_status import diagnose
from shoal_operator.watch.parse import model_spec as parse

from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec, slot

KEY = model_spec("a").key


def _object(generation: int, *, model: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    artifact = {"framework": "sklearn", "storageUri": "s3://models/a", "memory": "60Mi"} | (model or {})
    artifact = {key: value for key, value in artifact.items() if value is not None}
    return {
        "metadata": {"namespace": "ns", "name": "a", "uid": "uid-a", "generation": generation},
        "spec": {"inferenceService": "svc", "model": artifact} | spec,
    }


def _loaded(**spec: Any) -> Hand:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec(gate_open=True, ready=True)))
    hand.report()
    hand.do(events.ModelSeen(parse(_object(1, **spec))))
    hand.loaded()
    hand.wait(100.0)
    return hand


def _edit(hand: Hand, *, model: dict[str, Any] | None = None, **spec: Any) -> list[Any]:
    return hand.do(events.ModelSeen(parse(_object(2, model=model, **spec))))


def _to_load(hand: Hand) -> list[str]:
    return [intent.name for intent in hand.world.pods["pod-1"].desired if intent.action is Action.LOAD]


def _ready(hand: Hand) -> tuple[str, str, str]:
    view = model_view(hand.world, KEY, hand.now, url="")
    assert view is not None
    found = diagnose(view)["Ready"]
    return found.verdict.value, found.reason, found.text


@pytest.mark.parametrize(
    "edit",
    [
        {"model": {"storageUri": "gs:///nothing"}},
        {"model": {"storageUri": "foo://x"}},
        {"model": {"memory": "60MMi"}},
        {"model": {"framework": None}},
        {"serving": {"minCopies": 3, "maxCopies": 2}},
        {"serving": {"idleUnload": "soon"}},
    ],
    ids=str,
)
def test_it_is_said_and_nothing_else_happens(edit: dict[str, Any]) -> None:
    hand = _loaded(serving={"minCopies": 1})
    before = hand.desired()
    effects = _edit(hand, **({"serving": {"minCopies": 1}} | edit))
    assert [type(effect) for effect in effects] == [ModelStatusChanged]
    assert hand.world.pods["pod-1"].committed == 60 * MI
    assert (hand.route("a"), hand.desired()) == ({"pod-1"}, before)
    assert hand.world.models[KEY].spec.min_copies == 1, "still kept"
    assert hand.world.models[KEY].spec.generation == 2, "the status speaks of this edit"
    verdict, reason, text = _ready(hand)
    assert (verdict, reason) == ("True", "UpdateFailed")
    assert "stays in force" in text
    assert hand.do(events.ModelSeen(parse(_object(2, **({"serving": {"minCopies": 1}} | edit))))) == []
    hand.do(events.ModelSeen(parse(_object(3, serving={"minCopies": 1}))))
    assert _ready(hand)[:2] == ("True", "Loaded")


def test_nobody_gets_the_place_of_what_it_was_to_keep() -> None:
    hand = _loaded(serving={"minCopies": 1})
    _edit(hand, model={"memory": "60MMi"}, serving={"minCopies": 1})
    hand.do(events.ModelSeen(model_spec("b", memory_bytes=60 * MI)))
    hand.do(events.Requested(service_spec().key, "b"))
    assert hand.route("a") == {"pod-1"}
    assert _to_load(hand) == ["a"]
    assert hand.world.pods["pod-1"].committed == 60 * MI


def test_a_cold_model_is_still_loaded_on_demand() -> None:
    hand = _loaded()
    hand.do(events.ModelSeen(model_spec("b", memory_bytes=60 * MI)))
    hand.do(events.Requested(service_spec().key, "b"))
    hand.acknowledge()
    hand.report("pod-1")  # what made way is gone
    hand.loaded()
    assert hand.route("a") == "Cold"
    _edit(hand, model={"storageUri": "foo://x"})
    assert (hand.route("a"), _ready(hand)[:2]) == ("Cold", ("True", "UpdateFailed"))
    hand.wait(100.0)
    hand.do(events.Requested(service_spec().key, "a"))
    hand.acknowledge()
    hand.report("pod-1")  # what made way is gone
    hand.loaded()
    assert hand.route("a") == {"pod-1"}


def test_a_model_that_was_never_usable_waits_for_its_correction() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(parse(_object(1, model={"storageUri": "foo://x"}))))
    assert hand.route("a") == "StorageFailed"
    assert _ready(hand)[0] == "False"
    _edit(hand)
    hand.loaded()
    assert hand.route("a") == {"pod-1"}


@pytest.mark.parametrize("memory", ["0", None])
@pytest.mark.parametrize(("artifact_bytes", "expected"), [(None, 60 * MI), (20 * MI, 40 * MI)])
def test_memory_taken_away_is_what_it_was_until_the_artifact_says_more(
    memory: str | None, artifact_bytes: int | None, expected: int
) -> None:
    hand = _loaded()
    (intent,) = hand.world.pods["pod-1"].desired
    hand.report("pod-1", slot("a", intent.copy_id, artifact_bytes=artifact_bytes))
    _edit(hand, model={"memory": memory})
    assert hand.world.pods["pod-1"].committed == expected
    assert hand.world.models[KEY].memory == expected
    assert hand.route("a") == {"pod-1"}
    hand.do(events.ModelSeen(model_spec("b", memory_bytes=95 * MI)))
    assert _to_load(hand) == ["a"]


def test_before_anything_was_known_to_work_it_counts_as_failed_at_once_and_no_more_once_mended() -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec(gate_open=True, ready=True)))
    hand.report()
    hand.do(events.ModelSeen(parse(_object(1, model={"memory": None}))))

    def counted() -> int:
        found = service_view(hand.world, service_spec().key, hand.now, url="", gateways=1)
        assert found is not None
        return found.models_failed

    assert counted() == 0
    _edit(hand, model={"storageUri": "foo://x"})
    assert _ready(hand)[:2] == ("False", "StorageUriNotSupported")
    assert counted() == 1
    hand.do(events.ModelSeen(parse(_object(3, model={"memory": None}))))
    assert counted() == 0
