"""The programs that a cluster has once, its control plane and DNS: their command lines and their configuration."""

from pathlib import Path

from cluster import certificates
from cluster.configuration import program, write
from cluster.layout import (
    API_PORT,
    CLUSTER_DOMAIN,
    CONFIG,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_IP,
    PKI,
    SERVICE_NETWORK,
    STATE,
)
from cluster.processes import Program


def etcd(programs: Path) -> Program:
    client = f"http://127.0.0.1:{ETCD_PORT}"
    peer = f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return program(
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
    return program(
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
            # For programs that answer for a part of the API, such as the metrics server.
            "requestheader-client-ca-file": crt("front-proxy-ca"),
            "requestheader-allowed-names": certificates.FRONT_PROXY_USER,
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": crt("front-proxy-client"),
            "proxy-client-key-file": key("front-proxy-client"),
        },
        reads=(crt("ca"), crt("apiserver"), crt("front-proxy-client")),
    )


def controller_manager(programs: Path) -> Program:
    config = _kubeconfig("controller-manager")
    return program(
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
            # Autoscalers look sooner, and at pods that have just started: nobody waits here for minutes.
            "horizontal-pod-autoscaler-sync-period": "5s",
            "horizontal-pod-autoscaler-initial-readiness-delay": "5s",
            "horizontal-pod-autoscaler-cpu-initialization-period": "15s",
            "horizontal-pod-autoscaler-downscale-stabilization": "30s",
        },
        reads=(config,),
    )


def scheduler(programs: Path) -> Program:
    config = _kubeconfig("scheduler")
    return program(
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


def coredns(programs: Path) -> Program:
    """The cluster's DNS, on the bridge's address; nothing outside the cluster has a name here."""
    kubeconfig = _kubeconfig("coredns")
    corefile = write(
        CONFIG / "Corefile",
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


def _kubeconfig(name: str) -> Path:
    path = CONFIG / f"{name}.kubeconfig"
    certificates.write_kubeconfig(path, name)
    return path
