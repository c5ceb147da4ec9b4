"""Which files of an artifact are the version that OpenVINO Model Server serves, and the entry that goes with them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from shoal_agent.model_server import ModelCopy, Place
from shoal_agent.servers.ovms import connect
from shoal_agent.servers.ovms.model_config import config, entry
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning


def laid_out(tmp_path: Path, files: list[str], framework: str = "openvino", **defaults: Any) -> tuple[set[str], Any]:
    """The files in the version, and the entry, of an artifact of these files in a cache that may not change."""
    cache, copy = tmp_path / "cache", tmp_path / "copy"
    for path in files:
        for root in (cache, copy):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_text(path)
        os.link(cache / path, copy / path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "model-defaults.json").write_text(json.dumps(defaults))
    place = Place("127.0.0.1", {"http": 1, "grpc": 2}, tmp_path, tmp_path, 1.0)
    connect(place).prepare(ModelCopy("m", "0123", copy, framework, UNTUNED))
    assert sorted(path.read_text() for path in cache.rglob("*") if path.is_file()) == sorted(files)
    model = copy / "model"
    left = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    return left, json.loads((copy / "model_config.json").read_text())


@pytest.mark.parametrize(
    ("files", "framework", "version"),
    [
        (["m.xml", "m.bin"], "openvino", {"m.xml", "m.bin"}),
        (["m.xml", "m.bin", "mapping_config.json"], "openvino_ir", {"m.xml", "m.bin", "mapping_config.json"}),
        (["1/m.xml", "1/m.bin", "README.md"], "openvino", {"m.xml", "m.bin"}),
        (["9/m.onnx", "10/m.onnx"], "onnx", {"m.onnx"}),
        (["resnet/1/m.xml", "resnet/1/m.bin"], "openvino", {"m.xml", "m.bin"}),
        (["resnet/m.xml", "resnet/m.bin"], "openvino", {"m.xml", "m.bin"}),
        (["model/m.xml", "model/m.bin"], "OpenVINO", {"m.xml", "m.bin"}),
        (["m.onnx", "model"], "openvino", {"m.onnx", "model"}),
        (["1/saved_model.pb", "1/variables/v.index"], "tensorflow", {"saved_model.pb", "variables/v.index"}),
        (["a.pdmodel", "a.pdiparams"], "paddle", {"a.pdmodel", "a.pdiparams"}),
    ],
)
def test_the_highest_version_is_served_however_it_is_stored(
    tmp_path: Path, files: list[str], framework: str, version: set[str]
) -> None:
    assert laid_out(tmp_path, files, framework)[0] == version


def test_of_two_versions_it_is_the_higher_number_not_the_later_text(tmp_path: Path) -> None:
    laid_out(tmp_path, ["9/m.onnx", "10/m.onnx"])
    assert (tmp_path / "copy" / "model" / "m.onnx").read_text() == "10/m.onnx"


@pytest.mark.parametrize(
    ("files", "framework", "said"),
    [
        (["m.xml"], "openvino", "it needs .xml with .bin or .onnx; found m.xml"),
        (["1/readme"], "onnx", "it needs .onnx in its folder 1/; found readme"),
        (
            ["a.xml", "a.bin", "b.xml", "b.bin"],
            "openvino",
            "several models (a.xml, b.xml). Make a TrainedModel of each",
        ),
        (["a.xml", "b.bin"], "openvino", "the names of a.xml, b.bin differ. Name them alike"),
        (["m.joblib"], "sklearn", "does not know format 'sklearn'. Use one of onnx, openvino"),
    ],
)
def test_what_the_server_could_not_say_is_said_before(
    tmp_path: Path, files: list[str], framework: str, said: str
) -> None:
    """The server's own word would be that a file could not be read."""
    with pytest.raises(StorageError) as raised:
        laid_out(tmp_path, files, framework)
    assert raised.value.reason == "ArtifactInvalid"
    assert said in raised.value.message


def test_a_model_starts_from_what_holds_for_all(tmp_path: Path) -> None:
    _, made = laid_out(tmp_path, ["m.onnx"], nireq=8, plugin_config={"PERFORMANCE_HINT": "THROUGHPUT"})
    assert made == {"target_device": "CPU", "nireq": 8, "plugin_config": {"PERFORMANCE_HINT": "THROUGHPUT"}}


def test_workers_and_threads_are_streams_and_the_threads_of_all() -> None:
    everywhere = {
        "plugin_config": {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2, "ENABLE_CPU_PINNING": True}
    }
    kept = {"ENABLE_CPU_PINNING": True}
    assert entry({}, UNTUNED) == {"target_device": "CPU"}
    assert entry(everywhere, Tuning(workers_max=3, threads=2)) == {
        "target_device": "CPU",
        "nireq": 3,
        "plugin_config": {**kept, "NUM_STREAMS": "3", "INFERENCE_NUM_THREADS": "6"},
    }
    few = entry(everywhere, Tuning(workers_min=4))
    assert few["plugin_config"] == {**kept, "NUM_STREAMS": "4", "INFERENCE_NUM_THREADS": "4"}, "a thread for each"
    assert entry({"nireq": 16}, Tuning(workers_max=2))["nireq"] == 16
    assert entry(everywhere, Tuning(threads=1))["plugin_config"] == {
        **kept,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": "1",
    }


def test_the_file_has_no_field_but_the_servers() -> None:
    made = json.loads(config({"m": entry({"nireq": 2}, Tuning(workers_max=2))}, "/mnt/models/slots"))
    assert made.keys() == {"model_config_list", "monitoring"}
    (model,) = made["model_config_list"]
    assert model == {
        "config": {
            "name": "m",
            "base_path": "/mnt/models/slots/m",
            "target_device": "CPU",
            "nireq": 2,
            "plugin_config": {"NUM_STREAMS": "2"},
        }
    }
