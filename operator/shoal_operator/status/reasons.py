"""Reasons of conditions: stable words that people alert on. Failures of storage and of loading bring their own."""

from typing import Final

from shoal_operator.state.world.cause import ACTIVATION_TIMEOUT

# Good.
READY: Final = "Ready"
LOADED: Final = "Loaded"
ON_DEMAND: Final = "OnDemand"
"""A request has it loaded; also said while a copy answers, when none has to be kept."""
RESOLVED: Final = "Resolved"
PLACED: Final = "Placed"
FITS: Final = "Fits"
MULTI_MODEL: Final = "MultiModel"
PODS_MISSING: Final = "PodsMissing"
FIELDS_NOT_SUPPORTED: Final = "FieldsNotSupported"
TUNING_NOT_SUPPORTED: Final = "TuningNotSupported"
SCALED_TO_ZERO: Final = "ScaledToZero"
"""There is no pod, since nobody asked for a model: a request has one started."""
WAKING: Final = "Waking"
"""A pod is being started for a request, which waits for it."""
AUTOSCALED: Final = "Autoscaled"
SECRET_NOT_FOUND: Final = "SecretNotFound"  # noqa: S105  # a word

# Worth knowing: nothing is broken, and something could be better.
WORKING_SET_TOO_LARGE: Final = "WorkingSetTooLarge"
DECLARED_TOO_LITTLE: Final = "DeclaredTooLittle"
DECLARED_TOO_MUCH: Final = "DeclaredTooMuch"

# On the way: these pass by themselves, and are written only when they last.
PENDING: Final = "Pending"
PULLING: Final = "Pulling"
LOADING: Final = "Loading"
MAKING_ROOM: Final = "MakingRoom"
UPDATING: Final = "Updating"
NOT_LOOKED_UP: Final = "NotLookedUp"
MOUNTING_CLAIM: Final = "MountingClaim"
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
INVALID_SETTING: Final = "InvalidSetting"
INTERNAL_ERROR: Final = "InternalError"

WAITING: Final = frozenset(
    {
        PENDING,
        PULLING,
        LOADING,
        MAKING_ROOM,
        UPDATING,
        NOT_LOOKED_UP,
        MOUNTING_CLAIM,
        SERVICE_NOT_FOUND,
        PODS_NOT_READY,
        ACTIVATION_TIMEOUT,  # the load goes on
        PODS_STARTING,
        NO_GATEWAY,
    }
)
