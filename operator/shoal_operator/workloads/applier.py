"""Owned objects kept as rendered: server-side apply, but only of what is new, changed, or was edited by others."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from shoal_api.names import FIELD_MANAGER

from shoal_operator.kube import METADATA_ONLY, KubeApi, KubeError, apply
from shoal_operator.state.values import Problem, ServiceKey

from . import reasons
from .owned import UNWATCHED_KINDS, Live, ObjectKey, controller_uid, is_ours, live, object_key, own_replicas_alone
from .render import fingerprint
from .work_queue import Retry

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Refused(Exception):
    """The API server, or an object that is in the way, keeps a manifest from being applied."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Applier:
    """Remembers what was applied and what is live. An object that nobody touched is never applied again."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._live: dict[ObjectKey, Live] = {}
        self._applied: dict[ObjectKey, tuple[str, str]] = {}  # rendered, live content that came of it
        self._of_service: dict[ServiceKey, set[ObjectKey]] = {}

    def seen(self, obj: Mapping[str, Any]) -> ServiceKey | None:
        """The watch saw an owned object; the service to work on when it is not as it was applied."""
        key, now = object_key(obj), live(obj)
        before = self._live.get(key)
        if before is not None and before.uid == now.uid and now.version < before.version:
            return None
        if before is not None and before.uid == now.uid and before.service is not None:
            now = replace(now, service=before.service)  # a user may have edited the very label that says whose it is
        self._remember(key, now)
        applied = self._applied.get(key)
        return now.service if applied is None or applied[1] != now.content else None

    def knows(self, key: ObjectKey) -> bool:
        """Whether the object is one that was applied or seen as ours."""
        return key in self._live

    def gone(self, key: ObjectKey) -> ServiceKey | None:
        """The watch saw an owned object deleted; the service to work on when it should be there."""
        before = self._live.pop(key, None)
        self._applied.pop(key, None)
        if before is None or before.service is None:
            return None
        keys = self._of_service.get(before.service, set())
        keys.discard(key)
        if not keys:
            self._of_service.pop(before.service, None)
        return before.service

    def forget(self, service: ServiceKey) -> None:
        """The service is gone; its objects go with it."""
        for key in self._of_service.pop(service, set()):
            self._live.pop(key, None)
            self._applied.pop(key, None)

    def touched(self, key: ObjectKey, obj: Mapping[str, Any] | None) -> bool:
        """The watch saw an object that no service owns alone: whether it is not as it was applied."""
        if obj is None:
            self._live.pop(key, None)
            return self._applied.pop(key, None) is not None
        now = live({**obj, "kind": key.kind})
        before = self._live.get(key)
        if before is not None and before.uid == now.uid and now.version < before.version:
            return False
        self._live[key] = now
        applied = self._applied.get(key)
        return applied is not None and applied[1] != now.content

    async def apply(self, manifest: Object, owner_uid: str, *, first_replicas: int = 1) -> None:
        """Make one object be as rendered. Raises Refused, and Retry for what passes.

        ``first_replicas``: pods of a Deployment that is made with their number left to another.
        """
        key, rendered = object_key(manifest), fingerprint(manifest)
        now, applied = self._live.get(key), self._applied.get(key)
        if now is not None and applied == (rendered, now.content):
            return
        if applied is None:
            await self._check_owner(key, owner_uid)
        try:
            answer = await apply(self._api, key.path, await self._with_replicas(key, manifest, first_replicas))
        except KubeError as error:
            raise _trouble(key, error) from error
        current = live(answer)
        self._remember(key, current)
        self._applied[key] = (rendered, current.content)
        if applied is not None and applied[0] == rendered:
            log.info(
                "an owned object was put right",
                extra={"event": "DriftRepaired", "kind": key.kind, "object": f"{key.namespace}/{key.name}"},
            )

    def unwatched(self) -> list[ObjectKey]:
        """Applied objects of kinds that the operator may not watch."""
        return [key for key in self._applied if key.kind in UNWATCHED_KINDS]

    async def check(self, key: ObjectKey) -> bool:
        """Look at an object that no watch tells of: whether it is not as it was applied."""
        try:
            found = await self._api.request("GET", key.path)
        except KubeError as error:
            return error.gone and self.touched(key, None)
        return self.touched(key, found)

    async def remove_others(self, service: ServiceKey, owner_uid: str, keep: Iterable[ObjectKey]) -> None:
        """Delete objects that the service owns and that are no longer rendered. Raises Refused, Retry."""
        for key in sorted(self._of_service.get(service, set()) - set(keep)):
            found = self._live.get(key)
            if found is None or found.owner_uid != owner_uid:
                continue
            await self._delete(key, found)
            self.gone(key)

    async def remove(self, key: ObjectKey) -> None:
        """Delete an object that was applied. Raises Refused, Retry."""
        found = self._live.get(key)
        if found is None:
            return
        await self._delete(key, found)
        self._live.pop(key, None)
        self._applied.pop(key, None)

    async def _delete(self, key: ObjectKey, found: Live) -> None:
        body = {"preconditions": {"uid": found.uid}, "propagationPolicy": "Background"}
        try:
            await self._api.request("DELETE", key.path, body=body)
        except KubeError as error:
            if not error.gone:
                raise _trouble(key, error) from error

    def _remember(self, key: ObjectKey, now: Live) -> None:
        self._live[key] = now
        if now.service is not None:
            self._of_service.setdefault(now.service, set()).add(key)

    async def _check_owner(self, key: ObjectKey, owner_uid: str) -> None:
        """Before the first apply: never take over an object that is someone else's."""
        try:
            found = await self._api.request("GET", key.path, accept=METADATA_ONLY)
        except KubeError as error:
            if error.gone:
                return
            raise _trouble(key, error) from error
        meta = found.get("metadata") or {}
        owner = controller_uid(meta)
        if owner == owner_uid:
            return
        if is_ours(meta) and not owner:
            return  # orphaned: its InferenceService is here again, or somebody cut the reference
        if is_ours(meta):
            # An InferenceService of that name was deleted a moment ago; the garbage collector will come.
            raise Retry(f"{key.kind} {key.name} still belongs to an earlier InferenceService")
        raise Refused(
            Problem(
                reasons.WORKLOAD_REFUSED,
                f"{key.kind} {key.name} in namespace {key.namespace} exists and was not made by Shoal. Delete or "
                "rename it, or rename the InferenceService.",
            )
        )

    async def _with_replicas(self, key: ObjectKey, manifest: Object, first: int) -> Object:
        """Where the number of pods is another's, keep the present one until that other has written it.

        Leaving a field out that only we have applied takes it away, and a Deployment without replicas has one pod.
        """
        if key.kind != "Deployment" or "replicas" in manifest["spec"]:
            return manifest
        try:
            found = await self._api.request("GET", key.path)
        except KubeError as error:
            if not error.gone:
                raise _trouble(key, error) from error
            present = first
        else:
            if not own_replicas_alone(found, FIELD_MANAGER):
                return manifest
            present = found["spec"].get("replicas", 1)
        return {**manifest, "spec": {**manifest["spec"], "replicas": present}}


def _trouble(key: ObjectKey, error: KubeError) -> Exception:
    if error.transient or error.status == 401 or error.namespace_ending:
        log.info(
            "an owned object could not be applied yet",
            extra={
                "event": "ApplyDelayed",
                "kind": key.kind,
                "object": f"{key.namespace}/{key.name}",
                "answer": str(error),
            },
        )
        return Retry(str(error), error.retry_after or 0.0)
    said = " ".join(error.message.split())[:600].rstrip(".")
    return Refused(
        Problem(
            reasons.WORKLOAD_REFUSED,
            f"The API server refuses {key.kind} {key.name}: {said}. It is tried again every minute.",
        )
    )
