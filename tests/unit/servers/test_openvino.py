"""OpenVINO's tuning on MLServer: from the fields and settings that users write to what the plug-in reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shoal_agent.servers.mlserver.settings_file import SETTINGS_FILE, write_settings
from shoal_agent.storage import StorageError
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.manifests.server_config import server_settings
from shoal_operator.server_profile import Inputs
from shoal_operator.servers.mlserver import PROFILE

INPUTS = Inputs("iris", 1 << 30, 1 << 28, 2.0, 300.0, 90)


def written(tmp_path: Path, tuning: Tuning, own: Any = None, *files: str, framework: str = "openvino") -> Any:
    for file in files or ("model.xml", "model.bin"):
        (tmp_path / file).write_text("")
    if own is not None:
        (tmp_path / SETTINGS_FILE).write_text(json.dumps(own))
    write_settings(tmp_path, "m", framework, tuning)
    return json.loads((tmp_path / SETTINGS_FILE).read_text())


def test_a_model_without_settings_gets_openvinos_runtime_and_its_tuning(tmp_path: Path) -> None:
    made = written(tmp_path, Tuning(workers_max=2, threads=3, queue_size=10, batch_size=4))
    assert made["implementation"] == "shoal_mlserver.openvino_model.OpenVINOModel"
    assert made["parameters"] == {
        "uri": "./model.xml",
        "extra": {
            "plugin_config": {"NUM_STREAMS": "2", "INFERENCE_NUM_THREADS": "6"},
            "queue_size": 10,
        },
    }
    assert made["max_batch_size"] == 4


def test_what_the_artifact_says_holds_where_the_fields_say_nothing(tmp_path: Path) -> None:
    extra = {"nireq": 4, "plugin_config": {"PERFORMANCE_HINT": "THROUGHPUT"}, "queue_size": 1, "mine": True}
    own = {"parameters": {"extra": extra}}
    assert written(tmp_path, UNTUNED, own, "a.onnx")["parameters"] == {"uri": "./a.onnx", "extra": extra}
    tuned = written(tmp_path, Tuning(workers_min=3), own, "a.onnx")["parameters"]["extra"]
    assert tuned == {"nireq": 4, "plugin_config": {"NUM_STREAMS": "3"}, "queue_size": 1, "mine": True}


def test_workers_leave_nireq_to_who_says_it_for_all_models(tmp_path: Path) -> None:
    """What the artifact says would hold over the InferenceService's annotation."""
    extra = written(tmp_path, Tuning(workers_max=2))["parameters"]["extra"]
    assert extra == {"plugin_config": {"NUM_STREAMS": "2"}}


@pytest.mark.parametrize("extra", [[1], {"plugin_config": "NUM_STREAMS=2"}])
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, extra: Any) -> None:
    with pytest.raises(StorageError, match=r"parameters\.extra, or plugin_config in it, is not an object"):
        written(tmp_path, UNTUNED, {"parameters": {"extra": extra}})


def test_a_runtime_of_the_models_own_is_not_taken_for_ours(tmp_path: Path) -> None:
    """The operator knows the format alone, by which all three would be honoured."""
    own = {"implementation": "mine.Model"}
    with pytest.raises(StorageError, match=r"spec\.serving\.workers and spec\.serving\.queueSize cannot be honoured"):
        written(tmp_path, Tuning(workers_max=2, queue_size=3, batch_size=4), own)
    assert written(tmp_path, Tuning(batch_size=4), own)["max_batch_size"] == 4


def test_other_models_of_the_server_get_none_of_it(tmp_path: Path) -> None:
    made = written(tmp_path, Tuning(workers_max=2, threads=1, queue_size=3), None, "model.joblib", framework="sklearn")
    assert made["parameters"] == {"uri": "./model.joblib"}
    said = PROFILE.not_honoured(Tuning(workers_max=2, queue_size=3), 300.0, "sklearn")
    assert [each.split(":")[0] for each in said] == ["spec.serving.workers", "spec.serving.queueSize"]
    assert PROFILE.not_honoured(Tuning(workers_max=2, queue_size=3, threads=1), 300.0, "OpenVINO") == ()


def test_an_inferenceservices_settings_reach_the_plug_in() -> None:
    text = '{"nireq": 4, "plugin_config": {"NUM_STREAMS": 2}, "predict_threads": 8}'
    settings, wrong = server_settings(PROFILE, {"shoal.dev/server-config": text})
    assert wrong == ()
    made = PROFILE.parts(replace(INPUTS, settings=settings)).defaults
    assert json.loads(made["SHOAL_OPENVINO"]) == {"nireq": 4, "plugin_config": {"NUM_STREAMS": 2}}
    assert made["SHOAL_PREDICT_THREADS"] == "8"
    assert "SHOAL_OPENVINO" not in PROFILE.parts(INPUTS).defaults
