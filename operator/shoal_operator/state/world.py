"""The mutable world that only ``step`` changes: services, models, pods, copies, and the indices between them.

A copy is held by its pod under the model's name (the slot) until the agent has confirmed that it is unloaded, also
when the model itself is gone: its memory stays committed until then.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from shoal_api.messages import CopyIntent, ServerReport, SlotReport, copy_id

from .desired import DesiredList, Versions
from .effects import Unavailable
from .events import Kind, StoredCopy
from .stats import Stats
from .values import ModelKey, ModelSpec, PodSpec, Refusal, ServiceKey, ServiceSpec


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that shape behaviour; tests shorten them."""

    recovery: float = 30.0  # longest wait for ready pods' agents after a start
    drain_grace: float = 1.0  # after every Envoy acknowledged, for requests already on the wire
    server_restart: float = 15.0  # the agent restores models by itself; placement waits this long
    first_placement: float = 20.0  # a new service waits for all its pods, so that its models spread from the start
    service_move: float = 600.0  # the old InferenceService serves a moved model at most this long
    retry_refused: float = 0.5  # freed memory is offered to waiting models in batches
    gate: float = 300.0  # a new pod turns Ready at the latest after this, loaded or not


class Stage(StrEnum):
    PLACED = "Placed"  # in the pod's desired list
    DRAINING = "Draining"  # out of the routes, still in the desired list
    UNLOADING = "Unloading"  # out of the desired list, the agent has not confirmed yet


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
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model's requests go: pods, or the reason why nowhere."""

    pods: frozenset[str] = frozenset()
    unavailable: Unavailable | None = None


@dataclass(slots=True)
class Model:
    spec: ModelSpec
    copies: dict[str, Copy] = field(default_factory=dict)  # pod UID -> copy
    routes: dict[ServiceKey, Target] = field(default_factory=dict)  # as last sent to the gateway
    refusal: Refusal | None = None
    former: ServiceKey | None = None  # serves until the new service has loaded it
    former_until: float = 0.0
    artifact_seen: str = ""  # content digest that some agent has pulled
    ready: bool = False
    failed: bool = False

    @property
    def want(self) -> str:
        return copy_id(self.spec.uid, self.spec.content)


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
    gating: set[str] = field(default_factory=set)  # pods whose gate is still closed
    gate_at: float | None = None  # when they are looked at again
    wake: float | None = None  # as last asked for
