"""Envoy's cold listener: holds a request until the activator names the pod that has the model by now. Pure.

Each request that is held has a connection of its own there (they cost no port and no file), so that whatever ends one,
a client that sends nonsense or gives up a thousand times, ends that one only.

It is an internal listener, a socket inside the Envoy process: no port that anyone could call, and no limit on ports or
files for thousands of held requests. Requests come from the main listener only, in canonical form, over the cluster
``cold`` (models that are cold) or as the last resort of a pod's cluster (see ``clusters``); in the latter case the
connection's target names that cluster, which the activator gets to see.

The pod's address comes from the activator as metadata, never as a header that a client could send, and the clusters
``pod`` connect to that very address or to none.
"""

from . import lacking, limits, questions, replies
from . import vocabulary as words
from .clusters import HTTP_OPTIONS, LIMITS, TCP_KEEPALIVE, UNACKNOWLEDGED, grpc_options, http_options
from .envoy_json import CONNECTION_MANAGER, EXTENSIONS, Json, internal_address, lua, router, set_header
from .policy import LONGEST_SECONDS
from .routes import grpc_cluster

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
        "common_http_protocol_options": {"max_headers_count": limits.INNER_HEADERS},
        "max_request_headers_kb": limits.INNER_HEADERS_KILOBYTES,
        "http2_protocol_options": {
            "max_concurrent_streams": 10_000,
            "initial_stream_window_size": BUFFER_BYTES,
            # gRPC calls that come from one pod's cluster share a connection.
            "initial_connection_window_size": limits.UNLIMITED_WINDOW_BYTES,
            "override_stream_error_on_invalid_http_message": True,
        },
        "local_reply_config": {
            "mappers": [
                *replies.too_many_questions(),
                *replies.activator_unavailable(ACTIVATOR_ERROR),
                *replies.grpc_codes(),
                # Not connected: not sent, so that the main listener may try again. The other flags: who knows.
                *replies.unreachable("UF", headers=(set_header(words.NOT_SENT_HEADER, "true"),)),
                *replies.unreachable("UH", "UO", "UC", "UR", "URX", "NC"),
                *replies.timeout(),
            ]
        },
        "http_filters": [
            _own_timeout(),
            *questions.counted(),
            _activation(activator_cluster),
            _told(),
            _not_loaded(),
            router(),
        ],
        "route_config": {
            "name": words.COLD,
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "request_headers_to_remove": [words.ATTEMPT_HEADER, words.RECEIVED_HEADER],
                    "routes": [
                        {
                            "match": {
                                "prefix": "/",
                                "grpc": {},
                                "headers": [{"name": words.TOLD_HEADER, "present_match": True}],
                            },
                            "route": {"cluster": words.ANSWERS},
                        },
                        {
                            "match": {"prefix": "/", "grpc": {}},
                            "route": {"cluster": grpc_cluster(words.POD), "timeout": "0s", "idle_timeout": "0s"},
                        },
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": words.POD, "timeout": f"{LONGEST_SECONDS:.0f}s"},
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


def cold_clusters(held_requests: limits.Number) -> list[Json]:
    """The way into the listener, for so many requests at a time, and the two ways out of it."""
    return [
        {
            "name": words.COLD,
            "type": "STATIC",
            "circuit_breakers": {"thresholds": [{**LIMITS, "max_requests": held_requests}]},
            "load_assignment": {
                "cluster_name": words.COLD,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": internal_address(words.COLD)}}]}],
            },
            # HTTP/2 for REST too, since gRPC needs it.
            "typed_extension_protocol_options": {HTTP_OPTIONS: _own_connection()},
        },
        _pod(words.POD, http_options(limits.POD_ANSWER)),
        _pod(grpc_cluster(words.POD), grpc_options(limits.POD_ANSWER)),
    ]


def _own_connection() -> Json:
    options = grpc_options()
    options["explicit_http_config"]["http2_protocol_options"]["max_concurrent_streams"] = 1
    options["common_http_protocol_options"]["max_requests_per_connection"] = 1
    return options


def _own_timeout() -> Json:
    """The main listener's route says how long the request may take from here on, in the router's own words."""
    value = f"%REQ({words.TIMEOUT_HEADER})%"
    mutations = [
        {"append": set_header("x-envoy-upstream-rq-timeout-ms", value)},
        {"remove": words.TIMEOUT_HEADER},
    ]
    kind = EXTENSIONS + "filters.http.header_mutation.v3.HeaderMutation"
    return {"name": "timeout", "typed_config": {"@type": kind, "mutations": {"request_mutations": mutations}}}


def _told() -> Json:
    replace = {"ACTIVATION": words.ACTIVATION_FILTER, "TOLD": words.TOLD, "HEADER": words.TOLD_HEADER}
    return lua(words.TOLD_FILTER, "told.lua", replace)


def _not_loaded() -> Json:
    replace = {
        "FUNCTION_LACKS": lacking.function(),
        "REASON": _REASON,
        "MESSAGE": _MESSAGE,
        "ACTIVATION": words.ACTIVATION_FILTER,
    }
    return lua(words.NOT_LOADED_FILTER, "not_loaded.lua", replace)


def _activation(cluster: str) -> Json:
    allowed = ("content-type", "content-length", words.MODEL_HEADER, words.ATTEMPT_HEADER, words.RECEIVED_HEADER)
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
        "per_connection_buffer_limit_bytes": limits.BUFFER_BYTES,
        "cleanup_interval": "60s",
        "circuit_breakers": {"thresholds": [LIMITS]},
        "upstream_bind_config": {"socket_options": [UNACKNOWLEDGED]},
        "upstream_connection_options": {"tcp_keepalive": TCP_KEEPALIVE},
        "original_dst_lb_config": {
            "metadata_key": {"key": words.ACTIVATION_FILTER, "path": [{"key": words.POD}]},
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
    }
