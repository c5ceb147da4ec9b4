"""Upstream clusters: a pod, or a set of pods, over HTTP/1.1 and over HTTP/2 for gRPC. Pure.

Behind the pods, at the next priority, stands the cold listener: it gets what the pods could not answer (see
``routes``), and everything once no pod is left. It sees which cluster a request comes from.
"""

from collections.abc import Sequence
from functools import lru_cache

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from shoal_operator.state.world.views import Endpoint

from . import lacking, limits, surface
from . import vocabulary as words
from .envoy_json import Json, internal_address, load_assignment_before, packed
from .routes import grpc_cluster
from .stencils import RENDERED, serialised, stand_in

IDLE_SECONDS = 1
"""Far below every model server's keep-alive (gunicorn 2 s, uvicorn 5 s), or Envoy would send into a connection that is
just being closed. Envoy cannot tell such a request, which nobody has read, from one that a dying server has: its
``reset-before-request`` ends with the first byte (measured with 1.40). So the race is kept from happening."""

_PROTOCOL_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions
LIMITS = {
    "max_connections": 20_000,
    "max_pending_requests": 20_000,
    "max_requests": 20_000,
    # A request that waits in the cold listener on its second attempt counts as a retry all the while.
    "max_retries": 20_000,
}

DEAD_PEER_SECONDS = 5
"""After which a connection to a pod ends, and its requests with 503, when nothing there acknowledges anything: its node
is cut off or dead. A pod that only computes has a kernel that does."""
_TCP, _TCP_USER_TIMEOUT = 6, 18  # Linux: asm-generic/socket.h has no name for other systems' kernels
TCP_KEEPALIVE = {"keepalive_probes": 3, "keepalive_time": 2, "keepalive_interval": 1}
UNACKNOWLEDGED = {"level": _TCP, "name": _TCP_USER_TIMEOUT, "int_value": DEAD_PEER_SECONDS * 1000}
"""Keepalive counts on silent connections alone; this counts on those that wait for an acknowledgement."""

HTTP_OPTIONS = _PROTOCOL_OPTIONS.DESCRIPTOR.full_name


def http_options(answer: Json = limits.INNER_ANSWER, idle_seconds: float = IDLE_SECONDS) -> Json:
    """To a model server's REST port, or by way of the cold listener; ``answer``: bounds of its headers."""
    return packed(
        _PROTOCOL_OPTIONS,
        common_http_protocol_options={"idle_timeout": f"{idle_seconds:g}s", **answer},
        explicit_http_config={"http_protocol_options": {}},
    )


def grpc_options(answer: Json = limits.INNER_ANSWER) -> Json:
    """To a model server's gRPC port, or by way of the cold listener. One answer that is not HTTP ends one call."""
    return packed(
        _PROTOCOL_OPTIONS,
        common_http_protocol_options=dict(answer),
        explicit_http_config={
            "http2_protocol_options": {
                "initial_stream_window_size": limits.BUFFER_BYTES,
                "initial_connection_window_size": limits.UNLIMITED_WINDOW_BYTES,
                "override_stream_error_on_invalid_http_message": True,
            }
        },
    )


def of_target(target: str, endpoints: Sequence[Endpoint]) -> list[cluster_pb2.Cluster]:
    """The clusters ``target`` and ``grpc_cluster(target)``; with no endpoint they lead to the cold listener."""
    server_type = endpoints[0].server_type if endpoints else ""  # they are of one InferenceService
    there = stand_in("target", len(target))
    addresses = (
        [(each.ip, each.http_port) for each in endpoints],
        [(each.ip, each.grpc_port) for each in endpoints if each.grpc_port],
    )
    made = []
    for content, own in zip(_without_pods(there, server_type), addresses, strict=True):
        cluster = cluster_pb2.Cluster.FromString(content.replace(there.encode(), target.encode()))
        for ip, port in own:
            where = cluster.load_assignment.endpoints[0].lb_endpoints.add().endpoint.address.socket_address
            where.address, where.port_value = ip, port
        made.append(cluster)
    return made


@lru_cache(RENDERED)
def _without_pods(target: str, server_type: str) -> tuple[bytes, bytes]:
    """The two as bytes, but for the pods' addresses."""
    marks = lacking.filters(server_type)
    rest = http_options(idle_seconds=surface.of(server_type).idle_seconds) | marks
    http, grpc = _cluster(target, target, rest), _cluster(grpc_cluster(target), target, grpc_options() | marks)
    return (
        serialised(json_format.ParseDict(http, cluster_pb2.Cluster())),
        serialised(json_format.ParseDict(grpc, cluster_pb2.Cluster())),
    )


def _cluster(name: str, target: str, options: Json) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "per_connection_buffer_limit_bytes": limits.BUFFER_BYTES,
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [LIMITS]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "upstream_bind_config": {"socket_options": [UNACKNOWLEDGED]},
        "upstream_connection_options": {"tcp_keepalive": TCP_KEEPALIVE},
        "load_assignment": load_assignment_before(name, internal_address(words.COLD, target)),
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
    }
