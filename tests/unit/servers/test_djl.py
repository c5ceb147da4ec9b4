"""DJL Serving: how it is started, what of a model's properties is ours, and what its counters say."""

from dataclasses import replace
from pathlib import Path

import pytest
from shoal_agent.model_server.usage import Tally
from shoal_agent.servers.djl import properties
from shoal_agent.servers.djl.use import Counted, Running, counted
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.server_profile import Inputs
from shoal_operator.servers.djl import PROFILE

BARE = Inputs("iris", 1 << 30, 1 << 29, 2.0, 300.0, 90)


def test_it_listens_for_management_on_loopback_alone_and_loads_nothing_by_itself() -> None:
    made = PROFILE.parts(BARE)
    assert made.environment["SERVING_INFERENCE_ADDRESS"] == "http://0.0.0.0:8080"
    assert made.environment["SERVING_MANAGEMENT_ADDRESS"] == "http://127.0.0.1:8081"
    assert made.environment["SERVING_LOAD_MODELS"] == "NONE"
    assert made.environment["DJL_OFFLINE"] == "true"
    assert "SERVING_MODEL_URL_PATTERN" not in made.environment
    assert made.defaults["JAVA_OPTS"].startswith("-Xmx256m ")
    assert (made.command, made.args, made.ignored) == (None, None, ())


def test_clients_can_have_nothing_loaded_though_a_user_allows_it() -> None:
    made = PROFILE.parts(replace(BARE, written={"SERVING_MODEL_URL_PATTERN": ".*"}))
    assert made.fixed("SERVING_MODEL_URL_PATTERN") == "(?!)"


def test_settings_are_its_own_and_arguments_are_named() -> None:
    made = PROFILE.parts(
        replace(BARE, settings={"job_queue_size": 20, "use_native_io": False}, args=("serve", "-m", "a=file:///b"))
    )
    assert made.environment["SERVING_JOB_QUEUE_SIZE"] == "20"
    assert made.environment["SERVING_USE_NATIVE_IO"] == "false"
    assert made.args == ("serve",)
    assert [text.split("'")[1] for text in made.ignored] == ["-m", "a=file:///b"]


TEXT = """\
# a comment
engine = Python
option.env=A=1,\\
   B=2
batch_size:8
"""


def test_properties_are_read_as_java_writes_them() -> None:
    assert properties.read(TEXT) == {"engine": "Python", "option.env": "A=1,B=2", "batch_size": "8"}


@pytest.mark.parametrize(
    ("own", "files", "framework", "tuning", "added"),
    [
        ({"engine": "Python"}, ["model.py", "serving.properties"], "djl", UNTUNED, {}),
        ({}, ["model.py", "more.py"], "python", UNTUNED, {"engine": "Python"}),
        ({}, ["mine.py"], "python", UNTUNED, {"engine": "Python", "option.entryPoint": "mine.py"}),
        (
            {"translator": "mine"},
            ["graph.onnx", "data/graph.bin"],
            "onnx",
            UNTUNED,
            {"engine": "OnnxRuntime", "option.modelName": "graph"},
        ),
        (
            {"engine": "PyTorch", "option.modelName": "net"},
            ["net.pt", "model.pt"],
            "pytorch",
            UNTUNED,
            {"translatorFactory": "ai.djl.translate.NoopServingTranslatorFactory"},
        ),
        (
            {"option.env": "A=1"},
            [],
            "djl",
            Tuning(threads=3, workers_max=2),
            {
                "option.env": "A=1,OMP_NUM_THREADS=3,OPENBLAS_NUM_THREADS=3,MKL_NUM_THREADS=3",
                "option.intraOpNumThreads": "3",
            },
        ),
    ],
)
def test_what_formats_leave_unsaid_is_added(
    own: dict[str, str], files: list[str], framework: str, tuning: Tuning, added: dict[str, str]
) -> None:
    assert properties.added(own, files, framework, tuning) == added


@pytest.mark.parametrize(
    ("own", "files", "framework", "said"),
    [
        ({"option.model_id": "s3://elsewhere/m"}, [], "djl", "option.model_id=s3://elsewhere/m"),
        ({"option.entryPoint": "https://elsewhere/model.py"}, [], "python", "option.entryPoint"),
        ({}, ["a.onnx", "b.onnx"], "onnx", "name the model model.onnx"),
        ({}, ["README"], "pytorch", "has no model.pt"),
    ],
)
def test_what_cannot_be_or_would_come_from_elsewhere_is_refused(
    own: dict[str, str], files: list[str], framework: str, said: str
) -> None:
    with pytest.raises(StorageError) as raised:
        properties.added(own, files, framework, UNTUNED)
    assert raised.value.reason == "ArtifactInvalid"
    assert said in raised.value.message


def test_the_users_own_lines_stay_and_a_shared_file_is_not_written_into(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(TEXT)
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "serving.properties").hardlink_to(kept)
    properties.write(folder, "djl", Tuning(threads=1))
    assert kept.read_text() == TEXT
    written = (folder / "serving.properties").read_text()
    assert written.startswith(TEXT)
    assert properties.read(written)["option.env"].startswith("A=1,B=2,OMP_NUM_THREADS=1")
    assert properties.longest_seconds(folder) == 120.0


METRICS = """\
# TYPE QueueTime histogram
QueueTime_bucket{Model="a",le="0.005"} 0
QueueTime_count{Model="a"} 5
QueueTime_sum{Model="a"} 12.0
RequestLatency_count{Model="a"} 3
RequestLatency_sum{Model="a"} 2500000.0
QueueTime_count{Model="b"} 1
"""


def test_counters_are_read_by_model() -> None:
    assert counted(METRICS) == {"a": Counted(5, 3, 2.5), "b": Counted(1, 0, 0.0)}
    assert counted("") == {}


def test_what_does_not_move_for_as_long_as_a_request_can_run_has_failed() -> None:
    now = [0.0]
    running = Running(lambda: now[0])
    running.limit("m", 10.0)
    assert running.tallies({"m": Counted(5, 3)})["m"] == Tally(succeeded=3, in_flight=2)
    now[0] = 9.0
    assert running.tallies({"m": Counted(5, 3)})["m"].in_flight == 2
    now[0] = 11.0
    assert running.tallies({"m": Counted(5, 3)})["m"] == Tally(succeeded=3, failed=2)
    # Another request begins: only that one runs.
    assert running.tallies({"m": Counted(6, 3)})["m"] == Tally(succeeded=3, failed=2, in_flight=1)
    assert running.tallies({"m": Counted(6, 4)})["m"] == Tally(succeeded=4, failed=2)
    # The server's counters begin anew.
    assert running.tallies({"m": Counted(1, 0)})["m"] == Tally(in_flight=1)
