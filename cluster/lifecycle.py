"""Brings the cluster up from whatever an earlier run left, and takes it down without a trace."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from cluster import archive, binaries, certificates, components, mounts, network, node_programs, ownership, processes
from cluster.commands import run
from cluster.layout import (
    BUSYBOX_IMAGE,
    CACHE,
    CONTAINERD_SOCKET,
    ETCD_PORT,
    KUBECONFIG,
    LOCAL,
    LOGS,
    NODE_NAME,
    PAUSE_IMAGE,
    RUN,
    STATE,
)
from cluster.nodes import remains
from cluster.place import FIRST
from cluster.processes import Program
from cluster.progress import ClusterError, say, step, wait_until

_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_READY_SECONDS = 180.0
_PROGRAMS = (
    "containerd",
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
)
_SHIM_SOCKETS = Path("/run/containerd/s")


def up(takeover: bool) -> None:
    """Start or repair the cluster. A dead one of this checkout is resumed; one that will not start is renewed."""
    with ownership.alone():
        ownership.must_not_be_another(takeover)
        resumable = ownership.is_ours()
        alive = processes.any_running()
        if not resumable and STATE.exists():
            say(f"removing what the cluster of {ownership.owner() or 'an earlier run'} left")
            _remove()
        elif resumable and not alive:
            say("the cluster's processes are gone: starting them again on its data")
        try:
            _start()
        except ClusterError as failure:
            if alive or not resumable:
                raise
            say(f"it does not start on its old data, so it is made anew: {failure}")
            _remove()
            _start()


def down(takeover: bool) -> None:
    """Remove the cluster: processes, mounts, links, packet filter rules, state."""
    with ownership.alone():
        ownership.must_not_be_another(takeover)
        if STATE.exists() or RUN.exists() or network.present():
            with step("removing the cluster"):
                _remove()
        else:
            say("no cluster is here")
        if KUBECONFIG.exists():
            KUBECONFIG.unlink()


def healthy() -> bool:
    """Whether the cluster of this checkout answers."""
    return ownership.is_ours() and KUBECONFIG.exists() and _ask("get", "--raw", "/readyz")


def kubectl(*words: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Run the cluster's own kubectl as its administrator."""
    program = binaries.ensure(binaries.KUBERNETES) / "kubectl"
    return run([program, f"--kubeconfig={KUBECONFIG}", *words], stdin=stdin, timeout=timeout).stdout


def _start() -> None:
    kubernetes = binaries.ensure(binaries.KUBERNETES)
    STATE.mkdir(parents=True, exist_ok=True)
    ownership.claim()
    certificates.ensure()
    network.ensure(FIRST)
    _clear_dead_sockets()

    launch(node_programs.containerd(FIRST), _containerd_answers)
    _import_sandbox_image()
    launch(components.etcd(binaries.ensure(binaries.ETCD)), _etcd_answers)
    certificates.write_kubeconfig(KUBECONFIG, "admin")
    launch(components.api_server(kubernetes), lambda: _ask("get", "--raw", "/readyz"))
    launch(components.controller_manager(kubernetes))
    launch(components.scheduler(kubernetes))
    launch(node_programs.kube_proxy(kubernetes, FIRST))
    launch(node_programs.kubelet(kubernetes, FIRST))
    _apply_manifests()
    launch(components.coredns(binaries.ensure(binaries.COREDNS)))
    _wait_for_node()
    _link_logs()


def launch(program: Program, answers: Callable[[], bool] | None = None) -> None:
    """Start a program and wait until it answers, saying what its log says when it does not."""
    if processes.start(program):
        say(f"started {program.name}")
    if answers is None:
        return

    def ready() -> bool:
        if not processes.running(program.name):
            raise ClusterError(f"{program.name} ended:\n{processes.tail(program.name)}")
        return answers()

    try:
        wait_until(f"waiting for {program.name}", ready, _READY_SECONDS)
    except ClusterError as failure:
        raise ClusterError(f"{failure}\n{processes.tail(program.name)}") from None


def _containerd_answers() -> bool:
    return run(["ctr", "--address", CONTAINERD_SOCKET, "version"], check=False).returncode == 0


def _etcd_answers() -> bool:
    etcdctl = binaries.ensure(binaries.ETCD) / "etcdctl"
    asked = run([etcdctl, f"--endpoints=http://127.0.0.1:{ETCD_PORT}", "endpoint", "health"], check=False)
    return asked.returncode == 0


def _ask(*words: str) -> bool:
    program = binaries.ensure(binaries.KUBERNETES) / "kubectl"
    command = [str(program), f"--kubeconfig={KUBECONFIG}", "--request-timeout=5s", *words]
    return run(command, check=False).returncode == 0


def _import_sandbox_image() -> None:
    ctr = ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", "images"]
    names = run([*ctr, "list", "--quiet"]).stdout.split()
    if PAUSE_IMAGE in names and BUSYBOX_IMAGE in names:
        return
    target = CACHE / "images" / "busybox.tar"
    archive.write_busybox_archive(target)
    run([*ctr, "import", target])


def _apply_manifests() -> None:
    wait_until("waiting for kube-system", lambda: _ask("get", "namespace", "kube-system"), _READY_SECONDS)
    for manifest in sorted(_MANIFESTS.glob("*.yaml")):
        kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=shoal-cluster", "-f", str(manifest))


def _wait_for_node() -> None:
    def ready() -> bool:
        for name in _PROGRAMS:
            if not processes.running(name):
                raise ClusterError(f"{name} ended:\n{processes.tail(name)}")
        condition = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        with contextlib.suppress(ClusterError):
            return kubectl("get", "node", NODE_NAME, "-o", condition) == "True"
        return False

    wait_until("waiting for the node to be Ready", ready, _READY_SECONDS)
    default = ("get", "serviceaccount", "default", "-n", "default")
    wait_until("waiting for the default service account", lambda: _ask(*default), _READY_SECONDS)


def _link_logs() -> None:
    link = LOCAL / "cluster-logs"
    if not (link.is_symlink() and link.readlink() == LOGS):
        link.unlink(missing_ok=True)
        link.symlink_to(LOGS)


def _clear_dead_sockets() -> None:
    """After a reboot /run may still be there, but nothing that its files speak of."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    noted = RUN / "boot-id"
    if RUN.exists() and (not noted.exists() or noted.read_text() != boot) and not processes.any_running():
        mounts.unmount_below(RUN)
        shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True, exist_ok=True)
    noted.write_text(boot)


def _remove() -> None:
    processes.kill_recorded()
    remains.end()
    processes.kill_all(processes.pids_whose_command_names(CONTAINERD_SOCKET))
    processes.kill_all(mounts.pod_processes())
    mounts.remove_groups()
    for folder in (RUN, STATE):
        mounts.unmount_below(folder)
    remains.clear()
    network.remove()
    _remove_dead_sockets()
    _remove_kubelet_traces()
    for folder in (RUN, STATE):
        _remove_tree(folder)


def _remove_dead_sockets() -> None:
    """Shims put their sockets into a folder that all containerds share: the dead ones are nobody's."""
    for path in _SHIM_SOCKETS.glob("*"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
    _remove_empty(_SHIM_SOCKETS, _SHIM_SOCKETS.parent)


def _remove_kubelet_traces() -> None:
    """The kubelet keeps a few fixed paths outside the root that it was given."""
    containers = Path("/var/log/containers")
    if containers.is_dir():
        for link in containers.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(str(FIRST.pod_logs)):
                link.unlink()
        _remove_empty(containers)
    plugins = Path("/var/lib/kubelet/device-plugins")
    for leftover in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
        (plugins / leftover).unlink(missing_ok=True)
    _remove_empty(plugins, plugins.parent)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_tree(folder: Path) -> None:
    """Remove a folder, but never through a mount that could not be undone."""
    left = mounts.below(folder)
    if left:
        raise ClusterError(f"{len(left)} mounts could not be undone, so {folder} stays; one is {left[0]}")
    if folder.exists():
        shutil.rmtree(folder)
    if os.path.lexists(LOCAL / "cluster-logs"):
        (LOCAL / "cluster-logs").unlink()
