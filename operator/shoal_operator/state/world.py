"""The mutable world that only ``step`` changes: services, models, pods, copies, and the indices between them.

A copy is held by its pod under the model's name (the slot) until the agent has confirmed that it is unloaded, also
when the model itself is gone: its memory stays committed until then.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum

from shoal_api.messages import Action, CopyFailure, CopyIntent, ServerReport, SlotReport, copy_id

from .agenda import Agenda
from .decay import Decayed
from .desired import DesiredList, Versions
from .effects import Unavailable
from .events import Kind, StoredCopy
from .stats import Stats
from .values import ModelKey, ModelSpec, PodSpec, Refusal, ServiceKey, ServiceSpec

NEVER = float("-inf")
MAX_DECISIONS = 8


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that shape behaviour; tests shorten them."""

    recovery: float = 30.0  # longest wait for ready pods' agents after a start
    # After every Envoy acknowledged: its workers follow its main thread, and requests are on the wire.
    drain_grace: float = 1.25
    server_restart: float = 15.0  # the agent restores models by itself; placement waits this long
    first_placement: float = 20.0  # a new service waits for all its pods, so that its models spread from the start
    service_move: float = 600.0  # the old InferenceService serves a moved model at most this long
    retry_refused: float = 0.5  # freed memory is offered to waiting models in batches
    gate: float = 300.0  # a new pod turns Ready at the latest after this, loaded or not
    residency: float = 30.0  # a copy that was loaded goes only after this while older ones can
    use_wait: float = 0.1  # for agents to say what is used now, before anyone is evicted; 0: they are not asked
    pressure: float = 60.0  # after an eviction, free memory is left to requests, and not filled with cold models
    failure_first: float = 10.0  # a failed model whose copy made way is tried again after this, then twice as long,
    failure_last: float = 300.0  # up to this
    hot_idle: float = 60.0  # a further copy of a hot model may take the place of one unused for so long
    hot_rate: float = 5.0  # requests a second below which no model is hot
    review: float = 5.0  # how often hot models and replicas are looked at
    scale_up: float = 15.0  # more pods only when that was wanted for so long
    scale_down: float = 300.0  # fewer likewise (Kubernetes' HPA has the same default)
    working_set: float = 600.0  # what was used so recently should fit the pods


class Stage(StrEnum):
    HELD = "Held"  # pulled at most, until enough of its pod's memory has been freed
    PLACED = "Placed"  # in the pod's desired list
    DRAINING = "Draining"  # out of the routes, still in the desired list
    UNLOADING = "Unloading"  # out of the desired list, the agent has not confirmed yet


@dataclass(slots=True)
class Tally:
    """Bytes that loaded models declare (or were estimated at), and bytes of their artifacts."""

    memory: int = 0
    artifacts: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a server took beyond an empty one, in bytes, and what its loaded models declared then."""

    boot: str
    taken: int
    declared: int
    artifacts: int


@dataclass(slots=True)
class Copy:
    """One model on one pod. ``want`` and ``serving`` are copy ids; ``charged`` is what the pod's ledger holds."""

    name: str
    uid: str
    pod_uid: str
    want: str
    storage_uri: str
    framework: str
    memory: int
    stage: Stage = Stage.PLACED
    serving: str | None = None
    report: SlotReport | None = None
    charged: int = 0
    replacing: bool = False  # until the agent says that it works on `want`, it may still load the content before
    removed_version: int = 0  # the desired list's version that first lacked it
    evicted: bool = False  # leaves as soon as it is out of the routes: who asks meanwhile has it loaded again
    loaded_at: float | None = None  # since when it answers, as far as this operator knows
    requests: int | None = None  # begun, by its agent's count; None: what it counted before is not known
    busy_seconds: float = 0.0  # likewise
    in_flight: int = 0
    rate: Decayed = field(default_factory=Decayed)  # requests a second
    tally: tuple[str, Tally] | None = None  # as counted in its pod's sums

    @property
    def answers(self) -> bool:
        """The server holds this model's own artifact, of whatever content."""
        return self.serving is not None and self.serving.startswith(self.uid + ".")

    @property
    def current(self) -> bool:
        return self.serving == self.want

    def intent(self) -> CopyIntent:
        return CopyIntent(
            name=self.name,
            copy_id=self.want,
            storage_uri=self.storage_uri,
            framework=self.framework,
            memory_bytes=self.memory,
            action=Action.PULL if self.stage is Stage.HELD else Action.LOAD,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model's requests go: pods, or the reason why nowhere."""

    pods: frozenset[str] = frozenset()
    unavailable: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """Something that was decided about a model, for explain."""

    at: float
    pod: str
    what: str
    why: str


@dataclass(slots=True)
class Model:
    spec: ModelSpec
    copies: dict[str, Copy] = field(default_factory=dict)  # pod UID -> copy
    routes: dict[ServiceKey, Target] = field(default_factory=dict)  # as last sent to the gateway
    refusal: Refusal | None = None
    former: ServiceKey | None = None  # serves until the new service has loaded it
    former_until: float = 0.0
    artifact_seen: str = ""  # content digest that some agent has seen in its storage
    artifact_bytes: int | None = None
    estimate: int | None = None  # of memory, where none is declared
    vouched: str = ""  # content digest that a request can count on: seen or loaded, and not failed since
    target: int = 1  # copies wanted by use; at least its minimum are wanted anyway
    crowded_until: float = NEVER  # one more copy found no room; not tried again before
    asked_at: float = NEVER  # since when a request waits, or has waited, for it,
    asked_until: float = NEVER  # and until when that counts
    last_used: float = NEVER
    probe: str | None = None  # pod whose agent looks its artifact up
    failure: CopyFailure | None = None  # of the last attempt to load the wanted content
    failures: int = 0  # attempts in a row that failed, wherever they were
    retry_at: float = NEVER  # after a failure whose copy has made way
    decisions: tuple[Decided, ...] = ()  # the last few, oldest first
    loaded: bool = False  # a pod answers for it
    ready: bool = False
    failed: bool = False

    @property
    def want(self) -> str:
        return copy_id(self.spec.uid, self.spec.content)

    @property
    def memory(self) -> int | None:
        """Bytes, declared or estimated; None: not known before an agent has seen the artifact."""
        return self.spec.memory_bytes if self.spec.memory_bytes is not None else self.estimate

    def note_failure(self, failure: CopyFailure) -> None:
        """One more attempt at the wanted content failed."""
        self.failure = failure
        self.failures += 1

    def worked(self) -> None:
        """What failed before says nothing of the next attempt."""
        self.failure, self.failures, self.retry_at = None, 0, NEVER

    def decide(self, at: float, pod: str, what: str, why: str) -> None:
        self.decisions = (*self.decisions[1 - MAX_DECISIONS :], Decided(at, pod, what, why))


@dataclass(slots=True)
class Ratio:
    """What loaded models of one format take over what they declare. ``per_artifact_byte``: for those that do not."""

    declared: float = 1.0
    per_artifact_byte: float = 0.0
    samples: int = 0


@dataclass(slots=True)
class Scale:
    """Replicas of an autoscaled service: ``replicas`` None until looked at; since when another number is wanted."""

    replicas: int | None = None
    reason: str = ""
    up_since: float | None = None
    down_since: float | None = None


@dataclass(slots=True)
class Service:
    spec: ServiceSpec
    waiting: set[ModelKey] = field(default_factory=set)  # refused: offered memory again when some is freed
    dirty: set[ModelKey] = field(default_factory=set)  # to be planned
    balance: bool = False  # plan all models, and even out
    plan_requested: bool = False
    retry_at: float | None = None
    held: bool = True  # no placement before all first pods are there, or `hold_until` has passed
    hold_until: float | None = None
    known_to_gateway: bool = False
    route: frozenset[str] = frozenset()
    ready_count: int = 0
    failed_count: int = 0
    usable: bool = False  # at least one pod can take models
    stats: Stats = field(default_factory=Stats)
    # Models without a copy that may have one again when memory is free, the most recently used at the end.
    cold: OrderedDict[ModelKey, None] = field(default_factory=OrderedDict)
    to_probe: OrderedDict[ModelKey, None] = field(default_factory=OrderedDict)
    hot: set[ModelKey] = field(default_factory=set)  # with more copies than their minimum, for their rate
    rate: Decayed = field(default_factory=Decayed)  # requests a second
    concurrency: Decayed = field(default_factory=Decayed)  # requests in flight, on average
    misses: Decayed = field(default_factory=Decayed)  # loads a second that had to evict what was in use
    loaded_count: int = 0  # models that some pod answers for
    asked_bytes: int = 0  # of the largest model that a request had to wait for
    evicted_at: float = NEVER
    pressed_at: float = NEVER  # when a model in use had to make way
    ratios: dict[str, Ratio] = field(default_factory=dict)  # by format
    scale: Scale = field(default_factory=Scale)


@dataclass(slots=True)
class Pod:
    spec: PodSpec
    desired: DesiredList
    copies: dict[str, Copy] = field(default_factory=dict)  # slot (model name) -> copy
    slots: dict[str, SlotReport] = field(default_factory=dict)
    committed: int = 0
    session: str = ""
    connected: bool = False
    observed_version: int = 0  # of `slots`; 0: the next report has to be full
    latest: int = 0  # observed version of the session's newest message: an older one is late
    heard: bool = False  # has answered us: from then on its epoch may be our own
    known: bool = False  # its agent has said once what it holds
    occupied: set[str] = field(default_factory=set)  # slots whose copy is on its way out: draining or unloading
    unloading: set[str] = field(default_factory=set)  # slots that wait for the agent's confirmation
    outgoing: int = 0  # bytes committed to what is on its way out
    held: OrderedDict[str, None] = field(default_factory=OrderedDict)  # slots that wait for memory, in order
    promised: int = 0  # bytes for them
    probes: dict[str, str] = field(default_factory=dict)  # slots whose artifact is only looked up: model UID
    failing: set[str] = field(default_factory=set)  # slots whose last attempt failed, and that answer nothing
    lru: OrderedDict[str, None] = field(default_factory=OrderedDict)  # slots that answer, least recently used first
    rate: Decayed = field(default_factory=Decayed)
    tallies: dict[str, Tally] = field(default_factory=dict)  # of what answers, by format
    first_measured: Measured | None = None  # of this process of its server, with something loaded
    use_at: float = NEVER  # as of when its agent has told what is used
    use_wanted: bool = False  # it is asked to, at once
    wants_room: bool = False  # something is evicted ahead of the next request once use is known
    deletion_cost: int | None = None  # as last asked for
    server: ServerReport | None = None
    draining: bool = False  # its preStop asked
    lost: bool = False  # its agent hung up; the server beside it may still answer
    unhealthy_since: float | None = None
    abandoned: bool = False  # unhealthy for longer than Timing.server_restart
    routed: tuple[str, int, int] | None = None  # endpoint as last sent to the gateway
    joined_at: float | None = None

    @property
    def leaving(self) -> bool:
        return self.spec.deleting or self.draining or self.abandoned

    @property
    def serves(self) -> bool:
        """Requests may be sent to its model server, by its agent's last word, or Kubernetes' when that was lost."""
        gone = self.lost and self.spec.gate_open and not self.spec.ready
        return bool(self.spec.ip) and self.server is not None and self.server.ready and not gone

    @property
    def room(self) -> int:
        """Bytes that a copy could take now, promises kept."""
        return self.spec.capacity_bytes - self.committed - max(0, self.promised - self.outgoing)

    @property
    def placeable(self) -> bool:
        return self.serves and self.connected and not self.leaving


@dataclass(slots=True)
class Waiting:
    """A draining copy in a queue: `at` is a route sequence, then a time; both queues are in its order."""

    at: float
    pod_uid: str
    name: str
    uid: str


@dataclass(slots=True)
class World:
    timing: Timing = field(default_factory=Timing)
    versions: Versions = field(default_factory=Versions)  # of the pods' desired lists
    started_at: float = 0.0
    recovering: bool = True
    listed: set[Kind] = field(default_factory=set)
    store_loaded: bool = False
    stored: dict[str, list[StoredCopy]] = field(default_factory=dict)  # pod UID -> copies, used by recovery only
    epoch: int = 0
    epoch_wanted: int = 0
    highest_agent_epoch: int = 0
    services: dict[ServiceKey, Service] = field(default_factory=dict)
    models: dict[ModelKey, Model] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    # By InferenceService, whether or not it exists.
    models_of: dict[ServiceKey, set[ModelKey]] = field(default_factory=dict)
    pods_of: dict[ServiceKey, set[str]] = field(default_factory=dict)
    sequence: int = 0  # of route changes
    acknowledged: int = 0
    draining: deque[Waiting] = field(default_factory=deque)  # until Envoys acknowledged sequence `at`
    grace: deque[Waiting] = field(default_factory=deque)  # until time `at`
    retrying: set[ServiceKey] = field(default_factory=set)
    unhealthy: set[str] = field(default_factory=set)
    held: set[ServiceKey] = field(default_factory=set)
    moving: deque[tuple[float, ModelKey]] = field(default_factory=deque)  # deadlines of models with a former service
    asking: set[ModelKey] = field(default_factory=set)  # models that a request waits for
    agenda: Agenda = field(default_factory=Agenda)  # what is to be looked at later, model by model
    freshening: dict[ServiceKey, float] = field(default_factory=dict)  # planned once use is known, or at that time
    review_at: float | None = None  # when hot models and replicas are looked at
    reviewing: set[ServiceKey] = field(default_factory=set)
    gating: set[str] = field(default_factory=set)  # pods whose gate is still closed
    gate_at: float | None = None  # when they are looked at again
    wake: float | None = None  # as last asked for
