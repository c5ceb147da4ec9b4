"""The patches that the status room sends: a status for one object, and KServe's finalizer taken away."""

from collections.abc import Mapping
from typing import Any

from shoal_api.trained_model import KSERVE_FINALIZER

Object = dict[str, Any]


def status_patch(uid: str, status: Mapping[str, Any]) -> list[Object]:
    """The JSON patch (RFC 6902) that stores a whole status in the object with that UID, and in no other.

    A UID in a merge patch would be ignored: the status subresource of custom resources drops all metadata unread.
    """
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": dict(status)},
    ]


def finalizer_patch(obj: Mapping[str, Any]) -> Object | None:
    """The merge patch that takes KServe's finalizer off a TrainedModel that is being deleted; None when not needed.

    Only KServe's controller would remove it, so without KServe the object would stay for ever. The resourceVersion
    makes the patch fail if the list of finalizers was changed meanwhile.
    """
    meta = obj.get("metadata") or {}
    finalizers = meta.get("finalizers") or []
    if meta.get("deletionTimestamp") is None or KSERVE_FINALIZER not in finalizers:
        return None
    rest = [name for name in finalizers if name != KSERVE_FINALIZER]
    return {"metadata": {"finalizers": rest, "resourceVersion": meta.get("resourceVersion"), "uid": meta.get("uid")}}
