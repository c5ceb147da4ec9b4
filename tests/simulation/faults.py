"""What Kubernetes, servers and bad luck do to a simulated cluster, one random act at a time; users are in edits.py."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .edits import Edits
from .parts import SimPod

if TYPE_CHECKING:
    from .simulation import Simulation


class Faults:
    """``strike`` once, and again after a while, until the simulation's ``faults`` are over."""

    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.cluster = simulation.cluster
        self.loop = simulation.loop
        self.rng = rng
        self.actions: tuple[Callable[[], None], ...] = (
            simulation.operator.stop,
            self.kill_pod,
            self.drain_pod,
            self.abandon_drain,
            self.restart_agent,
            self.lose_agent,
            self.cut_off,
            self.restart_server,
            self.freeze_server,
            self.flap,
            self.never_ready,
            self.hang_loads,
            self.hang_unloads,
            self.refuse_unloads,
            *Edits(simulation, rng).actions,
        )

    def strike(self) -> None:
        if self.simulation.faults:
            self.rng.choice(self.actions)()
            self.loop.at(self.rng.uniform(0.2, 4), self.strike)

    def _pod(self) -> SimPod | None:
        pods = self.cluster.pods
        return self.rng.choice(list(pods.values())) if pods else None

    # Pods.

    def kill_pod(self) -> None:
        pod = self._pod()
        if pod is not None:
            self.cluster.remove_pod(pod.uid)

    def drain_pod(self) -> None:
        """kubectl delete pod: the replacement is made at once, preStop waits for the agent."""
        pod = self._pod()
        if pod is not None:
            self.cluster.delete_pod(pod.uid)

    def abandon_drain(self) -> None:
        """The server container is stopped (its preStop asks for a drain) and started again in the same pod."""
        pod = self._pod()
        if pod is not None and not pod.draining:
            pod.draining = True
            self.loop.at(self.rng.uniform(0.5, 5), partial(self._drain_is_over, pod))

    def _drain_is_over(self, pod: SimPod) -> None:
        pod.draining = self.cluster.pod_specs[pod.uid].deleting if pod.uid in self.cluster.pods else True

    def flap(self) -> None:
        """Kubernetes takes the pod for ready and not ready in turn; its server answers all the while."""
        pod = self._pod()
        if pod is not None:
            for _ in range(self.rng.randint(1, 4)):
                self.loop.at(self.rng.uniform(0, 6), partial(self._show_ready, pod.uid, ready=False))
            self.loop.at(6.5, partial(self._show_ready, pod.uid, ready=True))

    def _show_ready(self, uid: str, *, ready: bool) -> None:
        spec = self.cluster.pod_specs.get(uid)
        if spec is not None:
            waiting = "" if ready else "Readiness probe failed: HTTP probe failed with statuscode: 503"
            self.cluster.show_pod(replace(spec, ready=ready and spec.gate_open, waiting=waiting))
            if not ready:
                self.loop.at(self.rng.uniform(0.1, 1), partial(self._show_ready, uid, ready=True))

    def never_ready(self) -> None:
        """A pod whose server does not start: a new one in its place, until somebody deletes that."""
        pod = self._pod()
        if pod is not None:
            pod.server_ready = False
            pod.restart_server()
            self._show_ready(pod.uid, ready=False)
            self.loop.at(self.rng.uniform(5, 25), partial(self.cluster.remove_pod, pod.uid))

    # Agents and servers.

    def restart_agent(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.restart_agent()

    def lose_agent(self) -> None:
        """The agent is cut off, or its container is away: the operator notices after a while."""
        pod = self._pod()
        if pod is None:
            return
        pod.mute_until = self.loop.now + self.rng.uniform(1, 8)
        self.loop.at(1.0, partial(self.simulation.agents.lost, pod.uid, pod.session))

    def cut_off(self) -> None:
        """Nothing reaches the pod from the operator, which looks for it every second."""
        pod = self._pod()
        if pod is not None:
            pod.mute_until = self.loop.now + self.rng.uniform(1, 12)
            self.loop.at(0.5, partial(self.simulation.agents.look_for, pod.uid))
            self.loop.at(5.0, partial(self.simulation.agents.lost, pod.uid, pod.session))

    def restart_server(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.server_ready = False
            pod.restart_server()
            self.loop.at(self.rng.uniform(0.1, 8), partial(self._server_is_back, pod))

    def freeze_server(self) -> None:
        """Its agent hears nothing of it for a while; now and then every agent is like that."""
        pods = list(self.cluster.pods.values()) if self.rng.random() < 0.2 else [pod] if (pod := self._pod()) else []
        for each in pods:
            each.frozen_until = self.loop.now + self.rng.uniform(0.5, 10)

    def _server_is_back(self, pod: SimPod) -> None:
        pod.server_ready = True

    def hang_loads(self) -> None:
        """Loads that do not end, as far as anyone waits for them."""
        pod = self._pod()
        if pod is not None:
            pod.loads_hang_until = self.loop.now + self.rng.uniform(3, 15)

    def hang_unloads(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.unloads_hang_until = self.loop.now + self.rng.uniform(3, 15)

    def refuse_unloads(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.unloads_fail_until = self.loop.now + self.rng.uniform(3, 15)
