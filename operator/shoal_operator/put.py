"""Puts what an InferenceService's pods are made of into the cluster, with the volume claims that models lie on.

A claim may be what the API server refuses (an admission policy, say). That keeps nothing else back: what is new to the
pods is then left out, and who needs it is told.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from shoal_api.inference_service import InferenceService

from .manifests.cluster.applier import Applier, Refused
from .manifests.render import render
from .manifests.resolve import Resolution
from .manifests.scaling import Decision
from .manifests.settings import WorkloadSettings
from .manifests.storage import Storage
from .manifests.volume_claims import Noted
from .state.world.values import ServiceKey
from .volume_claims.room import VolumeClaims

Object = dict[str, Any]


class Putter:
    """``applier`` keeps objects as they are rendered; ``claims`` says what pods mount."""

    def __init__(self, applier: Applier, settings: WorkloadSettings, claims: VolumeClaims) -> None:
        self._applier, self._settings, self._claims = applier, settings, claims

    async def put(
        self,
        key: ServiceKey,
        uid: str,
        isvc: InferenceService,
        resolution: Resolution,
        *,
        storage: Storage,
        pods: Decision,
        now: Noted,
    ) -> tuple[list[Object], Refused | None]:
        """Have everything be as resolved. ``now``: what its Deployment mounts. What was applied; and why not with all
        that the InferenceService itself declares. Raises Refused, Retry, SpecError and OwnerGone."""
        mounting = self._claims.mounting(key, now)

        async def without(left_out: Collection[str]) -> list[Object]:
            wanted = tuple(claim for claim in mounting.wanted if claim not in left_out)
            chosen = replace(mounting, wanted=wanted)
            manifests = render(isvc, resolution, storage, self._settings, pods, mounting=chosen)
            for manifest in manifests:
                self._applier.raise_if_refused(manifest)  # rather than half of what cannot be
            for manifest in manifests:
                await self._applier.apply(manifest, uid, first_replicas=resolution.scaling.least)
            return manifests

        try:
            return await without(()), None
        except Refused as refused:
            new = {*mounting.wanted} - {*now.claims}
            own = new & {*resolution.claims.claims}
            for left_out in dict.fromkeys((frozenset(new - own), frozenset(own), frozenset(new))):
                if not left_out:
                    continue
                try:
                    manifests = await without(left_out)
                except Refused:
                    continue  # it is not, or not alone, to blame
                if by_models := left_out - own:
                    self._claims.refused(key, by_models, refused.said)
                return manifests, refused if left_out & own else None
            raise
