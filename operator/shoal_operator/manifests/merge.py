"""A runtime's pod parts with a user's on top: Kubernetes' strategic merge, for the lists that matter in a pod.

Objects merge field by field, lists whose items have an identity merge by it, other lists are replaced, and null takes
a field away. `args` differ as in KServe: a user's are appended to the runtime's. Probes, hooks and volumes are taken
whole, since two kinds of handler or source in one would be refused.
"""

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

_IDENTITY: Mapping[str, str] = {
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "containers": "name",
    "initContainers": "name",
    "hostAliases": "ip",
}


_WHOLE = frozenset({"livenessProbe", "readinessProbe", "startupProbe", "preStop", "postStart"})
_WHOLE_ITEMS = frozenset({"volumes", "resourceClaims"})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """``base`` with ``over`` on top; neither is changed. Items of ``base`` keep their place in lists."""
    result: Object = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif key not in _WHOLE and isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif key in _IDENTITY and isinstance(value, list) and isinstance(result.get(key), list):
            result[key] = _merged_list(result[key], value, key)
        else:
            result[key] = value
    # One source of a value shuts out the other: both set would be refused by the API server.
    if "value" in over:
        result.pop("valueFrom", None)
    elif "valueFrom" in over:
        result.pop("value", None)
    return result


def merged_container(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """A runtime's container with the predictor's on top, named as the runtime's."""
    result = merged(base, {key: value for key, value in over.items() if key not in ("name", "args")})
    args = [*(base.get("args") or ()), *(over.get("args") or ())]
    if args:
        result["args"] = args
    return result


def without_nulls(value: Any) -> Any:
    """The value without fields that are null: what is left of them after merging means the default."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _merged_list(base: list[Any], over: list[Any], field: str) -> list[Any]:
    identity = _IDENTITY[field]
    result = list(base)
    places = {item.get(identity): place for place, item in enumerate(base) if isinstance(item, Mapping)}
    for item in over:
        place = places.get(item.get(identity)) if isinstance(item, Mapping) else None
        if place is None:
            result.append(item)
        else:
            result[place] = item if field in _WHOLE_ITEMS else merged(result[place], item)
    return result
