"""A small world to put events into: one service, its pods, and agents that say what they are told to say."""

from typing import Any

from shoal_api.messages import (
    CopyFailure,
    CopyPhase,
    FailureStage,
    ServerReport,
    SlotReport,
    SyncRequest,
    content_digest,
)
from shoal_operator.agents.border import facts
from shoal_operator.engine import Engine
from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, Failed, RouteChanged
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.timing import Timing
from shoal_operator.state.world.values import ModelKey, ModelSpec, PodSpec, ServiceKey, ServiceSpec

from . import said, whole

MI = 1 << 20


def service_spec(**given: Any) -> ServiceSpec:
    known: dict[str, Any] = {
        "namespace": "ns",
        "name": "svc",
        "uid": "service-1",
        "generation": 1,
        "capacity_bytes": 100 * MI,
        "formats": frozenset({"sklearn"}),
        "server_type": "mlserver",
        "strict": True,
    }
    return ServiceSpec(**{**known, **given})


def model_spec(name: str = "m", **given: Any) -> ModelSpec:
    uri = given.pop("storage_uri", f"s3://models/{name}")
    known: dict[str, Any] = {
        "namespace": "ns",
        "name": name,
        "uid": f"uid-{name}",
        "generation": 1,
        "service": "svc",
        "storage_uri": uri,
        "framework": "sklearn",
        "memory_bytes": 10 * MI,
        "content": content_digest(uri, "sklearn"),
    }
    return ModelSpec(**{**known, **given})


def pod_spec(uid: str = "pod-1", **given: Any) -> PodSpec:
    known: dict[str, Any] = {
        "namespace": "ns",
        "name": uid,
        "uid": uid,
        "service": "svc",
        "ip": "10.0.0.1",
        "capacity_bytes": 100 * MI,
        "http_port": 8080,
        "grpc_port": 8081,
    }
    return PodSpec(**{**known, **given})


class Hand:
    """``do`` an event; ``effects`` keeps everything that came of it, ``routes`` what Envoy would have."""

    def __init__(self, *, recovered: bool = True, **timing: float) -> None:
        self.now = 0.0
        self.world = World(timing=Timing(**{"drain_grace": 1.0, "use_wait": 0.0, **timing}))
        self.engine = Engine(self.world)
        self.effects: list[Effect] = []
        self.routes: dict[tuple[str, str], RouteChanged] = {}
        self.versions: dict[str, int] = {}
        if recovered:
            self.recover()

    def recover(self, epoch: int = 1) -> None:
        self.do(events.EpochClaimed(epoch))
        self.do(events.StoreLoaded(()))
        for kind in events.Kind:
            self.do(events.Listed(kind))

    def do(self, event: events.Event) -> list[Effect]:
        before = said.lists(self.world)
        found = self.engine.handle(event, self.now) + self.engine.work_off(self.now)
        self.effects += found
        for effect in found:
            if isinstance(effect, RouteChanged):
                self.routes[effect.service.name, effect.model] = effect
            if isinstance(effect, Failed):
                raise effect.error
        whole.check(self.world, self.now)
        said.check(self.world, before, found)
        return found

    def wait(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.do(events.Tick())

    def acknowledge(self) -> list[Effect]:
        """Every Envoy has every route change so far."""
        return self.do(events.GatewayAcknowledged(self.world.sequence))

    def report(self, pod: str = "pod-1", *slots: SlotReport, **given: Any) -> list[Effect]:
        """A full report of an agent that holds the present desired list."""
        version = self.versions[pod] = self.versions.get(pod, 0) + 1
        known: dict[str, Any] = {
            "namespace": "ns",
            "pod": pod,
            "pod_uid": pod,
            "session": "0000000001",
            "epoch": 0,
            "server": ServerReport(type="mlserver", ready=True),
            "observed_version": version,
            "observed": list(slots),
            "desired_version": self.world.pods[pod].desired.version if pod in self.world.pods else 0,
        }
        return self.do(events.AgentReported(facts(SyncRequest(**{**known, **given}))))

    def loaded(self, pod: str = "pod-1", *, but: tuple[str, ...] = ()) -> list[Effect]:
        """The agent has loaded everything that its pod should hold, except ``but``."""
        wanted = [intent for intent in self.world.pods[pod].desired if intent.name not in but]
        return self.report(pod, *(slot(intent.name, intent.copy_id) for intent in wanted))

    def desired(self, pod: str = "pod-1") -> dict[str, str]:
        return {intent.name: intent.copy_id for intent in self.world.pods[pod].desired}

    def route(self, model: str = "m", service: str = "svc") -> set[str] | str | None:
        """Pods, or the reason why none, or None for an unknown model."""
        found = self.routes.get((service, model))
        if found is None:
            return None
        return set(found.pods) or (found.unavailable.value if found.unavailable else None)

    def refused(self, model: str = "m", service: str = "svc") -> str | None:
        """Why the activator cannot have a request for the model answered, as it stands now; Cold: it waits."""
        view = activation_view(self.world, ServiceKey("ns", service), model, self.now)
        return view.unavailable.value if view is not None and view.unavailable is not None else None

    def pod_of(self, model: str = "m") -> str:
        """The one pod that the model's requests go to."""
        (pod,) = self.routes["svc", model].pods
        return pod

    def with_pods(self, *uids: str) -> "Hand":
        self.do(events.ServiceSeen(service_spec(min_replicas=len(uids))))
        for uid in uids:
            self.do(events.PodSeen(pod_spec(uid)))
            self.report(uid)
        return self

    def with_loaded(self, *specs: ModelSpec) -> "Hand":
        for spec in specs:
            self.do(events.ModelSeen(spec))
        for uid in list(self.world.pods):
            self.loaded(uid)
        return self


def slot(name: str, serving: str | None, **given: Any) -> SlotReport:
    known: dict[str, Any] = {"name": name, "serving": serving, "target": serving, "phase": CopyPhase.LOADED}
    return SlotReport(**{**known, **given})


def failure(stage: FailureStage = FailureStage.LOAD) -> CopyFailure:
    return CopyFailure(stage=stage, reason="LoadFailed", message="no")


KEY = ModelKey("ns", "m")
