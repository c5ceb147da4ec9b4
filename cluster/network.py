"""The bridge that the pods hang on, its kernel settings and packet filter rules, and their removal."""

import ipaddress
import json
from pathlib import Path

from cluster.commands import find, run
from cluster.configuration import write
from cluster.layout import BRIDGE, NODE_IP_WITH_PREFIX, RUN, STATE
from cluster.place import Place

CNI_BIN = Path("/usr/lib/cni")
_CNI_RESULTS = Path("/var/lib/cni/results")
COMMENT = "shoal-cluster"
POLICY_CHAIN = "SHOAL-NETPOL"
_SAVED = STATE / "kernel-settings.json"
_SETTINGS = {
    "net.ipv4.ip_forward": "1",
    # Pods on one bridge reach each other past the packet filter; Services need their answers to pass it.
    "net.bridge.bridge-nf-call-iptables": "1",
    # Thousands of pods and their connections come and go; the default of 128 instances is for a desktop.
    "fs.inotify.max_user_instances": "1024",
}
# Settings that kube-proxy and the kubelet change by themselves, kept only to be put back.
_CHANGED_BY_OTHERS = (
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)


def ensure(first: Place) -> None:
    """Create what is missing and correct what differs."""
    _ensure_bridge()
    _ensure_kernel_settings()
    ensure_forwarding(BRIDGE)
    write_cni_configuration(first, BRIDGE)


def present() -> bool:
    """Whether the bridge is there with its address."""
    answer = run(["ip", "-j", "address", "show", "dev", BRIDGE], check=False)
    return answer.returncode == 0 and NODE_IP_WITH_PREFIX.split("/")[0] in answer.stdout


def remove() -> None:
    """Remove the bridge, the pods' links on it, every chain and rule, and put kernel settings back."""
    for link in _links_on_bridge():
        run(["ip", "link", "delete", link], check=False)
    run(["ip", "link", "delete", BRIDGE], check=False)
    for family in ("iptables", "ip6tables"):
        _remove_rules(family)
    _remove_cni_results()
    if _SAVED.exists():
        for name, value in json.loads(_SAVED.read_text()).items():
            _write_setting(name, value)
        _SAVED.unlink()


def _ensure_bridge() -> None:
    if not present():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=False)
        run(["ip", "address", "replace", NODE_IP_WITH_PREFIX, "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])


def _ensure_kernel_settings() -> None:
    if find("modprobe"):
        run(["modprobe", "-a", "br_netfilter", "overlay"], check=False)
    if not _SAVED.exists():
        names = [name for name in (*_SETTINGS, *_CHANGED_BY_OTHERS) if _setting(name).exists()]
        before = {name: _setting(name).read_text().strip() for name in names}
        _SAVED.parent.mkdir(parents=True, exist_ok=True)
        _SAVED.write_text(json.dumps(before))
    for name, value in _SETTINGS.items():
        _write_setting(name, value)


def ensure_forwarding(bridge: str) -> None:
    """Let pods talk where the host's policy for forwarded packets is to drop them."""
    for rule in _forwarding(bridge):
        if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
            run(["iptables", "-w", "-I", *rule])


def remove_forwarding(bridge: str) -> None:
    for rule in _forwarding(bridge):
        run(["iptables", "-w", "-D", *rule], check=False)


def _forwarding(bridge: str) -> list[list[str]]:
    comment = ["-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
    return [["FORWARD", direction, bridge, *comment] for direction in ("-i", "-o")]


def write_cni_configuration(place: Place, bridge: str) -> None:
    """How the containerd of a node gives its pods their links and addresses."""
    plugin = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": place.pod_network, "rangeStart": _first_pod_address(place)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(place.state / "cni"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    text = json.dumps({"cniVersion": "0.4.0", "name": place.node, "plugins": [plugin, portmap]}, indent=1)
    write(place.cni / "10-shoal.conflist", text)


def _first_pod_address(place: Place) -> str:
    return str(ipaddress.ip_network(place.pod_network)[16])


def _links_on_bridge() -> list[str]:
    answer = run(["ip", "-j", "link", "show", "master", BRIDGE], check=False)
    if answer.returncode != 0 or not answer.stdout.strip():
        return []
    return [link["ifname"] for link in json.loads(answer.stdout) if "ifname" in link]


def _remove_rules(family: str) -> None:
    """Write the tables back without Kubernetes' chains, CNI's chains, and our two rules."""
    if find(f"{family}-save") is None:
        return
    saved = run([f"{family}-save"], check=False)
    if saved.returncode != 0:
        return
    lines = saved.stdout.splitlines()
    kept = [line for line in lines if not any(mark in line for mark in ("KUBE-", "CNI-", COMMENT, POLICY_CHAIN))]
    if kept != lines:
        run([f"{family}-restore", "-w"], stdin="\n".join(kept) + "\n")


def _remove_cni_results() -> None:
    """CNI keeps what it answered in one folder for all networks; ours name a namespace below our own folder."""
    if not _CNI_RESULTS.is_dir():
        return
    for result in _CNI_RESULTS.iterdir():
        if str(RUN) in result.read_text(errors="replace"):
            result.unlink(missing_ok=True)
    for folder in (_CNI_RESULTS, _CNI_RESULTS.parent):
        if not any(folder.iterdir()):
            folder.rmdir()


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _write_setting(name: str, value: str) -> None:
    path = _setting(name)
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
