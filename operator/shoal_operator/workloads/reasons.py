"""Stable reasons for an InferenceService that cannot hold models, or whose pods cannot start."""

from typing import Final

INVALID_SPEC: Final = "InvalidSpec"
NOT_MULTI_MODEL: Final = "NotMultiModel"
RUNTIME_NOT_FOUND: Final = "RuntimeNotFound"
RUNTIME_DISABLED: Final = "RuntimeDisabled"
RUNTIME_NOT_MULTI_MODEL: Final = "RuntimeNotMultiModel"
RUNTIME_NOT_SUPPORTED: Final = "RuntimeNotSupported"
FORMAT_NOT_SUPPORTED: Final = "FormatNotSupported"
PROTOCOL_NOT_SUPPORTED: Final = "ProtocolNotSupported"
NO_CONTAINER: Final = "RuntimeHasNoContainer"
NO_MEMORY_LIMIT: Final = "NoMemoryLimit"
WORKLOAD_REFUSED: Final = "WorkloadRefused"
INVALID_SETTING: Final = "InvalidSetting"

IMAGE_PULL_FAILED: Final = "ImagePullFailed"
CONTAINER_NOT_CREATED: Final = "ContainerNotCreated"
CRASH_LOOP: Final = "CrashLoop"
OUT_OF_MEMORY: Final = "OutOfMemory"
UNSCHEDULABLE: Final = "Unschedulable"
POD_FAILED: Final = "PodFailed"
