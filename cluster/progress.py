"""What happens now and what is left: one renewed line on a terminal, elsewhere a short line at each change."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_STARTED = time.monotonic()
_RENEW_SECONDS = 1.0
_CLEAR = "\r\x1b[K"
_FALLBACK_COLUMNS = 100


class ClusterError(Exception):
    """Something that the user should read as one message, without a traceback."""


@dataclass
class Step:
    """Something that runs; ``detail`` says how far it is."""

    name: str
    begin: float
    detail: str = ""


@dataclass
class _Display:
    """The only writer of standard output: steps of several threads share its line."""

    terminal: bool
    running: list[Step] = field(default_factory=list)
    waiting: tuple[str, ...] = ()
    lock: threading.RLock = field(default_factory=threading.RLock)
    renewer: threading.Thread | None = None

    def print(self, message: str) -> None:
        with self.lock:
            clear = _CLEAR if self.terminal and self.running else ""
            print(f"{clear}[{time.monotonic() - _STARTED:6.1f}s] {message}", flush=True)
            self.renew()

    def begin(self, step: Step) -> None:
        with self.lock:
            self.running.append(step)
            if not self.terminal:
                self.print(f"{step.name} …")
            elif self.renewer is None:
                self.renewer = threading.Thread(target=self._renew_while_any_runs, daemon=True)
                self.renewer.start()

    def end(self, step: Step, *, failed: bool) -> None:
        with self.lock:
            took = f"{step.name}: {'failed after' if failed else 'done in'} {time.monotonic() - step.begin:.1f} s"
            self.running.remove(step)
            if self.terminal:
                print(_CLEAR, end="")
                self.print(took)
            else:
                left = [*(other.name for other in self.running), *self.waiting]
                self.print(f"{took} ({len(left)} left)" if left else took)

    def renew(self) -> None:
        if self.terminal and self.running:
            text = line(self.running, self.waiting, time.monotonic(), _columns())
            print(f"{_CLEAR}{text}", end="", flush=True)

    def _renew_while_any_runs(self) -> None:
        while True:
            time.sleep(_RENEW_SECONDS)
            with self.lock:
                if not self.running:
                    self.renewer = None
                    return
                self.renew()


_DISPLAY = _Display(terminal=sys.stdout.isatty())


def line(running: Sequence[Step], waiting: Sequence[str], now: float, columns: int) -> str:
    """What runs, for how many seconds and how far, and what waits; cut to one line of ``columns`` characters."""
    words = [f"{step.name} ({step.detail + ', ' if step.detail else ''}{now - step.begin:.0f} s)" for step in running]
    text = f"{len(running) + len(waiting)} left: {' · '.join(words)}"
    if waiting:
        text += f" · then {', '.join(waiting)}"
    return text if len(text) < columns else f"{text[: columns - 2]}…"


def say(message: str) -> None:
    """Print one line, stamped with the seconds since the start."""
    _DISPLAY.print(message)


def waiting(names: Sequence[str]) -> None:
    """Note what has not begun yet."""
    with _DISPLAY.lock:
        _DISPLAY.waiting = tuple(names)


@contextmanager
def step(name: str) -> Iterator[Callable[[str], None]]:
    """Show that something runs, and at its end how long it took; yields what takes a word on how far it is."""
    current = Step(name, time.monotonic())
    _DISPLAY.begin(current)

    def detail(text: str) -> None:
        current.detail = text

    try:
        yield detail
    except BaseException:
        _DISPLAY.end(current, failed=True)
        raise
    _DISPLAY.end(current, failed=False)


def wait_until(what: str, ready: Callable[[], bool], seconds: float, interval: float = 0.25) -> None:
    """Poll until ready() holds, or fail saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


def warn(message: str) -> None:
    """Print one line to standard error."""
    with _DISPLAY.lock:
        if _DISPLAY.terminal and _DISPLAY.running:
            print(_CLEAR, end="", flush=True)
        print(message, file=sys.stderr, flush=True)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return _FALLBACK_COLUMNS
