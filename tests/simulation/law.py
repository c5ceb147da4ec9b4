"""The law of Ready: True if and only if a request now would be answered, given that nothing else changes.

The status says so, and the request is sent, in a copy of the whole simulated world (operator, agents, servers, Envoys,
clock), which shares nothing with the first one and in which nobody does anything else. What is on its way gets
``ON_ITS_WAY`` seconds first. Where a pod has to come first, a request waits for the wake timeout. Three things are not
known to anybody beforehand and excuse an unanswered request: a pod that was asked for and never starts, a server that
hangs, and an operator that is away; nor is it known before it is tried that an artifact does not load, or was
overwritten with what does not, and where what was there before is still on disk. And two excuse an answer: not Ready
is said of what is on its way (reasons that pass by themselves) until somebody sees it work, and the answer then takes
its time.
"""

import pickle
import random
from typing import TYPE_CHECKING

from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world.values import ModelKey, ModelSpec
from shoal_operator.status import reasons

from .clients import Reply
from .options import ACTIVATION_TIMEOUT

if TYPE_CHECKING:
    from .simulation import Simulation

ON_ITS_WAY = 2.0
LOOK = 0.1
"""Seconds between two looks of a held request."""
AT_ONCE = 0.0


class Law:
    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng

    def sample(self) -> None:
        """Check one model."""
        keys = sorted(self.simulation.cluster.models)
        if keys:
            check(self.simulation, self.rng.choice(keys))

    def sample_at_rest(self, count: int) -> None:
        """The same of so many once nothing is on its way any more: nothing passes by itself then."""
        keys = sorted(self.simulation.cluster.models)
        unready = [key for key in keys if self.simulation.statuses.ready(key)[0] != "True"]
        for key in {*unready[:count], *self.rng.sample(keys, min(count, len(keys)))}:
            check(self.simulation, key, at_rest=True)


def check(simulation: "Simulation", key: ModelKey, *, at_rest: bool = False) -> None:
    """Compare what the model's status says with what comes of a request. Raises AssertionError."""
    copied = copy(simulation)
    copied.be_quiet()
    copied.loop.advance(ON_ITS_WAY)
    operator, cluster = copied.operator, copied.cluster
    model = cluster.usable.get(key)
    if operator.engine is None or operator.engine.world.recovering or model is None:
        return
    known = operator.engine.world.models.get(key)
    if known is not None and known.spec.generation < model.generation:
        return  # a watch has missed the edit: what is said is of the spec before, and says so
    status, reason = copied.statuses.ready(key)
    began = copied.loop.now
    troubled = any(
        pod.service == model.service and pod.troubled_until > simulation.loop.now for pod in cluster.pods.values()
    )
    troubled |= _never_starts(copied, model)
    troubled |= cluster.broken_now(model)  # nobody knows that before it is tried, on each pod
    troubled |= simulation.cluster.untried(model)  # likewise
    lost = {uid for uid, pod in operator.engine.world.pods.items() if pod.suspect}
    reply = request(copied, key)
    took = copied.loop.now - began
    answered = reply is not None and reply.refused is None
    returned = any(not pod.suspect for uid, pod in operator.engine.world.pods.items() if uid in lost)
    came = "nothing within the timeout" if reply is None else reply.refused or f"an answer after {took:.1f} s"
    said = f"at {simulation.loop.now:.2f} {key.name}'s Ready is {status} {reason}; a request then gets {came}"
    if status == "True":
        assert answered or troubled, said
    elif returned:
        return  # a pod that seemed lost is back: that was no doing of the request, nor could anybody foresee it
    elif (
        answered
        and not cluster.broken_now(model)
        and (at_rest or (status == "False" and reason not in reasons.WAITING))
    ):
        if at_rest or took > AT_ONCE:
            raise AssertionError(said)
        copied.loop.advance(ON_ITS_WAY)  # loaded just before, not by the request: the status that says so is on its way
        assert copied.statuses.ready(key)[0] == "True", said
    elif answered and took <= AT_ONCE:
        # It answers without the request's doing; perhaps only just, and the status that says so is on its way.
        copied.loop.advance(ON_ITS_WAY)
        assert copied.statuses.ready(key)[0] == "True", said


def request(simulation: "Simulation", key: ModelKey) -> Reply | None:
    """Send one, and wait for what comes of it; None: nothing within the activation timeout."""
    clients, loop = simulation.clients, simulation.loop
    deadline, demand_at = loop.now + _longest_wait(simulation, key), loop.now
    while loop.now < deadline:
        model = simulation.cluster.usable.get(key)
        reply = clients.attempt(model) if model is not None else Reply("ModelNotFound")
        if reply is not None or model is None:
            return reply
        if loop.now >= demand_at:
            clients.demand(model)
            demand_at = loop.now + 1.0
        loop.advance(LOOK)
    return None


def _longest_wait(simulation: "Simulation", key: ModelKey) -> float:
    """As the activator would hold it: longer where a pod has to come first."""
    engine, model = simulation.operator.engine, simulation.cluster.usable.get(key)
    if engine is None or model is None:
        return ACTIVATION_TIMEOUT
    view = activation_view(engine.world, model.service_key, key.name, simulation.loop.now)
    return view.timeout if view is not None else ACTIVATION_TIMEOUT


def _never_starts(simulation: "Simulation", model: ModelSpec) -> bool:
    """The pod that was asked for has a server that does not come: nobody knows that of a pod before it has come."""
    service = simulation.cluster.services.get(model.service_key)
    if service is None or service.idle is None:
        return False
    return any(pod.service == model.service and not pod.server_ready for pod in simulation.cluster.pods.values())


def copy(simulation: "Simulation") -> "Simulation":
    """The whole world once more; it goes on exactly as the first one would, and shares nothing with it."""
    copied: Simulation = pickle.loads(pickle.dumps(simulation, pickle.HIGHEST_PROTOCOL))  # noqa: S301  # our own bytes
    return copied
