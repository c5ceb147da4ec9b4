"""Read-only views of the state for the rooms that must not touch it: status, explain, gateway, HTTP.

A view is built for one object on demand; none walks all models.
"""

from dataclasses import dataclass
from enum import StrEnum

from shoal_api.messages import CopyFailure

from .effects import Unavailable
from .values import ModelSpec, Problem, Refusal, ServiceSpec, Verdict


class CopyState(StrEnum):
    """Where a copy stands, as the operator sees it."""

    PENDING = "Pending"  # wanted of the agent, not yet reported
    PULLING = "Pulling"
    PULLED = "Pulled"  # on disk, waits for memory that is being freed
    LOADING = "Loading"
    LOADED = "Loaded"  # the wanted content answers requests
    OUTDATED = "Outdated"  # an older content of the same model answers while the new one is on its way
    DRAINING = "Draining"  # out of the routes, waiting for Envoys and requests in flight
    UNLOADING = "Unloading"
    FAILED = "Failed"  # last attempt failed; the agent retries


@dataclass(frozen=True, slots=True)
class CopyView:
    pod: str
    pod_uid: str
    state: CopyState
    serving: bool  # in the routes
    failure: CopyFailure | None = None
    requests_per_second: float = 0.0
    age_seconds: float | None = None  # since it was loaded, as far as this operator knows


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was decided about a model; the last few are kept for explain."""

    seconds_ago: float
    pod: str
    what: str  # Loaded, Evicted, Unloaded, Moved, Activated, Copied…
    why: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """Everything that a TrainedModel's status and explain say, at one moment.

    ``service`` is None when the InferenceService does not exist. ``service_ready``: at least one pod can take models.
    ``refusal``: why no pod was found. ``update_blocked``: the new content found no room while the old one serves.
    ``artifact_seen``: an agent has seen or pulled this content at least once. ``failure``: why the wanted content is
    not loaded, of a copy or of an attempt whose copy has made way meanwhile. ``on_demand``: no copy is wanted now, and
    a request would have one loaded. ``memory_bytes``: declared or estimated; None: not known yet. ``min_copies``: with
    the InferenceService's default applied; ``wanted_copies``: now, by use. ``verdicts``: each filter's word about each
    pod that holds no copy, as things stand now. ``pressure``: the working set is larger than the service's memory.
    """

    spec: ModelSpec
    service: ServiceSpec | None
    service_ready: bool
    url: str
    copies: tuple[CopyView, ...]
    refusal: Refusal | None = None
    update_blocked: bool = False
    artifact_seen: bool = False
    failure: CopyFailure | None = None
    on_demand: bool = False
    memory_bytes: int | None = None
    artifact_bytes: int | None = None
    min_copies: int = 1
    wanted_copies: int = 1
    idle_seconds: float | None = None  # since the last use that is known; None: never used
    requests_per_second: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    decisions: tuple[Decision, ...] = ()
    pressure: bool = False

    @property
    def answers(self) -> bool:
        """A request will be answered, by whichever content."""
        return any(copy.serving for copy in self.copies)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """Everything that an InferenceService's status says, at one moment."""

    spec: ServiceSpec
    url: str
    pods_wanted: int
    pods_ready: int  # Kubernetes' Ready and able to take models
    models_total: int
    models_ready: int
    models_failed: int
    pod_problem: Problem | None = None  # the first pod that cannot start, and why
    gateways: int = 0  # connected Envoys
    models_loaded: int = 0  # with at least one copy that answers
    pressure: bool = False  # the models in use together are larger than the pods' memory
    # By format: what loaded models take as measured, over what they declare; only where known.
    memory_ratios: tuple[tuple[str, float], ...] = ()
    scaling_reason: str = ""  # why the pods are as many as they are, when autoscaled


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a pod answers."""

    ip: str
    http_port: int
    grpc_port: int


@dataclass(frozen=True, slots=True)
class ActivationView:
    """What the activator needs to know of one model at one moment.

    ``endpoints`` not empty: send the request to one of them. Else ``unavailable`` COLD: it can be waited for (say
    ``Requested``); another reason: answer 503 with ``message`` now. Both of the service's bounds apply to it.
    """

    endpoints: tuple[Endpoint, ...]
    unavailable: Unavailable | None
    message: str = ""
    retry_after: float | None = None  # seconds until a failed model is tried again
    timeout: float = 60.0
    max_held: int = 1000
