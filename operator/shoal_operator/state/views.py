"""Read-only views of the state for the rooms that must not touch it: status, explain, gateway, HTTP.

A view is built for one object on demand; none walks all models.
"""

from dataclasses import dataclass
from enum import StrEnum

from shoal_api.messages import CopyFailure

from .values import ModelSpec, Problem, Refusal, ServiceSpec


class CopyState(StrEnum):
    """Where a copy stands, as the operator sees it."""

    PENDING = "Pending"  # wanted of the agent, not yet reported
    PULLING = "Pulling"
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


@dataclass(frozen=True, slots=True)
class ModelView:
    """Everything that a TrainedModel's status and explain say, at one moment.

    ``service`` is None when the InferenceService does not exist. ``service_ready``: at least one pod can take models.
    ``refusal``: why no pod was found. ``update_blocked``: the new content found no room while the old one serves.
    ``artifact_seen``: an agent has pulled this content at least once.
    """

    spec: ModelSpec
    service: ServiceSpec | None
    service_ready: bool
    url: str
    copies: tuple[CopyView, ...]
    refusal: Refusal | None = None
    update_blocked: bool = False
    artifact_seen: bool = False

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
