"""The report of all model servers: runs join, and every claim gets its verdict from the figures."""

from typing import Any

from benchmarks.field import report
from benchmarks.field.kinds import KINDS
from benchmarks.field.verdicts import Verdict

ABOUT: dict[str, Any] = {
    "command": "python -m benchmarks.model_servers",
    "date": "2026-11-29T09:00:00+00:00",
    "commit": "abc",
    "machine": {"cpu": "x", "cores": 2, "memory_gib": 23.5, "kernel": "6", "load_before": [0.1, 0.1, 0.1]},
    "versions": {"python": "3.11.7"},
}


def about(day: int) -> dict[str, Any]:
    return ABOUT | {"date": f"2026-11-{day}T09:00:00+00:00"}


def spread(value: float) -> dict[str, float]:
    return {"median": value, "min": value - 1, "max": value + 1}


def side(value: float) -> dict[str, Any]:
    names = ("loads_per_second", "mib_per_model", "asked_to_answer_ms", "first_request_ms")
    return {name: spread(value) for name in names}


def both(value: float) -> dict[str, Any]:
    return {"bare": spread(value), "shoal": spread(2 * value), "ratio": spread(2)}


LOADS: dict[str, Any] = {
    "context": about(28),
    "models": 12,
    "rounds": 3,
    "bare": side(20),
    "shoal": side(10),
    "ratio": spread(0.5),
    "agent_mib": 41.2,
}
REQUESTS: dict[str, Any] = {
    "context": about(28),
    "rounds": 3,
    "settings": [
        {
            "setting": "1 worker",
            "rate": 70,
            "full": {"rate": both(123)},
            "steady": {"p50": both(4), "p99": both(9)},
            "cpu_ms": {"bare": spread(5), "shoal": spread(6), "envoy": spread(0.2)},
            "failed": {"bare": 0, "shoal": 7},
        }
    ],
}


def compared(expects: str, ratios: list[float]) -> dict[str, Any]:
    first, second = ({"setting": name} | spread(100) for name in ("2 workers", "8 workers"))
    row = {"claim": "many hurt", "figure": "requests/s", "expects": expects, "ratios": ratios}
    return row | {"first": first, "second": second}


def flood(*codes: dict[str, int], grown: float) -> dict[str, Any]:
    rounds = [{"codes": each, "grown_mib": grown, "max_ms": 900.0} for each in codes]
    return {"setting": "queue", "rounds": rounds}


def test_a_run_takes_the_place_of_its_own_part_only() -> None:
    first = report.merged(None, "mms", "loads", {"context": about(27), "models": 1})
    second = report.merged(first, "triton", "loads", {"context": about(28), "models": 2})
    third = report.merged(second, "mms", "claims", {"context": about(29), "compared": []})
    again = report.merged(third, "mms", "loads", {"context": about(29), "models": 3})
    assert list(again["servers"]) == ["triton", "mms"], "in one order, whichever came first"
    assert again["servers"]["mms"].keys() == {"loads", "claims"}
    assert again["servers"]["mms"]["loads"]["models"] == 3
    assert again["servers"]["triton"]["loads"]["models"] == 2
    assert again["context"] == about(29)


def test_every_server_of_the_field_has_its_place_in_the_report() -> None:
    assert {name: kind.title for name, kind in KINDS.items()} == dict(report.TITLES)


def test_a_claims_verdict_comes_from_its_ratios() -> None:
    rows = [compared("falls", [0.8, 0.7, 0.9]), compared("falls", [1.2, 1.3, 1.1]), compared("falls", [0.8, 1.2, 1.0])]
    found = list(report.claim_rows("MMS", {"compared": rows}))
    assert [row.verdict for row in found] == [Verdict.HOLDS, Verdict.NOT, Verdict.NOISE]
    assert found[0].compared == "2 workers → 8 workers"


def test_a_queue_that_answers_otherwise_than_503_does_not_hold() -> None:
    well = {"200": 60, "503": 740}
    found = {
        "compared": [],
        "flood": {"short": flood(well, well, grown=2), "long": flood({"200": 800}, {"200": 800}, grown=9)},
    }
    refuses, memory = report.claim_rows("Triton", found)
    assert (refuses.verdict, memory.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert "0.925" in refuses.figures
    found["flood"]["short"] = flood(well, well | {"500": 1}, grown=9)
    refuses, memory = report.claim_rows("Triton", found)
    assert (refuses.verdict, memory.verdict) == (Verdict.NOISE, Verdict.NOT)
    assert "neither 200 nor 503: 1" in refuses.figures
    found["flood"]["short"] = flood({"200": 800}, {"200": 800}, grown=9)
    assert next(report.claim_rows("Triton", found)).verdict is Verdict.NOT


def test_workers_that_come_at_twice_the_batch_only() -> None:
    def said(low: list[int], high: list[int]) -> Verdict:
        scaling = {"setting": "1 to 4 workers", "batch": 4, "workers": [[8, low], [24, high]]}
        (row,) = report.claim_rows("DJL", {"compared": [], "scaling": scaling})
        return row.verdict

    assert said([1, 1], [3, 4]) is Verdict.HOLDS
    assert said([1, 2], [3, 4]) is Verdict.NOISE
    assert said([2, 2], [4, 4]) is Verdict.NOT
    assert said([1, 1], [1, 1]) is Verdict.NOT


def test_a_crowded_machine_is_said() -> None:
    crowded = about(29) | {"machine": ABOUT["machine"] | {"load_before": [16.1, 9, 4]}}
    quiet = report.merged(None, "mms", "loads", LOADS)
    assert "Others used" not in report.text(quiet)
    text = report.text(report.merged(quiet, "djl", "claims", {"context": crowded, "compared": []}))
    assert "in 1 of 2 runs: a load average of up to 16.1 on 2 cores" in text


def test_the_text_has_every_part_that_was_measured() -> None:
    result = report.merged(None, "mms", "loads", LOADS)
    result = report.merged(result, "mms", "requests", REQUESTS)
    result = report.merged(result, "djl", "claims", {"context": about(29), "compared": [compared("falls", [0.8])]})
    text = report.text(result)
    assert "| multi-model-server | 12 | 20 (19 - 21) | 10 (9 - 11) | 0.5 " in text
    assert "0 / 7 |" in text
    assert "Not measured yet: MLServer; OpenVINO on MLServer; Triton, Python backend; multi-model-server; Torch" in text
    assert "| many hurt | DJL Serving, Python engine | 2 workers → 8 workers |" in text
    assert "| **holds** |" in text
    assert text.count("python -m benchmarks.model_servers") == 4, "the last run's, and each part's own"
