"""TorchServe without its process: what artifacts, settings, container words and workers' files become."""

import json
import os
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from shoal_agent.model_server import ModelCopy
from shoal_agent.model_server.usage import Tally
from shoal_agent.servers.torchserve import workers
from shoal_agent.servers.torchserve.archive import CONFIG, MANIFEST, SETTINGS, arranged
from shoal_agent.servers.torchserve.model_config import model_config
from shoal_agent.servers.torchserve.staged import prepare
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.server_profile import Inputs
from shoal_operator.servers.torchserve import PROFILE
from shoal_torchserve.counters import Counters, tell_failure

BARE = Inputs("iris", 1 << 30, 1 << 29, 2.0, 300.0, 90)
WRITTEN = {"runtime": "python", "model": {"handler": "h.py", "modelVersion": "2.1", "serializedFile": "w.pt"}}
SNAPSHOT = {"models": {"net": {"1.0": {"marName": "net.mar", "minWorkers": 2, "maxWorkers": 5, "batchSize": 3}}}}


def staged(folder: Path, files: dict[str, str | bytes], tuning: Tuning = UNTUNED) -> dict[str, object]:
    """The copy's files after ``prepare``, JSON and YAML read."""
    copy = folder / "copy"
    for path, content in files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    prepare(ModelCopy("m", "1f" * 16, copy, "pytorch", tuning), 90.0)
    read: dict[str, object] = {}
    for file in copy.rglob("*"):
        if file.is_file():
            name = str(file.relative_to(copy))
            known = {MANIFEST: json.loads, SETTINGS: json.loads, CONFIG: yaml.safe_load}
            read[name] = known[name](file.read_text()) if name in known else file.read_bytes()
    assert not list(folder.glob("copy.*")), "nothing is left beside it"
    return read


def mar(files: dict[str, str], path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path.read_bytes()


def test_an_archive_keeps_its_handler_behind_ours_and_its_version_from_the_server(tmp_path: Path) -> None:
    packed = mar({MANIFEST: json.dumps(WRITTEN), "h.py": "x", "lib/a.py": "y"}, tmp_path / "net.mar")
    files = staged(tmp_path, {"net.mar": packed}, Tuning(threads=3))
    assert files.pop("h.py") == b"x"
    assert files.pop("lib/a.py") == b"y"
    assert files.pop(SETTINGS) == {"handler": "h.py", "version": "2.1", "threads": 3}
    model = files.pop(MANIFEST)["model"]  # type: ignore[index]
    assert model == {
        "handler": "shoal_torchserve.handler",
        "modelVersion": "1f" * 16,
        "serializedFile": "w.pt",
        "configFile": CONFIG,
    }
    assert files == {CONFIG: {"startupTimeout": 90}}, "the archive itself is gone"


def test_kserves_layout_is_the_archive_with_the_snapshots_settings(tmp_path: Path) -> None:
    packed = mar({MANIFEST: json.dumps(WRITTEN)}, tmp_path / "net.mar")
    properties = f"inference_address=http://0.0.0.0:8085\nmodel_snapshot={json.dumps(SNAPSHOT)}\n"
    files = {"config/config.properties": properties, "model-store/net.mar": packed}
    made = staged(tmp_path, files, Tuning(batch_size=8))
    assert made[CONFIG] == {"startupTimeout": 90, "minWorkers": 2, "maxWorkers": 5, "batchSize": 8}
    assert set(made) == {MANIFEST, SETTINGS, CONFIG}


@pytest.mark.parametrize("root", ["", "net/"])
def test_a_folder_as_the_archiver_would_pack_it(tmp_path: Path, root: str) -> None:
    written = {"model": {**WRITTEN["model"], "configFile": "own.yaml", "requirementsFile": "r.txt"}}  # type: ignore[dict-item]
    own = "minWorkers: 3\nhandler: {top_k: 5}\njobQueueSize: 7\nbatchSize: 2\n"
    made = staged(tmp_path, {f"{root}{MANIFEST}": json.dumps(written), f"{root}own.yaml": own}, Tuning(queue_size=9))
    assert made[CONFIG] == {
        "startupTimeout": 90,
        "minWorkers": 3,
        "maxWorkers": 3,
        "handler": {"top_k": 5},
        "jobQueueSize": 9,
        "batchSize": 2,
    }
    assert made["own.yaml"] == own.encode(), "the handler may read it"
    assert "requirementsFile" not in made[MANIFEST]["model"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("files", "handler"),
    [({"net.pt": "w"}, ""), ({"a/net.pth": "w"}, ""), ({"net.ts": "w", "handler.py": "h"}, "handler.py")],
)
def test_a_torchscript_file_gets_a_manifest(tmp_path: Path, files: dict[str, str | bytes], handler: str) -> None:
    made = staged(tmp_path, files)
    script = next(file for file in made if file.startswith("net."))
    assert made[MANIFEST]["model"]["serializedFile"] == script  # type: ignore[index]
    assert made[SETTINGS] == {"handler": handler, "version": "1.0", "threads": None}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.mar", "b.mar"], "several models (a.mar, b.mar). Make a TrainedModel of each"),
        (["x/MAR-INF/MANIFEST.json", "y/MAR-INF/MANIFEST.json"], "several models"),
        (["a.pt", "b.pt"], "expected one archive (.mar)"),
        (["model.joblib"], "found model.joblib. Pack the model with torch-model-archiver"),
        ([], "found nothing"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_do(files: list[str], message: str) -> None:
    with pytest.raises(StorageError) as refused:
        arranged(files)
    assert refused.value.reason == "ArtifactInvalid"
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({MANIFEST: "{"}, "is not JSON"),
        ({MANIFEST: "[]"}, "has no model"),
        ({MANIFEST: json.dumps({"model": {"handler": 3}})}, "model.handler of MAR-INF/MANIFEST.json is no text"),
        ({MANIFEST: json.dumps({"model": {"configFile": "../../x"}})}, "which is not in the artifact"),
        ({MANIFEST: json.dumps({"model": {"configFile": "c"}}), "c": "a: ["}, "it is not YAML"),
        ({MANIFEST: json.dumps({"model": {"configFile": "c"}}), "c": "[1]"}, "no mapping"),
        ({MANIFEST: json.dumps({"model": {"configFile": "c"}}), "c": "minWorkers: two"}, "'two' and no whole number"),
    ],
)
def test_a_broken_manifest_or_config_is_refused_with_where(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(StorageError) as refused:
        staged(tmp_path, files)
    assert refused.value.reason == "ArtifactInvalid"
    assert message in refused.value.message


def test_an_archive_that_is_none_or_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be unpacked"):
        staged(tmp_path / "a", {"net.mar": b"no archive"})
    with zipfile.ZipFile(tmp_path / "bomb.mar", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("zeros", "w") as out:
        for _ in range(300):
            out.write(bytes(1 << 20))
    with pytest.raises(StorageError) as refused:
        staged(tmp_path / "b", {"bomb.mar": (tmp_path / "bomb.mar").read_bytes()})
    assert refused.value.reason == "ArtifactTooLarge"
    with pytest.raises(StorageError, match="holds no MAR-INF"):
        staged(tmp_path / "c", {"net.mar": mar({"net.pt": "x"}, tmp_path / "plain.mar")})


def test_what_the_field_says_holds_over_what_the_file_says() -> None:
    tuning = Tuning(workers_min=1, workers_max=4, batch_size=16, batch_delay=0.25, queue_size=5, timeout=2.5)
    own = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\nmaxBatchDelay: 1\njobQueueSize: 1\nresponseTimeout: 900\n"
    assert yaml.safe_load(model_config(own, {}, tuning, 60.5)) == {
        "startupTimeout": 61,
        "minWorkers": 4,
        "maxWorkers": 4,
        "batchSize": 16,
        "maxBatchDelay": 250,
        "jobQueueSize": 5,
        "responseTimeout": 3,
    }
    with pytest.raises(StorageError, match="queueSize is 0"):
        model_config("", {}, Tuning(queue_size=0), 60)


def properties(inputs: Inputs) -> dict[str, str]:
    text = PROFILE.parts(inputs).files["config.properties"]
    return dict(line.split("=", 1) for line in text.splitlines())


def test_nobody_but_the_agent_reaches_its_management_and_it_loads_only_what_is_staged() -> None:
    made = properties(BARE)
    assert made["management_address"] == "http://127.0.0.1:8081"
    assert made["metrics_address"].startswith("http://127.0.0.1:")
    assert (made["model_store"], made["allowed_urls"]) == ("/mnt/models/copies", "none")
    assert "load_models" not in made
    # Not by a setting either, whatever it holds.
    made = properties(replace(BARE, settings={"vmargs": "-Xmx1g\nmanagement_address=http://0.0.0.0:8081"}))
    assert made["management_address"] == "http://127.0.0.1:8081"
    assert made["vmargs"].startswith("-Xmx1g")


def test_its_defaults_follow_the_service_and_settings_hold_over_them() -> None:
    made = properties(BARE)
    assert (made["default_response_timeout"], made["default_workers_per_model"]) == ("300", "1")
    assert made["vmargs"] == f"-Xmx{128 << 20}"
    made = properties(
        replace(BARE, settings={"default_response_timeout": 60, "job_queue_size": 9, "prefer_direct_buffer": True})
    )
    assert (made["default_response_timeout"], made["job_queue_size"]) == ("60", "9")
    assert made["prefer_direct_buffer"] == "true"


@pytest.mark.parametrize(
    ("args", "kept", "ignored"),
    [
        (None, (), ()),
        (
            ("torchserve", "--start", "--model-store=/mnt/models/model-store", "--ts-config=/mnt/models/config/c"),
            (),
            (),
        ),
        (("--log-config", "/etc/log.xml", "--ncs"), ("--log-config", "/etc/log.xml"), ()),
        (("--models", "all"), (), ("args --models of the model server",)),
        (("serve.sh",), (), ("args 'serve.sh' of the model server",)),
    ],
)
def test_words_of_runtimes(args: tuple[str, ...] | None, kept: tuple[str, ...], ignored: tuple[str, ...]) -> None:
    made = PROFILE.parts(replace(BARE, args=args))
    assert made.args is not None
    assert made.args[-2:] == (kept or ("--log-config", "/mnt/shoal/config/log4j2.xml"))
    assert [said for said, start in zip(made.ignored, ignored, strict=True) if not said.startswith(start)] == []


def test_a_workers_counts_are_read_while_it_lives_and_after(tmp_path: Path) -> None:
    counters = Counters(tmp_path, "m", "1f" * 16)
    with counters.running(3):
        assert workers.running(tmp_path, "m", "1f" * 16) == 3
        counters.failed(1)
    with pytest.raises(RuntimeError), counters.running(2):
        raise RuntimeError
    (worker,) = workers.read(tmp_path)
    assert (worker.alive, worker.running, worker.succeeded, worker.failed) == (True, 0, 2, 3)
    resident, base = workers.memory([worker])
    assert resident is not None
    assert base is not None
    assert resident > base > 0
    tally = workers.tallies([worker], {"m": "1f" * 16})["m"]
    assert (tally.succeeded, tally.failed, tally.in_flight) == (2, 3, 0)
    assert workers.tallies([worker], {"m": "another"}) == {}
    workers.forget(tmp_path, {})
    assert workers.read(tmp_path), "a live worker's file stays"
    counters._map.close()  # as its process ends
    os.close(counters._file)
    assert [each.alive for each in workers.read(tmp_path)] == [False]
    assert workers.memory(workers.read(tmp_path)) == (None, None)
    workers.forget(tmp_path, {"m": "1f" * 16})
    assert workers.read(tmp_path), "its counts are still the copy's"
    workers.forget(tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_what_a_worker_writes_is_not_believed_to_be_whole(tmp_path: Path) -> None:
    assert workers.read(tmp_path / "none") == []
    (tmp_path / "m~a~1").write_bytes(b"short")
    (tmp_path / "m~a~2").write_bytes(struct.pack("<8sQQQddQQ", b"SHOALTS1", 1, 2**64 - 1, 1, float("nan"), 9e99, 1, 1))
    (tmp_path / "m~a~3").symlink_to("/etc/passwd")
    (tmp_path / "m~a~4").mkdir()
    (worker,) = workers.read(tmp_path)
    assert (worker.busy_seconds, worker.last_used) == (0.0, 0.0)
    assert workers.tallies([worker], {"m": "a"}) == {"m": Tally(succeeded=worker.succeeded, failed=1)}
    assert worker.succeeded < 2**63


def test_why_a_worker_could_not_load_is_told_once(tmp_path: Path) -> None:
    assert workers.cause(tmp_path, "m", "a") == ""
    tell_failure(tmp_path, "m", "a", ValueError("no\n weights"))
    assert workers.cause(tmp_path, "m", "a") == "ValueError: no weights"
    workers.forget_cause(tmp_path, "m", "a")
    assert workers.cause(tmp_path, "m", "a") == ""
