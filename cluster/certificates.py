"""One certificate authority, a certificate per component, and the kubeconfigs that carry them."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import need, run
from cluster.layout import API_PORT, API_SERVICE_IP, CLUSTER_DOMAIN, NODE_IP, NODE_NAME, PKI

_DAYS = "3650"
_SERVER = f"https://127.0.0.1:{API_PORT}"
_CA = "ca"
_FRONT_PROXY_CA = "front-proxy-ca"
FRONT_PROXY_USER = "front-proxy-client"


@dataclass(frozen=True)
class Certificate:
    """What a certificate says: the user (CN) and group (O) that RBAC sees, and the names it serves."""

    name: str
    user: str
    group: str = ""
    serves: tuple[str, ...] = ()
    authority: str = _CA

    @property
    def subject(self) -> str:
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"


_CERTIFICATES = (
    Certificate(
        "apiserver",
        "kube-apiserver",
        serves=(
            "DNS:localhost",
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            f"DNS:kubernetes.default.svc.{CLUSTER_DOMAIN}",
            "IP:127.0.0.1",
            f"IP:{NODE_IP}",
            f"IP:{API_SERVICE_IP}",
        ),
    ),
    Certificate("apiserver-to-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Certificate("admin", "kubernetes-admin", "system:masters"),
    Certificate("controller-manager", "system:kube-controller-manager"),
    Certificate("scheduler", "system:kube-scheduler"),
    Certificate("kube-proxy", "system:kube-proxy"),
    Certificate("coredns", "system:coredns"),
    # The API server's own where it asks another program to answer, with the user's name in the headers.
    Certificate(FRONT_PROXY_USER, FRONT_PROXY_USER, authority=_FRONT_PROXY_CA),
)


def _of_node(name: str, address: str, suffix: str) -> tuple[Certificate, ...]:
    user, group = f"system:node:{name}", "system:nodes"
    return (
        Certificate(f"kubelet{suffix}", user, group),
        Certificate(f"kubelet-serving{suffix}", user, group, (f"DNS:{name}", f"IP:{address}")),
    )


def ensure() -> None:
    """Make what is missing; keep what is there, so that a repair does not change identities."""
    PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, subject in ((_CA, "/CN=shoal-cluster"), (_FRONT_PROXY_CA, "/CN=shoal-front-proxy")):
        if not _there(name):
            _openssl(name, subject, ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"])
    if not key("service-accounts").exists():
        _finish(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], key("service-accounts"), "-out")
    for certificate in (*_CERTIFICATES, *_of_node(NODE_NAME, NODE_IP, "")):
        _ensure(certificate)


def ensure_node(name: str, address: str, suffix: str) -> None:
    """The certificates of a further node's kubelet."""
    for certificate in _of_node(name, address, suffix):
        _ensure(certificate)


def ensure_user(name: str) -> None:
    """The certificate of a program that not every cluster has; the user that RBAC sees is system:<name>."""
    _ensure(Certificate(name, f"system:{name}"))


def _ensure(certificate: Certificate) -> None:
    if _there(certificate.name):
        return
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions.append("extendedKeyUsage=serverAuth,clientAuth")
    if certificate.serves:
        extensions.append("subjectAltName=" + ",".join(certificate.serves))
    _openssl(certificate.name, certificate.subject, extensions, authority=certificate.authority)


def kubeconfig(name: str, user: str = "", server: str = _SERVER) -> str:
    """A self-contained kubeconfig for one of the certificates (JSON is YAML)."""
    cluster = {"server": server, "certificate-authority-data": _base64(crt(_CA))}
    who = user or name
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "shoal",
            "clusters": [{"name": "shoal", "cluster": cluster}],
            "contexts": [{"name": "shoal", "context": {"cluster": "shoal", "user": who}}],
            "users": [
                {
                    "name": who,
                    "user": {"client-certificate-data": _base64(crt(name)), "client-key-data": _base64(key(name))},
                }
            ],
        },
        indent=1,
    )


def write_kubeconfig(path: Path, name: str, user: str = "", server: str = _SERVER) -> None:
    """Write a kubeconfig that only its owner may read, in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = kubeconfig(name, user, server)
    if path.exists() and not path.is_symlink() and path.read_text() == text:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)


def crt(name: str) -> Path:
    return PKI / f"{name}.crt"


def key(name: str) -> Path:
    return PKI / f"{name}.key"


def _there(name: str) -> bool:
    return crt(name).exists() and key(name).exists()


def _openssl(name: str, subject: str, extensions: list[str], authority: str = "") -> None:
    command = ["req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-sha256", "-days", _DAYS, "-subj", subject, "-config", str(_configuration())]
    command += ["-keyout", str(key(name))]
    for extension in extensions:
        command += ["-addext", extension]
    if authority:
        command += ["-CA", str(crt(authority)), "-CAkey", str(key(authority))]
    _finish(command, crt(name), "-out")


def _finish(command: list[str], target: Path, flag: str) -> None:
    """Write to a name beside the target first: a crash never leaves half a file under the real name."""
    part = target.with_suffix(target.suffix + ".part")
    run([need("openssl", "apt-get install openssl"), *command, flag, part])
    part.chmod(0o600)
    part.rename(target)


def _configuration() -> Path:
    """An almost empty configuration: the host's own adds extensions that we name ourselves."""
    path = PKI / "openssl.cnf"
    if not path.exists():
        path.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
