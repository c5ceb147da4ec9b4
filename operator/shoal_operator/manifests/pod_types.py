"""What users and runtimes write about pods, checked against Kubernetes' own types before anything is made of it.

The CRDs keep pod-level fields as they are (1.9 MB of schema otherwise), so any JSON reaches us. The types are those of
Kubernetes' OpenAPI, as the classes of its Python client carry them: field by field a name, a type, and how it is
spelt. A value of another type is an error, said by its path in the user's YAML; a field that the types do not have is
left out and named, since the API server would refuse the whole Deployment for it. What only the API server can judge
(ranges, names, which fields go together) is left to its answer. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from kubernetes.aio.client import models
from shoal_api.errors import SpecError
from shoal_api.quantity import quantity_bytes

from .agent import own_volume

POD: Final = "V1PodSpec"
CONTAINER: Final = "V1Container"

MAX_WRONG = 3
"""As many errors of one object are said; more would only be cut off in the condition."""

_LIST = re.compile(r"List\[(.+)\]")
_MAP = re.compile(r"Dict\[str, (.+)\]")
_QUANTITIES = frozenset({"limits", "requests", "overhead", "sizeLimit", "divisor"})
"""Fields whose strings are quantities; the client calls them strings, and numbers are as good."""
_MOUNTS = frozenset({"V1VolumeMount", "V1VolumeDevice"})
_SCALARS: Mapping[str, str] = {"str": "a string", "int": "a whole number", "bool": "true or false"}
_MAX_INT = 2**63 - 1
_MAX_SHOWN = 60


@dataclass(slots=True)
class Checked:
    """``wrong``: a phrase for each value that cannot be, with its path. ``unknown``: paths of fields left out.

    ``rendered``: it is Shoal's own work that is checked, which mounts Shoal's volumes.
    """

    rendered: bool = False
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def fields(self, value: Mapping[str, Any], type_name: str, path: str) -> dict[str, Any]:
        """Those of an object's fields that its type has, each checked; null passes, and means the default.

        ``path``: where the object stands in the user's YAML.
        """
        known = _fields(type_name)
        result: dict[str, Any] = {}
        for key, inner in value.items():
            where = f"{path}.{key}" if path else str(key)
            if key not in known:
                self.unknown.append(where)
            elif (type_name, key, inner) == (CONTAINER, "image", ""):
                self.wrong.append(f"{where} is empty, and an image is expected")
            elif type_name in _MOUNTS and key == "name" and own_volume(str(inner)) and not self.rendered:
                self.wrong.append(f"{where} is {_shown(inner)}, a volume of Shoal's own that nobody else may mount")
            else:
                kind = known[key]
                result[key] = None if inner is None else self._value(inner, kind, where, key in _QUANTITIES)
        return result

    def list_of(self, value: Any, type_name: str, path: str) -> list[dict[str, Any]]:
        """A list of objects, checked likewise."""
        found = self._value(value, f"List[{type_name}]", path)
        return found if isinstance(found, list) else []

    def raise_if_wrong(self) -> None:
        """Raises SpecError (InvalidSpec) when anything was of a wrong type."""
        if self.wrong:
            more = f"; and {len(self.wrong) - MAX_WRONG} more" if len(self.wrong) > MAX_WRONG else ""
            raise SpecError("InvalidSpec", f"{'; '.join(self.wrong[:MAX_WRONG])}{more}. Correct it and apply it again.")

    def _value(self, value: Any, kind: str, path: str, quantity: bool = False) -> Any:
        if (items := _LIST.fullmatch(kind)) is not None:
            if not isinstance(value, list):
                return self._no(value, "a list", path)
            return [self._value(item, items[1], f"{path}[{place}]") for place, item in enumerate(value)]
        if (values := _MAP.fullmatch(kind)) is not None:
            if not isinstance(value, Mapping):
                return self._no(value, "an object", path)
            return {key: self._value(item, values[1], f"{path}.{key}", quantity) for key, item in value.items()}
        if hasattr(models, kind):
            return self.fields(value, kind, path) if isinstance(value, Mapping) else self._no(value, "an object", path)
        if quantity:
            return self._quantity(value, path)
        return self._scalar(value, kind, path)

    def _quantity(self, value: Any, path: str) -> Any:
        try:
            quantity_bytes(repr(value) if isinstance(value, float) else value, path)
        except SpecError as error:
            self.wrong.append(error.message.rstrip("."))
        return value

    def _scalar(self, value: Any, kind: str, path: str) -> Any:
        if kind == "int" and isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_INT:
            return int(value)  # 30.0, as the API server reads it too
        a_flag, a_number = isinstance(value, bool), isinstance(value, int) and not isinstance(value, bool)
        if a_number and abs(value) > _MAX_INT:
            return self._no(value, "a number of at most 64 bits", path)
        fits = {"str": isinstance(value, str), "int": a_number, "bool": a_flag}.get(
            kind, isinstance(value, str) or a_number
        )
        return value if fits else self._no(value, _SCALARS.get(kind, "a number or a name"), path)

    def _no(self, value: Any, expected: str, path: str) -> Any:
        self.wrong.append(f"{path} is {_shown(value)}, and {expected} is expected")
        return value


@cache
def _fields(type_name: str) -> Mapping[str, str]:
    """Type by name as in YAML, of one of Kubernetes' types."""
    described = getattr(models, type_name)
    return {described.attribute_map[name]: kind for name, kind in described.openapi_types.items()}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) > _MAX_INT:
        return "a number too large"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
