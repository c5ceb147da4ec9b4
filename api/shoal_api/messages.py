"""The agents' protocol: one endpoint, ``POST /v1/sync``, long-polled by every agent.

Observed goes up, desired comes down; both are versioned, and each side asks for everything again when versions do not
meet. A pod serves one InferenceService, so a model's name is unique in a pod: the name is the *slot*. What occupies a
slot is a *copy id*: the model's UID and a digest of its content (storage URI, framework, tuning), so that a name used
again, or a changed storage URI, is a different copy in the same slot. A slot whose desired copy differs from the one
being served is replaced make-before-break: the served copy keeps answering until the new one has loaded.

Every value is bounded, and nothing unbounded can be made: neither side can send what would not fit the other's numbers,
columns or patience. Operator and agent understand each other when their protocols are one apart: a newer one only adds
fields (ignored by the older), and sends nothing new in a field that the older knows before it has heard the other's
``protocol``. Fields that came later within protocol 2 (revisions, checks) mean nothing to who does not know them. What
an agent sends first may be refused (400, ProtocolUnsupported) by an operator of protocol 1, which knew no neighbours:
it then speaks the protocol before its own.
"""

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .grammar import MODEL_NAME
from .storage_uri import MAX_URI_LENGTH
from .tuning import UNTUNED, Tuning

PROTOCOL_VERSION: Final = 2
LONG_POLL_SECONDS = 20.0
PROTOCOL_UNSUPPORTED: Final = "ProtocolUnsupported"
"""Reason of the refusal (400) of a protocol that is not understood."""
ARTIFACT_NOT_FOUND: Final = "ArtifactNotFound"
MODEL_SERVER_CRASHED: Final = "ModelServerCrashed"
"""Reason of a failure: the server's process ended while this model, and no other, was loading."""
MAX_MESSAGE_LENGTH = 1024
MAX_REASON_LENGTH = 64
MAX_LABEL_LENGTH = 253
MAX_COPY_ID_LENGTH = 320
REVISION_LENGTH: Final = 16

MAX_METADATA_LENGTH: Final = 4096
MAX_METADATA_TOLD: Final = 16
"""Characters of what is told of one model's inputs and outputs, and of how many models in one message."""

MAX_COUNT: Final = 2**63 - 1
MAX_VERSION: Final = 2**95 - 1
"""Versions of a desired list are numbered within an epoch (operator: state/world/desired.py)."""
MAX_SECONDS: Final = 1e11
MAX_SLOTS: Final = 100_000
"""Entries of one list; that of what an agent observes is limited further by what was wanted of its pod."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024


def _printed(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _as_reason(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_,:]", "", text).lstrip("0123456789_,:").rstrip(",:") or "Unknown"


Epoch = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Version = Annotated[int, Field(ge=0, le=MAX_VERSION)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
SlotName = Annotated[str, StringConstraints(max_length=MODEL_NAME.longest, pattern=MODEL_NAME.anchored)]
_NO_CONTROL: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""What names things is written to logs, conditions and columns, some of which have no place for a NUL."""
Label = Annotated[str, StringConstraints(max_length=MAX_LABEL_LENGTH, pattern=_NO_CONTROL)]
"""Names and UIDs of Kubernetes, sessions, types."""
CopyId = Annotated[str, StringConstraints(max_length=MAX_COPY_ID_LENGTH, pattern=_NO_CONTROL)]
"""See ``copy_id``; also ``unknown.<folder>``, of what an agent finds loaded and knows nothing of."""
Revision = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{REVISION_LENGTH}}}$")]
"""What a storage URI named when it was listed: a digest of the paths, sizes and ETags of its artifact's files. The same
on every pod, and another one once a file was overwritten in place."""
Reason = Annotated[str, StringConstraints(max_length=MAX_REASON_LENGTH), AfterValidator(_as_reason)]
"""As Kubernetes has reasons of conditions, which this becomes: it would take no status with another."""
Text = Annotated[str, StringConstraints(max_length=MAX_MESSAGE_LENGTH), AfterValidator(_printed)]
"""What people read. Servers and models have a hand in it."""


def understood(protocol: int) -> bool:
    """Whether a peer that speaks ``protocol`` and this one understand each other."""
    return abs(protocol - PROTOCOL_VERSION) <= 1


def content_digest(storage_uri: str, framework: str, tuning: Tuning = UNTUNED, revision: str = "") -> str:
    """16 hexadecimal characters that change when what is to be loaded, or how, changes. ``revision``: of the artifact,
    once it is known to have been overwritten in place."""
    tuned = f"\n{tuning.model_dump_json(exclude_none=True)}" if tuning != UNTUNED else ""
    revised = f"\n@{revision}" if revision else ""
    return hashlib.blake2b(f"{storage_uri}\n{framework}{tuned}{revised}".encode(), digest_size=8).hexdigest()


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
    reason: Reason
    message: Text
    attempts: Count = 1
    retry_at: Seconds | None = None  # seconds since the epoch; None: not retried until the intent changes


class Action(StrEnum):
    """What the agent is to do for a slot."""

    LOAD = "Load"
    PULL = "Pull"  # bring the artifact to disk; its memory is still being freed
    STAT = "Stat"  # only look it up in its storage: is it there, and how large


class SlotReport(Message):
    """What an agent observes of one slot (model name). ``artifact_bytes``: unpacked once pulled, listed before."""

    name: SlotName
    serving: CopyId | None = None  # copy id that the server answers with now
    target: CopyId | None = None  # copy id being worked towards; None when it is to be unloaded
    phase: CopyPhase
    action: Action = Action.LOAD  # of the intent that it works on
    failure: CopyFailure | None = None
    artifact_bytes: Count | None = None
    # Of what ``serving`` names; of what is on disk for ``target``, left out where that is what serves; of what the
    # storage holds, by the look that was made for ``check`` of the intent, None where that look failed.
    revision: Revision | None = None
    target_revision: Revision | None = None
    listed_revision: Revision | None = None
    checked: Version = 0
    # Of memory, by the intents: for all of the slot that the server holds, is loading or is to load; None: not known.
    held_bytes: Count | None = None


class ServerReport(Message):
    """The model server beside the agent."""

    type: Label
    ready: bool
    frozen: bool = False  # not ready, since its process is there and says nothing
    boot: Label = ""  # changes when the server process was restarted
    message: Text = ""
    memory_bytes: Count | None = None  # resident, of the server's processes; None: not measured
    base_memory_bytes: Count | None = None  # the same before any model was loaded


class ModelUse(Message):
    """How much one loaded model was used, since it was loaded into this process of the server (``boot``).

    Totals, not differences: a lost or doubled message changes nothing. ``idle_seconds``: since the last request began.
    """

    name: SlotName
    requests: Count  # begun
    in_flight: Count = 0
    busy_seconds: Seconds = 0.0  # spent in finished requests, summed
    idle_seconds: Seconds


class ModelMetadata(Message):
    """What the server says of a model that it holds: the Open Inference Protocol's metadata, as JSON."""

    name: SlotName
    copy_id: CopyId
    body: Annotated[str, StringConstraints(max_length=MAX_METADATA_LENGTH)]


class CopyIntent(Message):
    """One slot that the pod should hold."""

    name: SlotName
    copy_id: CopyId
    storage_uri: Annotated[str, StringConstraints(max_length=MAX_URI_LENGTH)]
    framework: Annotated[str, StringConstraints(max_length=128)]
    memory_bytes: Count  # for all of its workers
    action: Action = Action.LOAD
    tuning: Tuning = UNTUNED  # what the server's adapter can honour of it
    urgent: bool = False  # a request waits for it: before all that are not
    # Where the storage holds another revision than this one by now, what is on the pod's disk of it is loaded. Only of
    # what requests could last count on: what is new is whatever the storage holds.
    revision: Revision | None = None
    check: Version = 0  # another number than the last: look once whether the storage still holds what is loaded


class SyncRequest(Message):
    protocol: Annotated[int, Field(ge=1, le=1_000_000)] = PROTOCOL_VERSION  # that this message is written in
    namespace: Label
    pod: Label
    pod_uid: Label
    session: Label  # names the agent process; that of a later process of the same pod sorts higher
    epoch: Epoch = 0  # highest epoch the agent has obeyed
    server: ServerReport
    draining: bool = False  # preStop asked for the pod to be emptied
    # Observed: `observed_version` counts the agent's own changes; `observed_base` is the version this delta starts
    # from, None when `observed` is everything.
    observed_version: Count
    observed_base: Count | None = None
    observed: Annotated[list[SlotReport], Field(max_length=MAX_SLOTS)] = []
    observed_gone: Annotated[list[SlotName], Field(max_length=MAX_SLOTS)] = []
    # Models used since the last request that was answered; a model that was not used is not named.
    use: Annotated[list[ModelUse], Field(max_length=MAX_SLOTS)] = []
    use_now: bool = False  # read for this request, as the operator had asked
    # Of copies that were loaded since the last requests that were answered, some at a time; each once.
    metadata: Annotated[list[ModelMetadata], Field(max_length=MAX_METADATA_TOLD)] = []
    # Desired: the version held, 0 when none in this session.
    desired_version: Version = 0
    wait_seconds: Seconds = LONG_POLL_SECONDS


class SyncResponse(Message):
    protocol: Annotated[int, Field(ge=1, le=1_000_000)] = 1  # highest that the operator speaks; that of 1 says nothing
    epoch: Epoch
    observed_acknowledged: Count  # next delta may start here; 0 asks for everything
    # None: keep what you have (the operator is recovering, or nothing changed).
    desired_version: Version | None = None
    desired_base: Version | None = None  # None: `desired` is the whole list
    desired: Annotated[list[CopyIntent], Field(max_length=MAX_SLOTS)] = []
    desired_gone: Annotated[list[SlotName], Field(max_length=MAX_SLOTS)] = []
    use_seconds: Seconds = 10.0  # how often, in seconds, `use` is wanted from now on
    use_now: bool = False  # tell it at once, also if nothing was used: something is about to be evicted
    drained: bool = False  # no model is left to move; preStop may return
