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
    ("text", "found"),
    [
        ("# a comment is never continued \\\nengine=PyTorch", {"engine": "PyTorch"}),
        ("! nor this \\\r\nengine=PyTorch\r\n", {"engine": "PyTorch"}),
        ("option.model\\u005fid=s3://b/x", {"option.model_id": "s3://b/x"}),
        ("option.model_id=s3\\://b/x", {"option.model_id": "s3://b/x"}),
        ("option.model_\\\n   id = s3:/\\\n\t/b/x", {"option.model_id": "s3://b/x"}),
        ("a\\=b=c\\\\\nd e", {"a=b": "c\\", "d": "e"}),
        ("a=1\n\n  a : 2 ", {"a": "2 "}),
        ("key", {"key": ""}),
        ("a=b\\\n# no comment, as it continues", {"a": "b# no comment, as it continues"}),
        ("a=b\\", {"a": "b"}),
        ("a=\\t\\u0041\\x", {"a": "\tAx"}),
    ],
)
def test_properties_are_what_java_makes_of_them(text: str, found: dict[str, str]) -> None:
    """Else a place to fetch from could be written so that only the server reads it."""
    assert properties.read(text) == found


@pytest.mark.parametrize("here", ["/opt/models/bert", "weights", "./weights/", "model.bin", "."])
def test_a_model_id_that_is_in_the_artifact_or_the_image_is_taken(here: str) -> None:
    files = ["weights/a.safetensors", "model.bin"]
    assert properties.added({"option.model_id": here, "engine": "Python"}, files, "djl", UNTUNED) == {}


@pytest.mark.parametrize(
    ("engine", "seconds"), [("Python", 240.0), ("MPI", 240.0), ("OnnxRuntime", properties.NATIVE_SECONDS)]
)
def test_how_long_a_request_can_run(tmp_path: Path, engine: str, seconds: float) -> None:
    (tmp_path / "serving.properties").write_text(f"engine={engine}\noption.predict_timeout=240\n")
    assert properties.longest_seconds(tmp_path) == seconds


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


_NOOP = "ai.djl.translate.NoopServingTranslatorFactory"


@pytest.mark.parametrize(
    ("own", "files", "framework", "tuning", "said"),
    [
        ({}, ["model.onnx"], "onnx", Tuning(batch_size=8), "batch.size cannot be honoured: engine OnnxRuntime"),
        ({}, ["model.pt"], "pytorch", Tuning(batch_size=8, threads=2), "batch.size cannot be honoured: engine PyTorch"),
        ({"translatorFactory": _NOOP}, ["m.onnx"], "djl", Tuning(batch_size=2), "batch.size cannot be honoured"),
        ({"batchifier": "none"}, ["model.onnx"], "onnx", Tuning(batch_size=2), "batch.size cannot be honoured"),
        ({"engine": "PyTorch"}, ["m.pt"], "djl", Tuning(threads=2), "threads cannot be honoured: engine PyTorch"),
        ({}, ["m.pt"], "djl", Tuning(threads=2), "threads cannot be honoured: engine PyTorch"),
        (
            {"engine": "XGBoost"},
            ["model.onnx"],
            "onnx",
            Tuning(threads=2),
            "threads cannot be honoured: engine XGBoost",
        ),
    ],
)
def test_what_an_engine_would_ignore_is_named(
    own: dict[str, str], files: list[str], framework: str, tuning: Tuning, said: str
) -> None:
    """The operator knows the format, and not what is in the artifact."""
    with pytest.raises(StorageError, match=said):
        properties.added(own, files, framework, tuning)


@pytest.mark.parametrize(
    ("own", "files", "framework", "tuning"),
    [
        ({"batchifier": "stack"}, ["model.onnx"], "onnx", Tuning(batch_size=8, threads=2)),
        ({"option.batchifier": "stack"}, ["model.pt"], "pytorch", Tuning(batch_size=8)),
        ({"translator": "mine"}, ["model.onnx"], "onnx", Tuning(batch_size=8)),
        ({}, ["model.onnx"], "onnx", Tuning(batch_size=1, queue_size=3, workers_max=2)),
        ({}, ["model.py", "weights.pt"], "djl", Tuning(batch_size=8, threads=2)),
        ({"engine": "MPI"}, ["model.py"], "djl", Tuning(batch_size=8, threads=2)),
        ({}, ["model.pt"], "pytorch", Tuning(threads=2)),  # which the operator names
    ],
)
def test_what_an_engine_does_is_asked_of_it(
    own: dict[str, str], files: list[str], framework: str, tuning: Tuning
) -> None:
    properties.added(own, files, framework, tuning)


def test_an_onnx_model_whose_engine_nobody_names_counts_no_processors_either() -> None:
    assert properties.added({}, ["m.onnx"], "djl", UNTUNED, threads=2) == {"option.intraOpNumThreads": "2"}


@pytest.mark.parametrize(
    ("own", "files", "framework", "said"),
    [
        ({"option.model_id": "s3://elsewhere/m"}, [], "djl", "option.model_id=s3://elsewhere/m"),
        ({"option.model_id": "org/model"}, ["serving.properties"], "djl", "option.model_id=org/model"),
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


@pytest.mark.parametrize(
    ("own", "framework", "threads"),
    [
        ({}, "onnx", "2"),
        ({"engine": "OnnxRuntime"}, "djl", "2"),
        ({"option.intraOpNumThreads": "5"}, "onnx", None),
        ({"engine": "Python"}, "djl", None),  # its workers read OMP_NUM_THREADS
    ],
)
def test_an_onnx_model_counts_the_containers_processors_and_not_the_nodes(
    own: dict[str, str], framework: str, threads: str | None
) -> None:
    made = properties.added(own, ["model.onnx"], framework, UNTUNED, 2)
    assert made.get("option.intraOpNumThreads") == threads
    assert properties.added(own, ["model.onnx"], framework, Tuning(threads=1), 2)["option.intraOpNumThreads"] == "1"


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


def test_one_that_only_took_long_had_not_failed_and_hides_no_other() -> None:
    now = [0.0]
    running = Running(lambda: now[0])
    running.limit("m", 10.0)
    running.tallies({"m": Counted(1, 0)})
    now[0] = 11.0
    assert running.tallies({"m": Counted(1, 0)})["m"] == Tally(failed=1)
    assert running.tallies({"m": Counted(1, 1)})["m"] == Tally(succeeded=1)
    assert running.tallies({"m": Counted(2, 1)})["m"] == Tally(succeeded=1, in_flight=1)


def test_of_some_that_failed_and_one_that_took_long_those_that_failed_stay() -> None:
    now = [0.0]
    running = Running(lambda: now[0])
    running.limit("m", 10.0)
    running.tallies({"m": Counted(4, 1)})
    now[0] = 11.0
    assert running.tallies({"m": Counted(4, 1)})["m"] == Tally(succeeded=1, failed=3)
    assert running.tallies({"m": Counted(5, 3)})["m"] == Tally(succeeded=3, failed=2)


def test_its_pytorch_engine_has_the_threads_that_the_container_has() -> None:
    (said,) = PROFILE.not_honoured(Tuning(threads=2), 300.0, "pytorch")
    assert said.startswith("spec.serving.threads")
    assert PROFILE.not_honoured(Tuning(threads=2), 300.0, "onnx") == ()
