"""What goes between the operator and the simulated agents: messages get lost, late, and doubled."""

import random
from functools import partial
from typing import TYPE_CHECKING

from shoal_api.messages import SyncRequest, SyncResponse
from shoal_operator.agents.answer import answer
from shoal_operator.agents.border import facts
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from .options import NAMESPACE
from .parts import SimPod

if TYPE_CHECKING:
    from .simulation import Simulation


class Agents:
    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.loop = simulation.loop
        self.highest: dict[str, int] = {}  # pod UID -> epoch obeyed

    def poll(self, uid: str) -> None:
        """One agent works, and syncs."""
        simulation, pod = self.simulation, self.simulation.cluster.pods.get(uid)
        if pod is None:
            return
        if self.loop.now < pod.mute_until:
            self.loop.at(self.rng.uniform(0.05, 0.4), partial(self.poll, uid))
            return
        pod.work(self.loop.now)
        request = pod.request(self.loop.now)
        loss = simulation.options.loss
        copies = 1 if not simulation.faults else self.rng.choices((0, 1, 2), (loss, 0.85, 0.05))[0]
        for _ in range(copies):
            delay = self.rng.uniform(0.001, 0.05) if self.rng.random() < 0.95 or not simulation.faults else 2.0
            self.loop.at(delay, partial(self.serve, uid, request))
        self.loop.at(self.rng.uniform(0.05, 0.4), partial(self.poll, uid))

    def serve(self, uid: str, request: SyncRequest) -> None:
        """What agents/server.py does with a request, without HTTP."""
        simulation, operator = self.simulation, self.simulation.operator
        if operator.engine is None or uid not in operator.engine.world.pods:
            return
        report = facts(request)
        operator.deliver(events.AgentReported(report), operator.generation)
        pod = operator.engine.world.pods.get(uid)
        if pod is None:
            return
        response = answer(operator.engine.world, report, pod.observed_version)
        if simulation.faults and self.rng.random() < simulation.options.loss:
            return
        late = simulation.faults and self.rng.random() < 0.05
        delay = 3.0 if late else self.rng.uniform(0.001, 0.05)
        self.loop.at(delay, partial(self.answer, uid, response, request.session))

    def answer(self, uid: str, response: SyncResponse, session: str) -> None:
        cluster = self.simulation.cluster
        pod = cluster.pods.get(uid)
        if pod is not None:
            pod.receive(response, session)
            assert pod.epoch >= self.highest.get(uid, 0), "an epoch went back"
            self.highest[uid] = pod.epoch
            if pod.draining and pod.drained and cluster.pod_specs[uid].deleting:
                cluster.remove_pod(uid)

    def lost(self, uid: str, session: str) -> None:
        """agents/polls.py: no poll of this session for too long."""
        pod, operator = self.simulation.cluster.pods.get(uid), self.simulation.operator
        if pod is not None and pod.session == session and self.loop.now < pod.mute_until:
            operator.deliver(events.AgentLost(uid, session), operator.generation)

    def look_for(self, uid: str) -> None:
        """agents/reach.py: whether the pod of an agent that is not heard can be reached."""
        pod, operator = self.simulation.cluster.pods.get(uid), self.simulation.operator
        if pod is None:
            return
        missing = self.loop.now < pod.mute_until
        operator.deliver(events.PodReached(uid, reached=not missing), operator.generation)
        if missing:
            self.loop.at(1.0, partial(self.look_for, uid))

    def unloading(self, pod: SimPod, name: str, held: str) -> None:
        """A server is about to stop answering with a copy, on purpose: no Envoy may still send requests for it."""
        model = self.simulation.cluster.models.get(ModelKey(NAMESPACE, name))
        routed = any(envoy.routes_to(pod.uid, name) for envoy in self.simulation.operator.envoys)
        if model is not None and held.startswith(model.uid + ".") and routed:
            raise AssertionError(f"{name} unloaded from {pod.name} while routed there at {self.loop.now}")
