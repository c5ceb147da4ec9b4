"""What the gateway says by itself: JSON ``{"error", "reason"}`` for REST, status and text for gRPC. Pure.

Said by route configurations, by Envoy's local replies, and by the activator.
"""

from typing import Final

from shoal_operator.state.world.advice import ADVICE
from shoal_operator.state.world.effects import Unavailable

from .envoy_json import EXTENSIONS, Json, set_header

RETRY_AFTER_SECONDS = 5

_LOOK_AT_MODEL = "kubectl describe trainedmodel shows the cause"
UNAVAILABLE: dict[Unavailable, str] = {
    Unavailable.COLD: "the model is not loaded now, and is being loaded on demand; try again",
    Unavailable.NO_MEMORY: "no pod of the InferenceService has memory left for the model, beside what has to stay."
    f" {ADVICE[Unavailable.NO_MEMORY]} {_LOOK_AT_MODEL}",
    Unavailable.MODEL_TOO_LARGE: "the model takes more memory than a pod of the InferenceService has for models."
    f" {ADVICE[Unavailable.MODEL_TOO_LARGE]} {_LOOK_AT_MODEL}",
    Unavailable.STORAGE_FAILED: f"the model's artifact could not be fetched from its storageUri; {_LOOK_AT_MODEL}",
    Unavailable.LOAD_FAILED: f"the model server could not load the model; {_LOOK_AT_MODEL}",
    Unavailable.NO_RUNTIME: "the runtime of the InferenceService does not load the model's framework."
    f" {ADVICE[Unavailable.NO_RUNTIME]} {_LOOK_AT_MODEL}",
    Unavailable.SERVICE_NOT_READY: "the model's InferenceService has no pod that is ready;"
    " kubectl describe inferenceservice shows the cause",
    Unavailable.SERVICE_NOT_FOUND: "the model's InferenceService is not there: apply it, or correct the TrainedModel's"
    " spec.inferenceService; the model is served as soon as it is there",
}
SERVICE_NOT_READY = UNAVAILABLE[Unavailable.SERVICE_NOT_READY].replace("the model's ", "the ")

NO_ACTIVATOR = (
    "ActivatorUnavailable",
    "no pod that answers has the model now, and Shoal's operator, which would have it loaded, does not answer; models"
    " that are loaded are served all the same. Try again; if it goes on, see to the operator:"
    " kubectl get pods -A -l app.kubernetes.io/name=shoal",
)
_UNREACHABLE = (
    "PodUnreachable",
    "the pod that holds the model did not answer (%RESPONSE_FLAGS%); try again, and if it goes on,"
    " kubectl describe inferenceservice shows the state of the pods",
)
_OVERLOADED = (
    "GatewayOverloaded",
    "the gateway has as many requests in hand as its memory allows; nothing was computed: try again, and if it goes on,"
    " raise the chart's gateway.replicas or gateway.resources.limits.memory",
)
_TOO_MANY_QUESTIONS = (
    "TooManyColdRequests",
    "more requests come for models that are cold, or that their pods turn out not to have, than the gateway lets by;"
    " try again later. If it goes on, see shoal_cold_requests_total, and whether the pods lose their models:"
    " kubectl describe inferenceservice",
)
_NOT_READ = (
    "MessageNotRead",
    "the gateway could not read the model's name from the message (%LOCAL_REPLY_BODY%); name the model in the metadata"
    " mm-model-id, then messages of any size pass",
)
_NAMES_DISAGREE = (
    "NamesDisagree",
    "the message names another model than metadata mm-model-id (%REQ(mm-model-id):256%): send one name, or leave the"
    " message's empty",
)
_MALFORMED = (
    "MalformedRequest",
    "the request is no HTTP that is taken (%RESPONSE_CODE_DETAILS%): mind its path (no escaped slashes), headers and"
    " framing",
)
_SLOW = (
    "RequestTooSlow",
    "the request did not arrive as a whole in the time that there is for it (%RESPONSE_CODE_DETAILS%)",
)
_LATE = ("Timeout", "the model did not answer in time; the pod may be overloaded")
_NO_HOST = (
    "InferenceServiceNotFound",
    "no InferenceService answers at host '%REQ(:authority):256%'; the host is <name>.<namespace>[.<domain>], or"
    " the path begins with /<namespace>/<name>/; kubectl get inferenceservices lists them",
)
NO_PATH = (
    "PathNotFound",
    "%REQ(:path):256% is not routed; the gateway answers /v2, /v2/health/live, /v2/health/ready,"
    " /v2/models/<name>[/ready|/infer] and /v1/models/<name>[:predict]",
)
NO_LIST = (
    "ModelsNotListed",
    "models are listed by GET /v1/models where the model server speaks v1, and nowhere else;"
    " kubectl get trainedmodels --namespace <namespace> lists them",
)
METHODS = "GET, HEAD, OPTIONS, POST"
METHOD_NOT_ALLOWED = (
    "MethodNotAllowed",
    "%REQ(:method):32% %REQ(:path):256% is not offered:"
    " POST to infer, generate, :predict and :explain, GET for the rest",
)
NO_METADATA = (
    "ModelMetadataUnknown",
    "the model is not loaded now, and its metadata is known only while it is; asking for it does not load it. An"
    " inference request does",
)
NO_METADATA_AT_ALL = (
    "ModelMetadataUnknown",
    "this InferenceService's model server does not tell the inputs and outputs of its models",
)
ASKED_FOR_NOTHING = (
    "ModelNotLoaded",
    "the pods that had the model do not answer, and no other has it; asking for it does not load it. An inference"
    " request does",
)
NO_METHOD = (
    "MethodNotFound",
    "%REQ(:path):256% is not offered; the gateway answers the calls of inference.GRPCInferenceService that the Open"
    " Inference Protocol names, ModelStreamInfer, and grpc.health.v1.Health/Check",
)
_NO_COMPRESSION = (
    "CompressedMessage",
    "the first message is compressed, so the gateway cannot read the model's name from it: send the name as metadata"
    " mm-model-id, or send the first message uncompressed",
)
NO_GRPC_WEB = (
    "GrpcWebNotOffered",
    "gRPC wants content-type application/grpc over HTTP/2, got %REQ(content-type):64%; gRPC-Web is not offered: use"
    " REST (/v2/models/<name>/infer), or put a proxy that translates it before the gateway",
)
_NO_WEBSOCKET = (
    "WebSocketNotOffered",
    "the gateway takes no WebSocket; streams are offered over gRPC (ModelStreamInfer) and as server-sent events"
    " (/v2/models/<name>/generate_stream)",
)
NO_PATH_STYLE = (
    "PathStyleOff",
    "the InferenceService does not take requests by path (/<namespace>/<name>/...): send them to its own host",
)
NO_LENGTH = (
    "LengthRequired",
    "the InferenceService limits the size of requests, so they must state it: send Content-Length",
)
_TOO_LARGE = (
    "RequestTooLarge",
    "the request is longer than is taken: annotation shoal.dev/max-request-bytes of the InferenceService sets a limit,"
    " and a gRPC message is held whole, up to a smaller one, where metadata mm-model-id does not name its model",
)
NO_TARGET = (
    "ModelNotFound",
    "no TargetModel was given, and the InferenceService at host %REQ(:authority):256% has no model of its own; name one"
    " of its models: kubectl get trainedmodels lists those that have an object",
)
NOT_LOADED = (
    "ModelNotLoaded",
    "the pod that should have the model does not have it, and no other has; nothing was computed: try again",
)
NOT_SENT_ON = (
    "ModelNotLoaded",
    "the pod that should have the model does not have it, and the request could not be sent on to another: it is longer"
    " than 1 MiB, or its InferenceService allows no retries; nothing was computed: try again",
)


def protocol_not_offered(spoken: str) -> tuple[str, str]:
    """404, UNIMPLEMENTED: for a model that is there, asked in a protocol that its server does not speak."""
    return "ProtocolNotOffered", f"the model's server does not speak this protocol; it answers {spoken}"


def unknown_model(model: str, host: str, *, artifacts: bool = False) -> str:
    """404 for a model that no TrainedModel of the InferenceService names. ``artifacts``: it may have such as nobody
    registered."""
    more = ", nor an artifact (shoal.dev/models-from) that an inference request has found" if artifacts else ""
    return (
        f"{model}: the InferenceService at host {host} has no TrainedModel of this name{more};"
        " kubectl get trainedmodels lists them"
    )


def content_type_not_taken(path: str) -> tuple[str, str]:
    """415: to SageMaker's clients, for a server that reads JSON alone, by ``path``."""
    body = '{"instances": [...]}' if path.startswith("/v1/") else '{"inputs": [...]}'
    return (
        "ContentTypeNotTaken",
        f"ContentType %REQ(content-type):64% is not taken: the body goes to {path}, which takes"
        f" application/json, {body}; the InferenceService's protocolVersion says which of v1 and v2 it is",
    )


def grpc_text(reason: str, text: str) -> str:
    """grpc-message."""
    return f"{reason}: {text}"


UNIMPLEMENTED: Final = 501
"""HTTP status of our own replies that are UNIMPLEMENTED in gRPC."""
_GRPC_CODES = {404: 5, UNIMPLEMENTED: 12}
"""HTTP status of our own replies → gRPC status, where Envoy would say another one: NOT_FOUND, UNIMPLEMENTED."""


def no_route() -> list[Json]:
    """Local replies to a request that no route takes: 404."""
    return _mapped(_flags("NR"), _NO_HOST, grpc_status=5)


def grpc_codes() -> list[Json]:
    """Our own replies keep their text; these are the gRPC statuses where Envoy would derive others from HTTP's."""
    return [
        {"filter": both(with_status(status), _GRPC), "headers_to_add": [_grpc_status(code)]}
        for status, code in _GRPC_CODES.items()
    ]


def too_large() -> list[Json]:
    """Replies to a body longer than may be: 413; RESOURCE_EXHAUSTED."""
    return _mapped(with_status(413), _TOO_LARGE, grpc_status=8)


def compressed() -> list[Json]:
    """The reply of the filter that reads the model's name to a message that it cannot read: it takes no compressed
    one. UNIMPLEMENTED, as gRPC has it for compression that is not offered."""
    encoded = {"header_filter": {"header": {"name": "grpc-encoding", "present_match": True}}}
    return _mapped(both(with_status(400), encoded, _GRPC), _NO_COMPRESSION, grpc_status=12)[:1]


def no_upgrade() -> list[Json]:
    """Envoy's reply to a request that wants a WebSocket: 501."""
    asked = {
        "header_filter": {"header": {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}}
    }
    matched = both(with_status(403), asked)
    return [{"filter": matched, "status_code": 501, "body_format_override": error_body(*_NO_WEBSOCKET)}]


def unreachable(*flags: str, headers: tuple[Json, ...] = ()) -> list[Json]:
    """Local replies when no pod was there or the connection broke (Envoy's response flags): 503."""
    return _mapped(_flags(*flags), _UNREACHABLE, headers=(set_header("retry-after", "1"), *headers))


def overloaded(*flags: str) -> list[Json]:
    """Local replies when the gateway itself has no room for another request: 503."""
    full = {"or_filter": {"filters": [_flags(*flags), _details("overload")]}}
    return _mapped(full, _OVERLOADED, grpc_status=14, headers=(set_header("retry-after", "1"),))


def too_many_questions() -> list[Json]:
    """Local replies to what the activator is not asked any more (see ``questions``): 503."""
    return _mapped(
        _details("local_rate_limited"), _TOO_MANY_QUESTIONS, grpc_status=14, headers=(set_header("retry-after", "1"),)
    )


def named_twice(marker: int) -> list[Json]:
    """Local replies with the status ``marker``, which nothing else uses, to a call that the gateway answers by itself
    and whose message names another model than its metadata: INVALID_ARGUMENT."""
    return _mapped(both(with_status(marker), _GRPC), _NAMES_DISAGREE, grpc_status=3)[:1]


def message_not_read() -> list[Json]:
    """Local replies to a gRPC call that no model's name could be read from: its path is no call's, or its message too
    large or none."""
    called = {"name": ":path", "string_match": {"safe_regex": {"regex": "/[^/?]+/[^/?]+"}}, "invert_match": True}
    elsewhere = both(with_status(400), _GRPC, {"header_filter": {"header": called}})
    return [
        *_mapped(elsewhere, NO_METHOD, grpc_status=12)[:1],
        *_mapped(both(with_status(400), _GRPC), _NOT_READ)[:1],
    ]


def malformed() -> list[Json]:
    """Local replies to what is no proper request, which Envoy gives a bare word or none: 400, and 426 for HTTP/1.0."""
    return [each for status in (400, 426) for each in _mapped(with_status(status), _MALFORMED)[1:]]


def slow() -> list[Json]:
    """Local replies to requests that do not end: 408; DEADLINE_EXCEEDED."""
    return _mapped(with_status(408), _SLOW, grpc_status=4)


def timeout() -> list[Json]:
    """Local replies when the pod took longer than the route allows: 504; DEADLINE_EXCEEDED."""
    return _mapped(_flags("UT", "DT", "SI"), _LATE, grpc_status=4)


def activator_unavailable(marker: int) -> list[Json]:
    """Local replies with the status ``marker``, which nothing else uses: 503."""
    mapped = _mapped(with_status(marker), NO_ACTIVATOR, grpc_status=14, headers=(set_header("retry-after", "1"),))
    return [{**mapper, "status_code": 503} for mapper in mapped]


def not_sent_on(marker: int) -> list[Json]:
    """The same for a pod's answer that it lacks the model, where the request cannot go to another one: 503."""
    mapped = _mapped(with_status(marker), NOT_SENT_ON, grpc_status=14, headers=(set_header("retry-after", "1"),))
    return [{**mapper, "status_code": 503} for mapper in mapped]


def text_body(text: str) -> Json:
    return {"text_format_source": {"inline_string": text}}


def error_body(reason: str, text: str) -> Json:
    return {"json_format": {"error": text, "reason": reason}}


_GRPC: Json = {
    "header_filter": {
        "header": {"name": "content-type", "string_match": {"safe_regex": {"regex": r"application/grpc([;+].*)?"}}}
    }
}


def _mapped(
    matched: Json, words: tuple[str, str], *, grpc_status: int | None = None, headers: tuple[Json, ...] = ()
) -> list[Json]:
    """Two mappers, for gRPC and for the rest. Without ``grpc_status`` Envoy derives it from the HTTP status."""
    status = () if grpc_status is None else (_grpc_status(grpc_status),)
    return [
        {
            "filter": both(matched, _GRPC),
            "headers_to_add": [*headers, *status],
            "body_format_override": text_body(grpc_text(*words)),
        },
        {"filter": matched, "headers_to_add": list(headers), "body_format_override": error_body(*words)},
    ]


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def with_status(code: int) -> Json:
    """Of local replies: those with this status."""
    return {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"shoal.status_{code}"}}
        }
    }


def _details(text: str) -> Json:
    """Envoy's own word for what happened; what the overload manager refuses has no flag."""
    kind = EXTENSIONS + "access_loggers.filters.cel.v3.ExpressionFilter"
    expression = f"response.code_details == '{text}'"
    return {"extension_filter": {"name": "cel", "typed_config": {"@type": kind, "expression": expression}}}


def both(*filters: Json) -> Json:
    """Of local replies: those that all of these take."""
    return {"and_filter": {"filters": list(filters)}}


def _grpc_status(code: int) -> Json:
    return set_header("grpc-status", str(code))
