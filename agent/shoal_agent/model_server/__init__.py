"""What the agent asks of a model server, whichever it is. ``servers`` has a package per type that answers.

The agent knows slots, copies and folders; an adapter knows its server. What is loaded is learnt from ``state`` and
``find`` only, never from how a call ended. Nothing here knows any server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from shoal_api.messages import ModelUse
from shoal_api.tuning import UNTUNED, Knob, Tuning

MODEL_LOAD_FAILED: Final = "ModelLoadFailed"
MODEL_LOAD_TIMEOUT: Final = "ModelLoadTimeout"
MODEL_OUT_OF_MEMORY: Final = "ModelOutOfMemory"
MODEL_UNLOAD_FAILED: Final = "ModelUnloadFailed"
MODEL_TUNING_FAILED: Final = "ModelTuningFailed"


class ServerError(Exception):
    """The server refused, or did not answer in time. ``reason`` is stable CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ServerGone(Exception):
    """There is no server to talk to, or the connection broke: what became of the call is unknown."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an adapter finds its server. ``ports``: those that the operator's profile names, by ``http``, ``grpc``,
    ``metrics``, ``management``, ``health``. ``models_dir``: the server reads it. ``shared_dir``: both write there.
    ``loading_timeout`` in seconds. ``threads``: what numeric libraries in the server's container are told to start
    (OMP_NUM_THREADS), for engines that do not read it and would count the node's processors; None: nobody said."""

    host: str
    ports: Mapping[str, int]
    models_dir: Path
    shared_dir: Path
    loading_timeout: float
    threads: int | None = None

    def url(self, port: str = "http") -> str:
        """Of one of the ports, over HTTP."""
        return f"http://{self.host}:{self.ports[port]}"


@dataclass(frozen=True, slots=True)
class Traits:
    """What can be relied on.

    ``replaces``: a load under a name that is loaded keeps the former copy answering until the new one does, and for
    good if that fails. Otherwise the agent unloads first, after having the name taken out of the routes; requests are
    held by the gateway meanwhile. ``finishes``: an unload lets running requests finish. Otherwise the agent waits until
    none is running, as far as the adapter's ``Usage`` tells. ``tuning``: what ``load`` honours; the rest never reaches
    the adapter. ``retunes``: what of it ``retune`` changes while the model answers; all else is a load of another copy.
    ``describes``: GET /v2/models/{name} of its http port is the Open Inference Protocol's metadata.
    ``concurrent_loads``: as many at a time, at most; None: as the agent is set.
    """

    replaces: bool = True
    finishes: bool = True
    tuning: frozenset[Knob] = frozenset()
    retunes: frozenset[Knob] = frozenset()
    concurrent_loads: int | None = None
    describes: bool = False


@dataclass(frozen=True, slots=True)
class ModelCopy:
    """One copy of a model, for the server. ``identity``: names this copy among all of its pod (32 hexadecimal
    characters); the server, or the adapter's memory, gives it back in ``LoadedModel.copy``. ``folder``: the artifact's
    files and what ``prepare`` wrote; the server finds it at the same path. ``memory_bytes`` for all of its workers."""

    name: str
    identity: str
    folder: Path
    framework: str
    tuning: Tuning = UNTUNED
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the server holds under a name. ``copy`` is the identity of what it was loaded from; anything else where
    the server does not know it."""

    name: str
    copy: str
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerState:
    """``boot`` changes with the server's process."""

    boot: str
    models: tuple[LoadedModel, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests of the models loaded now, since each was loaded."""

    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0


class Reading(Protocol):
    """Use of all models at one moment. ``boot``: the process that counts, as in ``ServerState``. Memory in bytes: of
    the server's processes now, and before any model was loaded; None: not measured. Its methods may block."""

    @property
    def boot(self) -> str: ...
    @property
    def resident_bytes(self) -> int | None: ...
    @property
    def base_bytes(self) -> int | None: ...

    def changes(self, before: "Reading | None", clock: float) -> list[ModelUse]:
        """The models whose numbers are other than ``before``, and that were ever used. ``clock``: seconds since 1970.
        ``before`` is an earlier reading of the same ``Usage``, or None: all that were used."""

    def totals(self) -> Totals:
        """Sums over all models that are loaded."""


class Usage(Protocol):
    """How much each model is used. ``usage.Tallies`` is one for servers that tell their counters by model."""

    async def read(self) -> Reading | None:
        """All as it is; None while there is nothing to read. Never raises; soon, whatever the server does."""

    async def in_flight(self, name: str) -> int:
        """Requests of one model under way now; 0 when nothing is known of it, 1 when the server runs and does not say:
        an unload would end them. Never raises."""


class Layout(Protocol):
    """How copies are shown to the server on the disk that it reads. ``layout.SlotLinks`` does for most. Blocks."""

    def open(self) -> Mapping[str, str]:
        """Make what is needed. What is shown: identities by model name, as an earlier agent of this pod left it."""

    def show(self, name: str, identity: str | None) -> None:
        """Have the server find this copy under the name, and no other; None: nothing. In one step: the server may look
        at any moment. Never a copy whose folder is not complete."""


@dataclass(frozen=True, slots=True)
class NoUsage:
    """For a server that tells nothing of use: its models count as used only when a request has them loaded."""

    async def read(self) -> None:
        return None

    async def in_flight(self, name: str) -> int:
        return 0


class HeldConnection(Protocol):
    async def ended(self) -> None:
        """Returns when the other side is gone."""

    def close(self) -> None:
        """Let go."""


class ModelServer(Protocol):
    """An adapter. Every call has a time limit of its own. What runs at once is the agent's to bound."""

    @property
    def traits(self) -> Traits: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def usage(self) -> Usage: ...

    def lay_out(self) -> None:
        """Make what the server needs on the shared volume. Blocks; before the server starts."""

    def prepare(self, copy: ModelCopy) -> None:
        """Write the server's own settings into a copy's folder, which has not its final name yet. Blocks. Files may be
        shared with other copies: replace them, never write into them. Raises StorageError (ArtifactInvalid)."""

    async def load(self, copy: ModelCopy) -> None:
        """Load a copy, which the layout shows under its name by now. Returns once the server has done it, or refused
        (ServerError). Raises ServerGone. After a failure nothing of this copy is left in the server."""

    async def unload(self, name: str) -> None:
        """Unload; a name that is not loaded is fine. Raises ServerError, ServerGone."""

    async def retune(self, copy: ModelCopy) -> None:
        """Change what ``traits.retunes`` names of a loaded model, which answers meanwhile. ``copy`` is the loaded one
        with its new tuning. Raises ServerError, ServerGone: then it is loaded anew instead."""

    async def state(self) -> ServerState:
        """All models. Raises ServerError, ServerGone."""

    async def find(self, name: str) -> LoadedModel | None:
        """One model. Raises ServerError, ServerGone."""

    async def alive(self) -> bool:
        """Whether the server answers at all, soon. Never raises."""

    async def hold(self) -> HeldConnection:
        """A connection that ends when the server's process does. Raises ServerGone."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(slots=True)
class Identities:
    """For servers that give no identity back: which copy was last loaded under each name, in this process of it."""

    _by_name: dict[str, str] = field(default_factory=dict)

    def loaded(self, name: str, identity: str) -> None:
        self._by_name[name] = identity

    def of(self, name: str) -> str:
        """``unknown`` for what an earlier agent had loaded: it is loaded again."""
        return self._by_name.get(name, "unknown")
