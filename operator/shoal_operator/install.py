"""``python -m shoal_operator.install``: the chart's Job, which creates and upgrades Shoal's CRDs and built-in runtimes.

Helm cannot do it: it never upgrades what lies in a chart's crds/ folder, Helm 4 applies that folder over another
project's CRDs, a CRD in templates/ belongs to one release name for ever, and neither lets an object of a kind stand in
the chart that brings the kind. So a Job runs before install and upgrade (CRDs) and after it (runtimes, which belong to
a ClusterRole of the release and go with it).

CRDs that are not labelled as Shoal's are KServe's: they are named in the log and left as they are. A newer revision of
our own is never replaced by an older one.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from shoal_api.crd import definitions, is_ours, revision
from shoal_api.names import GROUP
from shoal_api.serving_runtime import ClusterServingRuntime

from .kube import APPLY, Kube, KubeApi, KubeError, object_path

log = logging.getLogger(__name__)

FIELD_MANAGER = "shoal-install"
ESTABLISH_SECONDS = 60.0
POLL_SECONDS = 0.2
ATTEMPTS = 5

_DEFINITIONS = ("apiextensions.k8s.io/v1", "customresourcedefinitions")
_OWNERS = ("rbac.authorization.k8s.io/v1", "clusterroles")
_RUNTIMES = (f"{GROUP}/{ClusterServingRuntime.version}", ClusterServingRuntime.plural)


class InstallError(Exception):
    """What went wrong, and what to do; the Job fails with it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Names of definitions by what was done with them."""

    applied: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()  # another project's, most likely KServe's
    newer: tuple[str, ...] = ()  # ours, of a later release


async def install_definitions(api: KubeApi) -> Outcome:
    """Create or upgrade the CRDs that are ours, and wait until all are served. Raises InstallError, KubeError."""
    applied, foreign, newer = [], [], []
    for definition in definitions():
        name = definition["metadata"]["name"]
        present = await _get(api, *_DEFINITIONS, name)
        if present is not None and not is_ours(present):
            foreign.append(name)
        elif present is not None and revision(present) > revision(definition):
            newer.append(name)
        else:
            await _apply(api, object_path(_DEFINITIONS[0], _DEFINITIONS[1], None, name), definition)
            applied.append(name)
    for name in applied:
        await _established(api, name)
    return Outcome(tuple(applied), tuple(foreign), tuple(newer))


async def install_runtimes(api: KubeApi, wanted: dict[str, Any], owner: str) -> list[str]:
    """Apply ``wanted["apply"]`` and delete those named in ``wanted["remove"]``; the names that were applied.

    Runtimes are owned by the ClusterRole ``owner``; without it (before the first install) nothing is done.
    """
    role = await _get(api, *_OWNERS, owner)
    if role is None:
        log.info("no ClusterRole %s yet: runtimes follow after the install", owner)
        return []
    reference = {
        "apiVersion": _OWNERS[0],
        "kind": "ClusterRole",
        "name": owner,
        "uid": role["metadata"]["uid"],
    }
    for name in wanted.get("remove", []):
        present = await _get(api, *_RUNTIMES, name)
        if present is not None and _owned(present):
            await api.request("DELETE", object_path(*_RUNTIMES, None, name))
            log.info("removed ClusterServingRuntime %s", name)
    names = []
    for runtime in wanted.get("apply", []):
        name = runtime["metadata"]["name"]
        owned = {**runtime, "metadata": {**runtime["metadata"], "ownerReferences": [reference]}}
        await _apply(api, object_path(*_RUNTIMES, None, name), owned)
        names.append(name)
    return names


async def _get(api: KubeApi, api_version: str, plural: str, name: str) -> dict[str, Any] | None:
    try:
        return await api.request("GET", object_path(api_version, plural, None, name))
    except KubeError as error:
        if error.gone:
            return None
        raise


async def _apply(api: KubeApi, path: str, manifest: dict[str, Any]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await api.request(
                "PATCH",
                path,
                body=manifest,
                content_type=APPLY,
                query={"fieldManager": FIELD_MANAGER, "force": "true"},
            )
            return
        except KubeError as error:
            # 404: the API server does not serve a CRD everywhere at the moment that it says Established.
            if attempt == ATTEMPTS or not (error.transient or error.gone):
                raise
            await asyncio.sleep(POLL_SECONDS * 2**attempt)


async def _established(api: KubeApi, name: str) -> None:
    conditions: dict[str, Any] = {}
    for _ in range(int(ESTABLISH_SECONDS / POLL_SECONDS)):
        present = await _get(api, *_DEFINITIONS, name) or {}
        conditions = {c["type"]: c for c in present.get("status", {}).get("conditions") or []}
        if conditions.get("Established", {}).get("status") == "True":
            return
        await asyncio.sleep(POLL_SECONDS)
    why = "; ".join(f"{c['type']}={c['status']}: {c.get('message', '')}" for c in conditions.values())
    raise InstallError(f"CRD {name} is not served after {ESTABLISH_SECONDS:.0f} s ({why or 'no conditions'})")


def _owned(runtime: dict[str, Any]) -> bool:
    references = runtime.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("kind") == "ClusterRole" for reference in references)


def _report(outcome: Outcome) -> None:
    if outcome.applied:
        log.info("applied CRDs %s", ", ".join(outcome.applied))
    if outcome.newer:
        log.warning("left CRDs of a newer Shoal as they are: %s", ", ".join(outcome.newer))
    if outcome.foreign:
        log.warning(
            "left CRDs that are not Shoal's as they are: %s. They are KServe's, most likely: Shoal then serves only "
            "InferenceServices with the annotation serving.kserve.io/deploymentMode: ModelMesh",
            ", ".join(outcome.foreign),
        )


async def _run(runtimes: dict[str, Any], owner: str) -> None:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config()  # type: ignore[no-untyped-call]  # the client's only untyped part
    else:
        await config.load_kube_config()  # type: ignore[no-untyped-call]  # the same
    async with ApiClient() as client:
        api = Kube(client)
        _report(await install_definitions(api))
        names = await install_runtimes(api, runtimes, owner) if runtimes else []
        if names:
            log.info("applied ClusterServingRuntimes %s", ", ".join(names))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Create and upgrade Shoal's CRDs and built-in runtimes.")
    parser.add_argument("--runtimes", type=Path, help='JSON: {"apply": [ClusterServingRuntime…], "remove": [name…]}')
    parser.add_argument("--owner", default="shoal-operator", help="ClusterRole that the runtimes belong to")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        runtimes = json.loads(options.runtimes.read_text()) if options.runtimes else {}
        asyncio.run(_run(runtimes, options.owner))
    except (InstallError, KubeError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
