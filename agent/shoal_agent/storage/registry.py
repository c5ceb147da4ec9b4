"""Speaks with a registry: the distribution API, and the tokens that it wants.

Credentials go where container engines send them: to the registry, and to the realm that it names for tokens. A realm is
an address like any other (``web_addresses.py``), and one without TLS only a registry has that has none itself.
"""

import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from shoal_api.oci_uri import DOCKER_HUB
from yarl import URL

from . import STORAGE_UNREACHABLE, StorageError
from .registry_access import RegistryAccess
from .registry_errors import Asked, explain
from .trying import remember
from .web_access import WebAccess
from .web_addresses import Allowed
from .web_client import Answer, WebClient, shown

_HUBS_HOST: Final = "registry-1.docker.io"
_MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes; registries take no more."""
_MAX_TOKEN: Final = 256 * 1024
_MAX_TOKENS: Final = 4096
_DEFAULT_SECONDS: Final = 60.0
"""How long a token is good that does not say it."""
_MAX_SECONDS: Final = 24 * 3600.0
_MARGIN: Final = 10.0
_CHALLENGE: Final = re.compile(r"\s*(Bearer|Basic)(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)
_PARAMETER: Final = re.compile(r'([A-Za-z_]{1,32})\s*=\s*(?:"([^"\\]{0,2048})"|([^\s,"]{1,2048}))')


@dataclass(frozen=True, slots=True)
class Repository:
    """One of a registry's, and with what it is asked."""

    host: str
    name: str
    access: RegistryAccess


class Registries:
    """``plain``: hosts (with their port, if it is said in URIs) that are asked without TLS."""

    def __init__(
        self,
        connections: int,
        *,
        allowed: Allowed,
        plain: Set[str],
        resolver: Callable[[], AbstractResolver] = ThreadedResolver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = WebClient(
            connections,
            authority="into the Secret with the registry's credentials, under the key ca.crt; one without TLS is "
            "named in Helm value agent.artifacts.plainRegistries",
            allowed=allowed,
            resolver=resolver,
        )
        self._plain, self._clock = plain, clock
        self._authorizations: OrderedDict[Repository, tuple[str, float]] = OrderedDict()
        """The header's value, and until when it is good."""

    async def close(self) -> None:
        await self._client.close()

    def base(self, repository: Repository) -> str:
        """The URL that all of a repository is below."""
        host = _HUBS_HOST if repository.host == DOCKER_HUB else repository.host
        return f"{'http' if repository.host in self._plain else 'https'}://{host}/v2/{repository.name}"

    async def manifest(self, asked: Asked, repository: Repository, reference: str, accept: str) -> tuple[bytes, Answer]:
        """By a tag or a digest, whole. Raises StorageError."""
        answer = await self.ask(asked, repository, f"manifests/{reference}", {"Accept": accept})
        try:
            return await self._client.body(answer, _MAX_MANIFEST), answer
        finally:
            answer.close()

    async def ask(self, asked: Asked, repository: Repository, path: str, headers: Mapping[str, str]) -> Answer:
        """A good answer, to be closed. Raises StorageError."""
        url = URL(f"{self.base(repository)}/{path}", encoded=True)
        for again in (True, False):
            authorization = self._known(repository)
            answer = await self._client.ask("GET", url, _web(repository.access, authorization), headers)
            if answer.status in (200, 206):
                return answer
            try:
                # An answer of another host is about what the registry has signed: not about us.
                if answer.status != 401 or not again or answer.url.origin() != url.origin():
                    raise await explain(self._client, answer, asked)
                challenge = answer.header("WWW-Authenticate")
            finally:
                answer.close()
            self._authorizations.pop(repository, None)
            await self._authorize(asked, repository, challenge)
        raise RuntimeError("asked twice, and neither was the last")

    def part(self, answer: Answer, start: int, end: int) -> AsyncIterator[bytes]:
        """As ``WebClient.part``."""
        return self._client.part(answer, start, end)

    def _known(self, repository: Repository) -> str:
        value, until = self._authorizations.get(repository, ("", 0.0))
        if value and self._clock() < until:
            return value
        return f"Bearer {repository.access.bearer}" if repository.access.bearer else ""

    async def _authorize(self, asked: Asked, repository: Repository, challenge: str) -> None:
        """Have what the registry asks for, where that can be; else what it said to us before is said again."""
        kind, parameters = _challenge(challenge)
        value, seconds = "", _DEFAULT_SECONDS
        if kind == "basic":
            value, seconds = repository.access.basic, 3600.0
        elif kind == "bearer":
            value, seconds = await self._token(asked, repository, parameters)
        if value:
            remember(self._authorizations, repository, (value, self._clock() + seconds), _MAX_TOKENS)

    async def _token(self, asked: Asked, repository: Repository, said: Mapping[str, str]) -> tuple[str, float]:
        realm = self._realm(asked, repository, said.get("realm", ""))
        scope = f"repository:{repository.name}:pull"
        query = {"service": said.get("service", ""), "scope": scope}
        access = repository.access
        if access.refresh:
            form = {**query, "grant_type": "refresh_token", "refresh_token": access.refresh, "client_id": "shoal"}
            answer = await self._client.ask("POST", realm, _web(access, ""), {}, form=form)
        else:
            asking = realm.update_query(query)
            answer = await self._client.ask("GET", asking, _web(access, access.basic), {})
        try:
            if answer.status != 200:
                raise await explain(self._client, answer, asked)
            content = await self._client.json(answer, _MAX_TOKEN)
        finally:
            answer.close()
        found = content if isinstance(content, dict) else {}
        token, seconds = found.get("token") or found.get("access_token"), found.get("expires_in")
        if not isinstance(token, str) or not token.isprintable() or not token.isascii():
            raise StorageError(
                STORAGE_UNREACHABLE, f"{shown(realm)} gave no token for {asked.uri} (asked with {access.origin})."
            )
        lasts = min(seconds, _MAX_SECONDS) if isinstance(seconds, int | float) and seconds > 0 else _DEFAULT_SECONDS
        return f"Bearer {token}", max(lasts - _MARGIN, 1.0)

    def _realm(self, asked: Asked, repository: Repository, text: str) -> URL:
        try:
            realm = URL(text)
        except ValueError:
            realm = URL()
        plain = repository.host in self._plain
        if (
            not realm.host
            or realm.scheme not in (("https", "http") if plain else ("https",))
            or realm.user
            or realm.password
        ):
            raise StorageError(
                STORAGE_UNREACHABLE,
                f"{asked.uri}: {repository.host} wants a token of {shown(realm) if realm.host else text[:80]!r}, which "
                "is not asked: it is no https:// address. Correct the registry's realm.",
            )
        return realm


def _web(access: RegistryAccess, authorization: str) -> WebAccess:
    return WebAccess(access.origin, {"Authorization": authorization} if authorization else {}, access.authority)


def _challenge(header: str) -> tuple[str, dict[str, str]]:
    """The kind, and what it says."""
    found = _CHALLENGE.match(header[:8192])
    if found is None:
        return "", {}
    return found[1].lower(), {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(found[2] or "")}
