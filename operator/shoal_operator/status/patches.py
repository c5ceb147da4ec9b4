"""The patches that the status room sends: the difference between two statuses, and KServe's finalizer taken away."""

from collections.abc import Mapping
from typing import Any

from shoal_api.trained_model import KSERVE_FINALIZER

Object = dict[str, Any]


def merge_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The JSON merge patch (RFC 7386) that turns ``old`` into ``new``; empty when they are equal.

    Lists are replaced as a whole, since merge patches know no other way.
    """
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


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
