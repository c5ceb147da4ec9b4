"""Reasons of conditions: stable words that people alert on. Failures of storage and of loading bring their own."""

from typing import Final

# Good.
READY: Final = "Ready"
LOADED: Final = "Loaded"
RESOLVED: Final = "Resolved"
PLACED: Final = "Placed"
FITS: Final = "Fits"
MULTI_MODEL: Final = "MultiModel"
PODS_MISSING: Final = "PodsMissing"
FIELDS_NOT_SUPPORTED: Final = "FieldsNotSupported"

# On the way: these pass by themselves, and are written only when they last.
PENDING: Final = "Pending"
PULLING: Final = "Pulling"
LOADING: Final = "Loading"
UPDATING: Final = "Updating"
SERVICE_NOT_FOUND: Final = "InferenceServiceNotFound"
PODS_NOT_READY: Final = "PodsNotReady"
PODS_STARTING: Final = "PodsStarting"
NO_GATEWAY: Final = "NoGateway"

# Wrong: someone has to do something.
NOT_MULTI_MODEL: Final = "NotMultiModel"
INSUFFICIENT_MEMORY: Final = "InsufficientMemory"
MODEL_TOO_LARGE: Final = "ModelTooLarge"
NO_POD_FITS: Final = "NoPodFits"
FRAMEWORK_NOT_SUPPORTED: Final = "FrameworkNotSupported"
UPDATE_FAILED: Final = "UpdateFailed"
UPDATE_BLOCKED: Final = "UpdateBlocked"

WAITING: Final = frozenset(
    {PENDING, PULLING, LOADING, UPDATING, SERVICE_NOT_FOUND, PODS_NOT_READY, PODS_STARTING, NO_GATEWAY}
)
