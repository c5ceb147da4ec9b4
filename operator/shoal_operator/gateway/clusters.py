"""Upstream clusters: a pod, or a set of pods, over HTTP/1.1 and over HTTP/2 for gRPC. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from .envoy_json import Json, load_assignment, packed
from .routes import grpc_cluster

IDLE_SECONDS = 4
"""Below uvicorn's keep-alive of 5 s (MLServer's default), or Envoy would send into a connection just being closed."""

_PROTOCOL_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions
_LIMITS = {
    "max_connections": 20_000,
    "max_pending_requests": 20_000,
    "max_requests": 20_000,
    "max_retries": 2_000,
}


class Endpoint(NamedTuple):
    """Where a pod answers: IP address and ports."""

    ip: str
    http_port: int
    grpc_port: int


def of_target(target: str, endpoints: Sequence[Endpoint]) -> list[cluster_pb2.Cluster]:
    """The clusters ``target`` and ``grpc_cluster(target)``; with no endpoint they answer 503 at once."""
    http = _cluster(target, [(e.ip, e.http_port) for e in endpoints])
    http["typed_extension_protocol_options"] = {
        _PROTOCOL_OPTIONS.DESCRIPTOR.full_name: packed(
            _PROTOCOL_OPTIONS,
            common_http_protocol_options={"idle_timeout": f"{IDLE_SECONDS}s"},
            explicit_http_config={"http_protocol_options": {}},
        )
    }
    name = grpc_cluster(target)
    grpc = _cluster(name, [(e.ip, e.grpc_port) for e in endpoints])
    grpc["typed_extension_protocol_options"] = {
        _PROTOCOL_OPTIONS.DESCRIPTOR.full_name: packed(
            _PROTOCOL_OPTIONS,
            explicit_http_config={
                "http2_protocol_options": {
                    "initial_stream_window_size": 1024 * 1024,
                    "initial_connection_window_size": 16 * 1024 * 1024,
                }
            },
        )
    }
    return [json_format.ParseDict(each, cluster_pb2.Cluster()) for each in (http, grpc)]


def _cluster(name: str, addresses: Sequence[tuple[str, int]]) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [_LIMITS]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 3}
        },
        "load_assignment": load_assignment(name, *addresses),
    }
