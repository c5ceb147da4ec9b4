"""What a scrape says of a small world."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from shoal_operator.metrics import PlanMetrics, WorldCollector
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ServiceKey

from tests.unit.state.world_in_hand import MI, Hand, model_spec, service_spec

SERVICE = {"namespace": "ns", "inference_service": "svc"}


class Scraped:
    def __init__(self, world: World) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(WorldCollector(world, clock=lambda: 0.0))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {**SERVICE, **labels})


def test_models_by_state_memory_and_pods() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"), model_spec("b"))
    hand.do(events.ServiceSeen(service_spec(strict=True)))
    hand.do(events.ModelSeen(model_spec("odd", framework="onnx")))
    hand.do(events.ModelSeen(model_spec("big", memory_bytes=90 * MI)))
    hand.do(events.ModelSeen(model_spec("next")))
    scraped = Scraped(hand.world)
    value = scraped.value

    assert value("shoal_models", state="ready") == 2
    assert value("shoal_models", state="failed") == 2  # no runtime; no memory
    assert value("shoal_models", state="pending") == 1
    assert value("shoal_models_loaded") == 2
    assert value("shoal_models_cold") == 0
    assert value("shoal_models_waiting") == 1
    assert value("shoal_memory_capacity_bytes") == 100 * MI
    assert value("shoal_memory_committed_bytes") == 30 * MI
    assert value("shoal_memory_pressure") == 0
    assert value("shoal_pods_usable") == 1
    assert value("shoal_pods_wanted") == 1
    assert scraped.registry.get_sample_value("shoal_recovering") == 0
    assert scraped.registry.get_sample_value("shoal_epoch") == 1


def test_what_happened_is_counted_by_inference_service() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"))
    stats = hand.world.services[ServiceKey("ns", "svc")].stats
    stats.loads, stats.unloads, stats.activations, stats.idle_unloads = 11, 7, 5, 3
    stats.evictions, stats.early_evictions = 6, 2
    stats.copies_added, stats.copies_removed, stats.moves, stats.probes = 4, 1, 9, 8
    stats.failed("BucketNotFound")
    stats.failed("BucketNotFound")
    value = Scraped(hand.world).value

    assert value("shoal_model_loads_total") == 11
    assert value("shoal_model_unloads_total") == 7
    assert value("shoal_model_activations_total") == 5
    assert value("shoal_model_idle_unloads_total") == 3
    assert value("shoal_model_evictions_total", early="true") == 2
    assert value("shoal_model_evictions_total", early="false") == 4
    assert value("shoal_model_copies_added_total") == 4
    assert value("shoal_model_copies_removed_total") == 1
    assert value("shoal_model_moves_total") == 9
    assert value("shoal_artifact_lookups_total") == 8
    assert value("shoal_model_failures_total", reason="BucketNotFound") == 2


def test_no_series_names_a_model_and_a_deleted_service_leaves_none() -> None:
    names = [f"model-{number}" for number in range(5)]
    hand = Hand().with_pods("pod-1").with_loaded(*(model_spec(name) for name in names))
    scraped = Scraped(hand.world)
    before = generate_latest(scraped.registry).decode()
    assert 'inference_service="svc"' in before
    assert not any(name in before for name in names)
    hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
    assert 'inference_service="svc"' not in generate_latest(scraped.registry).decode()


def test_both_formats_parse_and_every_help_text_says_something() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("a"))
    registry = Scraped(hand.world).registry
    PlanMetrics(registry).observe(0.02, 3)
    for families in (
        list(text_string_to_metric_families(generate_latest(registry).decode())),
        list(parse_openmetrics(generate_openmetrics(registry).decode())),
    ):
        assert len(families) > 20
        for family in families:
            if not family.name.endswith("_created"):
                assert family.documentation.endswith("."), family.name


def test_plans() -> None:
    registry = CollectorRegistry()
    metrics = PlanMetrics(registry)
    metrics.observe(0.02, 3)
    metrics.observe(0.2, 10_000)
    assert registry.get_sample_value("shoal_plan_seconds_count") == 2
    assert registry.get_sample_value("shoal_plan_seconds_sum") == pytest.approx(0.22)
    assert registry.get_sample_value("shoal_plan_seconds_bucket", {"le": "0.1"}) == 1
    assert registry.get_sample_value("shoal_plan_models_total") == 10_003
