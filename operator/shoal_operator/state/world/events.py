"""What can happen to the world. The edges turn API events, agents' reports and time into these, one at a time."""

from dataclasses import dataclass
from enum import StrEnum

from shoal_api.messages import CopyFailure

from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.values import Content, ModelKey, ModelSpec, Plan, PodSpec, ServiceKey, ServiceSpec


class Kind(StrEnum):
    MODEL = "TrainedModel"
    SERVICE = "InferenceService"
    POD = "Pod"


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """``vouched``: its status says Ready for this very spec, which a new operator believes until it knows better.
    ``last_good``: by its status, the content that requests could last count on. ``failure``: likewise why this very
    spec could not be loaded."""

    spec: ModelSpec
    vouched: bool = False
    last_good: Content | None = None
    failure: CopyFailure | None = None


@dataclass(frozen=True, slots=True)
class ModelGone:
    key: ModelKey
    uid: str


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    spec: ServiceSpec


@dataclass(frozen=True, slots=True)
class ServiceGone:
    key: ServiceKey
    uid: str


@dataclass(frozen=True, slots=True)
class PodSeen:
    spec: PodSpec


@dataclass(frozen=True, slots=True)
class PodGone:
    uid: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything of one kind that there was has been told of, and what is gone likewise."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """A placement read back from the store."""

    model: ModelKey
    uid: str
    content: str
    service: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class StoreLoaded:
    copies: tuple[StoredCopy, ...]


@dataclass(frozen=True, slots=True)
class EpochClaimed:
    epoch: int


@dataclass(frozen=True, slots=True)
class AgentReported:
    """A sync whose sender's pod UID was verified."""

    report: AgentReport


@dataclass(frozen=True, slots=True)
class Proceed:
    """Do the next of what is done in pieces (``World.pieces``); comes again until nothing is left."""


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent's connection ended and did not come back in time."""

    pod_uid: str
    session: str


@dataclass(frozen=True, slots=True)
class PodReached:
    """Whether anything can reach the pod of an agent that is not heard any more; may come again."""

    pod_uid: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Planned:
    plan: Plan


@dataclass(frozen=True, slots=True)
class GatewayAcknowledged:
    """All connected Envoys have every route change up to this sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Requested:
    """The activator holds a request for a model, or has just routed one: both count as use."""

    service: ServiceKey
    model: str


@dataclass(frozen=True, slots=True)
class Reachable:
    """The storage of these models, which may have failed for that, is there by now."""

    models: tuple[ModelKey, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    pass


Event = (
    ModelSeen
    | ModelGone
    | ServiceSeen
    | ServiceGone
    | PodSeen
    | PodGone
    | Listed
    | StoreLoaded
    | EpochClaimed
    | AgentReported
    | AgentLost
    | PodReached
    | Planned
    | GatewayAcknowledged
    | Requested
    | Reachable
    | Proceed
    | Tick
)
