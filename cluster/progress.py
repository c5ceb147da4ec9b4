"""Progress lines with elapsed seconds, and steps that run side by side."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

_STARTED = time.monotonic()
_PRINTING = threading.Lock()
_HEARTBEAT_SECONDS = 20.0


class ClusterError(Exception):
    """Something that the user should read as one message, without a traceback."""


def say(message: str) -> None:
    """Print one line, stamped with the seconds since the start."""
    with _PRINTING:
        print(f"[{time.monotonic() - _STARTED:6.1f}s] {message}", flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, remind every few seconds that it still runs, and say how long it took."""
    say(f"{name} …")
    begin = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(_HEARTBEAT_SECONDS):
            say(f"{name}: still going after {time.monotonic() - begin:.0f} s")

    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    say(f"{name}: done in {time.monotonic() - begin:.1f} s")


class Background(Generic[T]):
    """A function in a thread whose result, or failure, is kept for the one who waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as failure:
            self._failure = failure

    def wait(self) -> T:
        """Wait for the end; return what the work returned, or raise what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._results[0]


def wait_until(what: str, ready: Callable[[], bool], seconds: float, interval: float = 0.25) -> None:
    """Poll until ready() holds, or fail saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


def warn(message: str) -> None:
    """Print one line to standard error."""
    with _PRINTING:
        print(message, file=sys.stderr, flush=True)
