"""Model servers. A file per server; each offers a ``ModelServer``. ``agent`` asks nothing else of a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

MODEL_LOAD_FAILED: Final = "ModelLoadFailed"
MODEL_LOAD_TIMEOUT: Final = "ModelLoadTimeout"
MODEL_UNLOAD_FAILED: Final = "ModelUnloadFailed"


class ServerError(Exception):
    """The server refused, or did not answer in time. ``reason`` is stable CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ServerGone(Exception):
    """There is no server to talk to, or the connection broke: what became of the call is unknown."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the server holds under a name. ``copy`` is the staged folder it was loaded from."""

    name: str
    copy: str
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerState:
    """``boot`` changes with the server's process."""

    boot: str
    models: tuple[LoadedModel, ...]


class ModelServer(Protocol):
    """Every call has a time limit of its own. What is loaded is learnt from ``state`` and ``find`` only."""

    def prepare(self, folder: Path, name: str, framework: str) -> None:
        """Write the server's own settings into a copy's folder (blocking). Files may be shared with other copies:
        replace them, never write into them. Raises StorageError (ArtifactInvalid)."""

    async def load(self, name: str) -> None:
        """Load what is staged under the name, beside what is loaded under it. Raises ServerError, ServerGone."""

    async def unload(self, name: str) -> None:
        """Unload; a name that is not loaded is fine. Raises ServerError, ServerGone."""

    async def state(self) -> ServerState:
        """All models. Raises ServerError, ServerGone."""

    async def find(self, name: str) -> LoadedModel | None:
        """One model. Raises ServerError, ServerGone."""

    async def alive(self) -> bool:
        """Whether the server answers at all, soon."""

    async def hold(self) -> "HeldConnection":
        """A connection that ends when the server's process does. Raises ServerGone."""

    async def close(self) -> None:
        """Let go of connections."""


class HeldConnection(Protocol):
    async def ended(self) -> None:
        """Returns when the other side is gone."""

    def close(self) -> None:
        """Let go."""
