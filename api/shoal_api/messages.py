"""The agents' protocol: one endpoint, ``POST /v1/sync``, long-polled by every agent.

Observed goes up, desired comes down; both are versioned, and each side asks for everything again when versions do not
meet. A pod serves one InferenceService, so a model's name is unique in a pod: the name is the *slot*. What occupies a
slot is a *copy id*: the model's UID and a digest of its content (storage URI, framework), so that a name used again,
or a changed storage URI, is a different copy in the same slot. A slot whose desired copy differs from the one being
served is replaced make-before-break: the served copy keeps answering until the new one has loaded.
"""

import hashlib
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSION = 1
LONG_POLL_SECONDS = 20.0
MAX_MESSAGE_LENGTH = 1024


def content_digest(storage_uri: str, framework: str) -> str:
    """16 hexadecimal characters that change when what is to be loaded changes."""
    return hashlib.blake2b(f"{storage_uri}\n{framework}".encode(), digest_size=8).hexdigest()


def copy_id(uid: str, content: str) -> str:
    """Identity of a copy: ``<model uid>.<content digest>``."""
    return f"{uid}.{content}"


class Message(BaseModel):
    """Base of all messages: immutable, and tolerant of fields that a newer peer adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CopyPhase(StrEnum):
    """Where the copy that a slot is moving towards stands."""

    WAITING = "Waiting"  # queued, or in back-off after a failure
    PULLING = "Pulling"
    PULLED = "Pulled"  # on disk and verified; the intent's action asks for no more
    SEEN = "Seen"  # found in its storage, nothing fetched; the intent's action asks for no more
    LOADING = "Loading"
    LOADED = "Loaded"
    UNLOADING = "Unloading"


class FailureStage(StrEnum):
    STORAGE = "Storage"  # URI, credentials, bucket, key, archive, limits
    LOAD = "Load"  # the server refused or crashed


class CopyFailure(Message):
    """Why the last attempt failed. ``reason`` is CamelCase and stable; ``message`` says what, where, what to do."""

    stage: FailureStage
    reason: str = Field(max_length=64)
    message: str = Field(max_length=MAX_MESSAGE_LENGTH)
    attempts: int = 1
    retry_at: float | None = None  # seconds since the epoch; None: not retried until the intent changes


class Action(StrEnum):
    """What the agent is to do for a slot."""

    LOAD = "Load"
    PULL = "Pull"  # bring the artifact to disk; its memory is still being freed
    STAT = "Stat"  # only look it up in its storage: is it there, and how large


class SlotReport(Message):
    """What an agent observes of one slot (model name). ``artifact_bytes``: unpacked once pulled, listed before."""

    name: str
    serving: str | None = None  # copy id that the server answers with now
    target: str | None = None  # copy id being worked towards; None when it is to be unloaded
    phase: CopyPhase
    action: Action = Action.LOAD  # of the intent that it works on
    failure: CopyFailure | None = None
    artifact_bytes: int | None = None


class ServerReport(Message):
    """The model server beside the agent."""

    type: str
    ready: bool
    boot: str = ""  # changes when the server process was restarted
    message: str = ""
    memory_bytes: int | None = None  # resident, of the server's processes; None: not measured
    base_memory_bytes: int | None = None  # the same before any model was loaded


class ModelUse(Message):
    """How much one loaded model was used, since it was loaded into this process of the server (``boot``).

    Totals, not differences: a lost or doubled message changes nothing. ``idle_seconds``: since the last request began.
    """

    name: str
    requests: int  # begun
    in_flight: int = 0
    busy_seconds: float = 0.0  # spent in finished requests, summed
    idle_seconds: float


class CopyIntent(Message):
    """One slot that the pod should hold."""

    name: str
    copy_id: str
    storage_uri: str
    framework: str
    memory_bytes: int
    action: Action = Action.LOAD


class SyncRequest(Message):
    protocol: int = PROTOCOL_VERSION
    namespace: str
    pod: str
    pod_uid: str
    session: str  # names the agent process; that of a later process of the same pod sorts higher
    epoch: int = 0  # highest epoch the agent has obeyed
    server: ServerReport
    draining: bool = False  # preStop asked for the pod to be emptied
    # Observed: `observed_version` counts the agent's own changes; `observed_base` is the version this delta starts
    # from, None when `observed` is everything.
    observed_version: int
    observed_base: int | None = None
    observed: list[SlotReport] = []
    observed_gone: list[str] = []
    # Models used since the last request that was answered; a model that was not used is not named.
    use: list[ModelUse] = []
    use_now: bool = False  # read for this request, as the operator had asked
    # Desired: the version held, 0 when none in this session.
    desired_version: int = 0
    wait_seconds: float = LONG_POLL_SECONDS


class SyncResponse(Message):
    epoch: int
    observed_acknowledged: int  # next delta may start here; 0 asks for everything
    # None: keep what you have (the operator is recovering, or nothing changed).
    desired_version: int | None = None
    desired_base: int | None = None  # None: `desired` is the whole list
    desired: list[CopyIntent] = []
    desired_gone: list[str] = []
    use_seconds: float = 10.0  # how often, in seconds, `use` is wanted from now on
    use_now: bool = False  # tell it at once, also if nothing was used: something is about to be evicted
    drained: bool = False  # no model is left to move; preStop may return
