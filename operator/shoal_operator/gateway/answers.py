"""Envoy's listener ``answers``: what is known of a model or an InferenceService without asking a pod. Pure.

An internal listener, because a route can answer a gRPC call with an error only: here a filter takes the frame off the
message, sends it through the listener once more as plain HTTP, which a route can answer, and puts a frame around that.
Nothing of the operator is asked, so that no number of questions costs more than Envoy's time.
"""

from base64 import b64encode

from . import vocabulary as words
from .clusters import HTTP_OPTIONS, grpc_options
from .envoy_json import CONNECTION_MANAGER, EXTENSIONS, Json, internal_address, router, set_header

_MESSAGE_TYPE = "application/x-protobuf"
_BRIDGED_HEADER = "x-shoal-bridged"
_TRUE = b"\x08\x01"
"""Field 1 is 1: ``ready`` of a ModelReadyResponse, or SERVING as ``status`` of a HealthCheckResponse."""


def answers_listener() -> Json:
    """Says ready: ``{"name", "ready"}`` where the host is the model's name, the message where the call is gRPC's."""
    ready = {"json_format": {"name": "%REQ(:authority)%", "ready": True}}
    message = {"inline_bytes": b64encode(_TRUE).decode()}
    kind = EXTENSIONS + "filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"
    bridge = {
        "name": "bridge",
        "typed_config": {"@type": kind, "content_type": _MESSAGE_TYPE, "withhold_grpc_frames": True},
    }
    manager: Json = {
        "@type": CONNECTION_MANAGER,
        "stat_prefix": "answers",
        "generate_request_id": False,
        "http_filters": [bridge, router()],
        "route_config": {
            "name": words.ANSWERS,
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/v"},
                            "direct_response": {"status": 200, "body_format": ready},
                        },
                        {
                            "match": {"prefix": "/", "headers": [{"name": _BRIDGED_HEADER, "present_match": True}]},
                            "direct_response": {"status": 200, "body": message},
                            "response_headers_to_add": [set_header("content-type", _MESSAGE_TYPE)],
                        },
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": words.ANSWERS},
                            "request_headers_to_add": [set_header(_BRIDGED_HEADER, "true")],
                        },
                    ],
                }
            ],
        },
    }
    return {
        "name": words.ANSWERS,
        "internal_listener": {},
        "ignore_global_conn_limit": True,  # the connection that the request came by is counted already
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def answers_cluster() -> Json:
    """The way into the listener."""
    return {
        "name": words.ANSWERS,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": words.ANSWERS,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": internal_address(words.ANSWERS)}}]}],
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: grpc_options()},
    }
