"""Running other programs: output to the caller, and a readable error when one fails."""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.progress import ClusterError

_TAIL = 30


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; on failure raise with the last lines that it printed."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(words)}: no answer within {timeout} s") from None
    if check and result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-_TAIL:])
        raise ClusterError(f"{' '.join(words)} failed ({result.returncode}):\n{tail}")
    return result


def follow(
    command: Sequence[str | Path], is_progress: Callable[[str], bool], *, cwd: Path, env: Mapping[str, str]
) -> None:
    """Run a program and hand on each line while it runs; on failure raise with the last that were not progress."""
    words = [str(word) for word in command]
    last: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            if not is_progress(line.rstrip()):
                last.append(line.rstrip())
    if process.returncode != 0:
        raise ClusterError(f"{' '.join(words)} failed ({process.returncode}):\n" + "\n".join(last))


def output(command: Sequence[str | Path], **options: object) -> str:
    """The standard output of a program that must succeed."""
    return run(command, **options).stdout.strip()  # type: ignore[arg-type]


def find(program: str) -> Path | None:
    """Where a program is, looking also into the folders that a non-root PATH leaves out."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/go/bin"])
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def need(program: str, hint: str) -> Path:
    """Where a program is, or an error that says how to get it."""
    found = find(program)
    if found is None:
        raise ClusterError(f"{program} was not found: {hint}")
    return found
