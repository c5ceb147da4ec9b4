"""Route configurations, the values that scopes point at. Pure: names, texts and a policy in, protobuf out.

They are shared by all models of an InferenceService that go to the same pods or are unavailable for the same reason. A
model that moves is pointed at another one; their content changes with the InferenceService's policy alone (a change
costs Envoy some microseconds for every scope that uses it).

Only the paths of a service's type of model server are routed (``surface``): servers have their management, docs and
metrics on the same ports, so anything that is not listed must not reach a pod.
"""

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from google.protobuf import json_format
from shoal_api.grammar import MODEL_NAME

from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy

from . import policy as policies
from . import replies, sagemaker, surface
from . import vocabulary as words
from .envoy_json import Json, packed, set_header
from .route_parts import allowed, forward, reply, reply_grpc, reply_json, route
from .surface import Surface

_OFF = packed(route_components_pb2.FilterConfig, disabled=True)
_ON = packed(route_components_pb2.FilterConfig, config={}, disabled=False)

_NAME_AS_HOST: Json = {"pattern": {"regex": "/v[12]/models/([^/:]+).*"}, "substitution": r"\1"}
_LIST, _LISTS = "/v1/models", "/v[12]/models"

MESSAGE_SECONDS = 30
"""How long a message that a name is to be read from may pause."""
WHOLE_MESSAGE_SECONDS = 300
"""And how long it may take."""

# Only what cannot have reached the model: a prediction may cost money or have effects.
_RETRY: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
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
_ONCE_MORE: Json = {**_RETRY, **_NOT_COMPUTED}
_RETRIED_BODY_BYTES = 1024 * 1024
_HELD_BODY_BYTES = 64 * 1024
"""Requests to pods, and to cold models, with larger bodies are not sent again. The latter keep theirs as long as they
wait, hence the difference."""


def to_pods(name: str, policy: RoutePolicy, target: str) -> route_pb2.RouteConfiguration:
    """Routes of models that are served by the clusters ``target`` (HTTP) and ``grpc_cluster(target)``."""
    # What is not posted only asks, and is sent again whatever became of it.
    paths = surface.of(policy.server_type)
    retry = {"retry_policy": policies.retries(policy, {**_HEAL, "retry_on": _HEAL["retry_on"] + ",reset"})}
    asked = {
        **forward(target, {**policies.rest(policy), **retry}),
        "typed_per_filter_config": policies.filters(policy),
    }
    return _configuration(
        name,
        [
            *(() if paths.questions else _answered_here(paths)),
            *_rest(paths.model, forward(target, policies.rest(policy)), method="POST"),
            *_rest(paths.model, asked, method=_ASKING),
            *_rest(paths.model, allowed(405, replies.METHOD_NOT_ALLOWED)),
            *_grpc_to(grpc_cluster(target), policy),
            *_not_spoken(paths),
            *sagemaker.invoked(policy, forward(target, policies.rest(policy))),
        ],
        policy,
        retry=policies.retries(policy, _HEAL),
        body_bytes=_RETRIED_BODY_BYTES,
    )


def cold(name: str, policy: RoutePolicy) -> route_pb2.RouteConfiguration:
    """Routes of models that are not loaded: what they are needed for goes to the cold listener, which holds it
    meanwhile; a question is answered from what is known: by Envoy, that a request would be answered; by the activator,
    what the server said when it last held the model."""
    paths = surface.of(policy.server_type)
    known = forward(words.COLD) if paths.questions else reply(404, replies.NO_METADATA_AT_ALL)
    # Nobody compares the message's name with the metadata's once a pod does not.
    compared = {"typed_per_filter_config": {words.EXTRACT_FILTER: _ON, words.RESOLVE_FILTER: _ON}}
    asks = [
        _grpc_model("ModelReady", {**forward(words.ANSWERS), **compared}),
        _grpc_model("ModelMetadata", {**forward(words.COLD), **compared}),
    ]
    return _held(
        name,
        policy,
        [
            *_rest(paths.ready, _ANSWER, method="GET"),
            *_rest(paths.metadata, known, method="GET"),
            *(asks if paths.grpc else ()),
            *_rest(paths.model, allowed(200), method="HEAD"),
            *_rest(paths.model, allowed(200), method="OPTIONS"),
            *_rest(paths.model, allowed(405, replies.METHOD_NOT_ALLOWED)),
        ],
    )


def waiting(name: str, policy: RoutePolicy) -> route_pb2.RouteConfiguration:
    """Routes of models whose InferenceService has no pod: held likewise, as one may be back in a moment; but whoever
    asks is told so."""
    said = (Unavailable.SERVICE_NOT_READY.value, replies.UNAVAILABLE[Unavailable.SERVICE_NOT_READY])
    return _held(name, policy, _models(policy, reply(503, said), reply_grpc(503, said)))


def unavailable(name: str, policy: RoutePolicy, reason: Unavailable) -> route_pb2.RouteConfiguration:
    """Routes of models that cannot answer now: 503 with Retry-After; UNAVAILABLE (14) for gRPC."""
    said = (reason.value, replies.UNAVAILABLE[reason])
    return _configuration(name, _models(policy, reply(503, said), reply_grpc(503, said)), policy)


def no_service(name: str) -> route_pb2.RouteConfiguration:
    """The same for models of InferenceServices that are not there, when there are too many of these."""
    return unavailable(name, DEFAULT_POLICY, Unavailable.SERVICE_NOT_READY)


def of_service(name: str, policy: RoutePolicy, target: str | None = None) -> route_pb2.RouteConfiguration:
    """An InferenceService's own routes: health and server metadata to ``target`` (None: 503); other models: 404,
    or looked up where there are such that nobody registered."""
    if target is None:
        said = (Unavailable.SERVICE_NOT_READY.value, replies.SERVICE_NOT_READY)
        rest, alive = reply(503, said), reply(503, said)
        grpc = health = reply_grpc(503, said)
    else:
        rest, alive = forward(target, policies.rest(policy)), reply_json(200, {"status": "alive"})
        grpc, health = forward(grpc_cluster(target), policies.grpc(policy)), forward(words.ANSWERS)
    paths = surface.of(policy.server_type)
    named = f"%REQ({words.UNKNOWN_HEADER})%", "%REQ(:authority):256%"
    unknown = ("ModelNotFound", replies.unknown_model(*named, artifacts=policy.any_name))
    return _configuration(
        name,
        [
            *sagemaker.unnamed(),
            *(_looked_up(policy) if policy.any_name else ()),
            *(() if paths.questions or target is None else _health()),
            *_rest(paths.server, rest, method=_ASKING),
            *_rest(paths.server, allowed(405, replies.METHOD_NOT_ALLOWED)),
            *(_grpc(method, grpc) for method in (words.GRPC_SERVER_METHODS if paths.grpc else ())),
            route({"path": words.GRPC_HEALTH, "grpc": {}}, health),
            route({"path": "/", "headers": [_ASKS]}, alive),
            *_rest(paths.any_model, reply(404, unknown)),
            *(_grpc(method, reply_grpc(404, unknown)) for method in words.GRPC_MODEL_METHODS),
            *sagemaker.answered(reply(404, unknown)),
            *(_rest((_LIST,), forward(words.COLD), method="GET|HEAD") if paths.lists else ()),
            route({"safe_regex": {"regex": _LISTS}}, reply(404, replies.NO_LIST)),
            route({"prefix": "/", "grpc": {}}, reply_grpc(replies.UNIMPLEMENTED, replies.NO_METHOD)),
            route({"prefix": "/inference.", **_TYPED}, reply(415, replies.NO_GRPC_WEB)),
            route({"prefix": "/"}, reply(404, replies.NO_PATH)),
        ],
        policy,
        normalise_others=False,
        retry=policies.retries(policy, _ONCE_MORE, at_most=1) if policy.any_name else None,
        count_attempts=policy.any_name,
        body_bytes=_HELD_BODY_BYTES if policy.any_name else None,
    )


def model_host(name: str) -> route_pb2.RouteConfiguration:
    """Of a host that is one model's of a group, or all models' of a namespace: health; other models are not there."""
    paths = surface.of("")
    unknown = ("ModelNotFound", replies.unknown_model(f"%REQ({words.UNKNOWN_HEADER})%", "%REQ(:authority):256%"))
    return _configuration(
        name,
        [
            *_health(),
            route({"path": words.GRPC_HEALTH, "grpc": {}}, forward(words.ANSWERS)),
            route({"path": "/", "headers": [_ASKS]}, reply_json(200, {"status": "alive"})),
            *_rest(paths.any_model, reply(404, unknown)),
            *(_grpc(method, reply_grpc(404, unknown)) for method in words.GRPC_MODEL_METHODS),
            *sagemaker.unnamed(),
            *sagemaker.answered(reply(404, unknown)),
            route({"prefix": "/", "grpc": {}}, reply_grpc(replies.UNIMPLEMENTED, replies.NO_METHOD)),
            route({"prefix": "/"}, reply(404, replies.NO_PATH)),
        ],
        DEFAULT_POLICY,
        normalise_others=False,
    )


def from_message(name: str, policy: RoutePolicy, message_bytes: int) -> route_pb2.RouteConfiguration:
    """gRPC calls without the model header: read the name from the message, of at most this size, then the request is
    routed again."""
    paths = surface.of(policy.server_type)
    if not paths.grpc:
        said = reply_grpc(replies.UNIMPLEMENTED, replies.protocol_not_offered(paths.spoken))
        return _configuration(name, [_grpc(method, said) for method in words.GRPC_MODEL_METHODS], policy)
    # A route to nowhere, not a direct response: the latter would hold only 1 MiB of the message.
    nowhere = forward(
        "none",
        {
            "cluster_not_found_response_code": "NOT_FOUND",
            "timeout": "0s",
            "idle_timeout": f"{MESSAGE_SECONDS}s",
            "max_stream_duration": {"max_stream_duration": f"{WHOLE_MESSAGE_SECONDS}s"},
        },
    )
    extracted = {words.EXTRACT_FILTER: _ON, words.RESOLVE_FILTER: _ON}
    binary = ({"name": f"{name}-bin", "present_match": True} for name in (words.MODEL_HEADER, words.VMODEL_HEADER))
    return _configuration(
        name,
        [
            *(_in_another_form({"prefix": "/", "headers": [each]}) for each in binary),
            *(
                {
                    **_grpc(method, nowhere),
                    "metadata": {},
                    "typed_per_filter_config": {**extracted, **policies.filters(policy, method)},
                }
                for method in words.GRPC_MODEL_METHODS
            ),
        ],
        policy,
        body_bytes=message_bytes,
    )


def gate() -> route_pb2.RouteConfiguration:
    """Routes nothing; see ``vocabulary.GATE``."""
    return json_format.ParseDict({"name": words.GATE}, route_pb2.RouteConfiguration())


def grpc_cluster(target: str) -> str:
    return target + "-grpc"


def _held(name: str, policy: RoutePolicy, others: list[Json]) -> route_pb2.RouteConfiguration:
    """``others``: routes of what is not held."""
    paths = surface.of(policy.server_type)
    return _configuration(
        name,
        [*_looked_up(policy), *others, *_not_spoken(paths)],
        policy,
        retry=policies.retries(policy, _ONCE_MORE, at_most=1),
        count_attempts=True,
        body_bytes=_HELD_BODY_BYTES,
    )


def _looked_up(policy: RoutePolicy) -> list[Json]:
    """Inference goes to the cold listener, which holds it until it is known where the model is."""
    held = policies.HOLD_SECONDS
    own = set_header(words.TIMEOUT_HEADER, f"{policy.seconds * 1000:.0f}")
    received = set_header(words.RECEIVED_HEADER, "%BYTES_RECEIVED% %REQUEST_DURATION%")
    infer = {**forward(words.COLD, policies.rest(policy, held)), "request_headers_to_add": [own]}
    calls = []
    for method in words.GRPC_INFER_METHODS:
        stated = [own] if policies.limits_call(policy, method) else []
        for call in _grpc_to(words.COLD, policy, held, methods=(method,)):  # none where the server speaks no gRPC
            calls.append({**call, "request_headers_to_add": [received, *stated]})
    return [
        *_rest(surface.of(policy.server_type).infer, infer, method="POST"),
        *calls,
        *sagemaker.invoked(policy, infer),
    ]


def _configuration(
    name: str,
    routes: list[Json],
    policy: RoutePolicy,
    *,
    normalise_others: bool = True,
    body_bytes: int | None = None,
    retry: Json | None = None,
    count_attempts: bool = False,
) -> route_pb2.RouteConfiguration:
    if normalise_others:
        # A path that merely looks like this model's (/v2/health/live and a model named live): try the other forms.
        routes = [*routes, _in_another_form({"prefix": "/"})]
    host: Json = {
        "name": "all",
        "domains": ["*"],
        "routes": [*policies.guards(policy), *routes],
        "retry_policy": retry or policies.retries(policy, _RETRY),
        "include_request_attempt_count": count_attempts,
        "request_headers_to_remove": [*_OUR_HEADERS, *surface.of(policy.server_type).withheld],
        "response_headers_to_remove": [words.NOT_SENT_HEADER],  # the other mark: see not_sent_on
        "typed_per_filter_config": dict.fromkeys(words.FILTERS, _OFF),
    }
    if body_bytes is not None:
        host["request_body_buffer_limit"] = body_bytes
    return json_format.ParseDict(
        {"name": name, "validate_clusters": False, "virtual_hosts": [host]}, route_pb2.RouteConfiguration()
    )


# What is matched

_OUR_HEADERS = (words.SCOPE_HEADER, words.UNKNOWN_HEADER, words.PATH_STYLE_HEADER)
_ASKING = "GET|HEAD|OPTIONS"
_ASKS: Json = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
_TYPED: Json = {"headers": [{"name": "content-type", "string_match": {"prefix": "application/"}}]}


def _rest(paths: tuple[str, ...], action: Json, *, method: str | None = None) -> list[Json]:
    by = {"safe_regex": {"regex": method}} if method is not None and "|" in method else {"exact": method}
    only = {} if method is None else {"headers": [{"name": ":method", "string_match": by}]}
    return [route({"safe_regex": {"regex": path}, **only}, action) for path in paths]


def _in_another_form(match: Json) -> Json:
    """Not found as it is: the filters write it in the one form, and it is routed again."""
    tried = {words.SAGEMAKER_FILTER: _ON, words.NORMALISE_FILTER: _ON, words.RESOLVE_FILTER: _ON}
    return {"match": match, **reply(404, replies.NO_PATH), "typed_per_filter_config": tried}


def _grpc(method: str, action: Json) -> Json:
    return route({"path": f"/{words.GRPC_SERVICE}/{method}", "grpc": {}}, action)


def _grpc_model(method: str, action: Json) -> Json:
    """Its scope was found by a part of the header: here the whole of it is a model's name, and so the model's."""
    made = _grpc(method, action)
    named = {"name": words.MODEL_HEADER, "string_match": {"safe_regex": {"regex": MODEL_NAME.pattern}}}
    made["match"]["headers"] = [named]
    return made


def _models(policy: RoutePolicy, action: Json, grpc: Json) -> list[Json]:
    paths = surface.of(policy.server_type)
    calls = [_grpc_model(method, grpc) for method in words.GRPC_MODEL_METHODS] if paths.grpc else []
    return [*_rest(paths.model, action), *calls, *_not_spoken(paths), *sagemaker.answered(action)]


def _answered_here(paths: Surface) -> list[Json]:
    """Questions about a model that is loaded, where its server does not answer them."""
    unknown = reply(404, replies.NO_METADATA_AT_ALL)
    return [*_rest(paths.ready, _ANSWER, method=_ASKING), *_rest(paths.metadata, unknown, method=_ASKING)]


def _health() -> list[Json]:
    """v2's questions about a server that is there, likewise."""
    return [
        route({"path": f"/v2/health/{asked}", "headers": [_ASKS]}, reply_json(200, {asked: True}))
        for asked in ("live", "ready")
    ]


def _not_spoken(paths: Surface) -> list[Json]:
    """Of a model that is there: in a protocol that its server does not speak."""
    said = replies.protocol_not_offered(paths.spoken)
    calls = () if paths.grpc else words.GRPC_MODEL_METHODS
    refused = [_grpc_model(method, reply_grpc(replies.UNIMPLEMENTED, said)) for method in calls]
    return [*_rest(paths.refused, reply(404, said)), *refused]


# What is done


def _grpc_to(
    cluster: str, policy: RoutePolicy, held: float = 0.0, methods: tuple[str, ...] = tuple(words.GRPC_MODEL_METHODS)
) -> list[Json]:
    if not surface.of(policy.server_type).grpc:
        return []
    return [
        _grpc_model(
            method,
            {
                **forward(cluster, policies.grpc(policy, method, held)),
                "typed_per_filter_config": policies.filters(policy, method),
            },
        )
        for method in methods
    ]


_ANSWER: Json = {"route": {"cluster": words.ANSWERS, "host_rewrite_path_regex": _NAME_AS_HOST}}
