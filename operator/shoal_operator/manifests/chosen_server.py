"""Which model server an InferenceService gets: a runtime's, with what the predictor says on top, or its own container.

Custom predictors (`containers` with MULTI_MODEL_SERVER=true) bring their own server, and KServe's API has no field
that says which. It is read, in this order, from the annotation serving.kserve.io/server-type (on the predictor, then
on the InferenceService) and from the image's name (`…/mlserver:1.7` is MLServer). Otherwise the InferenceService is
refused with a message that names the annotation: driving an unknown server would fail later and less clearly. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shoal_api.inference_service import CONTAINERS_KEY, InferenceService
from shoal_api.names import SERVER_CONTAINER

from shoal_operator.server_profile import ServerProfile
from shoal_operator.servers import of_image, profiles
from shoal_operator.state.world.values import Problem

from . import reasons
from .fields import CONTAINER_FIELDS, POD_FIELDS
from .merge import merged, merged_container, without_nulls
from .pod_types import CONTAINER, POD, Checked
from .runtimes import ANNOTATION_SERVER_TYPE, Runtime, not_supported, select

TRANSFORMER_CONTAINER = "transformer-container"

_PLACEHOLDER = re.compile(r"\{\{-?\s*\.(Name|Namespace|(?:Labels|Annotations)\.([\w./-]+))\s*-?\}\}")
_TAG = re.compile(r":[\w.\-]*$")


@dataclass(frozen=True, slots=True)
class ChosenServer:
    """The server as chosen, before its memory is counted."""

    profile: ServerProfile
    runtime: Runtime | None
    protocol: str
    formats: frozenset[str]
    container: dict[str, Any]
    sidecars: tuple[dict[str, Any], ...]
    pod_fields: dict[str, Any]


class Refused(Exception):
    """The InferenceService gets no server: ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


def chosen_server(isvc: InferenceService, runtimes: Iterable[Runtime], checked: Checked) -> ChosenServer:
    """The server; ``checked`` takes what is wrong with fields of pods on the way. Raises Refused, SpecError."""
    if isvc.spec.predictor.implementation().key == CONTAINERS_KEY:
        return _custom(isvc, checked)
    return _by_runtime(isvc, runtimes, checked)


def _by_runtime(isvc: InferenceService, runtimes: Iterable[Runtime], checked: Checked) -> ChosenServer:
    chosen = select(isvc, runtimes)
    if isinstance(chosen, Problem):
        raise Refused(chosen)
    runtime, protocol = chosen
    written_containers = [c.to_object() for c in runtime.spec.containers]
    containers = checked.list_of(written_containers, CONTAINER, f"{runtime.where}: spec.containers")
    pod_fields = checked.fields(runtime.spec.pod_fields(), POD, f"{runtime.where}: spec")
    checked.raise_if_wrong()
    base = _server_container(containers, runtime.server_type)
    if base is None:
        raise Refused(
            Problem(
                reasons.NO_CONTAINER,
                f"{runtime.where} has {len(containers)} containers and none is named {SERVER_CONTAINER}. Name the "
                "model server's container so.",
            )
        )
    written = isvc.spec.predictor.server_container()
    key = isvc.spec.predictor.implementation().key
    fields = _container_fields(written.to_object() if written is not None else {})
    over = checked.fields(fields, CONTAINER, f"spec.predictor.{key}")
    own_pod_fields = _own_pod_fields(isvc, checked)
    own_containers = _own_containers(isvc, checked)
    checked.raise_if_wrong()
    container = _filled(without_nulls(merged_container(base, over)), isvc)
    implementation = isvc.spec.predictor.implementation().predictor
    if implementation is not None and implementation.runtime_version:
        container["image"] = _tagged(str(container.get("image", "")), implementation.runtime_version)
    sidecars = [without_nulls(c) for c in containers if c is not base] + own_containers
    return ChosenServer(
        profiles()[runtime.server_type],
        runtime,
        protocol,
        runtime.spec.formats(),
        container,
        tuple(c for c in sidecars if c.get("name") != TRANSFORMER_CONTAINER),
        without_nulls(merged(pod_fields, own_pod_fields)),
    )


def _own_pod_fields(isvc: InferenceService, checked: Checked) -> dict[str, Any]:
    """The predictor's pod-level fields that reach the pods."""
    written = {key: value for key, value in isvc.spec.predictor.pod_fields().items() if key in POD_FIELDS}
    return checked.fields(written, POD, "spec.predictor")


def _own_containers(isvc: InferenceService, checked: Checked) -> list[dict[str, Any]]:
    written = [c.to_object() for c in isvc.spec.predictor.containers or ()]
    return [without_nulls(c) for c in checked.list_of(written, CONTAINER, "spec.predictor.containers")]


def _custom(isvc: InferenceService, checked: Checked) -> ChosenServer:
    predictor = isvc.spec.predictor
    written = predictor.server_container()
    if written is None:
        raise Refused(Problem(reasons.NO_CONTAINER, "spec.predictor.containers is empty: give the model server's."))
    annotations = {**isvc.metadata.annotations, **(predictor.annotations or {})}
    server_type = annotations.get(ANNOTATION_SERVER_TYPE, "").lower() or of_image(written.image or "")
    if server_type not in profiles():
        raise Refused(
            not_supported(
                f"Container {written.name!r} with image {written.image!r}",
                server_type,
                f"annotation {ANNOTATION_SERVER_TYPE}",
            )
        )
    profile = profiles()[server_type]
    protocol = next((e.value for e in written.env or () if e.name == "PROTOCOL" and e.value), predictor.protocol())
    own, pod_fields = _own_containers(isvc, checked), _own_pod_fields(isvc, checked)
    checked.raise_if_wrong()
    place = next(place for place, container in enumerate(predictor.containers or ()) if container is written)
    others = (*own[:place], *own[place + 1 :])
    return ChosenServer(
        profile, None, protocol, frozenset(profile.formats), own[place], others, without_nulls(pod_fields)
    )


def _server_container(containers: list[dict[str, Any]], server_type: str) -> dict[str, Any] | None:
    """As KServe names it, as ModelMesh names it (after the server type), or the only one."""
    for name in (SERVER_CONTAINER, server_type):
        for container in containers:
            if container.get("name") == name:
                return container
    return containers[0] if len(containers) == 1 else None


def _container_fields(written: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key in CONTAINER_FIELDS}


def _filled(container: dict[str, Any], isvc: InferenceService) -> dict[str, Any]:
    """KServe's placeholders (`{{.Name}}`, `{{.Labels.x}}`) replaced from the InferenceService's metadata.

    An environment variable whose placeholder has no value is left out, so that the server's own default holds.
    """
    meta = isvc.metadata

    def value_of(match: re.Match[str]) -> str | None:
        whole, key = match[1], match[2]
        if key is None:
            return meta.name if whole == "Name" else meta.namespace
        return (meta.labels if whole.startswith("Labels.") else meta.annotations).get(key)

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda match: value_of(match) or "", value)
        if isinstance(value, list):
            return [fill(item) for item in value if not _is_unset_variable(item)]
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return value

    def _is_unset_variable(item: Any) -> bool:
        text = item.get("value") if isinstance(item, dict) else None
        return isinstance(text, str) and any(value_of(match) is None for match in _PLACEHOLDER.finditer(text))

    filled: dict[str, Any] = fill(container)
    return filled


def _tagged(image: str, version: str) -> str:
    if "@sha256:" in image:
        return image
    return f"{_TAG.sub('', image)}:{version}"
