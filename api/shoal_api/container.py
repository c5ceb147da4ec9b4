"""Kubernetes' Container, as far as it is read: by InferenceServices and runtimes. The rest is kept as it is."""

from typing import Annotated

from pydantic import Field

from .common import ApiModel, BareQuantity, Quantity


class Amounts(ApiModel):
    """Amounts by resource. Only memory is read; the API server's rule is left off where it could not afford it."""

    memory: BareQuantity | None = None
    """Amount of memory."""


class CheckedAmounts(Amounts):
    """Amounts by resource."""

    memory: Quantity | None = None
    """Amount of memory."""


class ResourceRequirements(ApiModel):
    """Compute resources of a container."""

    limits: Amounts | None = None
    """Most that it may use; memory is the room for models."""
    requests: Amounts | None = None
    """Least that it needs to be scheduled."""


class CheckedResourceRequirements(ResourceRequirements):
    """Compute resources of the model server."""

    limits: CheckedAmounts | None = None
    """Most that it may use; memory is the room for models."""


class EnvVar(ApiModel):
    """An environment variable; its other sources are kept as they are."""

    name: str
    """Name of the variable."""
    value: str | None = None
    """Its value."""


class Container(ApiModel):
    """The fields of Kubernetes' Container that are read; the others reach the pod as they are."""

    name: Annotated[str, Field(max_length=63)] | None = None
    """Name of the container."""
    image: str | None = None
    """Image of the container."""
    command: list[str] | None = None
    """Entrypoint instead of the image's."""
    args: list[str] | None = None
    """Arguments to the entrypoint."""
    env: list[EnvVar] | None = None
    """Environment variables."""
    resources: ResourceRequirements | None = None
    """Compute resources."""


class NamedContainer(Container):
    """A container of a pod."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the container."""
