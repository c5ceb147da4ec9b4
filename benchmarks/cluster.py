"""What benchmarks on a cluster share: the chart installed, an S3 server of their own, a namespace, clean-up."""

import fcntl
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import yaml
from shoal_api.names import AGENT_PORT

from demo import install, kubernetes, manifests, s3_server, upload
from demo.predictions import Target
from demo.s3_server import S3Server
from demo.settings import LOCAL, RELEASE, SYSTEM_NAMESPACE

from . import usage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3_NAMESPACE: Final = "shoal-bench-s3"
S3_NODE_PORT: Final = 30072
BUCKET: Final = "bench"
OPERATOR: Final = f"{RELEASE}-operator"
_OPERATOR_METRICS: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/{OPERATOR}:http/proxy/metrics"


@dataclass(frozen=True)
class Bench:
    """The running system and one namespace of it. ``gateway``: ``host:port`` from this machine."""

    namespace: str
    gateway: str
    api: httpx.Client
    s3: S3Server
    objects: "S3Client"

    def target(self, service: str) -> Target:
        return Target.of(self.gateway, service, self.namespace)

    def get(self, path: str) -> Any:
        response = self.api.get(path)
        response.raise_for_status()
        return response.json()

    def pods(self, service: str) -> list[dict[str, Any]]:
        """The InferenceService's pods that are not being deleted."""
        selector = f"serving.kserve.io/inferenceservice={service}"
        items = self.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def agents(self, service: str) -> dict[str, float]:
        """The agents' metrics, summed over the InferenceService's pods and over labels."""
        total: dict[str, float] = {}
        for pod in self.pods(service):
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}:{AGENT_PORT}/proxy/metrics"
            answer = self.api.get(path)
            answer.raise_for_status()
            for name, _, value in usage.samples(answer.text):
                total[name] = total.get(name, 0.0) + value
        return total

    def operator(self, service: str) -> dict[str, float]:
        """The operator's metrics of one InferenceService and those of none, summed over the other labels."""
        own = {"namespace": self.namespace, "inference_service": service}
        total: dict[str, float] = {}
        for name, labels, value in usage.samples(self.api.get(_OPERATOR_METRICS).raise_for_status().text):
            found = usage.labels(labels)
            if all(found.get(label, wanted) == wanted for label, wanted in own.items()):
                total[name] = total.get(name, 0.0) + value
        return total

    def service(self, name: str, pods: int, models_memory: str, **predictor: Any) -> None:
        """Apply an InferenceService with fixed pods, each with so much memory for models."""
        resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": models_memory}}
        sklearn = {"protocolVersion": "v2", "resources": resources}
        text = manifests.inference_service(name, self.namespace, pods, **{"sklearn": sklearn, **predictor})
        kubernetes.apply(text)

    def wait_service(self, name: str, seconds: float = 300.0) -> None:
        kubernetes.kubectl(
            *("wait", "--for=condition=Ready", f"isvc/{name}", "-n", self.namespace, f"--timeout={seconds:.0f}s"),
            timeout=seconds + 30,
        )

    def uri(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"


@contextmanager
def bench(namespace: str, *, as_is: bool = False) -> Iterator[Bench]:
    """Bring up what is not there: cluster, chart, S3 server, namespace with the storage account.

    ``as_is``: cluster, images and chart are left as they are, for measuring another state than this checkout's.
    """
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _alone():
        if not as_is:
            install.make("cluster")
            install.chart()
        yield from _bench(namespace)


def _bench(namespace: str) -> Iterator[Bench]:
    server = s3_server.ensure(S3_NAMESPACE, S3_NODE_PORT)
    objects = server.client()
    upload.ensure_bucket(objects, BUCKET)
    kubernetes.ensure_namespace(namespace)
    kubernetes.apply(manifests.storage(server, namespace))
    with kubernetes.api_proxy() as api:
        yield Bench(namespace, install.gateway(), api, server, objects)


@contextmanager
def _alone() -> Iterator[None]:
    """The end-to-end tests upgrade the chart and load the machine: whoever comes second waits."""
    lock = LOCAL / "e2e.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for {lock}: end-to-end tests or another benchmark run", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def clean(*namespaces: str) -> None:
    """Delete namespaces and wait until they are gone."""
    kubernetes.kubectl("delete", "namespace", *namespaces, "--ignore-not-found", "--timeout=600s", timeout=660)


def trained_models(models: dict[str, str], namespace: str, service: str, memory: str) -> str:
    """TrainedModels by name and storage URI, as one YAML file."""
    return yaml.dump_all(
        (manifests.trained_model(name, namespace, service, uri, memory) for name, uri in models.items()),
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        sort_keys=False,
    )


def system_pods() -> list[dict[str, Any]]:
    """The operator's and the gateway's pods, and the S3 server's."""
    found: list[dict[str, Any]] = []
    for namespace in (SYSTEM_NAMESPACE, S3_NAMESPACE):
        found += kubernetes.get("pods", "-n", namespace)["items"]
    return found
