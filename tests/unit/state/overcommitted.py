"""Small overcommitted worlds for tests: pods with room for few models, requests, and what agents say of use."""

from typing import Any

from shoal_api.messages import Action, CopyPhase, ModelUse, SlotReport, copy_id
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect
from shoal_operator.state.world.entities import Model, Service
from shoal_operator.state.world.values import ModelKey, ServiceKey

from .world_in_hand import MI, Hand, failure, model_spec, pod_spec, service_spec, slot

SERVICE = ServiceKey("ns", "svc")


class Cold(Hand):
    """``room``: how many models of 10Mi each pod holds. Agents do at once what they are told."""

    def __init__(self, *pods: str, room: int = 2, service: dict[str, Any] | None = None, **timing: Any) -> None:
        super().__init__(**timing)
        given = {"strict": False, "min_replicas": len(pods), "capacity_bytes": room * 10 * MI, **(service or {})}
        self.room = room
        self.broken: set[str] = set()
        self.spec = service_spec(**given)
        self.do(events.ServiceSeen(self.spec))
        for uid in pods:
            self.join(uid)

    def join(self, uid: str, **given: Any) -> None:
        self.do(events.PodSeen(pod_spec(uid, capacity_bytes=self.room * 10 * MI, **given)))
        self.report(uid)

    def add(self, *names: str, **given: Any) -> None:
        for name in names:
            self.do(events.ModelSeen(model_spec(name, **given)))
        self.agents()

    def agents(self) -> None:
        """Agents and Envoys do what there is to do, until nothing changes any more; no time passes but drains'."""
        for _ in range(8):
            for uid in list(self.world.pods):
                self.report(uid, *(self._slot(uid, name) for name in self.desired(uid)))
            self.acknowledge()

    def _slot(self, uid: str, name: str) -> SlotReport:
        intent = self.world.pods[uid].desired.get(name)
        assert intent is not None
        if intent.action is Action.STAT:
            seen = CopyPhase.SEEN
            return SlotReport(name=name, target=intent.copy_id, phase=seen, action=intent.action, artifact_bytes=5 * MI)
        if intent.action is Action.PULL:
            return SlotReport(name=name, target=intent.copy_id, phase=CopyPhase.PULLED, action=intent.action)
        if name in self.broken:
            return slot(name, None, target=intent.copy_id, phase=CopyPhase.WAITING, failure=failure())
        return slot(name, intent.copy_id, artifact_bytes=5 * MI)

    def ask(self, name: str) -> list[Effect]:
        return self.do(events.Requested(SERVICE, name))

    def use(self, name: str, requests: int = 1, *, pod: str = "pod-1", idle: float = 0.0, **given: Any) -> None:
        """The agent's totals for one model, and what it holds."""
        held = [self._slot(pod, each) for each in self.desired(pod)]
        self.report(pod, *held, use=[ModelUse(name=name, requests=requests, idle_seconds=idle, **given)])

    def model(self, name: str) -> Model:
        return self.world.models[ModelKey("ns", name)]

    @property
    def service(self) -> Service:
        return self.world.services[SERVICE]

    def loaded_models(self) -> set[str]:
        return {key.name for key, model in self.world.models.items() if model.loaded}

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Time passes, and agents work."""
        end = self.now + seconds
        while self.now < end:
            self.wait(min(step, end - self.now))
            self.agents()

    def want(self, name: str) -> str:
        spec = self.model(name).spec
        return copy_id(spec.uid, spec.content)


def full(*pods: str, room: int = 2, **timing: Any) -> Cold:
    """Pods full of a0, a1, ... which were used in that order, long enough ago."""
    hand = Cold(*pods, room=room, **timing)
    names = [f"a{i}" for i in range(room * len(pods))]
    hand.add(*names)
    for name in names:
        hand.now += 1
        pod = hand.pod_of(name)
        hand.use(name, pod=pod)
    hand.now += 100
    return hand
