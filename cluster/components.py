"""The programs of the cluster: their command lines and their configuration files."""

import json
from pathlib import Path
from typing import Any

from cluster import certificates, network
from cluster.commands import need
from cluster.layout import (
    API_PORT,
    CLUSTER_DOMAIN,
    CONFIG,
    CONTAINERD_SOCKET,
    DNS_SERVICE_IP,
    ETCD_PEER_PORT,
    ETCD_PORT,
    MAX_PODS,
    NODE_IP,
    NODE_NAME,
    PAUSE_IMAGE,
    PKI,
    POD_NETWORK,
    RUN,
    SERVICE_NETWORK,
    STATE,
)
from cluster.processes import Program

KUBELET_ROOT = STATE / "kubelet"
CONTAINERD_ROOT = STATE / "containerd"
CONTAINERD_STATE = RUN / "containerd"
POD_LOGS = STATE / "pod-logs"


def etcd(programs: Path) -> Program:
    client = f"http://127.0.0.1:{ETCD_PORT}"
    peer = f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return _program(
        "etcd",
        programs / "etcd",
        {
            "name": "shoal",
            "data-dir": STATE / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"shoal={peer}",
            # A cluster to throw away: speed counts for more than surviving a power cut.
            "unsafe-no-fsync": "true",
            "quota-backend-bytes": 8 * 1024**3,
        },
    )


def api_server(programs: Path) -> Program:
    crt, key = certificates.crt, certificates.key
    return _program(
        "kube-apiserver",
        programs / "kube-apiserver",
        {
            "advertise-address": NODE_IP,
            "secure-port": API_PORT,
            "etcd-servers": f"http://127.0.0.1:{ETCD_PORT}",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "client-ca-file": crt("ca"),
            "tls-cert-file": crt("apiserver"),
            "tls-private-key-file": key("apiserver"),
            "kubelet-certificate-authority": crt("ca"),
            "kubelet-client-certificate": crt("apiserver-to-kubelet"),
            "kubelet-client-key": key("apiserver-to-kubelet"),
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
            "service-account-signing-key-file": key("service-accounts"),
            "service-account-key-file": key("service-accounts"),
            "service-cluster-ip-range": SERVICE_NETWORK,
            "cert-dir": PKI / "self-signed",
        },
        reads=(crt("ca"), crt("apiserver")),
    )


def controller_manager(programs: Path) -> Program:
    config = _kubeconfig("controller-manager")
    return _program(
        "kube-controller-manager",
        programs / "kube-controller-manager",
        {
            "bind-address": "127.0.0.1",
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "leader-elect": "false",
            "use-service-account-credentials": "true",
            "service-account-private-key-file": certificates.key("service-accounts"),
            "root-ca-file": certificates.crt("ca"),
            "cluster-signing-cert-file": certificates.crt("ca"),
            "cluster-signing-key-file": certificates.key("ca"),
            "service-cluster-ip-range": SERVICE_NETWORK,
            "cert-dir": PKI / "self-signed",
        },
        reads=(config,),
    )


def scheduler(programs: Path) -> Program:
    config = _kubeconfig("scheduler")
    return _program(
        "kube-scheduler",
        programs / "kube-scheduler",
        {
            "bind-address": "127.0.0.1",
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "leader-elect": "false",
            "cert-dir": PKI / "self-signed",
        },
        reads=(config,),
    )


def containerd() -> Program:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    config = _write(
        "containerd.toml",
        f"""version = 2
root = "{CONTAINERD_ROOT}"
state = "{CONTAINERD_STATE}"
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{CONTAINERD_ROOT}/opt"
[{cri}]
sandbox_image = "{PAUSE_IMAGE}"
# Lowering a process's OOM score takes CAP_SYS_RESOURCE, which a sandbox may lack.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[{cri}.cni]
bin_dir = "{network.CNI_BIN}"
conf_dir = "{network.CNI_CONFIG}"
[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{RUN}/runc"
""",
    )
    program = need("containerd", "apt-get install containerd")
    return Program("containerd", (str(program), "--config", str(config)), (config,))


def kubelet(programs: Path) -> Program:
    resolv = _write("resolv.conf", f"nameserver {NODE_IP}\n")
    kubeconfig = _kubeconfig("kubelet")
    config = _write_json(
        "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(certificates.crt("ca"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificates.crt("kubelet-serving")),
            "tlsPrivateKeyFile": str(certificates.key("kubelet-serving")),
            "address": NODE_IP,
            "clusterDNS": [DNS_SERVICE_IP],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": str(resolv),
            "maxPods": MAX_PODS,
            "systemReserved": {"memory": "2Gi"},
            "podLogsDir": str(POD_LOGS),
            "volumePluginDir": str(KUBELET_ROOT / "volume-plugins"),
            "staticPodPath": "",
            # Machines without systemd, with cgroup v1, without CAP_SYS_RESOURCE.
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "oomScoreAdj": 0,
            # Images exist only here: collecting one as garbage would lose it. The disk is the user's.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {},
        },
    )
    return _program(
        "kubelet",
        programs / "kubelet",
        {
            "config": config,
            "kubeconfig": kubeconfig,
            "hostname-override": NODE_NAME,
            "node-ip": NODE_IP,
            "root-dir": KUBELET_ROOT,
            "cert-dir": KUBELET_ROOT / "pki",
        },
        reads=(config, kubeconfig, resolv),
    )


def kube_proxy(programs: Path) -> Program:
    kubeconfig = _kubeconfig("kube-proxy")
    config = _write_json(
        "kube-proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": POD_NETWORK,
            "hostnameOverride": NODE_NAME,
            # Node ports answer on 127.0.0.1 as well: that is where tests and demos reach the gateway.
            "iptables": {"localhostNodePorts": True},
            "conntrack": {"maxPerCore": 0},
            "oomScoreAdj": 0,
        },
    )
    return _program("kube-proxy", programs / "kube-proxy", {"config": config}, reads=(config, kubeconfig))


def coredns(programs: Path) -> Program:
    """The cluster's DNS, on the bridge's address; nothing outside the cluster has a name here."""
    kubeconfig = _kubeconfig("coredns")
    corefile = _write(
        "Corefile",
        f"""{CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
  bind {NODE_IP}
  errors
  kubernetes {{
    kubeconfig {kubeconfig}
    pods insecure
    ttl 5
  }}
  loadbalance
}}
.:53 {{
  bind {NODE_IP}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
""",
    )
    return Program("coredns", (str(programs / "coredns"), "-conf", str(corefile)), (corefile, kubeconfig))


def _program(name: str, binary: Path, flags: dict[str, object], reads: tuple[Path, ...] = ()) -> Program:
    return Program(name, (str(binary), *(f"--{flag}={value}" for flag, value in flags.items())), reads)


def _kubeconfig(name: str) -> Path:
    path = CONFIG / f"{name}.kubeconfig"
    certificates.write_kubeconfig(path, name)
    return path


def _write_json(name: str, content: dict[str, Any]) -> Path:
    return _write(name, json.dumps(content, indent=1) + "\n")


def _write(name: str, text: str) -> Path:
    path = CONFIG / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
