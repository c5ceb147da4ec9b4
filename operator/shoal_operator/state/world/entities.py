"""The mutable world that only ``step`` changes: services, models, pods, copies, and the indices between them.

A copy is in its pod's books under the model's name (the slot) until the agent has confirmed that it is unloaded, also
when the model itself is gone: its memory stays committed until then.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from shoal_api.messages import Action, CopyFailure, CopyIntent, ServerReport, SlotReport, copy_id
from shoal_api.tuning import UNTUNED, Tuning

from shoal_operator.state.ledger import Account, Ledger
from shoal_operator.state.world.agenda import Agenda
from shoal_operator.state.world.decay import Decayed
from shoal_operator.state.world.desired import DesiredList, Versions
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.events import Kind, StoredCopy
from shoal_operator.state.world.measures import Measured, Ratio, Tally
from shoal_operator.state.world.models import Models
from shoal_operator.state.world.ordered import OrderedSet
from shoal_operator.state.world.pieces import Pieces
from shoal_operator.state.world.prefix import AskedFor
from shoal_operator.state.world.rest import Alarms, Rest
from shoal_operator.state.world.scale import Scale
from shoal_operator.state.world.sizes import Sizes
from shoal_operator.state.world.standings import Standings
from shoal_operator.state.world.stats import Stats
from shoal_operator.state.world.timing import Timing
from shoal_operator.state.world.unplanned import Unplanned
from shoal_operator.state.world.values import (
    Content,
    ModelKey,
    ModelSpec,
    PodSpec,
    Problem,
    Refusal,
    RoutePolicy,
    ServiceKey,
    ServiceSpec,
)

NEVER = float("-inf")
MAX_DECISIONS = 8


class Recovery(StrEnum):
    """How far a new operator knows the world again."""

    WAITING = "Waiting"  # for lists, the store, the epoch and agents; nothing leaves
    ADOPTING = "Adopting"  # what agents hold becomes copies
    ANNOUNCING = "Announcing"  # every model's route and status is said once
    DONE = "Done"


class Stage(StrEnum):
    PROMISED = "Promised"  # pulled at most, until enough of its pod's memory has been freed
    PLACED = "Placed"  # in the pod's desired list
    DRAINING = "Draining"  # out of the routes, still in the desired list
    UNLOADING = "Unloading"  # out of the desired list, the agent has not confirmed yet


@dataclass(slots=True)
class Copy:
    """One model on one pod. ``aim_id`` and ``serving`` are copy ids; ``account`` is its slot's in the pod's ledger.

    ``sent``: the copy id by which its agent was told what to load, where that is not ``aim_id``: its agent has found
    another revision than it was told of (state/wish/revisions.py). ``keep``: the revision that it loads from its disk.
    """

    name: str
    uid: str
    pod_uid: str
    aim_id: str
    storage_uri: str
    framework: str
    account: Account
    tuning: Tuning = UNTUNED
    sent: str = ""
    keep: str = ""
    check: int = 0  # names the look at its storage that its agent was asked for; 0: none
    stage: Stage = Stage.PLACED
    serving: str | None = None
    report: SlotReport | None = None
    # Until the agent, holding this version of its pod's list, says that it works on `aim_id`, it may load the content
    # before; 0: it has said so.
    replacing: int = 0
    urgent: bool = False  # a request waits for it: its agent takes it before all that are not
    placed_at: float = NEVER  # since when its agent is to load it
    late: bool = False  # a request has waited in vain as long as one may, and its load goes on
    removed_version: int = 0  # the desired list's version that first lacked it
    evicted: bool = False  # leaves as soon as it is out of the routes: who asks meanwhile has it loaded again
    loaded_at: float | None = None  # since when it answers, as far as this operator knows
    awaited_until: float = NEVER  # the requests that waited for it have come by then
    requests: int | None = None  # begun, by its agent's count; None: what it counted before is not known
    busy_seconds: float = 0.0  # likewise
    in_flight: int = 0
    rate: Decayed = field(default_factory=Decayed)  # requests a second
    tally: tuple[str, Tally] | None = None  # as counted in its pod's sums

    @property
    def told(self) -> str:
        """Copy id by which its agent knows what it is to load."""
        return self.sent or self.aim_id

    @property
    def memory(self) -> int:
        """Bytes that what it is to load is counted with."""
        return self.account.size(self.aim_id)

    @property
    def charged(self) -> int:
        """Bytes that are committed to the slot."""
        return self.account.charged

    @property
    def answers(self) -> bool:
        """The server holds this model's own artifact, of whatever content."""
        return self.serving is not None and self.serving.startswith(self.uid + ".")

    @property
    def current(self) -> bool:
        return self.serving == self.aim_id

    def intent(self) -> CopyIntent:
        return CopyIntent(
            name=self.name,
            copy_id=self.told,
            storage_uri=self.storage_uri,
            framework=self.framework,
            memory_bytes=self.memory,
            action=Action.PULL if self.stage is Stage.PROMISED else Action.LOAD,
            tuning=self.tuning,
            urgent=self.urgent,
            revision=self.keep or None,
            check=self.check,
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
    spec: ModelSpec  # the last usable one, if there ever was one; with the present object's generation
    complaint: Problem | None = None  # what is wrong with the present object, which is therefore not in force
    copies: dict[str, Copy] = field(default_factory=dict)  # pod UID -> copy
    routes: dict[ServiceKey, Target] = field(default_factory=dict)  # as last sent to the gateway
    refusal: Refusal | None = None
    former: ServiceKey | None = None  # serves until the new service has loaded it
    former_until: float = 0.0
    revision: str = ""  # of its artifact: what `spec.content` stands for; empty: not known
    artifact_seen: str = ""  # content digest that some agent has seen in its storage
    artifact_bytes: int | None = None
    estimate: int | None = None  # of memory, where none is declared
    last_good: Content | None = None  # what requests could last count on: seen or loaded, and not failed since
    last_good_failures: int = 0  # attempts in a row to load that one again
    last_good_retry_at: float = NEVER
    fallback: bool = False  # copies load that one now: what the spec names is known not to load
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
    crashes: int = 0  # how often the wanted content took a model server down while it alone was loading
    out_of_memory: bool = False  # the last time for want of memory, as Kubernetes says
    decisions: tuple[Decided, ...] = ()  # the last few, oldest first
    loaded: bool = False  # a pod answers for it
    ready: bool = False
    failed: bool = False
    counted_in: "Service | None" = None  # whose counts these three are in

    @property
    def wanted_id(self) -> str:
        """Copy id of what the spec names."""
        return copy_id(self.spec.uid, self.spec.content)

    @property
    def aim_id(self) -> str:
        """Copy id of what its copies are to load: what the spec names, or the last good content instead."""
        return copy_id(self.spec.uid, self.aim.digest)

    @property
    def aim(self) -> Content:
        """What its copies are to load."""
        if self.fallback and self.last_good is not None:
            return self.last_good
        spec = self.spec
        return Content(spec.storage_uri, spec.framework, spec.content, self.size, spec.tuning, self.revision)

    @property
    def size(self) -> int | None:
        """Bytes of memory of what the spec names, declared or estimated; None: no agent has seen the artifact yet."""
        return self.spec.memory_bytes if self.spec.memory_bytes is not None else self.estimate

    @property
    def memory(self) -> int | None:
        """Bytes of memory of what its copies are to load; None: not known yet."""
        return self.last_good.memory_bytes if self.fallback and self.last_good is not None else self.size

    def decide(self, at: float, pod: str, what: str, why: str) -> None:
        self.decisions = (*self.decisions[1 - MAX_DECISIONS :], Decided(at, pod, what, why))


@dataclass(slots=True)
class Service:
    spec: ServiceSpec
    refused: OrderedSet[ModelKey] = field(default_factory=OrderedSet)  # offered memory when some is freed
    dirty: Unplanned = field(default_factory=Unplanned)  # to be planned
    balance: bool = False  # even out with the next plan
    evening_out: dict[ModelKey, None] = field(default_factory=dict)  # moved for that, until one copy less is there
    plan_requested: bool = False
    retry_at: float | None = None
    gathering: bool = True  # no placement before all first pods are there, or `gathering_until` has passed
    gathering_until: float | None = None
    policy_sent: RoutePolicy | None = None  # the gateway has it; None: it does not know the service yet
    route: frozenset[str] = frozenset()
    ready_count: int = 0
    failed_count: int = 0
    usable: bool = False  # at least one pod can take models
    stats: Stats = field(default_factory=Stats)
    # Models without a copy that may have one again when memory is free, the most recently used at the end.
    cold: OrderedDict[ModelKey, None] = field(default_factory=OrderedDict)
    to_probe: OrderedDict[ModelKey, None] = field(default_factory=OrderedDict)
    hot: OrderedSet[ModelKey] = field(default_factory=OrderedSet)  # with more copies than their minimum, for their rate
    rate: Decayed = field(default_factory=Decayed)  # requests a second
    concurrency: Decayed = field(default_factory=Decayed)  # requests in flight, on average
    misses: Decayed = field(default_factory=Decayed)  # loads a second that had to evict what was in use
    loaded_count: int = 0  # models that some pod answers for
    asked_bytes: int = 0  # of the largest model that a request had to wait for
    evicted_at: float = NEVER
    pressed_at: float = NEVER  # when a model in use had to make way
    ratios: dict[str, Ratio] = field(default_factory=dict)  # by format
    scale: Scale = field(default_factory=Scale)
    rest: Rest = field(default_factory=Rest)
    sizes: Sizes = field(default_factory=Sizes)  # its models by memory
    asked_for: AskedFor = field(default_factory=AskedFor)  # names of models that nobody registered
    obtainable: int | None = None  # bytes that a request could have on the best of its pods; None: none serves


@dataclass(slots=True)
class Pod:
    spec: PodSpec
    desired: DesiredList
    ledger: Ledger
    copies: dict[str, Copy] = field(default_factory=dict)  # slot (model name) -> copy
    slots: dict[str, SlotReport] = field(default_factory=dict)
    strays: set[str] = field(default_factory=set)  # slots that were noted although no model has their name
    session: str = ""
    observed_version: int = 0  # of `slots`; 0: the next report has to be full
    latest: int = 0  # observed version of the session's newest message: an older one is late
    heard: bool = False  # has answered us: from then on its epoch may be our own
    known: bool = False  # its agent has said once what it holds,
    taken_in: bool = False  # and all of that is in the books: it can take more, and be told what to hold
    proven: bool = False  # Kubernetes has called it ready once
    gone: bool = False  # it does not exist any more; its copies are being given up
    obeyed: int = 0  # version of the desired list that its agent holds
    unobeyed: OrderedSet[str] = field(default_factory=OrderedSet)  # slots whose agent may not know yet what is wanted
    occupied: OrderedSet[str] = field(default_factory=OrderedSet)  # slots whose copy is on its way out
    unloading: OrderedSet[str] = field(default_factory=OrderedSet)  # slots that wait for the agent's confirmation
    promised: OrderedDict[str, None] = field(default_factory=OrderedDict)  # slots that wait for memory, in order
    probes: dict[str, str] = field(default_factory=dict)  # slots whose artifact is only looked up: model UID
    # Slots whose last attempt failed, and that answer nothing.
    failing: OrderedSet[str] = field(default_factory=OrderedSet)
    lru: OrderedDict[str, None] = field(default_factory=OrderedDict)  # slots that answer, least recently used first
    rate: Decayed = field(default_factory=Decayed)
    tallies: dict[str, Tally] = field(default_factory=dict)  # of what answers, by format
    first_measured: Measured | None = None  # of this process of its server, with something loaded
    use_at: float = NEVER  # as of when its agent has told what is used
    use_wanted: bool = False  # it is asked to, at once
    awaited_until: float = NEVER  # the last of its copies' that requests waited for
    wants_room: bool = False  # something is evicted ahead of the next request once use is known
    deletion_cost: int | None = None  # as last asked for
    server: ServerReport | None = None
    draining: bool = False  # its preStop asked
    lost: bool = False  # its agent hung up; the server beside it may still answer
    unreached: bool = False  # nothing reaches it from here
    doubted: bool = False  # it seems lost, and so do most pods of its service: whoever looks is the suspect
    unhealthy_since: float | None = None
    abandoned: bool = False  # unhealthy for longer than Timing.server_restart
    routed: tuple[str, int, int] | None = None  # endpoint as last sent to the gateway
    joined_at: float | None = None
    # Its server's process ended: when Kubernetes said how, and when an agent said during which model's load (key, UID).
    ended_at: float = NEVER
    crashed_at: float = NEVER
    crashed: tuple[ModelKey, str] | None = None

    @property
    def leaving(self) -> bool:
        return self.gone or self.spec.deleting or self.draining or self.abandoned

    @property
    def serves(self) -> bool:
        """Requests may be sent to its model server, by its agent's last word, or Kubernetes' when that was lost."""
        gone = self.lost and not self.spec.ready  # nor is it while its gate is closed: nobody else vouches for it
        failing = self.spec.problem is not None and not self.proven  # what answers is about to be killed again
        return bool(self.spec.ip) and self._answers and not (gone or failing or self.cut_off)

    @property
    def suspect(self) -> bool:
        """It seems to be lost while it is there: nothing reaches it, or its server says nothing."""
        return self.unreached or (self.server is not None and self.server.frozen)

    @property
    def cut_off(self) -> bool:
        """Nothing reaches it, and that is believed."""
        return self.unreached and not self.doubted

    @property
    def _answers(self) -> bool:
        return self.server is not None and (self.server.ready or (self.server.frozen and self.doubted))

    @property
    def room(self) -> int:
        """Bytes that a copy could take now, promises kept."""
        return self.ledger.room

    @property
    def committed(self) -> int:
        """Bytes that are loaded, loading, or not confirmed gone."""
        return self.ledger.committed

    @property
    def connected(self) -> bool:
        """Its agent is there, and all that it holds is in the books."""
        return self.taken_in and not self.lost

    @property
    def placeable(self) -> bool:
        return self.serves and self.connected and not self.leaving


@dataclass(slots=True)
class Departure:
    """A copy on its way out, in a queue in order of `at`: a route sequence, then a time."""

    at: float
    pod_uid: str
    name: str
    uid: str


@dataclass(slots=True)
class World:
    timing: Timing = field(default_factory=Timing)
    versions: Versions = field(default_factory=Versions)  # of the pods' desired lists
    awaiting_since: float | None = None  # when all but agents' reports had come
    recovery: Recovery = Recovery.WAITING
    late: tuple[str, ...] = ()  # names of pods whose agents recovery did not wait for
    listed: set[Kind] = field(default_factory=set)
    store_loaded: bool = False
    stored: dict[str, list[StoredCopy]] = field(default_factory=dict)  # pod UID -> copies, used by recovery only
    epoch: int = 0
    epoch_held: int = 0  # first claimed, by what Lease and store held: agents cannot raise it
    epoch_wanted: int = 0
    highest_agent_epoch: int = 0
    services: dict[ServiceKey, Service] = field(default_factory=dict)
    models: Models = field(default_factory=Models)
    pods: dict[str, Pod] = field(default_factory=dict)
    # By InferenceService, whether or not it exists.
    pods_of: dict[ServiceKey, OrderedSet[str]] = field(default_factory=dict)
    # Pods in order, for placement, by InferenceService; the one that each was put in; and who is to be put again.
    standings: dict[ServiceKey, Standings] = field(default_factory=dict)
    standing_in: dict[str, ServiceKey] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    ordered: dict[str, None] = field(default_factory=dict)  # pods that were, since it was last looked what that means
    sequence: int = 0  # of route changes
    acknowledged: int = 0
    draining: deque[Departure] = field(default_factory=deque)  # until Envoys acknowledged sequence `at`
    grace: deque[Departure] = field(default_factory=deque)  # until time `at`
    outgoing: deque[Departure] = field(default_factory=deque)  # to be gone by time `at`
    retrying: OrderedSet[ServiceKey] = field(default_factory=OrderedSet)
    unhealthy: OrderedSet[str] = field(default_factory=OrderedSet)
    gathering: OrderedSet[ServiceKey] = field(default_factory=OrderedSet)
    moving: deque[tuple[float, ModelKey]] = field(default_factory=deque)  # deadlines of models with a former service
    asked: OrderedSet[ModelKey] = field(default_factory=OrderedSet)  # models that a request waits for
    unsettled: OrderedSet[ModelKey] = field(default_factory=OrderedSet)  # unregistered ones that may have to go
    agenda: Agenda = field(default_factory=Agenda)  # models to be reviewed later
    alarms: Alarms = field(default_factory=Alarms)  # services with minReplicas 0 to be looked at later
    pieces: Pieces = field(default_factory=Pieces)  # work for many, of which no step does more than a piece
    freshening: dict[ServiceKey, float] = field(default_factory=dict)  # planned once use is known, or at that time
    checks: OrderedSet[ModelKey] = field(default_factory=OrderedSet)  # models whose storage is to be looked at
    check_at: float = NEVER  # when the next one may be
    revised: dict[ModelKey, tuple[float, float]] = field(default_factory=dict)  # when, and the pause after that
    review_at: float | None = None  # when hot models and replicas are reviewed
    reviewing: OrderedSet[ServiceKey] = field(default_factory=OrderedSet)
    gating: OrderedSet[str] = field(default_factory=OrderedSet)  # pods whose gate is still closed
    gate_at: float | None = None  # when they are looked at again
    wake: float | None = None  # as last asked for

    @property
    def recovering(self) -> bool:
        """Nothing is planned, and the rooms keep what they are told to themselves."""
        return self.recovery is not Recovery.DONE

    def touch(self, pod_uid: str) -> None:
        """Something changed that may put the pod elsewhere in the order of its InferenceService's."""
        self.touched[pod_uid] = None

    def each_touched(self) -> Iterator[str]:
        """Pods for which that was so; each is forgotten once whoever asks has done with it."""
        for pod_uid in list(self.touched):
            yield pod_uid
            self.touched.pop(pod_uid, None)
            self.ordered[pod_uid] = None

    def looked(self) -> None:
        """What that means for requests is known."""
        self.ordered.clear()

    def next_sequence(self) -> int:
        """Number of the next route change."""
        self.sequence += 1
        return self.sequence

    @property
    def silent(self) -> bool:
        """Nothing is said yet: the world is not known."""
        return self.recovery is Recovery.WAITING
