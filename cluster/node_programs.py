"""The programs that every node has: their command lines and their configuration files."""

from pathlib import Path

from cluster import certificates, network
from cluster.commands import need
from cluster.configuration import program, write, write_json
from cluster.layout import API_PORT, CLUSTER_DOMAIN, DNS_SERVICE_IP, NODE_IP, PAUSE_IMAGE
from cluster.place import Place
from cluster.processes import Program

_CRI = "io.containerd.grpc.v1.cri"


def containerd(place: Place) -> Program:
    cri = f'plugins."{_CRI}"'
    config = write(
        place.config / "containerd.toml",
        f"""version = 2
root = "{place.containerd_root}"
state = "{place.run}/containerd"
[grpc]
address = "{place.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{place.containerd_root}/opt"
[{cri}]
sandbox_image = "{PAUSE_IMAGE}"
# Lowering a process's OOM score takes CAP_SYS_RESOURCE, which a sandbox may lack.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[{cri}.cni]
bin_dir = "{network.CNI_BIN}"
conf_dir = "{place.cni}"
[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{place.run}/runc"
""",
    )
    binary = need("containerd", "apt-get install containerd")
    return Program(f"{place.prefix}containerd", (str(binary), "--config", str(config)), (config,), place.enter)


def kubelet(programs: Path, place: Place) -> Program:
    resolv = write(place.config / "resolv.conf", f"nameserver {NODE_IP}\n")
    kubeconfig = kubeconfig_of(place, "kubelet", f"kubelet{place.suffix}")
    config = write_json(
        place.config / "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{place.containerd_socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(certificates.crt("ca"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificates.crt(f"kubelet-serving{place.suffix}")),
            "tlsPrivateKeyFile": str(certificates.key(f"kubelet-serving{place.suffix}")),
            "address": place.address,
            "clusterDNS": [DNS_SERVICE_IP],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": str(resolv),
            "maxPods": place.max_pods,
            "systemReserved": {"memory": "2Gi"},
            "podLogsDir": str(place.pod_logs),
            "volumePluginDir": str(place.kubelet_root / "volume-plugins"),
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
            **place.kubelet_settings,
        },
    )
    return program(
        f"{place.prefix}kubelet",
        programs / "kubelet",
        {
            "config": config,
            "kubeconfig": kubeconfig,
            "hostname-override": place.node,
            "node-ip": place.address,
            "root-dir": place.kubelet_root,
            "cert-dir": place.kubelet_root / "pki",
            **place.kubelet_flags,
        },
        reads=(config, kubeconfig, resolv),
        enter=place.enter,
    )


def kube_proxy(programs: Path, place: Place) -> Program:
    kubeconfig = kubeconfig_of(place, "kube-proxy")
    config = write_json(
        place.config / "kube-proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": place.pod_network,
            "hostnameOverride": place.node,
            # Node ports answer on 127.0.0.1 as well: that is where tests and demos reach the gateway.
            "iptables": {"localhostNodePorts": True},
            "conntrack": {"maxPerCore": 0},
            "oomScoreAdj": 0,
        },
    )
    name = f"{place.prefix}kube-proxy"
    return program(name, programs / "kube-proxy", {"config": config}, (config, kubeconfig), place.enter)


def kubeconfig_of(place: Place, program_name: str, certificate: str = "") -> Path:
    """A program's way to the API server from its node."""
    path = place.config / f"{program_name}.kubeconfig"
    server = f"https://{place.api_address}:{API_PORT}"
    certificates.write_kubeconfig(path, certificate or program_name, server=server, user=program_name)
    return path
