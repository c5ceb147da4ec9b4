"""KServe's Python server: what its container's words become, and what it says of itself."""

from dataclasses import replace
from pathlib import Path

import pytest
from shoal_agent.model_server import Identities
from shoal_agent.model_server.usage import Tally
from shoal_agent.servers.kserve.server import Links, tallies
from shoal_operator.server_profile import Inputs
from shoal_operator.servers.kserve import PROFILE

BARE = Inputs("iris", 1 << 30, 1 << 28, 2.0, 300.0, 90)
OURS = ("--model_dir=/mnt/models/slots", "--http_port=8080", "--enable_grpc=false", "--workers=1")


@pytest.mark.parametrize(
    ("args", "kept", "ignored"),
    [
        (None, (), ()),
        (("--model_dir=/mnt/models",), (), ()),
        (("--model-dir", "/mnt/models", "--mine", "x"), ("--mine", "x"), ()),
        (("server.py", "--enable_grpc=False", "-v"), ("server.py", "-v"), ()),
        (("--workers=4",), (), ("args --workers of the model server (it is '1' here)",)),
        (("--http_port", "9"), (), ("args --http_port of the model server (it is '8080' here)",)),
        (("--model_dir=/elsewhere",), (), ("args --model_dir of the model server (it is '/mnt/models/slots' here)",)),
    ],
)
def test_words_are_kept_but_those_that_the_agent_depends_on(
    args: tuple[str, ...] | None, kept: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    made = PROFILE.parts(replace(BARE, args=args))
    assert made.args == (*kept, *OURS)
    assert made.ignored == ignored


METRICS = """\
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.41053952e+08
request_predict_seconds_count{model_name="a"} 3.0
request_predict_seconds_sum{model_name="a"} 0.25
request_predict_seconds_created{model_name="a"} 1.7e+09
request_preprocess_seconds_count{model_name="b"} 9.0
request_predict_seconds_bucket{le="0.1",model_name="a"} 3.0
request_predict_seconds_count{model_name="b"} 0.0
"""


def test_use_and_memory_are_read_from_its_metrics() -> None:
    assert tallies(METRICS) == ({"a": Tally(succeeded=3, busy_seconds=0.25), "b": Tally()}, 141053952)
    assert tallies("") == ({}, None)


def test_the_next_agent_knows_what_was_loaded_but_not_what_was_loading(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    for identity in ("1", "2"):
        (copies / identity).mkdir(parents=True)
    links = Links(tmp_path, Identities())
    links.open()
    links.show("served", "1")
    links.show("loading", "2")
    (copies / "2.loading").write_text("0")
    known = Identities()
    assert Links(tmp_path, known).open() == {"served": "1", "loading": "2"}
    assert (known.of("served"), known.of("loading")) == ("1", "unknown")
