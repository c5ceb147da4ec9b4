"""How a place on a PersistentVolumeClaim is written as a URI. Pure; taken apart for ``storage_uri.py`` alone.

``pvc://CLAIM/PATH`` is KServe's form: a claim of the model's own namespace, and a folder or a file on its volume.
"""

import re
from dataclasses import dataclass
from typing import Final

CLAIM_SCHEME: Final = "pvc"
CLAIM_EXAMPLE: Final = "pvc://CLAIM/path/to/model"
CLAIM_NOT_MOUNTED: Final = "ClaimNotMounted"
"""An agent's reason: its pod does not mount the claim. Why not, the operator knows."""
MAX_CLAIM_NAME: Final = 253

_LABEL: Final = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME: Final = f"{_LABEL}(?:[.]{_LABEL})*"
CLAIM_URI: Final = f"{CLAIM_SCHEME}://{_NAME}(?:/.*)?"
"""As the CRD admits it too."""
_CLAIM: Final = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class ClaimPlace:
    """``path`` as it is."""

    claim: str
    path: str


def is_claim_name(text: str) -> bool:
    """Whether a PersistentVolumeClaim may be called so."""
    return len(text) <= MAX_CLAIM_NAME and _CLAIM.fullmatch(text) is not None


def claim_place(rest: str) -> ClaimPlace | None:
    """Of what follows ``pvc://``; None: it names no claim."""
    claim, _, path = rest.partition("/")
    return ClaimPlace(claim, path) if is_claim_name(claim) else None
