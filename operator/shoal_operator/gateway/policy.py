"""What an InferenceService's RoutePolicy is in Envoy's words: the one file that renders it. Pure.

A policy gives every route that leads to a pod its limits, and every route configuration of the InferenceService the
guards that stand before all its routes.
"""

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.buffer.v3 import buffer_pb2

from shoal_operator.state.world.values import RoutePolicy

from . import replies, surface
from . import vocabulary as words
from .envoy_json import Json, packed

LONGEST_SECONDS = 3600.0
"""The longest timeout that can be set, and the longest deadline of a call where none is."""
MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""The largest limit that can be set: a gRPC call's message is held up to it."""
HOLD_SECONDS = 600.0
"""The longest activation timeout: a request to a cold model may wait so long before its own time begins."""
BODY_SECONDS = 600.0
"""How much longer than that a whole REST request may take, its body's arrival included: a body that comes byte by byte
is never idle, and its time at a pod has not begun."""
_AFTER = 5.0
"""The idle timer of a gRPC call is set so much later than its limit, which says more when it ends a call."""
_MAX_LENGTH = 2**63 - 1


def rest(policy: RoutePolicy, held: float = 0.0) -> Json:
    """Fields of a route action for REST. ``held``: seconds that the request may wait for its model before."""
    # Beside a longest duration, which a body has that comes byte by byte, Envoy leaves the route's timeout alone. That
    # nothing passes for so long is the same for an answer that comes at once.
    limit = policy.seconds + held
    return {
        "timeout": _duration(limit),
        "idle_timeout": _duration(limit),
        "max_stream_duration": {"max_stream_duration": _duration(limit + BODY_SECONDS)},
    }


def grpc(policy: RoutePolicy, method: str = "", held: float = 0.0) -> Json:
    """The same for a gRPC call. One with one message takes as long as its deadline says, where it states one, up to
    the limit. A stream lives as long as its deadline says and messages pass, and is ended by silence."""
    if method in words.GRPC_STREAM_METHODS:
        return {
            "timeout": "0s",
            "idle_timeout": _duration(policy.seconds + held),
            "max_stream_duration": {"grpc_timeout_header_max": "0s"},
        }
    limit = policy.seconds + held
    longest = LONGEST_SECONDS + held if policy.timeout is None else limit
    return {
        "timeout": "0s",
        "idle_timeout": _duration(longest + _AFTER),
        "max_stream_duration": {
            "max_stream_duration": _duration(limit),
            "grpc_timeout_header_max": _duration(longest),
        },
    }


def limits_call(policy: RoutePolicy, method: str) -> bool:
    """Whether a gRPC call's time at a pod is the policy's, not its own deadline's or, being a stream, its silence's."""
    return policy.timeout is not None and method not in words.GRPC_STREAM_METHODS


def retries(policy: RoutePolicy, retry: Json, at_most: int | None = None) -> Json:
    """The retry policy with this many retries, or fewer."""
    return {**retry, "num_retries": policy.retries if at_most is None else min(policy.retries, at_most)}


def guards(policy: RoutePolicy) -> list[Json]:
    """Routes before all others: requests that the policy refuses whatever they are for."""
    refused: list[Json] = []
    if not policy.path_style:
        here = {"prefix": "/", "headers": [{"name": words.PATH_STYLE_HEADER, "present_match": True}]}
        refused.append(_refusal(here, 404, replies.NO_PATH_STYLE))
    if policy.max_request_bytes is not None:
        beyond = {"start": policy.max_request_bytes + 1, "end": _MAX_LENGTH}
        long: Json = {"prefix": "/", "headers": [{"name": "content-length", "range_match": beyond}]}
        refused.append(_refusal(long, 413))
        unstated = [
            {"name": ":method", "string_match": {"exact": "POST"}},
            {"name": "content-length", "present_match": False},
        ]
        refused += [_refusal({"prefix": each, "headers": unstated}, 411, replies.NO_LENGTH) for each in _asked_by()]
    return refused


def filters(policy: RoutePolicy, method: str = "") -> dict[str, Json]:
    """Per-route filters of a request that states no length, a gRPC call but a stream: it is counted as it comes."""
    if policy.max_request_bytes is None or method in words.GRPC_STREAM_METHODS:
        return {}
    limit = packed(buffer_pb2.BufferPerRoute, buffer={"max_request_bytes": policy.max_request_bytes})
    return {words.LIMIT_FILTER: packed(route_components_pb2.FilterConfig, config=limit, disabled=False)}


def _asked_by() -> tuple[str, ...]:
    """How the paths begin that models are asked by."""
    return ("/v", *sorted({f"/{path.split('/')[1]}/" for path in surface.native()}))


def _refusal(match: Json, status: int, said: tuple[str, str] | None = None) -> Json:
    body = {"body_format": replies.error_body(*said)} if said is not None else {}
    return {
        "match": match,
        "metadata": {"filter_metadata": {words.RESOLVE_FILTER: {"found": True}}},
        "direct_response": {"status": status, **body},
    }


def _duration(value: float) -> str:
    return f"{value:.3f}s"
