"""As whom a registry is asked: Secrets of the service account, its imagePullSecrets among them, with a Docker
configuration.

Keys are Kubernetes': ``.dockerconfigjson`` (or ``config.json``, ``.dockercfg``); an entry may be for a host, for hosts
(``*.example.com``) or for what begins with a path. ``ca.crt`` beside them is the registry's authority.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from shoal_api.oci_uri import DOCKER_HUB

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .mounted import Mounted, read_mount
from .sayable import MAX_CREDENTIAL
from .secret_accesses import listed_secrets
from .web_json import text_of

KEYS: Final = (".dockerconfigjson", "config.json", ".dockercfg")
AUTHORITY: Final = "ca.crt"
_HUBS: Final = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})
_VERSION: Final = re.compile(r"/v[12]/?$")
_UNSAYABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """One way to reach a registry. ``origin`` names it in messages. ``refresh``: an identity token, which is exchanged
    for others; ``bearer``: one that is sent as it is. ``pattern``: what it is for; empty: for all."""

    origin: str
    pattern: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    authority: Path | None = None

    @property
    def basic(self) -> str:
        """The Authorization header's value; empty: there is no password."""
        if not self.user and not self.password:
            return ""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    @property
    def anonymous(self) -> bool:
        return not (self.basic or self.refresh or self.bearer)


NOBODY: Final = RegistryAccess("no credentials")


def accesses(annotations_file: Path, secrets: Path) -> list[RegistryAccess]:
    """All that there are. Blocks. Raises StorageError (StorageCredentialsInvalid) where one cannot be understood and no
    other can be used."""
    found: list[RegistryAccess] = []
    wrong: list[StorageError] = []
    for name in listed_secrets(annotations_file):
        try:
            found += read_mount(secrets / name, partial(_of_secret, name))
        except StorageError as error:
            wrong.append(error)
    if wrong and not found:
        raise wrong[0]
    return found


def candidates(known: Sequence[RegistryAccess], host: str, repository: str) -> list[RegistryAccess]:
    """Those for a repository, the most exact first; nobody's where there is none."""
    place = f"{host}/{repository}"
    mine = [access for access in known if _is_for(access.pattern, place)]
    return sorted(mine, key=lambda access: -len(access.pattern.partition("/")[2])) or [NOBODY]


def _is_for(pattern: str, place: str) -> bool:
    host, _, path = pattern.partition("/")
    own_host, _, own_path = place.partition("/")
    if host.startswith("*."):
        first, _, rest = own_host.partition(".")
        if not first or rest != host[2:]:
            return False
    elif host != own_host:
        return False
    return not path or own_path == path or own_path.startswith(f"{path}/")


def _of_secret(name: str, mounted: Mounted) -> list[RegistryAccess]:
    for key in KEYS:
        text = mounted.text((key,))
        if text is not None:
            return list(_of_config(name, key, text, mounted.file(AUTHORITY)))
    return []


def _of_config(secret: str, key: str, text: str, authority: Path | None) -> Iterator[RegistryAccess]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    entries = content.get("auths", content if key == ".dockercfg" else {}) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise _invalid(secret, f"its key {key} is no Docker configuration")
    for place, said in entries.items():
        if isinstance(said, dict):
            yield _entry(secret, str(place), said, authority)


def _entry(secret: str, place: str, said: Mapping[str, Any], authority: Path | None) -> RegistryAccess:
    values = {name: _value(said.get(name)) for name in ("username", "password", "identitytoken", "registrytoken")}
    auth = _value(said.get("auth"))
    if auth and not values["username"]:
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _invalid(secret, f"the auth of {place[:80]!r} is no base64 of user:password") from error
        values["username"], values["password"] = user, password.rstrip("\0")
    for value in values.values():
        if _UNSAYABLE.search(value) or len(value) > MAX_CREDENTIAL:
            raise _invalid(secret, f"the entry of {place[:80]!r} has a control character in it, or is too long")
    return RegistryAccess(
        f"Secret {secret!r}",
        _pattern(place),
        values["username"],
        values["password"],
        values["identitytoken"],
        values["registrytoken"],
        authority,
    )


def _value(said: Any) -> str:
    """A text, also of a number that somebody wrote without quotes."""
    return str(said) if isinstance(said, int | float) and not isinstance(said, bool) else text_of(said)


def _pattern(place: str) -> str:
    """An entry's name as it is compared: ``https://index.docker.io/v1/`` is Docker Hub."""
    bare = _VERSION.sub("", place.partition("://")[2] or place).strip("/")
    host, slash, path = bare.partition("/")
    host = host.lower()
    return f"{DOCKER_HUB if host in _HUBS else host}{slash}{path}"


def _invalid(secret: str, why: str) -> StorageError:
    return StorageError(
        STORAGE_CREDENTIALS_INVALID,
        f"Secret {secret!r}: {why}. Make it anew with `kubectl create secret docker-registry`; it is noticed.",
    )
