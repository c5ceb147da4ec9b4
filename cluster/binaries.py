"""Builds the programs from Go modules, once per machine, and links them into .local/bin.

Each folder of tools/ is a module of its own, because the programs pin different versions of the same
dependencies. A build is kept under a hash of everything that decides what comes out of it.
"""

import fcntl
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import need, output, run
from cluster.layout import CACHE, LOCAL_BIN
from cluster.progress import step

_TOOLS = Path(__file__).resolve().parent / "tools"
_KUBERNETES_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Tool:
    """One Go module below tools/ and what comes out of it."""

    module: str
    programs: tuple[str, ...]
    linked: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    static: bool = False  # it goes into an image without a C library

    @property
    def folder(self) -> Path:
        return _TOOLS / self.module


KUBERNETES = Tool(
    "kubernetes",
    ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    linked=("kubectl",),
)
# The main package of etcd is .../server/v3, so the toolchain calls the program "server".
ETCD = Tool("etcd", ("etcd", "etcdctl"), linked=("etcdctl",), renamed=(("server", "etcd"),))
COREDNS = Tool("coredns", ("coredns",))
VERSITYGW = Tool("versitygw", ("versitygw",), linked=("versitygw",), static=True)
VEGETA = Tool("vegeta", ("vegeta",), linked=("vegeta",))
HELM = Tool("helm", ("helm",), linked=("helm",))

FOR_THE_CLUSTER = (KUBERNETES, ETCD, COREDNS)
FOR_THE_USER = (VERSITYGW, VEGETA, HELM)


def ensure(tool: Tool) -> Path:
    """Build a tool's programs unless this machine has them; the folder that holds them."""
    folder = CACHE / "bin" / f"{tool.module}-{_key(tool)}"
    if not _complete(tool, folder):
        lock = CACHE / "locks" / tool.module
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if not _complete(tool, folder):
                with step(f"building {', '.join(tool.programs)} (Go; once per machine)"):
                    _build(tool, folder)
    _link(tool, folder)
    return folder


def _complete(tool: Tool, folder: Path) -> bool:
    return all((folder / program).exists() for program in tool.programs)


def _build(tool: Tool, folder: Path) -> None:
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    flags = f"-s -w {_version_flags(tool)}".strip()
    command = [str(_go()), "build", "-mod=readonly", "-trimpath", f"-ldflags={flags}", "-o", f"{scratch}/", "tool"]
    run(command, cwd=tool.folder, env=_environment(tool))
    for built, wanted in tool.renamed:
        (scratch / built).rename(scratch / wanted)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def _link(tool: Tool, folder: Path) -> None:
    LOCAL_BIN.mkdir(parents=True, exist_ok=True)
    for program in tool.linked:
        link = LOCAL_BIN / program
        if link.is_symlink() and link.readlink() == folder / program:
            continue
        fresh = link.with_name(f".{program}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder / program)
        fresh.replace(link)


def _key(tool: Tool) -> str:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((tool.folder / name).read_bytes())
    digest.update(output([_go(), "env", "GOVERSION", "GOARCH"], cwd=tool.folder).encode())
    digest.update(repr((tool.programs, tool.static, _version_flags(tool))).encode())
    return digest.hexdigest()[:12]


def _environment(tool: Tool) -> dict[str, str]:
    return {"CGO_ENABLED": "0"} if tool.static else {}


def _version_flags(tool: Tool) -> str:
    """Kubernetes carries its version only by linker flags; Helm charts compare it with kubeVersion."""
    if tool is not KUBERNETES:
        return ""
    found = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", (tool.folder / "go.mod").read_text())
    if found is None:
        return ""
    major, minor, patch = found.groups()
    values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    values["gitTreeState"] = "clean"
    return " ".join(
        f"-X {package}.{name}={value}" for package in _KUBERNETES_VERSION_PACKAGES for name, value in values.items()
    )


def _go() -> Path:
    return need("go", "install Go 1.26 or newer")
