"""What comes before anything else: enough files; and what is asked of the API server once, whose CRDs, our Deployment.

Right after a first install the API server may still set up the CRDs' storage and refuse for a moment: what may pass is
tried again for a minute.
"""

import asyncio
import logging
import resource
from collections.abc import Mapping
from typing import Any

from kubernetes.aio.client import V1OwnerReference
from shoal_api.crd import is_ours
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from .kube import KubeApi, KubeError, object_path

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 60.0
FILES = 65_536
_DEFINITION = "inferenceservices.serving.kserve.io"


class DefinitionsChanged(Exception):
    """Ends the process; Kubernetes starts a new one."""


def allow_files() -> None:
    """Each agent has two connections, and container runtimes allow 1,024 files where nobody asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def definitions_are_foreign(api: KubeApi) -> bool:
    """Whether the InferenceService CRD is KServe's own: then only those that its controller skips are ours."""
    path = object_path("apiextensions.k8s.io/v1", "customresourcedefinitions", None, _DEFINITION)
    foreign = not is_ours(await _get(api, path))
    if foreign:
        log.warning(
            "the CRDs are KServe's: only InferenceServices with deploymentMode ModelMesh are served",
            extra={"event": "KServePresent"},
        )
    return foreign


def kserves(foreign: bool, inference_services: str) -> bool:
    """Whether InferenceServices that KServe's controller does not skip are KServe's; ``inference_services``: as the
    chart has it, ``auto`` is as the CRDs say."""
    return foreign if inference_services == "auto" else inference_services == "modelmesh"


async def until_definitions_change(api: KubeApi, foreign: bool) -> None:
    """KServe was installed, or went: whose InferenceServices are changes, so that all begins anew."""
    path = object_path("apiextensions.k8s.io/v1", "customresourcedefinitions", None, _DEFINITION)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            now = not is_ours(await api.request("GET", path))
        except KubeError:
            continue  # the watches say what is wrong
        if now != foreign:
            raise DefinitionsChanged("KServe's CRDs have come" if now else "KServe's CRDs have gone")


async def own_deployment(api: KubeApi, namespace: str, name: str) -> V1OwnerReference | None:
    """The operator's own Deployment, which the certificates' Secrets go with; None outside a cluster."""
    try:
        meta: Mapping[str, Any] = (await _get(api, object_path("apps/v1", "deployments", namespace, name)))["metadata"]
    except KubeError as error:
        log.warning(
            "the operator's Deployment cannot be read: its Secrets will outlive it",
            extra={"event": "NoOwner", "answer": str(error)},
        )
        return None
    return V1OwnerReference(api_version="apps/v1", kind="Deployment", name=meta["name"], uid=meta["uid"])


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, KubeError) and error.transient


async def _get(api: KubeApi, path: str) -> dict[str, Any]:
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_exponential_jitter(multiplier=0.2, max=5),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    ):
        with attempt:
            return await api.request("GET", path)
    raise AssertionError("not reached: the last attempt raises")
