"""Read-only views of the state for the rooms that must not touch it: status, explain, gateway, HTTP.

A view is built for one object on demand; none walks all models.
"""

from dataclasses import dataclass
from enum import StrEnum

from shoal_api.messages import CopyFailure

from shoal_operator.state.world.cause import Facts
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import Content, Problem, ServiceSpec, Verdict


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
    revision: str = ""  # of the artifact that it answers with


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was decided about a model; the last few are kept for explain."""

    seconds_ago: float
    pod: str
    what: str  # Loaded, Evicted, Unloaded, Copied, Reduced or Revised
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView(Facts):
    """Everything that a model's status and explain say, at one moment: the facts that the cause depends on, and
    the rest.

    ``update_blocked``: the new content found no room while the old one serves. ``artifact_seen``: an agent has seen or
    pulled this content at least once. ``on_demand``: no copy is wanted now, and a request would have one loaded.
    ``wanted_copies``: now, by use. ``verdicts``: each filter's word about each pod, as things stand now; of one that
    holds a copy, that it does. ``pressure``: the working set is larger than the service's memory. ``last_good``: what
    requests could last count on; loaded again where what the spec names does not load. ``revision``: what its storage
    held, last. ``kept_by``: some of the models that keep it out, on the pod that has most left, and
    ``obtainable_bytes``, what that is.
    """

    url: str
    copies: tuple[CopyView, ...]
    update_blocked: bool = False
    artifact_seen: bool = False
    on_demand: bool = False
    artifact_bytes: int | None = None
    wanted_copies: int = 1
    wish: str = ""  # the state of what it wants now (state/wish/states.py)
    idle_seconds: float | None = None  # since the last use that is known; None: never used
    requests_per_second: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    decisions: tuple[Decision, ...] = ()
    pressure: bool = False
    last_good: Content | None = None
    revision: str = ""
    kept_by: tuple[str, ...] = ()
    obtainable_bytes: int | None = None
    phase: Phase = Phase.UP  # of its InferenceService's pods, where there may be none

    @property
    def ready(self) -> bool:
        """A request now is answered: at once, or once the model is loaded for it."""
        return self.answers or self.on_demand

    @property
    def answers(self) -> bool:
        """A request will be answered, by whichever content."""
        return any(copy.serving for copy in self.copies)

    @property
    def loaded(self) -> bool:
        """The wanted content is in some server's memory, whether or not requests go there."""
        return any(copy.state is CopyState.LOADED for copy in self.copies)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """Everything that an InferenceService's status says, at one moment. ``model``: its own, where it has one.
    ``address`` and ``grpc_url``: inside the cluster, where that is not its Service's."""

    spec: ServiceSpec
    url: str
    pods_wanted: int
    pods_ready: int  # Kubernetes' Ready and able to take models
    models_total: int
    models_ready: int
    models_failed: int
    pod_problem: Problem | None = None  # the first pod that cannot start, and why
    pod_waiting: str = ""  # what the first pod that is not ready waits for, and what its probe last said
    gateways: int = 0  # connected Envoys
    models_loaded: int = 0  # with at least one copy that answers
    pressure: bool = False  # the models in use together are larger than the pods' memory
    # By format: what loaded models take as measured, over what they declare; only where known.
    memory_ratios: tuple[tuple[str, float], ...] = ()
    phase: Phase = Phase.UP  # on the way to no pod and back, where there may be none
    pod_expected: bool = False  # a request has a pod in time, by all that is known, though there may be none
    scaling_reason: str = ""  # why the pods are as many as they are, when autoscaled
    trouble: Problem | None = None  # an error of the operator's own, while it worked on this one
    model: ModelView | None = None
    address: str = ""
    grpc_url: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a pod answers, and which type of server. ``grpc_port`` 0: it speaks no gRPC."""

    ip: str
    http_port: int
    grpc_port: int
    server_type: str = ""


@dataclass(frozen=True, slots=True)
class ActivationView:
    """What the activator needs to know of one model at one moment.

    ``endpoints`` not empty: send the request to one of them. Else ``unavailable`` COLD: it can be waited for (say
    ``Requested``); another reason: answer 503 with ``message`` now. Both of the service's bounds apply to it.
    ``unknown``: nobody knows yet whether there is such a model.
    """

    endpoints: tuple[Endpoint, ...]
    unavailable: Unavailable | None
    message: str = ""
    retry_after: float | None = None  # seconds until a failed model is tried again
    timeout: float = 60.0
    max_held: int = 1000
    unknown: bool = False
