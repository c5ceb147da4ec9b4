"""What a step asks the edges to do. Values only; main.py hands each to the room that carries it out."""

from dataclasses import dataclass
from enum import StrEnum

from shoal_operator.state.world.values import DEFAULT_POLICY, ModelKey, RoutePolicy, ServiceKey


class Unavailable(StrEnum):
    """Why a known model has no route: a small bounded family, each with its own Envoy route and 503 body."""

    COLD = "Cold"  # not a 503: the gateway holds the request while the activator has the model loaded
    NO_MEMORY = "InsufficientMemory"
    MODEL_TOO_LARGE = "ModelTooLarge"
    STORAGE_FAILED = "StorageFailed"
    LOAD_FAILED = "LoadFailed"
    NO_RUNTIME = "FrameworkNotSupported"
    SERVICE_NOT_READY = "InferenceServiceNotReady"
    SERVICE_NOT_FOUND = "InferenceServiceNotFound"


@dataclass(frozen=True, slots=True)
class PodEndpointChanged:
    """A pod became routable, or changed its address; ``ip`` empty: it is gone. ``service``: whose models it serves.
    ``server_type``: by what."""

    pod_uid: str
    ip: str
    http_port: int = 8080
    grpc_port: int = 8081
    service: ServiceKey | None = None
    server_type: str = ""


@dataclass(frozen=True, slots=True)
class RouteChanged:
    """Where requests for a model go from now on.

    ``pods``: UIDs of the pods that serve it; when empty, ``unavailable`` says why; both empty: the model is unknown
    (404). ``sequence`` grows with every change; ``GatewayAcknowledged(sequence)`` comes back once all connected
    Envoys have it.
    """

    service: ServiceKey
    model: str
    sequence: int
    pods: frozenset[str] = frozenset()
    unavailable: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class ServiceRouteChanged:
    """An InferenceService became known to the gateway (health, server metadata, gRPC without header), or gone.

    ``pods``: where its model-less routes go (any pod that can serve); empty: 503. ``policy`` holds for all its routes,
    its models' too.
    """

    service: ServiceKey
    known: bool
    sequence: int
    pods: frozenset[str] = frozenset()
    policy: RoutePolicy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class DesiredChanged:
    """A pod's desired list changed: wake its agent's long-poll."""

    pod_uid: str


@dataclass(frozen=True, slots=True)
class PlanNeeded:
    """Placement should run for what ``snapshot.plan_input`` finds to plan in this service."""

    service: ServiceKey


@dataclass(frozen=True, slots=True)
class ReplicasWanted:
    """How many pods an autoscaled InferenceService should have now, and why; said again after each start."""

    service: ServiceKey
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelStatusChanged:
    key: ModelKey


@dataclass(frozen=True, slots=True)
class ServiceStatusChanged:
    key: ServiceKey


@dataclass(frozen=True, slots=True)
class GateChanged:
    """Set the pod's readiness gate ``shoal.dev/models-placed``."""

    pod_uid: str
    namespace: str
    pod: str
    open: bool
    message: str


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """Which pod goes first when there are to be fewer: the lowest ``cost`` (0 where none was set); a 32-bit integer.

    Emitted before the ReplicasWanted that relies on it.
    """

    pod_uid: str
    namespace: str
    pod: str
    cost: int


@dataclass(frozen=True, slots=True)
class CopyStored:
    """Placement to remember on disk; keyed by (model UID, pod UID)."""

    model: ModelKey
    uid: str
    content: str
    service: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class CopyForgotten:
    uid: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class ClaimEpoch:
    """An agent has obeyed a higher epoch than ours: write at least ``epoch`` to the Lease, then say EpochClaimed."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """The barrier fell: desired lists, routes and status may leave from now on."""

    models: int
    adopted: int
    waited_for: tuple[str, ...] = ()  # names of ready pods whose agents did not report in time


@dataclass(frozen=True, slots=True)
class Failed:
    """An exception while something was done; what else the step had to do was done all the same.

    ``service``: the InferenceService whose entities may be wrong now; None: nobody can be named.
    """

    service: ServiceKey | None
    doing: str
    error: Exception


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call step(Tick) at this time (monotonic seconds); only the earliest matters."""

    at: float


Effect = (
    PodEndpointChanged
    | RouteChanged
    | ServiceRouteChanged
    | DesiredChanged
    | PlanNeeded
    | ReplicasWanted
    | ModelStatusChanged
    | ServiceStatusChanged
    | GateChanged
    | DeletionCost
    | CopyStored
    | CopyForgotten
    | ClaimEpoch
    | Recovered
    | Failed
    | WakeAt
)
