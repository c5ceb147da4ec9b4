"""Settings of the agent, and of a copy for MLServer."""

import json
from pathlib import Path

import pytest
from shoal_agent.servers.mlserver.settings_file import model_settings, write_settings
from shoal_agent.settings import SettingsError, read_settings
from shoal_agent.storage import StorageError

RENDERED = {
    "SHOAL_OPERATOR_URL": "https://shoal-operator.shoal-system.svc:8443/",
    "SHOAL_NAMESPACE": "default",
    "SHOAL_POD": "iris-0",
    "SHOAL_POD_UID": "uid",
    "SHOAL_SERVER_TYPE": "mlserver",
    "SHOAL_SERVER_PORTS": "http=8080,grpc=8081,metrics=8082",
}


def test_defaults_fit_what_the_operator_renders() -> None:
    settings = read_settings(RENDERED)
    assert settings.operator_url == "https://shoal-operator.shoal-system.svc:8443"
    assert str(settings.models_dir) == "/mnt/models"
    assert str(settings.storage_secrets_dir) == "/var/run/secrets/shoal-storage"
    assert (settings.port, settings.server_type, settings.server_host) == (9090, "mlserver", "127.0.0.1")
    assert (settings.server_ports, settings.server_files) == ({"http": 8080, "grpc": 8081, "metrics": 8082}, {})
    assert settings.server_threads == 0
    assert read_settings({**RENDERED, "SHOAL_SERVER_THREADS": "2"}).server_threads == 2
    changed = read_settings({**RENDERED, "SHOAL_MAX_ARTIFACT_BYTES": "5", "SHOAL_MODEL_LOADING_TIMEOUT_SECONDS": "1.5"})
    assert (changed.max_artifact_bytes, changed.model_loading_timeout) == (5, 1.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOAL_POD", ""),
        ("SHOAL_CONCURRENT_PULLS", "0"),
        ("SHOAL_CONCURRENT_LOADS", "many"),
        ("SHOAL_MODEL_LOADING_TIMEOUT_SECONDS", "-1"),
        ("SHOAL_MODEL_LOADING_TIMEOUT_SECONDS", "nan"),
        ("SHOAL_SERVER_TYPE", ""),
        ("SHOAL_SERVER_THREADS", "all"),
        ("SHOAL_SERVER_PORTS", "8080"),
        ("SHOAL_SERVER_PORTS", "http=0"),
        ("SHOAL_SERVER_PORTS", "http=65536"),
        ("SHOAL_SERVER_FILES", "[]"),
        ("SHOAL_SERVER_FILES", '{"../../etc/passwd": "x"}'),
        ("SHOAL_SERVER_FILES", '{"a": 1}'),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({**RENDERED, name: value})


@pytest.mark.parametrize(
    ("framework", "files", "implementation", "uri"),
    [
        ("sklearn", ["model.joblib", "other.pkl"], "mlserver_sklearn.SKLearnModel", "./model.joblib"),
        ("SKLearn", ["model.pickle"], "mlserver_sklearn.SKLearnModel", "./model.pickle"),
        ("sklearn", ["iris.pkl", "README.md"], "mlserver_sklearn.SKLearnModel", "./iris.pkl"),
        ("sklearn", ["deep/iris.joblib"], "mlserver_sklearn.SKLearnModel", "./deep/iris.joblib"),
        ("xgboost", ["model.json"], "mlserver_xgboost.XGBoostModel", "./model.json"),
        ("xgboost", ["x.ubj"], "mlserver_xgboost.XGBoostModel", "./x.ubj"),
        ("lightgbm", ["model.txt", "notes.txt"], "mlserver_lightgbm.LightGBMModel", "./model.txt"),
    ],
)
def test_settings_are_made_from_the_framework(framework: str, files: list[str], implementation: str, uri: str) -> None:
    assert model_settings(None, files, "m", framework) == {
        "name": "m",
        "implementation": implementation,
        "parameters": {"uri": uri},
    }


@pytest.mark.parametrize(
    ("framework", "files", "parts"),
    [
        ("sklearn", [], ["found nothing", "model.joblib"]),
        ("sklearn", ["a.pkl", "b.pkl"], ["a.pkl, b.pkl", "exactly one"]),
        ("sklearn", ["model.onnx"], ["model.onnx", "Rename"]),
        ("mlflow", ["model.pkl"], ["'mlflow'", "model-settings.json"]),
    ],
)
def test_what_cannot_be_made_says_what_was_found_and_expected(
    framework: str, files: list[str], parts: list[str]
) -> None:
    with pytest.raises(StorageError) as caught:
        model_settings(None, files, "m", framework)
    assert caught.value.reason == "ArtifactInvalid"
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("files", "uri"),
    [
        (["MLmodel", "conda.yaml", "metadata/MLmodel", "model.pkl"], "./."),
        (["model/MLmodel", "model/model.pkl"], "./model"),
    ],
)
def test_mlflows_folder_as_it_was_written(files: list[str], uri: str) -> None:
    assert model_settings(None, files, "m", "mlflow") == {
        "name": "m",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": uri, "content_type": "np"},
    }


def test_the_users_settings_keep_everything_but_the_name() -> None:
    own = {
        "name": "other",
        "implementation": "custom.Model",
        "max_batch_size": 5,
        "parameters": {"uri": "./weights", "version": "v1", "extra": {"a": 1}},
    }
    assert model_settings(json.dumps(own).encode(), ["weights/x"], "m", "sklearn") == {
        "name": "m",
        "implementation": "custom.Model",
        "max_batch_size": 5,
        "parameters": {"uri": "./weights", "version": "v1", "extra": {"a": 1}},
    }
    numbered = model_settings(b'{"parameters": {"version": 3}}', ["model.pkl"], "m", "sklearn")
    assert numbered["parameters"] == {"uri": "./model.pkl", "version": "3"}
    assert model_settings(b"{}", ["model.pkl"], "m", "sklearn")["parameters"] == {"uri": "./model.pkl"}
    custom = model_settings(b'{"implementation": "c.M"}', ["c.py"], "m", "anything")
    assert custom["parameters"] == {"uri": "."}


@pytest.mark.parametrize(
    "own",
    [
        b"{",
        b"[]",
        b'{"parameters": [1]}',
        b'{"implementation": "c.M", "parameters": {"uri": "/mnt/models/copies/other/model.joblib"}}',
        b'{"implementation": "c.M", "parameters": {"uri": "../other/model.joblib"}}',
        b'{"implementation": "c.M", "parameters": {"uri": "file:///etc/passwd"}}',
        b'{"implementation": "c.M", "parameters": {"uri": 1}}',
        b'{"implementation": "c.M", "parameters": {"version": [3]}}',
        b'{"implementation": "c.M", "parameters": {"version": true}}',
        b'{"implementation": "c.M", "parameters": {"version": ""}}',
    ],
)
def test_settings_that_are_broken_or_lead_elsewhere_are_refused(own: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        model_settings(own, ["model.joblib"], "m", "sklearn")
    assert caught.value.reason == "ArtifactInvalid"


def test_the_users_file_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    cached = tmp_path / "cached.json"
    cached.write_text('{"implementation": "c.M", "name": "x"}')
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model-settings.json").hardlink_to(cached)
    write_settings(copy, "m", "sklearn")
    assert json.loads((copy / "model-settings.json").read_text())["name"] == "m"
    assert json.loads(cached.read_text())["name"] == "x"
    assert [file.name for file in copy.iterdir()] == ["model-settings.json"]


@pytest.mark.parametrize("own", [b"{", b"[]", b"\xff", b'{"a":' + b"[" * 100_000])
def test_settings_that_are_no_json_are_the_artifacts_fault(own: bytes) -> None:
    with pytest.raises(StorageError) as refused:
        model_settings(own, ["model.joblib"], "m", "sklearn")
    assert refused.value.reason == "ArtifactInvalid"
    assert len(refused.value.message) < 400
