"""Starts programs that outlive us, and knows later which of them still run.

A record holds the process id together with the time at which the kernel started it, so that a number
that some other program got since then is never mistaken for ours, and a digest of the command and its
configuration, so that a change of either restarts the program.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.layout import LOGS, STATE

_RECORDS = STATE / "processes"
_TERM_SECONDS = 5.0
_LOG_LIMIT = 50 * 1024 * 1024


@dataclass(frozen=True)
class Program:
    """A command line and the files that it reads; its name is that of its record and log.

    ``enter``: words in front of the command (of unshare or nsenter) that make it a child in other namespaces.
    """

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    enter: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(json.dumps(self.command).encode())
        for path in self.reads:
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Record:
    """What is kept of a started program."""

    pid: int
    started: str | None
    digest: str = ""


def start(program: Program) -> bool:
    """Start a program unless the same one runs; whether it was started."""
    record = _read(program.name)
    if record is not None and _alive(record):
        if record.digest == program.digest:
            return False
        stop(program.name)
    LOGS.mkdir(parents=True, exist_ok=True)
    _RECORDS.mkdir(parents=True, exist_ok=True)
    log = log_of(program.name)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as out:
        child = subprocess.Popen(
            (*program.enter, *program.command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    pid = _child_of(child.pid) if program.enter else child.pid
    text = json.dumps(asdict(_Record(pid, _start_time(pid), program.digest)))
    part = _RECORDS / f".{program.name}.part"
    part.write_text(text)
    part.replace(_RECORDS / f"{program.name}.json")
    return True


def running(name: str) -> bool:
    """Whether the recorded program runs now."""
    record = _read(name)
    return record is not None and _alive(record)


def recorded() -> list[str]:
    """The names of all programs that were started and not stopped."""
    return sorted(path.stem for path in _RECORDS.glob("*.json"))


def any_running() -> bool:
    return any(running(name) for name in recorded())


def pid_of(name: str) -> int | None:
    """The process id of a program that runs."""
    record = _read(name)
    return record.pid if record is not None and _alive(record) else None


def kill_recorded(prefix: str = "") -> None:
    """End every recorded program at once, by its id, and forget it: nothing that it would save is kept.

    ``prefix``: only those whose names begin with it.
    """
    names = [name for name in recorded() if name.startswith(prefix)]
    for name in names:
        send(name, signal.SIGKILL)
    for name in names:
        stop(name)


def send(name: str, number: int) -> bool:
    """Send a signal to a recorded program; whether it runs."""
    record = _read(name)
    if record is None or not _alive(record):
        return False
    _signal(record.pid, number)
    return True


def stop(name: str) -> None:
    """End a recorded program, by its id, first politely; forget it."""
    record = _read(name)
    if record is not None:
        if _alive(record):
            _signal(record.pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_SECONDS
        while _alive(record) and time.monotonic() < deadline:
            time.sleep(0.05)
        kill_all([record.pid] if _alive(record) else [])
    (_RECORDS / f"{name}.json").unlink(missing_ok=True)


def kill_all(pids: Sequence[int]) -> None:
    """End processes at once and wait until they are gone."""
    begun = [_Record(pid, _start_time(pid)) for pid in pids]
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + _TERM_SECONDS
    while time.monotonic() < deadline:
        if not any(_alive(record) for record in begun):
            return
        time.sleep(0.05)


def pids_whose_command_names(path: Path) -> list[int]:
    """Processes that have a path of this cluster in their command line, such as containerd's shims."""
    needle = str(path).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if needle in words:
            found.append(int(entry.name))
    return found


def log_of(name: str) -> Path:
    return LOGS / f"{name}.log"


def tail(name: str, lines: int = 15) -> str:
    """The last lines of a program's log."""
    log = log_of(name)
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _environment() -> dict[str, str]:
    """A plain environment: what the user's shell carries is none of the cluster's business."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def _read(name: str) -> _Record | None:
    try:
        return _Record(**json.loads((_RECORDS / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _child_of(pid: int) -> int:
    """The first child of a program that we have just started; its own id where it ends without one."""
    deadline = time.monotonic() + _TERM_SECONDS
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            break
        if children:
            return int(children[0])
        time.sleep(0.01)
    return pid


def _alive(record: _Record) -> bool:
    started = _start_time(record.pid)
    return started is not None and started == record.started


def _start_time(pid: int) -> str | None:
    """When a process was started, together with the machine's boot; None once it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}/{started}"


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
