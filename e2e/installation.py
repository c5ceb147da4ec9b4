"""What all end-to-end tests share: the cluster, the installed chart, one S3 server, a client of the API server."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from demo import install, kubernetes, s3_server, settings, upload
from demo.s3_server import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3_NAMESPACE: Final = "shoal-e2e-s3"
S3_NODE_PORT: Final = 30071
BUCKET: Final = "tests"
NAMESPACE_PREFIX: Final = "e2e-"

SCALE_DOWN_SECONDS: Final = 10
"""Five minutes by default, which no test should wait for."""
_VALUES: Final = (
    "--set=operator.env[0].name=SHOAL_SCALE_DOWN_SECONDS",
    f"--set-string=operator.env[0].value={SCALE_DOWN_SECONDS}",
    "--set=agent.artifacts.privateAddresses=true",  # the tests' web server is in the cluster
)


@dataclass(frozen=True)
class Installation:
    """The running system: ``gateway`` is ``host:port`` from this machine."""

    gateway: str
    api: httpx.Client
    s3: S3Server
    objects: "S3Client"


@contextmanager
def installed() -> Iterator[Installation]:
    """Bring everything up (what is there is kept), remove leftovers of broken-off runs, and hand it out."""
    with _alone():
        yield from _installed()


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs at once would upgrade the chart and delete namespaces under each other: the second one waits."""
    lock = settings.LOCAL / "e2e.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _installed() -> Iterator[Installation]:
    install.make("cluster")
    install_chart()
    _remove_leftovers()
    server = s3_server.ensure(S3_NAMESPACE, S3_NODE_PORT)
    objects = server.client()
    upload.ensure_bucket(objects, BUCKET)
    with kubernetes.api_proxy() as api:
        yield Installation(install.gateway(), api, server, objects)
    kubernetes.kubectl("delete", "namespace", S3_NAMESPACE, "--wait=false")


def install_chart(*more: str) -> None:
    """The chart as the demo installs it, with what the tests shorten; ``more``: further arguments of helm."""
    install.chart(*_VALUES, *more)


def _remove_leftovers() -> None:
    names = kubernetes.kubectl("get", "namespaces", "-o", "name").split()
    left = [name for name in names if name.startswith(f"namespace/{NAMESPACE_PREFIX}")]
    if left:
        kubernetes.kubectl("delete", *left, "--timeout=120s")
