"""Models that nobody registered: where their artifacts lie, and what is kept of the names that were asked for. Pure.

An InferenceService with ``shoal.dev/models-from`` has as many models as there are artifacts below that place, and none
of them costs anything before it is asked for. Names are computed (`shoal_api.artifact_names`), never listed.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from shoal_api.artifact_names import path_of
from shoal_api.model_storage import STORAGE_CONFIG_SCHEME
from shoal_api.storage_uri import StorageUriError, parse_storage_uri

NAME: Final = "{name}"
DEFAULT_MODELS: Final = 10_000
LOOK_UPS_PER_SECOND: Final = 50.0
BURST: Final = 200.0
"""Names that are looked up in storage, of one InferenceService: made-up ones cost no more than that."""
ABSENT_SECONDS: Final = 10.0
MOST_ABSENT: Final = 10_000
"""How long, and of how many names, it is remembered that storage has nothing for them."""
NEVER_SEEN_SECONDS: Final = 60.0
UNUSED_SECONDS: Final = 600.0
"""A model that nobody asks for is forgotten after so long, once no pod holds it; sooner where storage refuses to say
whether there is one."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """``uri`` ends with a slash; ``pattern`` holds ``{name}``; ``memory_bytes`` of each, None: estimated. ``most``:
    of more models than that those are forgotten that nobody uses."""

    uri: str
    framework: str
    pattern: str = NAME
    memory_bytes: int | None = None
    most: int = DEFAULT_MODELS

    def location(self, name: str) -> str | None:
        """The storage URI of the artifact of that name, which may not be there; None: no artifact has that name."""
        path = path_of(name)
        if path is None or any(part in ("", ".", "..") for part in path.split("/")):
            return None
        below = self.pattern.replace(NAME, path)
        uri = self.uri + (quote(below) if self.uri.startswith(f"{STORAGE_CONFIG_SCHEME}://") else below)
        try:
            parse_storage_uri(uri)
        except StorageUriError:
            return None
        return uri


@dataclass(slots=True)
class AskedFor:
    """Names of one InferenceService that requests have asked for. ``names``: those that are models now, the one that
    was looked at longest ago first. ``tokens``: look-ups that may begin at once, as of ``at``."""

    names: OrderedDict[str, None] = field(default_factory=OrderedDict)
    tokens: float = BURST
    at: float = float("-inf")
    _absent: OrderedDict[str, float] = field(default_factory=OrderedDict)  # until when that counts

    def is_absent(self, name: str, now: float) -> bool:
        """Storage had nothing for it a moment ago."""
        return self._absent.get(name, now) > now

    def not_there(self, name: str, now: float) -> None:
        """Storage has nothing for it."""
        self.drop(name)
        self._absent[name] = now + ABSENT_SECONDS
        self._absent.move_to_end(name)
        while len(self._absent) > MOST_ABSENT or next(iter(self._absent.values())) <= now:
            self._absent.popitem(last=False)

    def found(self, name: str) -> None:
        """It is a model: an agent holds it, or it was one before."""
        self.names[name] = None

    def drop(self, name: str) -> None:
        """It is no model any more."""
        self.names.pop(name, None)

    def oldest(self, count: int) -> Iterator[str]:
        """So many names that were looked at longest ago, which they are now."""
        for _ in range(min(count, len(self.names))):
            name = next(iter(self.names), None)
            if name is None:
                return
            self.names.move_to_end(name)
            yield name

    def begin(self, name: str, now: float) -> bool:
        """It is to be looked up; False: not now, since others are."""
        passed = 0.0 if self.at == float("-inf") else max(0.0, now - self.at)
        self.tokens, self.at = min(BURST, self.tokens + passed * LOOK_UPS_PER_SECOND), now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        self._absent.pop(name, None)
        self.names[name] = None
        return True
