"""Which agent polls now, which has hung up, and how often each may ask. No HTTP here; one event loop.

An agent is known from its first sync until it is lost: ``hung_up_seconds`` after it dropped a poll, or
``silent_seconds`` after it was answered, without a new one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from shoal_operator.connections.rates import Rates
from shoal_operator.logs import OncePer

from .identity import Refused
from .metrics import AgentsMetrics

log = logging.getLogger(__name__)

HUNG_UP_SECONDS = 5.0
SILENT_SECONDS = 15.0
MAX_AGENTS = 5_000
REQUESTS_PER_SECOND = 40.0
REQUESTS_BURST = 100.0
BODIES_PER_SECOND = 0.1
BODIES_BURST = 4.0
"""Of bodies as long as they may be at most, or as many times more of shorter ones. An agent sends one with all that it
holds when it connects, a hundredth of that when it is busy; what is longer than the truth can be costs its reader."""
AWAY_SECONDS = 2.0
"""After an answer. An agent that has not come back by then may be cut off."""
RESTARTED_SECONDS = 10.0
"""Between two lines of the log about restarts of one pod's agent."""

Lost = Callable[[str, str], bool]
"""Takes pod UID and session; says whether anybody still wanted the agent there."""
"""Called with (pod UID, session)."""


class Listening(Protocol):
    """Told of what agents do (``reach.Reach``)."""

    def heard(self, pod_uid: str) -> None:
        """It asks."""

    def silent(self, pod_uid: str) -> None:
        """It hung up, or was answered and has not come back."""


class Poll:
    """One sync that is being answered."""

    def __init__(self, agent: "_Agent") -> None:
        self._agent = agent
        self._changed = asyncio.Event()
        self.superseded = False

    async def wait(self, seconds: float) -> None:
        """Until something changed for this pod, the poll is superseded, or ``seconds`` have passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def wake(self) -> None:
        self._changed.set()

    @property
    def told_drained(self) -> bool:
        """This session was told before that its pod is drained."""
        return self._agent.told_drained

    @told_drained.setter
    def told_drained(self, told: bool) -> None:
        self._agent.told_drained = told


class _Agent:
    def __init__(self, session: str) -> None:
        self.session = session
        self.poll: Poll | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.away: asyncio.TimerHandle | None = None
        self.told_drained = False


class Polls:
    """All agents that are connected."""

    def __init__(
        self,
        lost: Lost,
        metrics: AgentsMetrics,
        *,
        hung_up_seconds: float = HUNG_UP_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        max_agents: int = MAX_AGENTS,
        listening: Listening | None = None,
    ) -> None:
        self._listening = listening
        self._lost = lost
        self._metrics = metrics
        self._hung_up_seconds = hung_up_seconds
        self._silent_seconds = silent_seconds
        self._max_agents = max_agents
        self._agents: dict[str, _Agent] = {}
        self._rates = Rates(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self._bodies = Rates(BODIES_PER_SECOND, BODIES_BURST)
        self._log_again = OncePer(RESTARTED_SECONDS)
        self._closed = False

    def __len__(self) -> int:
        return len(self._agents)

    def admit(self, pod_uid: str) -> None:
        """A request of this pod has arrived. Raises Refused (429) when there are too many of them."""
        if not self._rates.take(pod_uid, asyncio.get_running_loop().time()):
            raise Refused(429, "TooManySyncs", "this pod syncs too often: wait for the answer before the next one")
        agent = self._agents.get(pod_uid)
        if agent is not None and agent.timer is not None:
            self._start_timer(pod_uid, agent, self._hung_up_seconds)  # a large report takes its time to arrive

    def weigh(self, pod_uid: str, share: float) -> None:
        """This pod's request has a body of this share of the most that it may have. Raises Refused (429)."""
        if not self._bodies.take(pod_uid, asyncio.get_running_loop().time(), share):
            raise Refused(429, "TooManyBytes", "this pod reports more than it can have to say: wait ten seconds")

    @contextmanager
    def answering(self, pod_uid: str, session: str) -> Iterator[Poll]:
        """Hold the pod's place while its sync is answered; an older one of the same pod ends at once.

        Leave it with CancelledError when the agent hung up. Raises Refused (503) when all places are taken.
        """
        agent = self._agents.get(pod_uid)
        if agent is None or agent.session != session:
            if agent is None and len(self._agents) >= self._max_agents:
                raise Refused(503, "TooManyAgents", f"{self._max_agents} agents are connected: try again later")
            agent = self._replace(pod_uid, agent, session)
        self._stop_timer(agent)
        self._supersede(agent)
        poll = agent.poll = Poll(agent)
        self._metrics.waiting.inc()
        if self._listening is not None:
            self._listening.heard(pod_uid)
        grace, away = self._silent_seconds, AWAY_SECONDS
        try:
            yield poll
        except asyncio.CancelledError:
            grace, away = self._hung_up_seconds, 0.0
            raise
        finally:
            self._metrics.waiting.dec()
            if agent.poll is poll:
                agent.poll = None
                self._start_timer(pod_uid, agent, grace)
                if self._listening is not None and agent.timer is not None:
                    agent.away = asyncio.get_running_loop().call_later(away, self._listening.silent, pod_uid)

    def wake(self, pod_uid: str) -> None:
        """Something changed for this pod; nothing happens when it does not poll now."""
        agent = self._agents.get(pod_uid)
        if agent is not None and agent.poll is not None:
            agent.poll.wake()

    def answer(self, pod_uid: str) -> None:
        """Have the pod's poll answered now, with nothing new."""
        agent = self._agents.get(pod_uid)
        if agent is not None and agent.poll is not None:
            agent.poll.superseded = True
            agent.poll.wake()

    def wake_all(self) -> None:
        for agent in self._agents.values():
            if agent.poll is not None:
                agent.poll.wake()

    def close(self) -> None:
        """The operator goes: nobody is lost by that."""
        self._closed = True
        for agent in self._agents.values():
            self._stop_timer(agent)
        self.wake_all()

    def _replace(self, pod_uid: str, old: _Agent | None, session: str) -> _Agent:
        if old is not None:
            self._stop_timer(old)
            self._supersede(old)
        agent = self._agents[pod_uid] = _Agent(session)
        self._metrics.connected.set(len(self._agents))
        if old is None or self._log_again.ready(pod_uid):  # a tenant may call each of his requests another session
            log.info(
                "an agent connected" if old is None else "an agent was restarted",
                extra={"event": "AgentConnected", "pod_uid": pod_uid, "session": session},
            )
        return agent

    @staticmethod
    def _supersede(agent: _Agent) -> None:
        if agent.poll is not None:
            agent.poll.superseded = True
            agent.poll.wake()
            agent.poll = None

    def _start_timer(self, pod_uid: str, agent: _Agent, seconds: float) -> None:
        self._stop_timer(agent)
        if not self._closed and self._agents.get(pod_uid) is agent:
            loop = asyncio.get_running_loop()
            agent.timer = loop.call_later(seconds, self._give_up, pod_uid, agent)

    @staticmethod
    def _stop_timer(agent: _Agent) -> None:
        for timer in (agent.timer, agent.away):
            if timer is not None:
                timer.cancel()
        agent.timer = agent.away = None

    def _give_up(self, pod_uid: str, agent: _Agent) -> None:
        if self._agents.get(pod_uid) is not agent or agent.poll is not None:
            return
        del self._agents[pod_uid]
        self._rates.forget(pod_uid)
        self._bodies.forget(pod_uid)
        self._metrics.connected.set(len(self._agents))
        if self._listening is not None:
            self._listening.silent(pod_uid)  # also where its last request was never answered
        if self._lost(pod_uid, agent.session):
            self._metrics.lost.inc()
            log.warning(
                "an agent hung up and did not come back",
                extra={"event": "AgentLost", "pod_uid": pod_uid, "session": agent.session},
            )
        else:
            log.info(
                "an agent ended with its pod",
                extra={"event": "AgentEnded", "pod_uid": pod_uid, "session": agent.session},
            )
