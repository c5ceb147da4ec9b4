"""An InferenceService's own model: on each of its pods, never evicted, and alone there."""

from typing import Any

from shoal_operator.state.owners.project import home, model_view
from shoal_operator.state.world import events
from shoal_operator.state.world.cause import cause
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey, Source

from .world_in_hand import Hand, model_spec, pod_spec, service_spec

OWN = service_spec(multi_model=False, strict=False)


def own(**given: Any) -> ModelSpec:
    return model_spec("svc", uid=OWN.uid, source=Source.INFERENCE_SERVICE, memory_bytes=1, **given)


def served(pods: int = 1) -> Hand:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(multi_model=False, strict=False, min_replicas=pods)))
    for number in range(pods):
        hand.do(events.PodSeen(pod_spec(f"pod-{number}")))
        hand.report(f"pod-{number}")
    hand.do(events.ModelSeen(own()))
    for number in range(pods):
        hand.loaded(f"pod-{number}")
    return hand


def test_each_pod_holds_it() -> None:
    assert served(3).route("svc") == {"pod-0", "pod-1", "pod-2"}


def test_a_pod_more_holds_it_too() -> None:
    hand = served(1)
    hand.do(events.ServiceSeen(service_spec(multi_model=False, strict=False, min_replicas=2)))
    hand.do(events.PodSeen(pod_spec("pod-1")))
    hand.report("pod-1")
    hand.wait(10)
    hand.loaded("pod-1")
    assert hand.route("svc") == {"pod-0", "pod-1"}


def test_it_is_kept_however_long_nobody_asks() -> None:
    hand = served(2)
    for _ in range(5):
        hand.wait(3600)
    assert hand.route("svc") == {"pod-0", "pod-1"}


def test_an_update_is_loaded_before_the_former_content_goes() -> None:
    hand = served(1)
    hand.do(events.ModelSeen(own(storage_uri="s3://models/other")))
    assert hand.route("svc") == {"pod-0"}, "it serves until the new one does"
    (wanted,) = hand.desired("pod-0").values()
    assert wanted == hand.world.models[ModelKey("ns", "svc")].wanted_id
    hand.loaded("pod-0")
    assert hand.route("svc") == {"pod-0"}


def test_a_trained_model_is_not_taken_and_harms_nothing() -> None:
    hand = served(1)
    hand.do(events.ModelSeen(model_spec("m")))
    hand.wait(10)
    assert hand.desired("pod-0").keys() == {"svc"}
    view = model_view(hand.world, ModelKey("ns", "m"), hand.now, url="")
    assert view is not None
    assert cause(view) == "SingleModel"
    assert hand.route("svc") == {"pod-0"}


def test_trained_models_come_back_once_it_has_no_model_of_its_own() -> None:
    hand = served(1)
    hand.do(events.ModelSeen(model_spec("m")))
    hand.do(events.ModelGone(ModelKey("ns", "svc"), OWN.uid))
    hand.do(events.ServiceSeen(service_spec()))
    hand.acknowledge()
    hand.wait(10)
    assert hand.desired("pod-0").keys() == {"m"}


def test_a_model_that_gets_another_runtime_is_served_by_the_former_until_that_has_it() -> None:
    hand = Hand()
    for name, pod in (("runtime.a", "pod-a"), ("runtime.b", "pod-b")):
        hand.do(events.ServiceSeen(service_spec(name=name, uid=name)))
        hand.do(events.PodSeen(pod_spec(pod, service=name)))
        hand.report(pod)
    hand.do(events.ModelSeen(model_spec("m", service="runtime.a")))
    hand.loaded("pod-a")
    assert home(hand.world, ServiceKey("ns", "m"), "m") == ("ns", "runtime.a")
    assert home(hand.world, ServiceKey("ns", "m"), "other") == ("ns", "m")
    hand.do(events.ModelSeen(model_spec("m", service="runtime.b")))
    assert hand.route("m", "runtime.a") == {"pod-a"}
    hand.loaded("pod-b")
    assert hand.route("m", "runtime.b") == {"pod-b"}
    assert home(hand.world, ServiceKey("ns", "m"), "m") == ("ns", "runtime.b")
