"""SageMaker's runtime API (``InvokeEndpoint``) for its own clients, in Envoy's words. Pure.

``lua/sagemaker.lua`` runs for paths below ``/endpoints/`` and for no others. It reads EndpointName and TargetModel, and
writes host and path of a model in the form in which SageMaker asks its own containers: ``/models/<model>/invoke``. From
there on the request goes the way of all others, by the model's one scope; nothing here is per model. The routes below,
which know the type of server, write the path that this one has. Errors pass the same file on their way back.

What may be read is path and headers. So whether a JSON body is v1's or v2's is the InferenceService's to say
(``protocolVersion``, by which its models' URLs are written too), not the body's.
"""

from typing import Final

from shoal_api.grammar import MODEL_NAME

from shoal_operator.server_profile import Protocol
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy

from . import replies, surface
from . import vocabulary as words
from .envoy_json import EXTENSIONS, Json, lua, set_header
from .lacking import in_lua
from .route_parts import reply, route

CONTAINER_PATH: Final = "/models/{model}/invoke"
"""Where SageMaker asks its own containers; the form in which such a request looks for its route."""
_MATCHED = CONTAINER_PATH.replace("{model}", MODEL_NAME.pattern)
_NAMED = CONTAINER_PATH.replace("{model}", "([^/]+)")
VARIANT: Final = "AllTraffic"
"""What SageMaker's own tools call a production variant; here each endpoint has one."""
TYPE_HEADER: Final = "x-amzn-errortype"
REFUSED: Final = "refused"
"""In the filter's metadata: it has answered by itself."""
_INVOKED, _OWN = "invoked", "own"
"""Likewise: the request is one of this API; and names no model."""
MAX_MESSAGE_BYTES: Final = 1024
"""Of a model's own error that are repeated."""
MAX_BODY_BYTES: Final = 16 * 1024
"""A longer one is not waited for: what reading it costs, all who share the gateway pay."""

_INVALID = ("ValidationError", 400)
_NOT_READY = ("ModelNotReadyException", 429)
_BUSY = ("ServiceUnavailable", 503)
_MODEL = ("ModelError", 424)
ERRORS: Final[dict[str, tuple[str, int]]] = {
    # What the client has to change. boto3 sends none of these again.
    "ModelNotFound": _INVALID,
    "InferenceServiceNotFound": _INVALID,
    "PathNotFound": _INVALID,
    "PathStyleOff": _INVALID,
    "ContentTypeNotTaken": _INVALID,
    "ProtocolNotOffered": _INVALID,
    "LengthRequired": _INVALID,
    "RequestTooLarge": _INVALID,
    "RequestTooSlow": _INVALID,
    "MalformedRequest": _INVALID,
    "WebSocketNotOffered": _INVALID,
    # A load that goes on: boto3 tries again (in its legacy mode, which is the default), and so should others.
    Unavailable.COLD.value: _NOT_READY,
    "ActivationTimeout": _NOT_READY,
    "ModelNotLoaded": _NOT_READY,
    # Nothing was computed, and the model is not to blame: likewise.
    Unavailable.NO_MEMORY.value: _BUSY,
    Unavailable.SERVICE_NOT_READY.value: _BUSY,
    "TooManyHeldRequests": _BUSY,
    "TooManyColdRequests": _BUSY,
    "GatewayOverloaded": _BUSY,
    "ActivatorUnavailable": _BUSY,
    # The model's own trouble, or something may have been computed, so that it must not be sent again.
    Unavailable.LOAD_FAILED.value: _MODEL,
    Unavailable.STORAGE_FAILED.value: _MODEL,
    Unavailable.MODEL_TOO_LARGE.value: _MODEL,
    Unavailable.NO_RUNTIME.value: _MODEL,
    "PodUnreachable": _MODEL,
    "Timeout": _MODEL,
}
"""What this API calls the reasons of ``replies`` and ``state``, and their status. Whatever else is an error comes from
the model: ``ModelError``."""


def filter_() -> Json:
    """The main listener's first filter, so that it is the last to see an answer."""
    replace = {
        "SAGEMAKER": words.SAGEMAKER_FILTER,
        "REFUSED": REFUSED,
        "KEY_OWN": _OWN,
        "KEY_INVOKED": _INVOKED,
        "VARIANT": VARIANT,
        "ERROR_TYPE": TYPE_HEADER,
        "MEANINGS": in_lua({reason: {"name": name, "status": status} for reason, (name, status) in ERRORS.items()}),
        "MAX_MESSAGE_BYTES": str(MAX_MESSAGE_BYTES),
        "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    }
    code = lua("lua", "sagemaker.lua", replace)
    code["typed_config"]["stat_prefix"] = "sagemaker"
    kind = words.TYPE + "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    skip = words.TYPE + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
    others = {
        "single_predicate": {
            "input": {"name": "path", "typed_config": {"@type": kind, "header_name": ":path"}},
            "value_match": {"prefix": words.ENDPOINTS_PATH},
        }
    }
    return {
        "name": words.SAGEMAKER_FILTER,
        "typed_config": {
            "@type": EXTENSIONS + "common.matching.v3.ExtensionWithMatcher",
            "extension_config": code,
            "xds_matcher": {
                "matcher_list": {
                    "matchers": [
                        {
                            "predicate": {"not_matcher": others},
                            "on_match": {"action": {"name": "skip", "typed_config": {"@type": skip}}},
                        }
                    ]
                }
            },
        },
    }


def invoked(policy: RoutePolicy, action: Json) -> list[Json]:
    """Routes of a model that is sent requests by ``action``, with the path that its server has for them."""
    path = _path(policy)
    made = route(_asked(), {**action, "route": {**action["route"], **_rewritten(path)}})
    if path in surface.native():
        return [made]
    return [
        route(_asked(_no_json()), reply(415, replies.content_type_not_taken(path.replace("{model}", "<model>")))),
        made,
    ]


def answered(action: Json) -> list[Json]:
    """The route of a model that is sent none."""
    return [route(_asked(), action)]


def unnamed() -> list[Json]:
    """Of an InferenceService without a model of its own, ahead of the others: none is named."""
    return [route(_asked(key=_OWN), reply(404, replies.NO_TARGET))]


def local_replies(not_sent_on: int) -> list[Json]:
    """What the filter answered stays as it is. And the one reply that passes no filter on its way out: the status
    ``not_sent_on`` (see ``not_sent_on``)."""
    name, status = ERRORS["ModelNotLoaded"]
    body = {"json_format": {"Message": replies.NOT_SENT_ON[1], "Code": name}}
    return [
        {"filter": _metadata(REFUSED)},
        {
            "filter": replies.both(_metadata(_INVOKED), replies.with_status(not_sent_on)),
            "status_code": status,
            "headers_to_add": [set_header(TYPE_HEADER, name), set_header("retry-after", "1")],
            "body_format_override": body,
        },
    ]


def _path(policy: RoutePolicy) -> str:
    """The server's own route, where it has one: it takes any body. Else the protocol's of the InferenceService."""
    native = surface.of(policy.server_type).native
    if native:
        return CONTAINER_PATH if CONTAINER_PATH in native else native[0]
    return "/v1/models/{model}:predict" if policy.protocol == Protocol.V1 else "/v2/models/{model}/infer"


def _rewritten(path: str) -> Json:
    if path == CONTAINER_PATH:
        return {}
    return {"regex_rewrite": {"pattern": {"regex": _NAMED}, "substitution": path.replace("{model}", r"\1")}}


def _asked(headers: list[Json] | None = None, key: str = _INVOKED) -> Json:
    """Requests that the filter has written: the metadata is nothing that a client could send."""
    marked = {"filter": words.SAGEMAKER_FILTER, "path": [{"key": key}], "value": {"present_match": True}}
    return {"safe_regex": {"regex": _MATCHED}, "headers": headers or [], "dynamic_metadata": [marked]}


def _no_json() -> list[Json]:
    """What a server that reads JSON alone need not be asked. boto3 says octet-stream where its user says nothing."""
    taken = r"application/(json|octet-stream|[^;, ]+\+json)(;.*)?"
    by = {"safe_regex": {"regex": taken}}
    return [
        {"name": "content-type", "present_match": True},
        {"name": "content-type", "string_match": by, "invert_match": True},
    ]


def _metadata(key: str) -> Json:
    matcher = {"filter": words.SAGEMAKER_FILTER, "path": [{"key": key}], "value": {"present_match": True}}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}
