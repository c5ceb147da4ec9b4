"""Which ServingRuntime an InferenceService gets: KServe's rules, with a reason for every no.

As KServe: a runtime named by `model.runtime` is looked up in the namespace first, then in the cluster; otherwise all
of the namespace that fit come before all of the cluster, each ordered by protocol, newest first, name, and then by
priority for the format. A format matches by name, or by name and exact version; `autoSelect` counts only when no
runtime is named. Differences, all towards finding one: names compare without case; when no protocol is asked for and
no runtime has KServe's default (v1), any protocol will do; and a runtime whose server has no adapter here gives way
to one that has. KServe's own runtimes have no `multiModel`, which was ModelMesh's word: one that says which server it
runs, of a type that holds many models here, is taken as well, if it is picked then after those that have it. For an
InferenceService with a model of its own it is the other way round, and the image's name is word enough.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from shoal_api.errors import SpecError
from shoal_api.inference_service import DEFAULT_PROTOCOL, PROTOCOLS, TRITON_PROTOCOL, InferenceService, ModelFormat
from shoal_api.names import GROUP, SERVER_CONTAINER
from shoal_api.serving_runtime import ClusterServingRuntime, ServingRuntime, ServingRuntimeSpec

from shoal_operator.servers import of_image, profiles
from shoal_operator.state.world.values import Problem

from . import reasons

ANNOTATION_SERVER_TYPE = f"{GROUP}/server-type"
"""KServe's annotation on a runtime; read where builtInAdapter.serverType is left out, and on custom predictors."""

_MAX_NAMED = 8
# KServe gives these two formats v2 as their protocol; see DefaultInferenceService.
_V2_FORMATS = frozenset({"triton", "onnx", "huggingface"})


@dataclass(frozen=True, slots=True)
class Runtime:
    """A ServingRuntime, or with an empty namespace a ClusterServingRuntime. ``created``: RFC 3339. ``problem``: why it
    cannot be read; empty when it can."""

    namespace: str
    name: str
    created: str
    annotations: dict[str, str]
    spec: ServingRuntimeSpec
    problem: str = ""
    uid: str = ""
    generation: int = 0

    @classmethod
    def read(cls, obj: dict[str, Any]) -> "Runtime":
        """One that cannot be read is known by its name, so that who asks for it is told why. Never raises."""
        meta = obj.get("metadata") or {}
        kind = ServingRuntime if meta.get("namespace") else ClusterServingRuntime
        try:
            runtime = kind.read(obj)
        except SpecError as error:
            nothing = ServingRuntimeSpec(containers=[])
            name, namespace = str(meta.get("name", "")), str(meta.get("namespace") or "")
            return cls(namespace, name, str(meta.get("creationTimestamp") or ""), {}, nothing, error.message)
        read = runtime.metadata
        return cls(
            read.namespace,
            read.name,
            read.creation_timestamp or "",
            dict(read.annotations),
            runtime.spec,
            uid=read.uid,
            generation=read.generation,
        )

    @property
    def server_type(self) -> str:
        """Kind of model server: as declared, as annotated, or by the image's name; empty when nothing says it."""
        if self.declared_type:
            return self.declared_type
        named = [c for c in self.spec.containers if c.name == SERVER_CONTAINER]
        return of_image((named or self.spec.containers)[0].image or "") if self.spec.containers else ""

    @property
    def declared_type(self) -> str:
        """Kind of model server as the runtime itself says it."""
        adapter = self.spec.built_in_adapter
        declared = adapter.server_type if adapter is not None else None
        return (declared or self.annotations.get(ANNOTATION_SERVER_TYPE) or "").lower()

    @property
    def holds_many(self) -> bool:
        """Whether it may be given many models: it says so, or which server it runs, and that one can."""
        return bool(self.spec.multi_model) or self.declared_type in profiles()

    def holds(self, *, many: bool) -> bool:
        """Whether it may be given many models, or one."""
        return self.holds_many if many else self.server_type in profiles()

    @property
    def where(self) -> str:
        """Kind and name, as a user would look it up."""
        if self.namespace:
            return f"ServingRuntime {self.namespace}/{self.name}"
        return f"ClusterServingRuntime {self.name}"

    def supports(self, wanted: ModelFormat, *, named: bool) -> bool:
        """Whether the format is one of the runtime's, for a runtime asked for by name or to be picked."""
        return any(
            offered.name.lower() == wanted.name.lower()
            and (wanted.version is None or offered.version == wanted.version)
            and (named or offered.auto_select is True)
            for offered in self.spec.supported_model_formats or ()
        )

    def speaks(self, protocol: str) -> bool:
        """A runtime that lists no protocol answers any."""
        return not self.spec.protocol_versions or protocol in self.spec.protocol_versions

    def priority(self, wanted: ModelFormat) -> int:
        """Of the first entry with that format's name, as KServe; 0 (below every priority) when there is none."""
        for offered in self.spec.supported_model_formats or ():
            if offered.name.lower() == wanted.name.lower():
                return offered.priority or 0
        return 0

    @property
    def first_protocol(self) -> str:
        """The runtime's protocol that comes first in KServe's order."""
        spoken = self.spec.protocol_versions or [DEFAULT_PROTOCOL]
        return min(spoken, key=_protocol_rank)


class Asked(NamedTuple):
    """What a runtime is chosen by. ``name`` None: picked by format; ``protocol`` None: any, v1 if there is a choice."""

    namespace: str
    format: str
    version: str | None
    name: str | None
    protocol: str | None


def asked(isvc: InferenceService) -> Asked:
    """What an InferenceService's predictor asks for. Only for those that have a format: a custom container brings its
    own server."""
    wanted = isvc.spec.predictor.model_format()
    if wanted is None:
        raise ValueError("a custom predictor has no format to select by")
    named = isvc.spec.predictor.runtime_name()
    return Asked(isvc.metadata.namespace, wanted.name, wanted.version, named, _asked_protocol(isvc))


def select(isvc: InferenceService, runtimes: Iterable[Runtime]) -> tuple[Runtime, str] | Problem:
    """The runtime and the protocol that the InferenceService gets, or why it gets none."""
    return choose(asked(isvc), runtimes, many=isvc.spec.predictor.multi_model())


def choose(by: Asked, runtimes: Iterable[Runtime], *, many: bool) -> tuple[Runtime, str] | Problem:
    """The same for a server that is to hold many models, or one."""
    wanted = ModelFormat(name=by.format, version=by.version)
    reachable = [r for r in runtimes if r.namespace in ("", by.namespace)]
    if by.name is not None:
        return _by_name(by.name, wanted, by.protocol, reachable, by.namespace, many=many)
    return _by_format(wanted, by.protocol, reachable, by.namespace, many=many)


def _asked_protocol(isvc: InferenceService) -> str | None:
    """The protocol that the user wrote, or the one KServe gives the format; None: any, v1 if there is a choice."""
    implementation = isvc.spec.predictor.implementation()
    if implementation.predictor is not None and implementation.predictor.protocol_version:
        return implementation.predictor.protocol_version
    wanted = isvc.spec.predictor.model_format()
    return TRITON_PROTOCOL if wanted is not None and wanted.name.lower() in _V2_FORMATS else None


def _by_name(
    name: str,
    wanted: ModelFormat,
    protocol: str | None,
    reachable: Collection[Runtime],
    namespace: str,
    *,
    many: bool,
) -> tuple[Runtime, str] | Problem:
    found = sorted((r for r in reachable if r.name == name), key=lambda r: r.namespace == "")
    if not found:
        return Problem(
            reasons.RUNTIME_NOT_FOUND,
            f"spec.predictor.model.runtime is {name!r}: there is no ServingRuntime of that name in namespace "
            f"{namespace} and no ClusterServingRuntime. Create it, or leave the field out to have one picked.",
        )
    runtime = found[0]
    if runtime.problem:
        return _invalid(runtime)
    if runtime.spec.disabled:
        return Problem(
            reasons.RUNTIME_DISABLED, f"{runtime.where} is disabled. Set its spec.disabled to false, or name another."
        )
    if many and not runtime.holds_many:
        return _holds_one(runtime)
    if not runtime.supports(wanted, named=True):
        return Problem(
            reasons.FORMAT_NOT_SUPPORTED,
            f"{runtime.where} does not load {_format(wanted)}; its formats are {_formats([runtime])}.",
        )
    if protocol is not None and not runtime.speaks(protocol):
        return Problem(
            reasons.PROTOCOL_NOT_SUPPORTED,
            f"{runtime.where} does not speak protocol {protocol}; it speaks "
            f"{', '.join(runtime.spec.protocol_versions or [])}. Change spec.predictor's protocolVersion.",
        )
    return _with_adapter([runtime], protocol)


def _by_format(
    wanted: ModelFormat, protocol: str | None, reachable: Collection[Runtime], namespace: str, *, many: bool
) -> tuple[Runtime, str] | Problem:
    able = [r for r in reachable if r.holds(many=many) and not r.spec.disabled]
    loading = _ordered([r for r in able if r.supports(wanted, named=False)], wanted, many=many)
    speaking = [r for r in loading if r.speaks(protocol or DEFAULT_PROTOCOL)]
    if protocol is None and not speaking:
        speaking = loading
    if speaking:
        return _with_adapter(speaking, protocol)
    if loading:
        return Problem(
            reasons.PROTOCOL_NOT_SUPPORTED,
            f"No runtime for {_format(wanted)} speaks protocol {protocol}; {loading[0].where} speaks "
            f"{', '.join(loading[0].spec.protocol_versions or [])}. Change spec.predictor's protocolVersion.",
        )
    rules = "multiModel or a server type" if many else "of a server that is known here"
    return Problem(
        reasons.RUNTIME_NOT_FOUND,
        f"No ServingRuntime in namespace {namespace} and no ClusterServingRuntime loads {_format(wanted)}"
        f"{' for many models' if many else ''} ({rules}, autoSelect true, not disabled); formats that are there: "
        f"{_formats(able)}. {_unreadable(reachable)}{_way_out(wanted, able)}",
    )


def _way_out(wanted: ModelFormat, there: Iterable[Runtime]) -> str:
    """What a user can do who has models of this format, and these runtimes."""
    named = [runtime for runtime in there if runtime.supports(wanted, named=True)]
    if named:
        return (
            f"{named[0].where} loads it, but is picked by nobody: name it, by spec.predictor.model with modelFormat "
            f"{wanted.name} and runtime {named[0].name}."
        )
    able = [profile for profile in profiles().values() if wanted.name.lower() in profile.formats]
    if not able:
        return (
            "No server that holds many models here loads it: convert the models, or bring a program of your own "
            "(containers with MULTI_MODEL_SERVER=true, as in docs/samples/kserve)."
        )
    servers = " or ".join(f"{profile.title} ({profile.server_type})" for profile in able)
    return (
        f"It is loaded by {servers}: enable one in the chart's values (runtimes.<type>.enabled), or create a runtime "
        "with that builtInAdapter.serverType and the format."
    )


def _holds_one(runtime: Runtime) -> Problem:
    if runtime.declared_type:
        missing = (
            f"its server type is {runtime.declared_type!r}, and only {', '.join(sorted(profiles()))} hold many here. "
            "Name a runtime of such a server"
        )
    else:
        image = f" (its image looks like {runtime.server_type})" if runtime.server_type else ""
        missing = (
            f"it does not say which server it runs{image}. Add annotation {ANNOTATION_SERVER_TYPE} to it, or "
            f"spec.builtInAdapter.serverType with spec.multiModel: true, with one of {', '.join(sorted(profiles()))}"
        )
    return Problem(
        reasons.RUNTIME_NOT_MULTI_MODEL,
        f"{runtime.where} is not known to hold more than one model: {missing}, or leave spec.predictor.model.runtime "
        "out to have one picked.",
    )


def _invalid(runtime: Runtime) -> Problem:
    return Problem(reasons.RUNTIME_INVALID, f"{runtime.where} is not usable as it is written: {runtime.problem}")


def _with_adapter(candidates: list[Runtime], protocol: str | None) -> tuple[Runtime, str] | Problem:
    for runtime in candidates:
        if runtime.server_type in profiles():
            if runtime.problem:
                return _invalid(runtime)
            if protocol is None:
                protocol = DEFAULT_PROTOCOL if runtime.speaks(DEFAULT_PROTOCOL) else runtime.first_protocol
            return runtime, protocol
    return not_supported(candidates[0].where, candidates[0].server_type, "spec.builtInAdapter.serverType")


def not_supported(where: str, server_type: str, field: str) -> Problem:
    """The model server has no adapter here."""
    said = f"{field} is {server_type!r}" if server_type else f"{field} is not set"
    return Problem(
        reasons.RUNTIME_NOT_SUPPORTED,
        f"{where}: {said}, and only {', '.join(sorted(profiles()))} is supported by this version. Use a runtime of "
        "such a server.",
    )


def _ordered(runtimes: list[Runtime], wanted: ModelFormat, *, many: bool) -> list[Runtime]:
    # Stable sorts, the least important first.
    ordered = sorted(runtimes, key=lambda r: r.name)
    ordered.sort(key=lambda r: r.created, reverse=True)
    ordered.sort(key=lambda r: _protocol_rank(r.first_protocol) if r.spec.protocol_versions else len(PROTOCOLS))
    ordered.sort(key=lambda r: r.priority(wanted), reverse=True)
    ordered.sort(key=lambda r: r.namespace == "")
    ordered.sort(key=lambda r: bool(r.spec.multi_model) is not many)
    return ordered


def _protocol_rank(protocol: str) -> int:
    return PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS)


def _unreadable(runtimes: Iterable[Runtime]) -> str:
    """The first runtime that could be the one but for how it is written; empty when there is none."""
    found = sorted((r for r in runtimes if r.problem), key=lambda r: (r.namespace == "", r.name))
    return f"{found[0].where} is not usable as it is written: {found[0].problem} " if found else ""


def _format(wanted: ModelFormat) -> str:
    return f"format {wanted.name!r}" + (f" version {wanted.version!r}" if wanted.version else "")


def _formats(runtimes: Iterable[Runtime]) -> str:
    names = sorted({name for r in runtimes for name in r.spec.formats()})
    shown = ", ".join(names[:_MAX_NAMED]) + (", …" if len(names) > _MAX_NAMED else "")
    return shown or "none"
