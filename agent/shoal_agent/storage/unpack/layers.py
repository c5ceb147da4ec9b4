"""What an image's layers make of one another: later ones replace and remove what earlier ones brought. Pure.

The OCI image specification (layer.md) says what a whiteout is: ``.wh.NAME`` removes NAME of the layers below,
``.wh..wh..opq`` all that they have in that folder. Neither touches what its own layer brings.
"""

from dataclasses import dataclass, field
from typing import Final

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
MAX_SKIPPED: Final = 1_000_000
"""Entries of layers that bring nothing to the folder that is wanted: those of base images, and whiteouts."""


@dataclass(slots=True)
class Layers:
    """Files by their path below ``below``, and the layer that each is of."""

    below: str
    of: dict[str, int] = field(default_factory=dict)

    def within(self, name: str) -> str | None:
        """The path below the wanted folder; None: it is elsewhere. Empty: the folder itself."""
        path = name
        while path.startswith(("./", "/")):
            path = path[2:] if path.startswith("./") else path[1:]
        path = path.rstrip("/")
        if path == self.below:
            return ""
        return path[len(self.below) + 1 :] if path.startswith(f"{self.below}/") else None

    def removed_by(self, name: str, layer: int) -> list[str] | None:
        """The files that an entry takes away from the layers below; None: it is no whiteout. ``name``: in the image."""
        folder, _, last = name.rstrip("/").rpartition("/")
        if not last.startswith(_WHITEOUT):
            return None
        target = folder if last == _OPAQUE else f"{folder}/{last[len(_WHITEOUT) :]}"
        return self.replaced_by(target.rstrip("/"), layer, itself=last != _OPAQUE)

    def replaced_by(self, name: str, layer: int, *, itself: bool = True) -> list[str]:
        """The files of the layers below that are in the way of one of that name, or are below it."""
        path = self.within(name)
        if path is None:
            if name.strip("/") not in ("", "."):
                return []
            path = ""  # the whole image
        prefix = f"{path}/" if path else ""
        return [
            each
            for each, number in self.of.items()
            if number < layer and (each.startswith(prefix) or (itself and each == path))
        ]
