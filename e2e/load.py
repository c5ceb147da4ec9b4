"""An open-loop load: requests leave on a fixed schedule whatever became of earlier ones, and every answer is checked.

A closed loop would wait with the server and hide an outage behind fewer requests. Here an outage of one second at 200
requests a second is 200 failures. Nothing is retried, neither by this file nor by aiohttp (it repeats only idempotent
methods, and inference is a POST): each request is one line in the result.
"""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

import aiohttp

from demo.predictions import Target, v2_answer, v2_body, v2_path

REQUEST_TIMEOUT_SECONDS: Final = 30.0
_RELATIVE_TOLERANCE: Final = 1e-8
_FAILURES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask a model, and the answers that are right (more than one while an update is on its way)."""

    model: str
    row: list[float]
    right: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was due (seconds since the start), how late it left, how long it took, what was wrong."""

    model: str
    due: float
    late: float
    took: float
    answer: float | None
    failure: str | None


@dataclass(slots=True)
class Result:
    """All outcomes of a load."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failure is not None]

    def latency(self, quantile: float) -> float:
        """Seconds from when a request was due until it was answered, so that waiting to be sent counts too."""
        ordered = sorted(outcome.late + outcome.took for outcome in self.outcomes)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]

    def rate(self) -> float:
        """Requests a second that really left."""
        span = self.outcomes[-1].due - self.outcomes[0].due
        return (len(self.outcomes) - 1) / span if span else 0.0

    def describe(self) -> str:
        """A line of figures, then the first failures with their times."""
        late = max(outcome.late for outcome in self.outcomes)
        lines = [
            f"{len(self.outcomes)} requests at {self.rate():.1f}/s, {len(self.failures)} failed; from due to answered: "
            f"p50 {self.latency(0.5) * 1e3:.1f} ms, p99 {self.latency(0.99) * 1e3:.1f} ms, "
            f"max {self.latency(1.0) * 1e3:.1f} ms; latest start {late * 1e3:.0f} ms"
        ]
        kinds = Counter(outcome.failure for outcome in self.failures)
        lines += [f"  {count} x {kind}" for kind, count in kinds.most_common(_FAILURES_SHOWN)]
        lines += [
            f"  at {outcome.due:.2f} s {outcome.model}: {outcome.failure} after {outcome.took:.3f} s"
            for outcome in self.failures[:_FAILURES_SHOWN]
        ]
        return "\n".join(lines)

    def check(self, at_least: int = 1) -> None:
        """Fail unless every request was answered by the right model, and at least so many were sent."""
        assert len(self.outcomes) >= at_least, f"only {len(self.outcomes)} requests were sent, not {at_least}"
        assert not self.failures, self.describe()


class OpenLoop:
    """A load that runs in a thread of its own, so that a test can break things meanwhile."""

    def __init__(self, target: Target, questions: Sequence[Question], rate: float) -> None:
        self._target = target
        self._questions = list(questions)
        self._interval = 1.0 / rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self.result = Result()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Result:
        """Send no more, wait for all answers, and return every outcome in the order in which they were due."""
        self._stopped.set()
        self._thread.join(timeout=REQUEST_TIMEOUT_SECONDS + 10)
        assert not self._thread.is_alive(), "the load did not end"
        self.result.outcomes.sort(key=lambda outcome: outcome.due)
        return self.result

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=120)
        headers = {"Host": self._target.host}
        async with aiohttp.ClientSession(
            self._target.url, connector=connector, headers=headers, timeout=timeout, trust_env=False
        ) as session:
            begin = time.monotonic()
            running: set[asyncio.Task[None]] = set()
            for number, question in enumerate(cycle(self._questions)):
                due = number * self._interval
                await asyncio.sleep(max(0.0, begin + due - time.monotonic()))
                if self._stopped.is_set():
                    break
                task = asyncio.create_task(self._ask(session, question, begin, due))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)

    async def _ask(self, session: aiohttp.ClientSession, question: Question, begin: float, due: float) -> None:
        sent = time.monotonic()
        answer, failure = await _outcome(session, question)
        took = time.monotonic() - sent
        self.result.outcomes.append(Outcome(question.model, due, sent - begin - due, took, answer, failure))


async def _outcome(session: aiohttp.ClientSession, question: Question) -> tuple[float | None, str | None]:
    try:
        async with session.post(v2_path(question.model), json=v2_body(question.row)) as response:
            if response.status != 200:
                return None, f"{response.status} {(await response.text())[:200]}"
            body = await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"[:200]
    try:
        answer, name = v2_answer(body), body.get("model_name")
    except (KeyError, IndexError, TypeError, ValueError):
        return None, f"not a v2 answer: {str(body)[:200]}"
    if name != question.model or not any(_same(answer, right) for right in question.right):
        return answer, f"wrong model: {name} answered {answer}, right is {question.right}"
    return answer, None


def _same(answer: float, right: float) -> bool:
    return math.isclose(answer, right, rel_tol=_RELATIVE_TOLERANCE)


@contextmanager
def running(target: Target, questions: Sequence[Question], rate: float) -> Iterator[OpenLoop]:
    """A load for the length of the block; afterwards ``.result`` holds every outcome."""
    load = OpenLoop(target, questions, rate)
    load.start()
    try:
        yield load
    finally:
        load.stop()
