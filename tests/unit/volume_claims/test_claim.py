"""Whether pods can mount a claim, by what its object says and by whose word they would."""

from typing import Any

import pytest
from shoal_operator.volume_claims.claim import MISSING, UNREADABLE, Claim, claim_seen, trouble

Object = dict[str, Any]


def pvc(phase: str = "Bound", *modes: str, deleting: bool = False, **spec: Any) -> Object:
    meta: Object = {"uid": "u", "resourceVersion": "7"}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    access = list(modes or ("ReadWriteMany",))
    return {
        "metadata": meta,
        "spec": {"accessModes": access, **spec},
        "status": {"phase": phase, "accessModes": access},
    }


@pytest.mark.parametrize(
    ("seen", "by_model", "by_owner"),
    [
        (claim_seen(pvc()), "", ""),
        (claim_seen(pvc("Bound", "ReadOnlyMany")), "", ""),
        (claim_seen(pvc("Bound", "ReadWriteOnce", "ReadOnlyMany")), "", ""),
        (claim_seen(pvc("Bound", "ReadWriteOnce")), "ClaimNotMountable: ReadWriteOnce", ""),
        (claim_seen(pvc("Bound", "ReadWriteOncePod")), *["ClaimNotMountable: ReadWriteOncePod"] * 2),
        (claim_seen(pvc("Pending")), "ClaimNotBound: WaitForFirstConsumer", ""),
        (claim_seen({"metadata": {}, "spec": {"accessModes": ["ReadWriteMany"]}}), "ClaimNotBound: bound", ""),
        (claim_seen(pvc("Lost")), *["ClaimNotBound: lost its volume"] * 2),
        (claim_seen(pvc(deleting=True)), *["ClaimNotMountable: being deleted"] * 2),
        (claim_seen(pvc(volumeMode="Block")), *["ClaimNotMountable: block device"] * 2),
        (MISSING, *["ClaimNotFound: There is no PersistentVolumeClaim models in this namespace"] * 2),
        (UNREADABLE, *["ClaimNotMountable: role shoal-workloads"] * 2),
    ],
)
def test_trouble(seen: Claim, by_model: str, by_owner: str) -> None:
    for declared, expected in ((False, by_model), (True, by_owner)):
        found = trouble("models", seen, declared=declared)
        if not expected:
            assert found is None
            continue
        reason, _, words = expected.partition(": ")
        assert found is not None
        assert (found.reason, words in found.message, "models" in found.message) == (reason, True, True), found


def test_another_version_is_another_claim() -> None:
    assert claim_seen(pvc()) == claim_seen(pvc())
    changed = pvc()
    changed["spec"]["volumeName"] = "another"
    assert claim_seen(pvc()) != claim_seen(changed)
