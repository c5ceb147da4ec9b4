"""A real S3 server in the cluster (versitygw over a folder), reachable from pods and from this machine.

The demo and the end-to-end tests each run one. Its data lives in an emptyDir: it is gone with the pod, and
`ensure` with the upload that follows it puts everything back.
"""

import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
import yaml
from botocore.config import Config

from demo import addresses, kubernetes
from demo.failure import DemoError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IMAGE: Final = "docker.io/versity/versitygw:v1.8.0"
NAME: Final = "s3"
PORT: Final = 7070
REGION: Final = "us-east-1"
_READY_TIMEOUT: Final = "180s"


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server is (from here and from pods) and its root account."""

    namespace: str
    endpoint: str  # from this machine, e.g. http://127.0.0.1:30070
    access_key: str
    secret_key: str

    @property
    def endpoint_in_cluster(self) -> str:
        """``host:port`` as pods resolve it; KServe's annotation wants no scheme."""
        return f"{NAME}.{self.namespace}.svc.cluster.local:{PORT}"

    def client(self) -> "S3Client":
        """A boto3 client from this machine."""
        config = Config(
            s3={"addressing_style": "path"},
            retries={"max_attempts": 5, "mode": "standard"},
            max_pool_connections=16,
            proxies={},
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )


def ensure(namespace: str, node_port: int) -> S3Server:
    """Start the server unless it runs, wait until it answers, and say where it is."""
    kubernetes.ensure_namespace(namespace)
    access_key, secret_key = _account(namespace)
    kubernetes.apply(yaml.safe_dump_all(manifests(namespace, node_port)))
    kubernetes.kubectl("rollout", "status", f"deployment/{NAME}", "-n", namespace, f"--timeout={_READY_TIMEOUT}")
    return S3Server(namespace, f"http://{addresses.of_node_port(node_port)}", access_key, secret_key)


def storage_secret(server: S3Server, name: str, secret_key: str | None = None) -> dict[str, Any]:
    """A Secret with KServe's S3 annotations; ``secret_key`` replaces the right key, for tests of wrong ones."""
    prefix = "serving.kserve.io/s3-"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "annotations": {
                f"{prefix}endpoint": server.endpoint_in_cluster,
                f"{prefix}usehttps": "0",
                f"{prefix}region": REGION,
                f"{prefix}usevirtualbucket": "false",
            },
        },
        "stringData": {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key or server.secret_key,
        },
    }


def manifests(namespace: str, node_port: int) -> list[dict[str, Any]]:
    """The server's Deployment and Service; its account comes from the Secret that `ensure` made."""
    labels = {"app": NAME}
    metadata = {"name": NAME, "namespace": namespace, "labels": labels}
    container = {
        "name": "versitygw",
        "image": IMAGE,
        "args": ["--keep-alive", "--port", f":{PORT}", "--region", REGION, "posix", "/data"],
        "envFrom": [{"secretRef": {"name": NAME}}],
        "ports": [{"name": "s3", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    port = {"name": "s3", "port": PORT, "targetPort": "s3", "nodePort": node_port}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "NodePort", "selector": labels, "ports": [port]},
    }
    return [deployment, service]


def _account(namespace: str) -> tuple[str, str]:
    """The root account: the one that an earlier run made, else a new random one, kept in a Secret."""
    found = kubernetes.get("secrets", "-n", namespace, f"--field-selector=metadata.name={NAME}")["items"]
    if found:
        data = {key: base64.b64decode(value).decode() for key, value in found[0]["data"].items()}
        try:
            return data["ROOT_ACCESS_KEY"], data["ROOT_SECRET_KEY"]
        except KeyError:
            raise DemoError(f"Secret {namespace}/{NAME} is not the demo's; delete it and run again") from None
    access_key, secret_key = f"demo{secrets.token_hex(6)}", secrets.token_urlsafe(24)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace},
        "stringData": {"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key},
    }
    kubernetes.apply(yaml.safe_dump(secret))
    return access_key, secret_key
