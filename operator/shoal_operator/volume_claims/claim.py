"""A PersistentVolumeClaim as the API server shows it, and why pods cannot mount it for models. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shoal_api.names import ANNOTATION_CLAIMS

from shoal_operator.state.world.values import Problem

_SHARED: Final = frozenset({"ReadOnlyMany", "ReadWriteMany"})
_ONE_POD: Final = "ReadWriteOncePod"


@dataclass(frozen=True, slots=True)
class Claim:
    """``there`` False: there is none; ``readable`` False: the operator may not know. ``version`` changes with it."""

    there: bool = True
    readable: bool = True
    phase: str = "Bound"
    modes: frozenset[str] = frozenset()
    block: bool = False
    deleting: bool = False
    version: str = ""

    @property
    def usable(self) -> bool:
        """A pod that mounts it may start, by all that its object says."""
        return self.there and not self.deleting and self.phase != "Lost"


MISSING: Final = Claim(there=False, phase="")
UNREADABLE: Final = Claim(readable=False, phase="")


def claim_seen(obj: Mapping[str, Any]) -> Claim:
    """Of its object; what is missing there reads as empty."""
    meta, spec, status = (obj.get(key) or {} for key in ("metadata", "spec", "status"))
    phase, modes = str(status.get("phase") or "Pending"), status.get("accessModes") or spec.get("accessModes") or ()
    return Claim(
        phase=phase,
        modes=frozenset(str(mode) for mode in modes),
        block=spec.get("volumeMode") == "Block",
        deleting=meta.get("deletionTimestamp") is not None,
        # What decides whether pods start with it; an annotation of somebody's does not.
        version=f"{meta.get('uid', '')}/{spec.get('volumeName', '')}/{phase}/{','.join(sorted(map(str, modes)))}",
    )


def trouble(name: str, claim: Claim, *, declared: bool) -> Problem | None:
    """Why no pod mounts it; None: it can be. ``declared``: the InferenceService itself says so, whose pods they are."""
    return next((Problem(reason, said.format(name)) for reason, said, so in _troubles(claim, declared) if so), None)


def _troubles(claim: Claim, declared: bool) -> Iterator[tuple[str, str, bool]]:
    """Each that there is, what is said of it, and whether it is so: the first counts."""
    by_models_only = not declared
    yield "ClaimNotMountable", _UNREADABLE, not claim.readable
    yield "ClaimNotFound", _MISSING, not claim.there
    yield "ClaimNotMountable", _DELETING, claim.deleting
    yield "ClaimNotMountable", _BLOCK, claim.block
    yield "ClaimNotBound", _LOST, claim.phase == "Lost"
    yield "ClaimNotMountable", _FOR_ONE_POD, claim.modes == {_ONE_POD}
    yield "ClaimNotBound", _NOT_BOUND, claim.phase != "Bound" and by_models_only
    yield "ClaimNotMountable", _ON_ONE_NODE, not claim.modes & _SHARED and by_models_only


_UNREADABLE: Final = (
    "The operator may not look at PersistentVolumeClaim {}, so pods do not mount it. Let it get persistentvolumeclaims "
    "in this namespace, as the chart's role shoal-workloads does."
)
_MISSING: Final = (
    "There is no PersistentVolumeClaim {} in this namespace. Make it, or correct the model's place. It is looked for "
    "again, and until it is there no pod is replaced for it."
)
_DELETING: Final = (
    "PersistentVolumeClaim {} is being deleted, and no new pod may mount it: pods are replaced by ones without it. "
    "Make it again under that name, or have the model lie elsewhere."
)
_BLOCK: Final = (
    "PersistentVolumeClaim {} is a block device (volumeMode: Block), which holds no files. Use one of volumeMode: "
    "Filesystem."
)
_LOST: Final = "PersistentVolumeClaim {} has lost its volume. Restore the PersistentVolume, or use another claim."
_FOR_ONE_POD: Final = (
    "PersistentVolumeClaim {} is ReadWriteOncePod: while one pod has it, the one that is to follow could not start. "
    "Use one that is ReadOnlyMany or ReadWriteMany."
)
_NOT_BOUND: Final = (
    "PersistentVolumeClaim {} is not bound to a volume, and pods that mount it might not start. If it waits for its "
    "first pod (volumeBindingMode: WaitForFirstConsumer), write the model to it by a pod of yours; or name it in "
    f"annotation {ANNOTATION_CLAIMS} of the InferenceService."
)
_ON_ONE_NODE: Final = (
    "PersistentVolumeClaim {} is ReadWriteOnce: pods on other nodes than the first could not start. Use one that is "
    f"ReadOnlyMany or ReadWriteMany; or name it in annotation {ANNOTATION_CLAIMS} of the InferenceService, if its pods "
    "are all on one node."
)
