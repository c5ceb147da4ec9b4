"""How a repository of Hugging Face's hub is written as a URI. Pure; taken apart for ``storage_uri.py`` alone.

``hf://OWNER/REPOSITORY`` and ``hf://OWNER/REPOSITORY:REVISION`` are KServe's forms; a folder or a file of the
repository behind either (``/PATH``) is not in KServe.
"""

import re
from dataclasses import dataclass
from typing import Final

HUB_SCHEME: Final = "hf"
HUB_EXAMPLE: Final = "hf://OWNER/REPOSITORY:REVISION"

_NAME: Final = "[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION: Final = "[A-Za-z0-9_](?:[A-Za-z0-9._+-]{0,253}[A-Za-z0-9_+])?"
HUB_URI: Final = f"hf://{_NAME}/{_NAME}(?::{_REVISION})?(?:/.*)?"
"""As the CRD admits it too."""
_PLACE: Final = re.compile(f"({_NAME}/{_NAME})(?::({_REVISION}))?(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class HubPlace:
    """``repository`` with its owner; ``revision`` empty: the default branch's last commit. ``path`` as it is."""

    repository: str
    revision: str
    path: str


def hub_place(rest: str) -> HubPlace | None:
    """Of what follows ``hf://``; None: it is no repository's."""
    found = _PLACE.fullmatch(rest)
    return HubPlace(found[1], found[2] or "", found[3] or "") if found is not None else None
