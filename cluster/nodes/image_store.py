"""Gives a node the images of the first one: files are linked, only containerd's two databases are copied.

Layers and blobs never change once they are written, so both may have the same. The databases are those of a containerd
that runs, so it is stopped for the moment of their copying: what is on the disk then is what a power cut would leave,
which they are made for. The copy still knows the first node's containers; a containerd without its part for Kubernetes
forgets them before the node's kubelet could ask about them.
"""

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import processes
from cluster.commands import need, output, run
from cluster.configuration import write
from cluster.place import FIRST, Place
from cluster.processes import Program
from cluster.progress import wait_until

_DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")
_LAYERS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
_BLOBS = "io.containerd.content.v1.content/blobs"
_UPPER = re.compile(r"upperdir=[^, ]*/snapshots/(\d+)/")
_SECONDS = 30.0


def ensure(place: Place) -> None:
    """Fill a node's store unless it has one. Its containerd must not run."""
    if place.containerd_root.exists():
        return
    part = place.containerd_root.with_name("containerd.part")
    shutil.rmtree(part, ignore_errors=True)
    with _stopped("containerd"):
        for name in _DATABASES:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(FIRST.containerd_root / name, part / name)
    _link(_BLOBS, part, set())
    _link(_LAYERS, part, _written_to())
    _forget_containers(part, place)
    part.rename(place.containerd_root)


@contextmanager
def _stopped(name: str) -> Iterator[None]:
    try:
        processes.send(name, signal.SIGSTOP)
        yield
    finally:
        processes.send(name, signal.SIGCONT)


def _link(name: str, part: Path, without: set[str]) -> None:
    """Link all files below a folder; what vanishes meanwhile belonged to a container that ended."""
    source = FIRST.containerd_root / name
    target = part / name
    target.mkdir(parents=True)
    entries = [str(entry) for entry in sorted(source.iterdir()) if entry.name not in without]
    if entries:
        run(["cp", "-al", "-t", target, "--", *entries], check=False)


def _written_to() -> set[str]:
    """The layers that a container writes into: the only ones that change."""
    return set(_UPPER.findall(Path("/proc/self/mountinfo").read_text()))


def _forget_containers(part: Path, place: Place) -> None:
    socket = place.run / "store.sock"
    config = write(
        place.config / "store.toml",
        f"""version = 2
root = "{part}"
state = "{place.run}/store"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{place.run}/store-opt"
""",
    )
    ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]
    name = f"{place.prefix}store"
    binary = need("containerd", "apt-get install containerd")
    processes.start(Program(name, (str(binary), "--config", str(config)), (config,)))
    try:
        answers = lambda: run([*ctr, "version"], check=False).returncode == 0  # noqa: E731
        wait_until(f"waiting for the images of {place.node}", answers, _SECONDS, interval=0.05)
        containers = output([*ctr, "containers", "list", "--quiet"]).split()
        if containers:
            run([*ctr, "containers", "delete", *containers])
    finally:
        processes.stop(name)
