"""Builds the programs from Go modules, once per machine, and links them into .local/bin.

All of them share one go.mod (tools/), so that what two of them use is compiled once, and what Kubernetes' six
programs share, which is nearly all, is linked once. Only those that a cluster of several nodes needs have another one
(nodes/tools/), so that nobody else waits for them; it pins what both use to the same versions. A build is kept under a
hash of everything that decides what comes out of it.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from cluster.commands import follow, need, output
from cluster.layout import CACHE, LOCAL_BIN
from cluster.progress import step

_TOOLS: Final = Path(__file__).resolve().parent / "tools"
_NODES_TOOLS: Final = Path(__file__).resolve().parent / "nodes" / "tools"
_KUBERNETES_VERSION_PACKAGES: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_COMPILER_FLAGS: Final = "all=-dwarf=false"
"""Without what a debugger reads; a panic names files and lines all the same."""
_ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOGC": "400"}
"""No C: one of the programs goes into an image without a C library, and one set of packages serves all. Fewer garbage
collections in the compiler: a tenth less CPU for some hundred MiB more."""


@dataclass(frozen=True)
class Tool:
    """One main package, and the names that its program goes by: where they are several, the name decides what runs."""

    name: str
    package: str
    programs: tuple[str, ...]
    linked: tuple[str, ...] = ()
    of_nodes: bool = field(default=False, repr=False)

    def module(self) -> Path:
        """The folder of the go.mod that it is built with."""
        return _NODES_TOOLS if self.of_nodes else _TOOLS

    def source(self) -> Path | None:
        """The folder of a main package of ours; None for somebody else's."""
        return self.module() / self.package if self.package.startswith("./") else None


KUBERNETES: Final = Tool(
    "kubernetes",
    "./kubernetes",
    ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    linked=("kubectl",),
)
ETCD: Final = Tool("etcd", "./etcd", ("etcd", "etcdctl"), linked=("etcdctl",))
COREDNS: Final = Tool("coredns", "./coredns", ("coredns",))
VERSITYGW: Final = Tool("versitygw", "./versitygw", ("versitygw",), linked=("versitygw",))
VEGETA: Final = Tool("vegeta", "github.com/tsenart/vegeta/v12", ("vegeta",), linked=("vegeta",))
HELM: Final = Tool("helm", "helm.sh/helm/v4/cmd/helm", ("helm",), linked=("helm",))
NETWORK_POLICIES: Final = Tool("network-policies", "./network-policies", ("network-policies",), of_nodes=True)
METRICS_SERVER: Final = Tool("metrics-server", "./metrics-server", ("metrics-server",), of_nodes=True)

FOR_THE_CLUSTER: Final = (KUBERNETES, ETCD, COREDNS)
FOR_THE_USER: Final = (HELM, VERSITYGW, VEGETA)
FOR_SEVERAL_NODES: Final = (NETWORK_POLICIES, METRICS_SERVER)


def ensure(tool: Tool) -> Path:
    """Build a tool unless this machine has it; the folder that holds its programs."""
    ensure_all((tool,))
    return _folder(tool)


def ensure_all(tools: Sequence[Tool]) -> None:
    """Build those of the tools that this machine does not have, all of one go.mod with one call of the compiler."""
    if not all(_complete(tool) for tool in tools):
        lock = CACHE / "locks" / "go"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            missing = [tool for tool in tools if not _complete(tool)]
            for module in dict.fromkeys(tool.module() for tool in missing):
                _build([tool for tool in missing if tool.module() == module])
    for tool in tools:
        _link(tool)


def _complete(tool: Tool) -> bool:
    return all((_folder(tool) / program).exists() for program in tool.programs)


def _build(tools: Sequence[Tool]) -> None:
    module = tools[0].module()
    scratch = CACHE / "bin" / f".{'-'.join(tool.name for tool in tools)}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    packages = [tool.package for tool in tools]
    flags = [
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        f"-gcflags={_COMPILER_FLAGS}",
        f"-ldflags={_linker_flags()}",
    ]
    with step(f"Go programs {', '.join(tool.name for tool in tools)}") as detail:
        total = len(output([_go(), "list", "-mod=readonly", "-deps", *packages], cwd=module, env=_ENVIRONMENT).split())
        compiled = 0

        def count(text: str) -> bool:
            """The compiler names each package as it begins with it; a complaint has blanks in it."""
            nonlocal compiled
            if " " in text:
                return False
            compiled += 1
            detail(f"{compiled} of {total} packages")
            return True

        follow([_go(), "build", "-v", *flags, "-o", f"{scratch}/", *packages], count, cwd=module, env=_ENVIRONMENT)
    for tool in tools:
        _keep(tool, scratch / tool.name)
    scratch.rmdir()


def _keep(tool: Tool, program: Path) -> None:
    """Put a program into its folder of the cache, under each of its names."""
    folder = _folder(tool)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    program.rename(part / tool.name)
    for name in tool.programs:
        if name != tool.name:
            (part / name).symlink_to(tool.name)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _link(tool: Tool) -> None:
    LOCAL_BIN.mkdir(parents=True, exist_ok=True)
    for program in tool.linked:
        link, target = LOCAL_BIN / program, _folder(tool) / program
        if link.is_symlink() and link.readlink() == target:
            continue
        fresh = link.with_name(f".{program}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)


def _folder(tool: Tool) -> Path:
    return CACHE / "bin" / f"{tool.name}-{_key(tool)}"


def _key(tool: Tool) -> str:
    digest = hashlib.sha256()
    source = tool.source()
    for path in (tool.module() / "go.mod", tool.module() / "go.sum", *(sorted(source.glob("*.go")) if source else ())):
        digest.update(path.read_bytes())
    digest.update(_toolchain().encode())
    digest.update(repr((tool, _COMPILER_FLAGS, _linker_flags(), _ENVIRONMENT)).encode())
    return digest.hexdigest()[:12]


@lru_cache
def _toolchain() -> str:
    return output([_go(), "env", "GOVERSION", "GOARCH"], cwd=_TOOLS)


def _linker_flags() -> str:
    """No symbols; and Kubernetes' version, which it carries only this way and Helm charts compare with kubeVersion."""
    found = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", (_TOOLS / "go.mod").read_text())
    if found is None:
        return "-s -w"
    major, minor, patch = found.groups()
    values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    values["gitTreeState"] = "clean"
    names = [(package, name) for package in _KUBERNETES_VERSION_PACKAGES for name in values]
    return " ".join(["-s -w", *(f"-X {package}.{name}={values[name]}" for package, name in names)])


def _go() -> Path:
    return need("go", "install Go 1.26 or newer")
