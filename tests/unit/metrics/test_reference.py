"""docs/metrics.md lists everything that is measured, and nothing is measured by model."""

import re
from pathlib import Path

import pytest

from tests import metrics_reference

ROOT = Path(__file__).parents[3]
_INSTRUMENT = re.compile(
    r"^from prometheus_client(?:\.core)? import .*\b(Counter|Gauge|Histogram|Summary|Info)\b", re.M
)
_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<labels>.*?) \|", re.M)


def test_metrics_are_made_in_modules_that_the_reference_looks_at() -> None:
    for folder in ("operator/shoal_operator", "agent/shoal_agent"):
        for file in (ROOT / folder).rglob("*.py"):
            assert file.name == "metrics.py" or not _INSTRUMENT.search(file.read_text()), file


def test_every_room_is_listed_once_and_none_by_model() -> None:
    rows = [match.groupdict() for match in _ROW.finditer(metrics_reference.reference())]
    ours = [row for row in rows if row["name"].startswith("shoal_")]
    names = [row["name"] for row in ours]
    assert len(names) == len(set(names))  # one name is one metric, also between operator and agent
    for name in (
        "shoal_models",
        "shoal_plan_seconds",
        "shoal_status_writes_total",
        "shoal_agents_connected",
        "shoal_gateway_pushes_total",
        "shoal_store_rows_total",
        "shoal_agent_pulled_bytes_total",
        "shoal_agent_slots",
    ):
        assert name in names
    assert not any("`model`" in row["labels"] for row in rows)
    labels = {row["name"]: row["labels"] for row in ours}
    assert labels["shoal_model_evictions_total"] == "`namespace`, `inference_service`, `early`"
    assert labels["shoal_agent_failures_total"] == "`stage`, `reason`"


def test_a_page_that_is_not_current_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "metrics.md"
    assert metrics_reference.main(["--check", str(page)]) == 1
    assert metrics_reference.main([str(page)]) == 0
    assert metrics_reference.main(["--check", str(page)]) == 0
    page.write_text(page.read_text().replace("gauge", "counter", 1))
    assert metrics_reference.main(["--check", str(page)]) == 1
    assert "python -m tests.metrics_reference" in capsys.readouterr().err
