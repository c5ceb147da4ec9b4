"""The two kinds whose status is written, and where each object's status is in the API."""

from enum import StrEnum

from shoal_api.names import GROUP

from shoal_operator.kube import object_path

from .budget import MODEL_QUIET_SECONDS, SERVICE_QUIET_SECONDS
from .events import Regarding


class Subject(StrEnum):
    """A kind; its value is the plural in the API's paths."""

    MODEL = "trainedmodels"
    SERVICE = "inferenceservices"


Target = tuple[Subject, str, str]
"""Kind, namespace, name."""

KINDS = {Subject.MODEL: "TrainedModel", Subject.SERVICE: "InferenceService"}
QUIET_SECONDS = {Subject.MODEL: MODEL_QUIET_SECONDS, Subject.SERVICE: SERVICE_QUIET_SECONDS}
_API_VERSIONS = {Subject.MODEL: f"{GROUP}/v1alpha1", Subject.SERVICE: f"{GROUP}/v1beta1"}


def status_path(target: Target) -> str:
    """URL path of the object's status."""
    subject, namespace, name = target
    return object_path(_API_VERSIONS[subject], subject.value, namespace, name, "status")


def regarding(target: Target, uid: str) -> Regarding:
    """The object as an event names it."""
    subject, namespace, name = target
    return Regarding(_API_VERSIONS[subject], KINDS[subject], namespace, name, uid)
