"""Envoy's bootstrap: the chart's files are current, and what must be in them is."""

from pathlib import Path

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import descriptor_pb2
from shoal_operator.gateway import main_listener
from shoal_operator.gateway.bootstrap import Options, bootstrap, chart_files, main
from shoal_operator.gateway.routes import COLD_SECONDS

CHART_FILE = Path(__file__).parents[3] / "charts" / "shoal" / "files" / "envoy.yaml"


def test_the_charts_files_are_current() -> None:
    assert main(["--check", str(CHART_FILE)]) == 0


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "envoy.yaml"
    assert main([str(file)]) == 0
    (tmp_path / "tls-ca.yaml").write_text("")
    assert main(["--check", str(file)]) == 1
    assert str(tmp_path / "tls-ca.yaml") in capsys.readouterr().err


def test_yaml_says_what_was_built() -> None:
    assert yaml.safe_load(chart_files()["envoy.yaml"]) == bootstrap(Options())
    fields = {field.name for field in bootstrap_pb2.Bootstrap.DESCRIPTOR.fields}
    assert set(bootstrap(Options())) <= fields


def test_the_admin_interface_stays_inside_the_pod() -> None:
    assert bootstrap(Options())["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_the_activator_is_waited_for_longer_than_any_service_may_ask() -> None:
    listeners = bootstrap(Options())["static_resources"]["listeners"]
    cold = next(each for each in listeners if each["name"] == "cold")
    assert (cold["internal_listener"], "address" in cold) == ({}, False)  # nobody but this Envoy can connect
    filters = cold["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    activation = filters[0]["typed_config"]
    assert activation["failure_mode_allow"] is False
    assert 600 < float(activation["grpc_service"]["timeout"].rstrip("s")) < COLD_SECONDS
    assert "with_request_body" not in activation


def test_the_descriptors_name_the_models_field() -> None:
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(main_listener._descriptors()).file
    fields = {message.name: [(f.name, f.number) for f in message.field] for message in file.message_type}
    methods = {method.name: fields[method.input_type.rsplit(".", 1)[1]] for method in file.service[0].method}
    assert methods["ModelInfer"] == methods["ModelStreamInfer"] == [("model_name", 1)]
    assert methods["ModelReady"] == methods["ModelMetadata"] == [("name", 1)]
