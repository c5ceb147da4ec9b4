"""Values that describe what users asked for and what pods offer. Frozen; parsed once at the edge, never re-parsed."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

from shoal_api.tuning import UNTUNED, Tuning

from shoal_operator.state.world.prefix import Prefix


class ModelKey(NamedTuple):
    """A model by name, whoever it comes from."""

    namespace: str
    name: str


class ServiceKey(NamedTuple):
    """Who has pods, by name: an InferenceService, or a group (``is_group``) that a ServingRuntime's models share."""

    namespace: str
    name: str


GROUP_PREFIX: Final = "runtime."
"""What groups' names begin with; no InferenceService has a dot in its name."""


def is_group(service: str) -> bool:
    """Whether the name is a group's: each of its models is asked for at a host of the model's own name."""
    return service.startswith(GROUP_PREFIX)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be: a stable CamelCase reason, and a message that says what to do next."""

    reason: str
    message: str


class Source(StrEnum):
    """The kind of object that a model comes from."""

    TRAINED_MODEL = "TrainedModel"
    INFERENCE_SERVICE = "InferenceService"  # its predictor's own model
    PREFIX = "Prefix"  # no object: an artifact below an InferenceService's shoal.dev/models-from, once it is asked for


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the user wants it.

    ``content`` is ``shoal_api.messages.content_digest(storage_uri, framework, tuning, revision)``; ``revision`` is
    empty until the artifact is known to have been overwritten in place (state/wish/revisions.py). Memory in bytes for
    all of its workers, None: to be estimated from the artifact. ``tuning`` is for the model server alone.
    ``min_copies`` None: 1 where the InferenceService is strict, else 0 (may be cold). ``idle_unload`` in seconds.
    ``check``: seconds between two looks whether the storage still holds what is loaded, 0: nobody looks; None: as its
    InferenceService. ``problem`` is set when the spec cannot be used (a URI that does not parse, a scheme that is not
    supported): where the model had a usable one, that stays in force, and the problem is its complaint.
    ``ignored_fields``: paths of what was written and nothing honours. ``source``: what it is
    written in; ``created``: when that was made, in seconds since the epoch.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    service: str
    storage_uri: str
    framework: str
    memory_bytes: int | None
    content: str
    min_copies: int | None = None
    max_copies: int | None = None
    idle_unload: float | None = None
    check: float | None = None
    tuning: Tuning = UNTUNED
    problem: Problem | None = None
    ignored_fields: tuple[str, ...] = ()
    source: Source = Source.TRAINED_MODEL
    created: int = 0
    revision: str = ""

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.namespace, self.name)

    @property
    def service_key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.service)


@dataclass(frozen=True, slots=True)
class Content:
    """What a copy loads. ``digest`` as in ModelSpec; memory in bytes as it is counted, None: not known. ``revision`` of
    its artifact, empty: not known."""

    storage_uri: str
    framework: str
    digest: str
    memory_bytes: int | None = None
    tuning: Tuning = UNTUNED
    revision: str = ""


class ScaleMetric(StrEnum):
    """KServe's ``scaleMetric`` values that the operator measures itself; averages over the pods."""

    CONCURRENCY = "concurrency"  # requests in flight
    RPS = "rps"  # requests a second


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """How the gateway treats the requests of an InferenceService; rendered by ``gateway/policy.py`` alone.

    ``timeout``: seconds that a request may take at a pod; None: not set. ``retries``: how often a request that no
    model has seen is sent again. ``max_request_bytes``: a longer body is refused; None: no limit. ``path_style``:
    requests whose path begins with /<namespace>/<name>/ are taken, whatever their host. ``server_type``: whose paths
    there are. ``protocol``: which of these a request takes that names none (SageMaker's), as the models' URLs do.
    ``any_name``: names that no model has are asked for all the same.
    """

    timeout: float | None = None
    retries: int = 3
    max_request_bytes: int | None = None
    path_style: bool = True
    server_type: str = ""
    protocol: str = "v2"
    any_name: bool = False

    @property
    def seconds(self) -> float:
        """What a REST request, or a gRPC call without a deadline, may take at a pod."""
        return UNSET_TIMEOUT_SECONDS if self.timeout is None else self.timeout


UNSET_TIMEOUT_SECONDS: Final = 300.0
"""What a request may take where predictor.timeout is not set, unless it is gRPC and states a deadline of its own."""
DEFAULT_POLICY: Final = RoutePolicy()


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """An InferenceService with its runtime resolved.

    ``formats``: lower-case frameworks that the chosen runtime loads. ``capacity_bytes``: model memory of one pod,
    the predictor's limits.memory as KServe counts it, divided by ``processes``: how many times the server has each
    model in memory by its own settings. ``problem``: why it cannot hold models (not multi-model, no
    runtime fits, workloads refused by the API server), None when it can. ``degraded``: what was refused while older
    pods go on serving (an update, a further pod), or what is written and cannot be (its default holds instead); shown
    in its status, and blocks nothing.

    ``multi_model`` False: it takes no TrainedModels. Without a problem it has a model of its own, by its name and UID,
    which each of its pods holds.

    ``strict``: no cold models. ``activation_timeout`` in seconds. ``autoscaled``: state decides how many pods there are
    between ``min_replicas`` and ``max_replicas``, by ``scale_metric`` (with ``scale_target`` per pod) or, where that is
    None, by memory pressure; else there are ``min_replicas``. ``not_tuned``: a sentence for each of the model server's
    own settings that has no effect. ``check``: of its models, as in ModelSpec. ``idle``: seconds without use after
    which there is no pod (minReplicas 0), None: some at any time; ``wake_timeout``: seconds that a request may
    wait where a pod has to come first; ``unseen``: that one may run after its model was unloaded, and nobody knows of
    it. ``models_from``: where models are that nobody registers; ``place_unusable``: such a place is
    written, and cannot be: the former one holds. ``missing_secrets``: what its service account lists in
    vain. ``scaled_by``: who decides instead (an autoscaler),
    in words; ``min_replicas`` is then what it has decided.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    capacity_bytes: int
    formats: frozenset[str]
    server_type: str
    protocol: str = "v2"
    processes: int = 1
    min_replicas: int = 1
    max_replicas: int = 1
    multi_model: bool = True
    problem: Problem | None = None
    ignored_fields: tuple[str, ...] = ()
    degraded: Problem | None = None
    strict: bool = False
    activation_timeout: float = 60.0
    idle: float | None = None
    wake_timeout: float = 120.0
    unseen: float = 0.0
    max_held: int = 1000
    autoscaled: bool = False
    scale_metric: ScaleMetric | None = None
    scale_target: float | None = None
    scaled_by: str = ""
    policy: RoutePolicy = DEFAULT_POLICY
    not_tuned: tuple[str, ...] = ()
    check: float = 0.0
    models_from: Prefix | None = None
    place_unusable: bool = False
    missing_secrets: tuple[str, ...] = ()

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.name)

    @property
    def maybe_none(self) -> bool:
        """There may be no pod (minReplicas 0)."""
        return self.idle is not None

    @property
    def longest_wait(self) -> float:
        """Seconds that a request may wait, where a pod may have to come first."""
        return self.activation_timeout if self.idle is None else max(self.activation_timeout, self.wake_timeout)

    def may_have(self, name: str) -> bool:
        """Whether an artifact of an unregistered model may have that name."""
        return self.models_from is not None and self.models_from.location(name) is not None

    def with_place_of(self, before: "ServiceSpec") -> "ServiceSpec":
        """The same with the former place of unregistered models, where the one that is written cannot be used, or
        nobody can tell: such an edit changes nothing."""
        unclear = self.place_unusable or (self.problem is not None and self.models_from is not None)
        if not unclear or self.uid != before.uid or before.models_from is None:
            return self
        return replace(self, models_from=before.models_from, policy=replace(self.policy, any_name=True))

    def takes(self, model: ModelSpec) -> bool:
        """Whether the model may be one of its: any, or its own alone."""
        return self.multi_model or model.uid == self.uid


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A model-server pod as Kubernetes reports it. ``ip`` is empty until it has one."""

    namespace: str
    name: str
    uid: str
    service: str
    ip: str
    capacity_bytes: int
    http_port: int
    grpc_port: int
    node: str = ""
    zone: str = ""
    server_type: str = ""
    deleting: bool = False
    ready: bool = False
    gate_open: bool = False
    problem: Problem | None = None  # e.g. image pull or scheduling failure, shown in the InferenceService's status
    waiting: str = ""  # what the pod waits for to become ready, as a sentence
    server_ended: str = ""  # names the last end of its server's process; empty: there was none
    out_of_memory: bool = False  # which was for want of memory

    @property
    def service_key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.service)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One filter's word about one pod: why a copy is not there. Shown by explain."""

    pod: str
    filter: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no pod was found for a copy: every pod's verdict, and the bytes missing where memory is the only cause."""

    verdicts: tuple[Verdict, ...] = ()
    missing_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """One decision of a plan: hold ``model`` on pod ``pod_uid``."""

    model: ModelKey
    pod_uid: str


@dataclass(frozen=True, slots=True)
class Eviction:
    """``model`` leaves the pod so that ``by`` can have its memory; ``early``: it had hardly been there."""

    model: ModelKey
    pod_uid: str
    by: ModelKey
    early: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What placement decided for one InferenceService.

    ``models``: those it looked at; ``batch``: what need not be planned any more. ``evict``: copies that make way for
    others. ``add``: new copies; where their memory is still being freed they are promised it. ``replace``: copies whose
    pod has room to load the new content beside the old. ``retire``: copies to drain now that others serve, or that are
    surplus. ``refused``: models that found no pod. ``moves``: how many of ``add`` only even out; ``unbalanced``: more
    would, once these are done.
    """

    service: ServiceKey
    models: tuple[ModelKey, ...] = ()
    batch: tuple[ModelKey, ...] = ()
    evict: tuple[Eviction, ...] = ()
    add: tuple[Placement, ...] = ()
    replace: tuple[Placement, ...] = ()
    retire: tuple[Placement, ...] = ()
    refused: dict[ModelKey, Refusal] = field(default_factory=dict)
    moves: int = 0
    unbalanced: bool = False


@dataclass(frozen=True, slots=True)
class Victim:
    """A copy that could be evicted, its pod's least recently used ones first.

    ``idle``: seconds since its model's last use; infinite for a copy that failed to load. ``young``: it was loaded so
    recently that it goes only where no older one can.
    """

    model: ModelKey
    memory_bytes: int
    idle: float
    young: bool = False


@dataclass(frozen=True, slots=True)
class PodOffer:
    """What placement may know of a pod. ``committed`` and ``capacity`` in bytes of model memory.

    ``committed`` counts what is promised to copies that wait for memory. ``outgoing``: bytes of it that are on their
    way out and promised to nobody: a copy can have them, a little later. ``rate``: requests a second.
    """

    uid: str
    name: str
    node: str
    zone: str
    capacity: int
    committed: int
    copies: int
    server_ready: bool
    agent_connected: bool
    leaving: bool
    outgoing: int = 0
    victims: tuple[Victim, ...] = ()
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class CopyAt:
    """A placed copy of the model in question.

    ``answers``: requests can go there. ``current``: it wants the model's present content. ``loaded``: that content
    answers. ``leaving``: its pod is going, or belongs to the service that the model moves away from. ``failed``: the
    last attempt to load it did. ``growth``: the bytes that it would take more where it is, once it is current: with
    another content beside the former one, with more memory declared, or back to the content that it still serves.
    """

    pod_uid: str
    answers: bool
    current: bool
    loaded: bool
    leaving: bool
    failed: bool = False
    growth: int = 0


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """One model to plan. ``occupied``: pods where another model of that name is still being unloaded.

    ``evict_idle``: copies whose models were not used for so many seconds may be evicted for it; None: none may.
    ``rate``: requests a second, of all its copies together. ``asked_at``: since when a request waits for it; infinite:
    none does; minus infinite: it comes before all that requests wait for.
    """

    key: ModelKey
    memory_bytes: int
    wanted: int
    copies: tuple[CopyAt, ...]
    occupied: frozenset[str] = frozenset()
    evict_idle: float | None = None
    rate: float = 0.0
    asked_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class PlanInput:
    """Everything that one plan of one InferenceService depends on.

    ``batch``: what it takes out of what is to be planned; some of it may not be plannable. ``balance``: even out over
    the pods as well, with those of ``needs`` that can move. ``in_flight``: copies that are on their way now.
    """

    service: ServiceKey
    pods: tuple[PodOffer, ...]
    needs: tuple[ModelNeed, ...]
    balance: bool = False
    batch: tuple[ModelKey, ...] = ()
    in_flight: int = 0
