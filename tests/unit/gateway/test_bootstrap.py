"""Envoy's bootstrap: the chart's files are current, and what must be in them is."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import descriptor_pb2, json_format
from shoal_operator.gateway import main_listener
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.bootstrap import Options, bootstrap, chart_files, main
from shoal_operator.gateway.clusters import DEAD_PEER_SECONDS, of_target
from shoal_operator.gateway.limits import HEAP_SHARE, PLACEHOLDERS, UNNAMED_MESSAGE_BYTES, Limits
from shoal_operator.gateway.policy import HOLD_SECONDS
from shoal_operator.gateway.routes import grpc_cluster
from shoal_operator.manifests.annotations import MAX_ACTIVATION_SECONDS
from shoal_operator.state.world.views import Endpoint

CHART_FILE = Path(__file__).parents[3] / "charts" / "shoal" / "files" / "envoy.yaml"


def test_the_charts_files_are_current() -> None:
    assert main(["--check", str(CHART_FILE)]) == 0


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "envoy.yaml"
    assert main([str(file)]) == 0
    (tmp_path / "tls-ca.yaml").write_text("")
    assert main(["--check", str(file)]) == 1
    assert str(tmp_path / "tls-ca.yaml") in capsys.readouterr().err


def test_yaml_says_what_was_built_once_the_chart_has_put_its_values_in() -> None:
    text = chart_files()["envoy.yaml"]
    template = (CHART_FILE.parent.parent / "templates" / "gateway.yaml").read_text()
    defaults = Limits()
    for field in dataclasses.fields(Limits):
        placeholder = getattr(PLACEHOLDERS, field.name)
        assert placeholder in text
        assert f'"{placeholder}"' in template
        text = text.replace(placeholder, str(getattr(defaults, field.name)))
    assert yaml.safe_load(text) == bootstrap(Options())
    fields = {field.name for field in bootstrap_pb2.Bootstrap.DESCRIPTOR.fields}
    assert set(bootstrap(Options())) <= fields


def test_the_defaults_are_those_of_the_charts_values() -> None:
    gateway = yaml.safe_load((CHART_FILE.parent.parent / "values.yaml").read_text())["gateway"]
    assert gateway["resources"]["limits"]["memory"] == "1Gi"
    values, memory = gateway["limits"], 2**30
    assert Limits() == Limits(
        heap_bytes=int(memory * HEAP_SHARE),
        connections=values["connections"],
        streams=values["streamsPerConnection"],
        idle_seconds=values["idleSeconds"],
        header_seconds=values["headerSeconds"],
        held_requests=memory // 2**18,
    )
    assert values["unnamedMessageBytes"] == UNNAMED_MESSAGE_BYTES


def _listener(name: str) -> dict[str, Any]:
    return next(each for each in bootstrap(Options())["static_resources"]["listeners"] if each["name"] == name)


def test_clients_can_never_lock_the_probes_out() -> None:
    probes, main = _listener("probes"), _listener("main")
    assert probes["ignore_global_conn_limit"] is probes["bypass_overload_manager"] is True
    assert main.keys().isdisjoint({"ignore_global_conn_limit", "bypass_overload_manager"})
    (layer,) = bootstrap(Options())["layered_runtime"]["layers"]
    assert layer["static_layer"]["envoy.resource_limits.listener.probes.connection_limit"] == 100


def test_the_admin_interface_stays_inside_the_pod() -> None:
    assert bootstrap(Options())["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_the_activator_is_waited_for_longer_than_any_service_may_ask() -> None:
    listeners = bootstrap(Options())["static_resources"]["listeners"]
    cold = next(each for each in listeners if each["name"] == "cold")
    assert (cold["internal_listener"], "address" in cold) == ({}, False)  # nobody but this Envoy can connect
    filters = cold["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    names = [each["name"] for each in filters]
    assert names.index("limit") < names.index(words.ACTIVATION_FILTER)  # counted before it is asked
    activation = filters[names.index(words.ACTIVATION_FILTER)]["typed_config"]
    assert activation["failure_mode_allow"] is False
    assert MAX_ACTIVATION_SECONDS <= HOLD_SECONDS, "a wake timeout is no longer than that either"
    assert 600 < float(activation["grpc_service"]["timeout"].rstrip("s")) < HOLD_SECONDS + 60
    assert "with_request_body" not in activation


def test_the_descriptors_name_the_models_field() -> None:
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(main_listener._descriptors()).file
    fields = {message.name: [(f.name, f.number) for f in message.field] for message in file.message_type}
    methods = {method.name: fields[method.input_type.rsplit(".", 1)[1]] for method in file.service[0].method}
    assert methods["ModelInfer"] == methods["ModelStreamInfer"] == [("model_name", 1)]
    assert methods["ModelReady"] == methods["ModelMetadata"] == [("name", 1)]


def test_every_connection_to_a_pod_ends_where_nobody_is() -> None:
    """Silent ones by keepalive, those that wait for an acknowledgement by TCP's own limit."""
    made = bootstrap(Options())["static_resources"]["clusters"]
    to_pods = [each for each in made if each["type"] == "ORIGINAL_DST"]
    assert {each["name"] for each in to_pods} == {words.POD, grpc_cluster(words.POD)}
    targets = of_target("the-pods-of-a-model", [Endpoint("10.0.0.1", 8080, 8081, "mlserver")])
    for cluster in (*to_pods, *(json_format.MessageToDict(each, preserving_proto_field_name=True) for each in targets)):
        alive = cluster["upstream_connection_options"]["tcp_keepalive"]
        assert alive["keepalive_time"] + alive["keepalive_probes"] * alive["keepalive_interval"] <= DEAD_PEER_SECONDS
        (option,) = cluster["upstream_bind_config"]["socket_options"]
        assert int(option["int_value"]) == DEAD_PEER_SECONDS * 1000
