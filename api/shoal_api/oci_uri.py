"""How an image or an artifact of a registry is written as a URI. Pure; taken apart for ``storage_uri.py`` alone.

``oci://[HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST]`` as KServe has it and container engines read it: what names no
registry is Docker Hub's.
"""

import re
from dataclasses import dataclass
from typing import Final

OCI_SCHEME: Final = "oci"
OCI_EXAMPLE: Final = "oci://registry.example.com/models/churn:1.0"
DOCKER_HUB: Final = "docker.io"
LATEST: Final = "latest"

_HOST: Final = "[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?"
_COMPONENT: Final = "[a-z0-9]+(?:(?:[.]|_{1,2}|-+)[a-z0-9]+)*"
_TAG: Final = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST: Final = "sha256:[0-9a-f]{64}"
OCI_URI: Final = f"oci://(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::{_TAG})?(?:@{_DIGEST})?"
"""As the CRD admits it too."""
_PLACE: Final = re.compile(f"(?:({_HOST})/)?({_COMPONENT}(?:/{_COMPONENT})*)(?::({_TAG}))?(?:@({_DIGEST}))?")
_MAX_REPOSITORY: Final = 255


@dataclass(frozen=True, slots=True)
class OciPlace:
    """``tag`` and ``digest`` may be empty; the digest counts where both are there."""

    host: str
    repository: str
    tag: str
    digest: str


def oci_place(rest: str) -> OciPlace | None:
    """Of what follows ``oci://``; None: it is no image's."""
    found = _PLACE.fullmatch(rest)
    if found is None:
        return None
    host, repository, tag, digest = found[1] or "", found[2], found[3] or "", found[4] or ""
    if host and not _is_registry(host):
        host, repository = "", f"{host}/{repository}"
    if not host or host == DOCKER_HUB:
        host, repository = DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    port = host.partition(":")[2]
    if len(repository) > _MAX_REPOSITORY or (port and not 0 < int(port) < 65536):
        return None
    return OciPlace(host.lower(), repository, tag, digest)


def _is_registry(first: str) -> bool:
    """Whether the first part names a host, as container engines see it."""
    return first == "localhost" or "." in first or ":" in first or first != first.lower()
