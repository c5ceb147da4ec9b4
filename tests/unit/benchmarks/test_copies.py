"""The report of copies of one model on two servers, and what is applied for them."""

import yaml
from shoal_api.inference_service import InferenceService
from shoal_operator.watch.parse import model_spec

from benchmarks import copies
from benchmarks.common import Json, spread

CONTEXT: Json = {
    "command": "python -m benchmarks.copies",
    "date": "2026-11-30T10:00:00+00:00",
    "commit": "0",
    "machine": {"cores": 2, "cpu": "x", "memory_gib": 8.0, "kernel": "6", "load_before": [0.1]},
    "versions": {},
}
FIGURES = ("hit_rate", "p50", "p99", "failed", "evictions")


def result(rates: dict[str, float]) -> Json:
    ways = {
        title: {"even": {"rate": spread([rate, rate + 2]), **{name: spread([0.5]) for name in FIGURES}}}
        for title, rate in rates.items()
    }
    about = {"models": 1000, "room": 200, "pods": 2, "rounds": 2, "seconds": 30.0}
    return {"context": CONTEXT, "ways": ways, **about}


def test_the_report_has_a_row_for_each_way_and_says_what_scaling_is_worth() -> None:
    titles = [way.title for way in copies.WAYS]
    said = copies.text(result(dict(zip(titles, (10.0, 20.0, 19.0, 59.0), strict=True))))
    assert "| multi-model-server, 1 worker | 11 (10 - 12) | 0.5 (0.5 - 0.5) |" in said
    assert all(f"| {title} |" in said for title in titles)
    assert "Requests/s of DJL Serving, 1 to 4 workers over DJL Serving, 1 worker: 3.00 times (even)." in said


def test_what_may_have_four_workers_has_room_for_a_quarter_of_the_models() -> None:
    for way in copies.WAYS:
        service = InferenceService.read(yaml.safe_load(way.service(2, 200)))
        room = service.spec.predictor.memory_limit_bytes()
        (model,) = yaml.safe_load_all(way.models(["m"], "s3://bench/copies"))
        spec = model_spec(model)
        assert spec.problem is None
        assert room is not None
        assert spec.memory_bytes is not None
        assert 2 * room // spec.memory_bytes == 200 // way.most
        assert (spec.tuning.workers_min, spec.tuning.workers_max) == (way.least, way.most)


def test_each_server_gets_the_same_model_in_its_own_words() -> None:
    for files in copies.FILES.values():
        for path, content in files.items():
            if path.endswith(".py"):
                compile(content, path, "exec")
                assert b"time.sleep(0.02)" in content
