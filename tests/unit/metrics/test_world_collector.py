"""What a scrape says of a small world."""

from prometheus_client import CollectorRegistry
from shoal_operator.metrics import WorldCollector
from shoal_operator.state import events

from tests.unit.state.world_in_hand import MI, Hand, model_spec

SERVICE = {"namespace": "ns", "inference_service": "svc"}


def test_models_by_state_memory_and_pods() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b"))
    hand.do(events.ModelSeen(model_spec("odd", framework="onnx")))
    hand.do(events.ModelSeen(model_spec("big", memory_bytes=90 * MI)))
    hand.do(events.ModelSeen(model_spec("next")))
    registry = CollectorRegistry()
    registry.register(WorldCollector(hand.world))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {**SERVICE, **labels})

    assert value("shoal_models", state="ready") == 2
    assert value("shoal_models", state="failed") == 2  # no runtime; no memory
    assert value("shoal_models", state="pending") == 1
    assert value("shoal_models_waiting") == 1
    assert value("shoal_memory_capacity_bytes") == 100 * MI
    assert value("shoal_memory_committed_bytes") == 30 * MI
    assert value("shoal_pods_usable") == 1
    assert registry.get_sample_value("shoal_recovering") == 0
    assert registry.get_sample_value("shoal_epoch") == 1
