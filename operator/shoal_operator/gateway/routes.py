"""Route configurations, the values that scopes point at. Pure: names and texts in, protobuf out.

They are shared by all models that go to the same pods or are unavailable for the same reason, and never change once
sent (changing one costs Envoy time for every scope that uses it): the name stands for the content.

Only the Open Inference Protocol's own paths are routed. MLServer and Triton serve their repository API, docs and
metrics on the same ports, so anything not listed here must not reach a pod.
"""

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from google.protobuf import json_format

from shoal_operator.state.effects import Unavailable

from . import vocabulary as words
from .envoy_json import Json, packed, set_header
from .replies import (
    RETRY_AFTER_SECONDS,
    SERVICE_NOT_READY,
    UNAVAILABLE,
    error_body,
    grpc_text,
    text_body,
    unknown_model,
)

_OFF = packed(route_components_pb2.FilterConfig, disabled=True)
_ON = packed(route_components_pb2.FilterConfig, config={}, disabled=False)

_GRPC_PREFIX = "/" + words.GRPC_SERVICE.replace(".", r"\.") + "/"
_GRPC_MODEL = _GRPC_PREFIX + "(" + "|".join(words.GRPC_MODEL_METHODS) + ")"
_GRPC_SERVER = _GRPC_PREFIX + "(" + "|".join(words.GRPC_SERVER_METHODS) + ")"
# Two expressions because Envoy refuses long ones (RE2 program size over 100).
_REST_MODEL = (
    "/v2/models/[^/]+(/versions/[^/]+)?(/(infer(_stream)?|generate(_stream)?|ready))?",
    "/v1/models/[^/:]+(:predict|:explain)?",
)
_REST_SERVER = "/v2/?|/v2/health/(live|ready)"

REQUEST_TIMEOUT_SECONDS = 300
COLD_SECONDS = 1000
"""How long a request to a cold model may take in all: the longest activation timeout (600 s), and REQUEST_TIMEOUT."""

# Only what cannot have reached the model: a prediction may cost money or have effects.
_RETRY: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 3,
    "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.05s"},
    "retry_host_predicate": [{"name": "previous", "typed_config": packed(previous_hosts_pb2.PreviousHostsPredicate)}],
    # The pod that failed is the least busy, so that it is picked again three times in four.
    "host_selection_retry_max_attempts": "30",
}
_NOT_COMPUTED: Json = {
    "retry_on": _RETRY["retry_on"] + ",retriable-headers",
    "retriable_headers": [
        {"name": name, "present_match": True} for name in (words.NOT_LOADED_HEADER, words.NOT_SENT_HEADER)
    ],
}
_HEAL: Json = {
    # Two attempts at the pods (a connection may just have closed), then at most two by way of the cold listener.
    **_RETRY,
    **_NOT_COMPUTED,
    "retry_priority": {
        "name": "previous",
        "typed_config": packed(previous_priorities_config_pb2.PreviousPrioritiesConfig, update_frequency=2),
    },
}
_ONCE_MORE: Json = {**_RETRY, **_NOT_COMPUTED, "num_retries": 1}


def to_pods(name: str, target: str) -> route_pb2.RouteConfiguration:
    """Routes of models that are served by the clusters ``target`` (HTTP) and ``grpc_cluster(target)``."""
    return _configuration(
        name,
        [
            *_rest_model(_forward(target)),
            _route(_GRPC_MODEL, _forward(grpc_cluster(target), grpc=True), grpc=True),
        ],
        retry=_HEAL,
    )


def cold(name: str) -> route_pb2.RouteConfiguration:
    """Routes of models that are not loaded: to the cold listener, which holds the request meanwhile."""
    longer = {"timeout": f"{COLD_SECONDS}s", "idle_timeout": f"{COLD_SECONDS}s"}
    rest, grpc = _forward(words.COLD), _forward(words.COLD, grpc=True)
    rest["route"] |= longer
    grpc["route"]["idle_timeout"] = longer["idle_timeout"]
    return _configuration(
        name, [*_rest_model(rest), _route(_GRPC_MODEL, grpc, grpc=True)], retry=_ONCE_MORE, count_attempts=True
    )


def unavailable(name: str, reason: Unavailable) -> route_pb2.RouteConfiguration:
    """Routes of models that cannot answer now: 503 with Retry-After; UNAVAILABLE (14) for gRPC."""
    text = grpc_text(reason.value, UNAVAILABLE[reason])
    return _configuration(
        name,
        [
            *_rest_model(_reply(503, text, reason=reason.value)),
            _route(_GRPC_MODEL, _reply_grpc(503, text), grpc=True),
        ],
    )


def of_service(name: str, target: str | None) -> route_pb2.RouteConfiguration:
    """An InferenceService's own routes: health and server metadata to ``target`` (None: 503); other models: 404."""
    unknown = unknown_model(f"%REQ({words.UNKNOWN_HEADER})%", "%REQ(:authority)%")
    elsewhere = (
        "%REQ(:path)% is not routed; the gateway answers /v2, /v2/health/live, /v2/health/ready,"
        " /v2/models/<name>[/ready|/infer] and /v1/models/<name>[:predict]"
    )
    if target is None:
        text = grpc_text(Unavailable.SERVICE_NOT_READY.value, SERVICE_NOT_READY)
        rest = _reply(503, text, reason=Unavailable.SERVICE_NOT_READY.value)
        grpc = _reply_grpc(503, text)
    else:
        rest, grpc = _forward(target), _forward(grpc_cluster(target))
    return _configuration(
        name,
        [
            _route(_REST_SERVER, rest),
            _route(_GRPC_SERVER, grpc, grpc=True),
            *_rest_model(_reply(404, unknown, reason="ModelNotFound")),
            _route(_GRPC_MODEL, _reply_grpc(404, "ModelNotFound: " + unknown), grpc=True),
            _route(".*", _reply_grpc(404, "PathNotFound: " + elsewhere), grpc=True),
            _route(".*", _reply(404, elsewhere, reason="PathNotFound")),
        ],
        normalise_others=False,
    )


def from_message() -> route_pb2.RouteConfiguration:
    """gRPC calls without the model header: read the name from the message, then the request is routed again."""
    # A route to nowhere, not a direct response: the latter would hold only 1 MiB of the message.
    nowhere: Json = {"route": {"cluster": "none", "cluster_not_found_response_code": "NOT_FOUND", "timeout": "0s"}}
    return _configuration(
        words.MESSAGE_ROUTES,
        [
            {
                **_route(_GRPC_MODEL, nowhere, grpc=True),
                "metadata": {},
                "typed_per_filter_config": {words.EXTRACT_FILTER: _ON, words.RESOLVE_FILTER: _ON},
            }
        ],
        hold_message=True,
    )


def gate() -> route_pb2.RouteConfiguration:
    """Routes nothing; see ``vocabulary.GATE``."""
    return json_format.ParseDict({"name": words.GATE}, route_pb2.RouteConfiguration())


def grpc_cluster(target: str) -> str:
    return target + "-grpc"


def _configuration(
    name: str,
    routes: list[Json],
    *,
    normalise_others: bool = True,
    hold_message: bool = False,
    retry: Json = _RETRY,
    count_attempts: bool = False,
) -> route_pb2.RouteConfiguration:
    if normalise_others:
        # A path that merely looks like this model's (/v2/health/live and a model named live): try the other forms.
        not_found = _reply(404, "%REQ(:path)% is not routed", reason="PathNotFound")
        routes = [
            *routes,
            {
                "match": {"prefix": "/"},
                **not_found,
                "typed_per_filter_config": {words.NORMALISE_FILTER: _ON, words.RESOLVE_FILTER: _ON},
            },
        ]
    host: Json = {
        "name": "all",
        "domains": ["*"],
        "routes": routes,
        "retry_policy": retry,
        "include_request_attempt_count": count_attempts,
        "request_headers_to_remove": [words.SCOPE_HEADER, words.UNKNOWN_HEADER],
        "response_headers_to_remove": [words.NOT_LOADED_HEADER, words.NOT_SENT_HEADER],
        "typed_per_filter_config": dict.fromkeys(words.FILTERS, _OFF),
    }
    if hold_message:
        host["request_body_buffer_limit"] = words.GRPC_MESSAGE_LIMIT_BYTES
    return json_format.ParseDict(
        {"name": name, "validate_clusters": False, "virtual_hosts": [host]}, route_pb2.RouteConfiguration()
    )


def _rest_model(action: Json) -> list[Json]:
    return [_route(path, action) for path in _REST_MODEL]


def _route(path: str, action: Json, *, grpc: bool = False) -> Json:
    match: Json = {"safe_regex": {"regex": path}}
    if grpc:
        match["grpc"] = {}
    return {
        "match": match,
        "metadata": {"filter_metadata": {words.RESOLVE_FILTER: {"found": True}}},
        **action,
    }


def _forward(cluster: str, *, grpc: bool = False) -> Json:
    action: Json = {"cluster": cluster, "timeout": f"{REQUEST_TIMEOUT_SECONDS}s"}
    if grpc:  # streams live as long as they like, unary calls as long as their own deadline says
        action |= {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    return {"route": action}


def _reply(status: int, text: str, *, reason: str) -> Json:
    reply: Json = {
        "direct_response": {
            "status": status,
            "body_format": error_body(reason, text),
        }
    }
    return reply | _retry_after(status)


def _reply_grpc(status: int, text: str) -> Json:
    """Envoy turns it into a trailers-only answer: the text is grpc-message; 503 is UNAVAILABLE."""
    reply: Json = {
        "direct_response": {
            "status": status,
            "body_format": text_body(text),
        }
    }
    return reply | _retry_after(status)


def _retry_after(status: int) -> Json:
    if status != 503:
        return {}
    return {"response_headers_to_add": [set_header("retry-after", str(RETRY_AFTER_SECONDS))]}
