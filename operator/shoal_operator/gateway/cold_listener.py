"""Envoy's cold listener: holds a request until the activator names the pod that has the model by now. Pure.

It is an internal listener, a socket inside the Envoy process: no port that anyone could call, and no limit on ports or
files for thousands of held requests. Requests come from the main listener only, in canonical form, over the cluster
``cold`` (models that are cold) or as the last resort of a pod's cluster (see ``clusters``); in the latter case the
connection's target names that cluster, which the activator gets to see.

The pod's address comes from the activator as metadata, never as a header that a client could send, and the clusters
``pod`` connect to that very address or to none.
"""

from . import replies
from . import vocabulary as words
from .clusters import HTTP_OPTIONS, LIMITS, TCP_KEEPALIVE, grpc_options, http_options
from .envoy_json import CONNECTION_MANAGER, EXTENSIONS, Json, internal_address, lua, router, set_header
from .routes import REQUEST_TIMEOUT_SECONDS, grpc_cluster

ACTIVATION_TIMEOUT_SECONDS = 610
"""Longer than the longest activation timeout that an InferenceService may have (600 s)."""
ACTIVATOR_ERROR = 511
"""Stands for "no answer from the activator" until the local reply turns it into 503: nothing else answers so."""
_REASON, _MESSAGE = replies.NOT_LOADED
BUFFER_BYTES = 64 * 1024
"""What one held request may pile up here; the rest of a large body waits in the main listener and at the client."""


def bootstrap_extension() -> Json:
    """Makes internal listeners possible."""
    kind = words.TYPE + "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": kind, "buffer_size_kb": BUFFER_BYTES // 1024},
    }


def cold_listener(activator_cluster: str) -> Json:
    """The listener; ``activator_cluster``: where envoy.service.auth.v3.Authorization answers."""
    manager: Json = {
        "@type": CONNECTION_MANAGER,
        "stat_prefix": "cold",
        # The main listener has made the headers what they should be; nothing is added to them here.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": False,
        "stream_idle_timeout": "0s",  # the main listener's routes say how long
        "http2_protocol_options": {
            "max_concurrent_streams": 10_000,
            "initial_stream_window_size": BUFFER_BYTES,
            # No limit: the bodies of held requests must not keep those of others from passing.
            "initial_connection_window_size": 2**31 - 1,
        },
        "local_reply_config": {
            "mappers": [
                *replies.activator_unavailable(ACTIVATOR_ERROR),
                *replies.not_found(),
                # Not connected: not sent, so that the main listener may try again. The other flags: who knows.
                *replies.unreachable("UF", headers=(set_header(words.NOT_SENT_HEADER, "true"),)),
                *replies.unreachable("UH", "UO", "UC", "UR", "URX", "NC"),
                *replies.timeout(),
            ]
        },
        "http_filters": [
            _activation(activator_cluster),
            lua(words.NOT_LOADED_FILTER, "not_loaded.lua", {"REASON": _REASON, "MESSAGE": _MESSAGE}),
            router(),
        ],
        "route_config": {
            "name": words.COLD,
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "request_headers_to_remove": [words.ATTEMPT_HEADER],
                    "routes": [
                        {
                            "match": {"prefix": "/", "grpc": {}},
                            "route": {"cluster": grpc_cluster(words.POD), "timeout": "0s", "idle_timeout": "0s"},
                        },
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": words.POD, "timeout": f"{REQUEST_TIMEOUT_SECONDS}s"},
                        },
                    ],
                }
            ],
        },
    }
    return {
        "name": words.COLD,
        "internal_listener": {},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "ignore_global_conn_limit": True,  # the connection that the request came by is counted already
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def cold_clusters() -> list[Json]:
    """The way into the listener, and the two ways out of it."""
    return [
        {
            "name": words.COLD,
            "type": "STATIC",
            "circuit_breakers": {"thresholds": [LIMITS]},
            "load_assignment": {
                "cluster_name": words.COLD,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": internal_address(words.COLD)}}]}],
            },
            # HTTP/2 for REST too: held requests are then streams of a few connections.
            "typed_extension_protocol_options": {HTTP_OPTIONS: grpc_options()},
        },
        _pod(words.POD, http_options()),
        _pod(grpc_cluster(words.POD), grpc_options()),
    ]


def _activation(cluster: str) -> Json:
    allowed = ("content-type", words.MODEL_HEADER, words.ATTEMPT_HEADER)
    return {
        "name": words.ACTIVATION_FILTER,
        "typed_config": {
            "@type": EXTENSIONS + "filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": cluster},
                "timeout": f"{ACTIVATION_TIMEOUT_SECONDS}s",
            },
            "failure_mode_allow": False,
            "status_on_error": {"code": ACTIVATOR_ERROR},
            "allowed_headers": {"patterns": [{"exact": name} for name in allowed]},
        },
    }


def _pod(name: str, options: Json) -> Json:
    return {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "0.5s",
        "cleanup_interval": "60s",
        "circuit_breakers": {"thresholds": [LIMITS]},
        "upstream_connection_options": {"tcp_keepalive": TCP_KEEPALIVE},
        "original_dst_lb_config": {
            "metadata_key": {"key": words.ACTIVATION_FILTER, "path": [{"key": words.POD}]},
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
    }
