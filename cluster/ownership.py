"""One cluster per machine: which checkout it belongs to, and the lock that lifecycle commands take."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import processes
from cluster.layout import CHECKOUT, STATE
from cluster.progress import ClusterError, say

_OWNER = STATE / "owner.json"
_LOCK = Path("/run/lock/shoal-cluster.lock")


@contextmanager
def alone() -> Iterator[None]:
    """Hold the machine-wide lock, so that two starts do not build on each other's halves."""
    if os.geteuid() != 0:
        raise ClusterError("the local cluster needs root (network namespaces, mounts); or set SHOAL_KUBECONFIG")
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command works on the cluster: waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def owner() -> Path | None:
    """The checkout that started the cluster whose state is on this machine."""
    try:
        return Path(json.loads(_OWNER.read_text())["checkout"])
    except (OSError, ValueError, KeyError):
        return None


def is_ours() -> bool:
    return owner() == CHECKOUT


def claim() -> None:
    """Note that the cluster belongs to this checkout."""
    STATE.mkdir(parents=True, exist_ok=True)
    _OWNER.write_text(json.dumps({"checkout": str(CHECKOUT)}))


def must_not_be_another(takeover: bool) -> None:
    """Refuse when another checkout's cluster runs, unless it may be taken over."""
    other = owner()
    if other is None or other == CHECKOUT or not processes.any_running():
        return
    if takeover or not other.exists():
        return
    raise ClusterError(
        f"a cluster of another checkout runs on this machine: {other}\n"
        "Only one runs at a time. Take it over with 'make cluster TAKEOVER=1' (it is removed first)."
    )
