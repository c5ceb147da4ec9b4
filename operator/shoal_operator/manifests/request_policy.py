"""What an InferenceService says about its requests: predictor.timeout and annotations, read into a RoutePolicy."""

from collections.abc import Mapping
from dataclasses import replace

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.names import ANNOTATION_MAX_REQUEST_BYTES, ANNOTATION_PATH_STYLE, ANNOTATION_RETRIES
from shoal_api.quantity import format_bytes, quantity_bytes, whole_number

from shoal_operator.state.world.values import RoutePolicy

from .annotations import shown

MAX_TIMEOUT_SECONDS = 3600
MAX_RETRIES = 10
MIN_REQUEST_BYTES, MAX_REQUEST_BYTES = 64 * 1024, 64 * 1024 * 1024
ENABLED, DISABLED = "enabled", "disabled"


def request_policy(isvc: InferenceService, default: RoutePolicy) -> tuple[RoutePolicy, tuple[str, ...]]:
    """The policy, and a sentence for each setting that cannot be, whose default holds. Never raises."""
    timeout, annotations = isvc.spec.predictor.timeout, isvc.metadata.annotations
    policy, wrong = read(annotations, default)
    if timeout is not None and 0 < timeout <= MAX_TIMEOUT_SECONDS:
        policy = replace(policy, timeout=float(timeout))
    elif timeout is not None:
        wrong.append(
            f"spec.predictor.timeout is {shown(timeout)}: write seconds from 1 to {MAX_TIMEOUT_SECONDS};"
            " the default holds."
        )
    return policy, tuple(wrong)


def read(annotations: Mapping[str, str], default: RoutePolicy) -> tuple[RoutePolicy, list[str]]:
    """The same of the annotations alone."""
    policy, wrong = default, []
    text = annotations.get(ANNOTATION_RETRIES)
    if text is not None:
        count = whole_number(text, MAX_RETRIES)
        if count is not None:
            policy = replace(policy, retries=count)
        else:
            wrong.append(_wrong(ANNOTATION_RETRIES, text, f"a number from 0 to {MAX_RETRIES}"))
    text = annotations.get(ANNOTATION_MAX_REQUEST_BYTES)
    if text is not None:
        try:
            size = quantity_bytes(text, ANNOTATION_MAX_REQUEST_BYTES)
        except SpecError:
            size = 0
        if MIN_REQUEST_BYTES <= size <= MAX_REQUEST_BYTES:
            policy = replace(policy, max_request_bytes=size)
        else:
            least, most = format_bytes(MIN_REQUEST_BYTES), format_bytes(MAX_REQUEST_BYTES)
            wrong.append(_wrong(ANNOTATION_MAX_REQUEST_BYTES, text, f"a size from {least} to {most}"))
    text = annotations.get(ANNOTATION_PATH_STYLE)
    if text in (ENABLED, DISABLED):
        policy = replace(policy, path_style=text == ENABLED)
    elif text is not None:
        # Whoever meant to close a way in has not, and is told; the way is closed until he says which he meant.
        policy = replace(policy, path_style=False)
        wrong.append(
            f"Annotation {ANNOTATION_PATH_STYLE} is {shown(text)}: write {ENABLED} or {DISABLED}; {DISABLED} holds."
        )
    return policy, wrong


def _wrong(name: str, text: str, what: str) -> str:
    return f"Annotation {name} is {shown(text)}: write {what}; the default holds."
