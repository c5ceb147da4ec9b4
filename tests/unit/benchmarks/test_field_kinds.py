"""What a plain script posts to a bare server says what the server's adapter would."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from shoal_agent.model_server import ModelCopy
from shoal_api.tuning import Tuning

from benchmarks.field.claims import FAMILIES, FLOODS
from benchmarks.field.kinds import KINDS

COPY = ModelCopy("m", "1" * 32, Path("/models/copies") / ("1" * 32), "any", Tuning(
    workers_min=1, workers_max=3, batch_size=8, batch_delay=0.005, queue_size=50
))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("mms", {"url": "1" * 32, "initial_workers": "3", "batch_size": "8", "max_batch_delay": "5"}),
        (
            "djl",
            {
                "url": f"file:///models/copies/{'1' * 32}/",
                "min_worker": "1",
                "max_worker": "3",
                "batch_size": "8",
                "max_batch_delay": "5",
                "job_queue_size": "50",
            },
        ),
        ("torchserve", {"url": "1" * 32}),
    ],
)
def test_servers_of_models_api(name: str, asked: dict[str, str]) -> None:
    port, path = KINDS[name].load
    found = {key: value for key, (value,) in parse_qs(urlsplit(path(COPY)).query).items()}
    assert port == "management"
    assert found == {"model_name": "m", "synchronous": "true"} | asked


@pytest.mark.parametrize("name", ["mlserver", "openvino", "triton"])
def test_servers_of_the_open_inference_protocol(name: str) -> None:
    port, path = KINDS[name].load
    assert (port, path(COPY)) == ("http", "/v2/repository/models/m/load")


def test_claims_are_of_servers_and_settings_that_there_are() -> None:
    assert FAMILIES.keys() == KINDS.keys()
    assert FLOODS.keys() <= KINDS.keys()
    for families in FAMILIES.values():
        for family in families:
            labels = [setting.label for setting in family.settings]
            assert len(set(labels)) == len(labels)
            for each in family.compared:
                assert each.first != each.second
                assert max(each.first, each.second) < len(labels)
