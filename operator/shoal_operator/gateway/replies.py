"""What the gateway says by itself: JSON ``{"error", "reason"}`` for REST, status and text for gRPC. Pure.

Said by route configurations, by Envoy's local replies, and by the activator.
"""

from shoal_operator.state.effects import Unavailable

from .envoy_json import Json, set_header

RETRY_AFTER_SECONDS = 5

_LOOK_AT_MODEL = "kubectl describe trainedmodel shows the cause"
UNAVAILABLE: dict[Unavailable, str] = {
    Unavailable.COLD: "the model is not loaded now, and is being loaded on demand; try again",
    Unavailable.NO_MEMORY: "no pod of the InferenceService has memory left for the model; raise maxReplicas or"
    f" limits.memory, or delete models; {_LOOK_AT_MODEL} and how many bytes are missing",
    Unavailable.STORAGE_FAILED: f"the model's artifact could not be fetched from its storageUri; {_LOOK_AT_MODEL}",
    Unavailable.LOAD_FAILED: f"the model server could not load the model; {_LOOK_AT_MODEL}",
    Unavailable.NO_RUNTIME: f"no ServingRuntime of the InferenceService loads the model's framework; {_LOOK_AT_MODEL}",
    Unavailable.SERVICE_NOT_READY: "the model's InferenceService has no pod that is ready;"
    " kubectl describe inferenceservice shows the cause",
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
_LATE = ("Timeout", "the model did not answer in time; the pod may be overloaded")
_NO_HOST = (
    "InferenceServiceNotFound",
    "no InferenceService answers at host '%REQ(:authority)%'; the host is <name>.<namespace>[.<domain>], or"
    " the path begins with /<namespace>/<name>/; kubectl get inferenceservices lists them",
)
NOT_LOADED = (
    "ModelNotLoaded",
    "the pod that should have the model does not have it, and no other has; nothing was computed: try again",
)


def unknown_model(model: str, host: str) -> str:
    """404 for a model that no TrainedModel of the InferenceService names."""
    return (
        f"{model}: the InferenceService at host {host} has no TrainedModel of this name;"
        " kubectl get trainedmodels lists them"
    )


def grpc_text(reason: str, text: str) -> str:
    """grpc-message."""
    return f"{reason}: {text}"


def no_route() -> list[Json]:
    """Local replies to a request that no route takes: 404."""
    return _mapped(_flags("NR"), _NO_HOST, grpc_status=5)


def not_found() -> list[Json]:
    """A 404 of our own keeps its text; as gRPC it is NOT_FOUND, where Envoy would say UNIMPLEMENTED."""
    return [{"filter": _both(_status(404), _GRPC), "headers_to_add": [_grpc_status(5)]}]


def unreachable(*flags: str, headers: tuple[Json, ...] = ()) -> list[Json]:
    """Local replies when no pod was there or the connection broke (Envoy's response flags): 503."""
    return _mapped(_flags(*flags), _UNREACHABLE, headers=(set_header("retry-after", "1"), *headers))


def timeout() -> list[Json]:
    """Local replies when the pod took longer than the route allows."""
    return _mapped(_flags("UT"), _LATE)


def activator_unavailable(marker: int) -> list[Json]:
    """Local replies with the status ``marker``, which nothing else uses: 503."""
    mapped = _mapped(_status(marker), NO_ACTIVATOR, grpc_status=14, headers=(set_header("retry-after", "1"),))
    return [{**mapper, "status_code": 503} for mapper in mapped]


def text_body(text: str) -> Json:
    return {"text_format_source": {"inline_string": text}}


def error_body(reason: str, text: str) -> Json:
    return {"json_format": {"error": text, "reason": reason}}


_GRPC: Json = {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}}


def _mapped(
    matched: Json, words: tuple[str, str], *, grpc_status: int | None = None, headers: tuple[Json, ...] = ()
) -> list[Json]:
    """Two mappers, for gRPC and for the rest. Without ``grpc_status`` Envoy derives it from the HTTP status."""
    status = () if grpc_status is None else (_grpc_status(grpc_status),)
    return [
        {
            "filter": _both(matched, _GRPC),
            "headers_to_add": [*headers, *status],
            "body_format_override": text_body(grpc_text(*words)),
        },
        {"filter": matched, "headers_to_add": list(headers), "body_format_override": error_body(*words)},
    ]


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(code: int) -> Json:
    return {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"shoal.status_{code}"}}
        }
    }


def _both(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _grpc_status(code: int) -> Json:
    return set_header("grpc-status", str(code))
