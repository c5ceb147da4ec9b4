"""Owned objects kept as rendered: server-side apply, but only of what is new, changed, or was edited by others."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.names import FIELD_MANAGER, LABEL_INFERENCE_SERVICE

from shoal_operator.kube import METADATA_ONLY, KubeApi, KubeError, apply
from shoal_operator.manifests import reasons
from shoal_operator.manifests.render import fingerprint
from shoal_operator.state.world.values import Problem, ServiceKey
from shoal_operator.work_queue import Retry

from .lost import LostObjects
from .owned import UNWATCHED_KINDS, Live, ObjectKey, controller_uid, is_ours, live, object_key, own_replicas_alone

log = logging.getLogger(__name__)

Object = dict[str, Any]


PATIENCE_SECONDS = 20.0
"""A trouble of the API server's that lasts longer is said in the InferenceService's condition."""


class Refused(Exception):
    """The API server, or an object that is in the way, keeps a manifest from being applied.

    ``final``: the manifest itself cannot be, so that it is not sent again until it or the live object has changed.
    ``said``: the API server's own words.
    """

    def __init__(self, problem: Problem, *, final: bool = False, said: str = "") -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.final = final
        self.said = said or problem.message


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What was refused for good: the manifest's fingerprint, the live object's content then, and the answer."""

    rendered: str
    live: str
    problem: Problem


class Applier:
    """Remembers what was applied and what is live. An object that nobody touched is never applied again."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._delayed: dict[ObjectKey, float] = {}  # since when the API server answers that it cannot just now
        self._live: dict[ObjectKey, Live] = {}
        self._applied: dict[ObjectKey, tuple[str, str]] = {}  # rendered, live content that came of it
        self._refused: dict[ServiceKey | None, dict[ObjectKey, _Refusal]] = {}
        self._of_service: dict[ServiceKey, set[ObjectKey]] = {}
        self._lost = LostObjects(api, clock)

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

    def is_owned(self, key: ObjectKey) -> bool:
        """Whether the object is one InferenceService's, or group's, alone."""
        known = self._live.get(key)
        return known is not None and known.service is not None

    def knows(self, key: ObjectKey) -> bool:
        """Whether the object is one that was applied or seen as ours."""
        return key in self._live

    def gone(self, key: ObjectKey) -> ServiceKey | None:
        """The watch saw an owned object deleted; the service to work on when it should be there."""
        service = self._drop(key)
        if service is not None:
            self._lost.lost(service, key)
        return service

    def _drop(self, key: ObjectKey) -> ServiceKey | None:
        """The object is not there any more; whose it was."""
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
            self._delayed.pop(key, None)
            self._live.pop(key, None)
            self._applied.pop(key, None)
        self._refused.pop(service, None)
        self._lost.forget(service)

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
        """Make one object be as rendered. Raises Refused, Retry for what passes, and OwnerGone.

        ``first_replicas``: pods of a Deployment that is made with their number left to another.
        """
        key, rendered = object_key(manifest), fingerprint(manifest)
        now, applied = self._live.get(key), self._applied.get(key)
        if now is not None and applied == (rendered, now.content):
            return
        self.raise_if_refused(manifest)
        service = _service_of(manifest)
        if applied is None:
            if service is not None:
                await self._lost.check(service, key, owner_uid)
            await self._check_owner(key, owner_uid)
        try:
            answer = await apply(self._api, key.path, await self._with_replicas(key, manifest, first_replicas))
        except KubeError as error:
            trouble = self._said_if_it_lasts(key, error, _trouble(key, error))
            if isinstance(trouble, Refused) and trouble.final:
                refusals = self._refused.setdefault(service, {})
                refusals[key] = _Refusal(rendered, self._content(key), trouble.problem)
            raise trouble from error
        self._delayed.pop(key, None)
        self._refused.get(service, {}).pop(key, None)
        if service is not None:
            self._lost.made(service, key)
        current = live(answer)
        self._remember(key, current)
        self._applied[key] = (rendered, current.content)
        if applied is not None and applied[0] == rendered:
            log.info(
                "an owned object was put right",
                extra={"event": "DriftRepaired", "kind": key.kind, "object": f"{key.namespace}/{key.name}"},
            )

    def _said_if_it_lasts(self, key: ObjectKey, error: KubeError, trouble: Exception) -> Exception:
        """What should pass and does not (an admission webhook that is down, say) is told, and still tried again."""
        if not isinstance(trouble, Retry) or error.status == 0 or error.namespace_ending:
            return trouble
        if self._clock() - self._delayed.setdefault(key, self._clock()) < PATIENCE_SECONDS:
            return trouble
        said = " ".join(error.message.split())[:600].rstrip(".")
        message = (
            f"The API server cannot take {key.kind} {key.name} at present: {said}. It is tried again every minute."
        )
        return Refused(Problem(reasons.WORKLOAD_REFUSED, message))

    def raise_if_refused(self, manifest: Object) -> None:
        """Raises Refused where the API server has refused this very manifest for good, with nothing changed since."""
        key = object_key(manifest)
        known = self._refused.get(_service_of(manifest), {}).get(key)
        if known is not None and (known.rendered, known.live) == (fingerprint(manifest), self._content(key)):
            raise Refused(known.problem, final=True)

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
            self._drop(key)

    async def remove_all(self, service: ServiceKey) -> None:
        """Delete all that is known of a group that is not needed any more. Raises Refused, Retry."""
        for key in sorted(self._of_service.get(service, ())):
            await self._delete(key, self._live[key])
            self._drop(key)
        self.forget(service)

    def services(self) -> list[ServiceKey]:
        """Whose objects there are."""
        return list(self._of_service)

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

    def _content(self, key: ObjectKey) -> str:
        found = self._live.get(key)
        return found.content if found is not None else ""

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


def unforeseen(error: Exception) -> SpecError:
    """Our own mistake, met in one InferenceService: it says so, and the others go on."""
    said = f"{type(error).__name__}: {error}"[:200]
    return SpecError(
        reasons.RENDERING_FAILED,
        f"spec.predictor or its runtime holds something that Shoal did not foresee ({said}). Please report it with the "
        "YAML; changing what was written last may help.",
    )


def _service_of(manifest: Object) -> ServiceKey | None:
    meta = manifest["metadata"]
    name = (meta.get("labels") or {}).get(LABEL_INFERENCE_SERVICE)
    return ServiceKey(meta["namespace"], name) if name else None


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
    next_step = "Correct the InferenceService or its runtime." if error.invalid else "It is tried again every minute."
    problem = Problem(reasons.WORKLOAD_REFUSED, f"The API server refuses {key.kind} {key.name}: {said}. {next_step}")
    return Refused(problem, final=error.invalid, said=said)
