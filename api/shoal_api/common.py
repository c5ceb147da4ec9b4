"""What the four custom resources share: the base of all fields, metadata, conditions, and how an object is read.

Two rules shape every class here. A user's field is never lost: unknown fields are kept (``extra="allow"``, which the
generated schema turns into x-kubernetes-preserve-unknown-fields), and dumping with ``to_object`` gives back what was
read. And nothing of ours is sure to have checked an object: where KServe's CRDs are installed its schema decides what
is let through, so ``Resource.read`` checks everything again and says what it found as the user's YAML spells it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from .errors import SpecError

MAX_ERRORS_SHOWN = 3
MAX_UNREAD = 20
MAX_NAME_SHOWN = 100
_OUR_ANNOTATIONS = "shoal.dev/"

BareQuantity = Annotated[int | str, WithJsonSchema({"x-kubernetes-int-or-string": True})]
"""Amount of any resource, as the user wrote it."""

Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                {
                    "rule": "type(self) == int ? self >= 0 "
                    ": isQuantity(self) && quantity(self).compareTo(quantity('0')) >= 0",
                    "message": "not a size: write a Kubernetes quantity that is not negative, such as 256Mi or 1Gi",
                }
            ],
        }
    ),
]
"""Size as the user wrote it (``256Mi`` or a number of bytes); ``quantity.quantity_bytes`` reads it."""

Duration = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": r"self.matches('^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$')",
                    "message": "not a duration: write one such as 500ms, 30s, 5m or 1h30m",
                }
            ],
        }
    ),
]
"""Time as the user wrote it; ``quantity.duration_seconds`` reads it."""

Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""A pod-level part that is handed on unread."""

OpaqueList = Annotated[
    list[dict[str, Any]],
    WithJsonSchema({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}),
]

StringMap = Annotated[dict[str, str], WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}})]


class ApiModel(BaseModel):
    """A part of a custom resource: camelCase outside, snake_case inside, unknown fields kept."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="allow", use_attribute_docstrings=True
    )

    def to_object(self) -> dict[str, Any]:
        """The object as it was read: every field that was there and none that was not."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class ObjectMeta(ApiModel):
    """The fields of Kubernetes' ObjectMeta that are read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: StringMap = {}
    annotations: StringMap = {}
    finalizers: list[str] = []
    owner_references: list[dict[str, Any]] = []
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None


class Condition(ApiModel):
    """One condition, with knative's fields as KServe writes them."""

    type: str
    """What the condition is about, in CamelCase."""
    status: str
    """True, False or Unknown."""
    reason: str | None = None
    """A stable CamelCase word for why the status is what it is."""
    message: str | None = None
    """What is the case, where, and what to do next."""
    last_transition_time: str | None = None
    """When the status last changed (RFC 3339)."""
    severity: str | None = None
    """Empty or Error when Ready depends on it, Info when it does not."""


class Addressable(ApiModel):
    """Where something answers inside the cluster."""

    url: str | None = None
    """URL inside the cluster."""


class CommonStatus(ApiModel):
    """What the status of both kinds has."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """The metadata.generation that this status speaks of."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Latest observations, one of each type."""
    url: str | None = None
    """Where requests go, as users outside reach it."""
    address: Addressable | None = None
    """Where requests go, from inside the cluster."""


class Resource(ApiModel):
    """A whole object. Subclasses set the class attributes, and ``spec`` and ``status``."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    version: ClassVar[str]
    namespaced: ClassVar[bool] = True

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @classmethod
    def read(cls, obj: Mapping[str, Any]) -> Self:
        """The object as a typed value. Raises SpecError (InvalidSpec), naming the fields that cannot be read."""
        try:
            return cls.model_validate(obj, by_alias=True, by_name=False)
        except ValidationError as error:
            raise SpecError(
                "InvalidSpec", f"{cls.kind_name} cannot be read: {describe(error)} Correct it and apply again."
            ) from None


def unread_fields(part: ApiModel, path: str) -> list[str]:
    """Paths of the fields of a part that nobody reads, misspelt ones say, at most MAX_UNREAD of them."""
    found = [f"{path}.{_cut(key)}" for key in list(part.model_extra or ())[:MAX_UNREAD]]
    for name in part.model_fields_set & type(part).model_fields.keys():
        value, alias = getattr(part, name), type(part).model_fields[name].alias or name
        if isinstance(value, ApiModel):
            found += unread_fields(value, f"{path}.{alias}")
    return sorted(found)[:MAX_UNREAD]


def unread_annotations(metadata: ObjectMeta, read: frozenset[str]) -> list[str]:
    """Annotations that are ours by their prefix and that nobody reads there. ``read``: those that somebody does."""
    ours = (key for key in metadata.annotations if key.startswith(_OUR_ANNOTATIONS) and key not in read)
    return sorted(f"metadata.annotations[{_cut(key)}]" for key in ours)[:MAX_UNREAD]


def _cut(key: str) -> str:
    return key if len(key) <= MAX_NAME_SHOWN else f"{key[: MAX_NAME_SHOWN - 1]}…"


S = TypeVar("S", bound=CommonStatus)


def tolerant_status(status_type: type[S], value: Any) -> S:
    """A status as a value; empty where it cannot be read, since a status is rewritten and must never stop a spec."""
    if isinstance(value, status_type):
        return value
    try:
        return status_type.model_validate(value, by_alias=True, by_name=False)
    except ValidationError:
        return status_type()


def describe(error: ValidationError) -> str:
    """The first few problems as a phrase ending in a full stop, by the path that the user sees in their YAML.

    Values are left out: they may be long.
    """
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [": ".join(filter(None, (_path(each["loc"]), each["msg"]))) for each in problems[:MAX_ERRORS_SHOWN]]
    if len(problems) > MAX_ERRORS_SHOWN:
        shown.append(f"and {len(problems) - MAX_ERRORS_SHOWN} more")
    return "; ".join(shown) + "."


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
