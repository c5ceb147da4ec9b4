"""Which hub to ask, and as whom: Secrets of the service account with ``HF_TOKEN``, as in KServe, else the environment.

``HF_ENDPOINT`` (another hub, or a mirror) is what Hugging Face's own library calls it: a key of the Secret, an
annotation ``serving.kserve.io/hf-endpoint``, or in the model server's environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shoal_api.storage_secrets import HUB_ANNOTATIONS, AnnotatedSecret, ServiceAccountNote

from .joined import Joined
from .mounted import Mounted
from .s3_settings import annotated, url
from .sayable import refuse_endpoint, refuse_text
from .secret_accesses import Values, of_secrets, settings_of
from .web_access import WebAccess

HUB: Final = "https://huggingface.co"
TOKEN: Final = "HF_TOKEN"  # noqa: S105  # its name
TOKEN_NAMES: Final = (TOKEN, "HUGGING_FACE_HUB_TOKEN")
ENDPOINT: Final = "HF_ENDPOINT"
AUTHORITY: Final = "ca.crt"


@dataclass(frozen=True, slots=True)
class HubAccess:
    """One way to reach a hub. ``origin`` names it in messages."""

    origin: str
    endpoint: str = HUB
    token: str | None = field(default=None, repr=False)
    authority: Path | None = None

    @property
    def web(self) -> WebAccess:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return WebAccess(self.origin, headers, self.authority)


def accesses(
    annotations_file: Path, secrets: Path, environment: Mapping[str, str], joined: Joined[HubAccess] | None = None
) -> list[HubAccess]:
    """All that may be tried, in that order. Blocks. As ``of_secrets``."""
    found = of_secrets(annotations_file, secrets, _HubReading(), joined)
    if found.accesses:
        return found.accesses
    said = _said(found.account.annotations).get("endpoint")
    own = environment.get(ENDPOINT) or None
    token = next((value for name in TOKEN_NAMES if (value := environment.get(name))), None)
    if said and said != own:
        token = None  # who may annotate a service account would else get it
    who = f"{TOKEN} of the server's environment" if token else f"no token{found.in_vain('a hub')}"
    return [_access(who, said or own, token, None)]


def _access(origin: str, endpoint: str | None, token: str | None, authority: Path | None) -> HubAccess:
    place = url(endpoint.strip(), "1") if endpoint and endpoint.strip() else HUB
    refuse_endpoint(place, origin)
    refuse_text(token, "token", origin)
    return HubAccess(origin, place.rstrip("/"), token, authority)


@dataclass(frozen=True, slots=True)
class _HubReading:
    """``Reading``."""

    def keys(self, mounted: Mounted) -> Values:
        return (mounted.text(TOKEN_NAMES),)

    def settings(self, mounted: Mounted) -> Values:
        return settings_of((ENDPOINT, text) for text in [mounted.text([ENDPOINT])] if text)

    def access(self, said: AnnotatedSecret, account: ServiceAccountNote, mounted: Mounted) -> HubAccess | None:
        token, own = mounted.text(TOKEN_NAMES), mounted.text([ENDPOINT])
        endpoint = _said(said.annotations).get("endpoint") or own
        if token is None and endpoint is None:
            return None
        endpoint = endpoint or _said(account.annotations).get("endpoint")
        return _access(f"Secret {said.name!r}", endpoint, token, mounted.file(AUTHORITY))


def _said(annotations: Mapping[str, str]) -> dict[str, str]:
    return annotated(annotations, HUB_ANNOTATIONS)
