"""Upstream clusters: a pod, or a set of pods, over HTTP/1.1 and over HTTP/2 for gRPC. Pure.

Behind the pods, at the next priority, stands the cold listener: it gets what the pods could not answer (see
``routes``), and everything once no pod is left. It sees which cluster a request comes from.
"""

from collections.abc import Sequence

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from shoal_operator.state.views import Endpoint

from . import vocabulary as words
from .envoy_json import Json, internal_address, load_assignment_before, packed
from .routes import grpc_cluster

IDLE_SECONDS = 4
"""Below uvicorn's keep-alive of 5 s (MLServer's default), or Envoy would send into a connection just being closed."""

_PROTOCOL_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions
LIMITS = {
    "max_connections": 20_000,
    "max_pending_requests": 20_000,
    "max_requests": 20_000,
    # A request that waits in the cold listener on its second attempt counts as a retry all the while.
    "max_retries": 20_000,
}

TCP_KEEPALIVE = {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 3}

HTTP_OPTIONS = _PROTOCOL_OPTIONS.DESCRIPTOR.full_name


def http_options() -> Json:
    """To a model server's REST port."""
    return packed(
        _PROTOCOL_OPTIONS,
        common_http_protocol_options={"idle_timeout": f"{IDLE_SECONDS}s"},
        explicit_http_config={"http_protocol_options": {}},
    )


def grpc_options() -> Json:
    """To a model server's gRPC port."""
    windows = {"initial_stream_window_size": 1024 * 1024, "initial_connection_window_size": 16 * 1024 * 1024}
    return packed(_PROTOCOL_OPTIONS, explicit_http_config={"http2_protocol_options": windows})


def of_target(target: str, endpoints: Sequence[Endpoint]) -> list[cluster_pb2.Cluster]:
    """The clusters ``target`` and ``grpc_cluster(target)``; with no endpoint they lead to the cold listener."""
    http = _cluster(target, target, [(e.ip, e.http_port) for e in endpoints], http_options())
    grpc = _cluster(grpc_cluster(target), target, [(e.ip, e.grpc_port) for e in endpoints], grpc_options())
    return [json_format.ParseDict(each, cluster_pb2.Cluster()) for each in (http, grpc)]


def _cluster(name: str, target: str, addresses: Sequence[tuple[str, int]], options: Json) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [LIMITS]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "upstream_connection_options": {"tcp_keepalive": TCP_KEEPALIVE},
        "load_assignment": load_assignment_before(name, internal_address(words.COLD, target), *addresses),
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
    }
