"""``hf://``: artifacts from repositories of Hugging Face's hub, or of what answers like it.

A revision is looked up once for each listing and everything is asked for by its commit, so that a branch that moves
meanwhile never mixes two contents. What makes the artifact is the files' own ids: a commit that changes none of them is
no other content. Large files are elsewhere, where the hub sends us: without the token, which is the hub's alone.
"""

import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from shoal_api.storage_uri import StorageUri
from yarl import URL

from . import (
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    ARTIFACT_TOO_LARGE,
    STORAGE_UNREACHABLE,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .digests import GIT, SHA256, is_digest
from .hub_access import HubAccess, accesses
from .hub_errors import Asked, explain
from .joined import Joined
from .paths import safe_path
from .tree import as_artifact
from .trying import Trying, bounded, remember
from .web_access import WebAccess
from .web_addresses import PUBLIC, Allowed
from .web_client import Answer, WebClient, ranged, refuse_other_size
from .web_json import size_of, text_of

MAIN: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MAX_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of one page of a listing; the hub's have a thousand entries at most."""
_MAX_PAGES: Final = 200
_MAX_PAUSES: Final = 64
_NEXT: Final = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')
_GITS: Final = frozenset({".gitattributes", ".gitignore"})
"""The repository's own, and no part of a model."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Below which URL the files of a commit are, and how they are asked for."""

    url: str
    commit: str
    access: WebAccess
    asked: Asked


class HubSource:
    """``Source``. ``allowed``: which addresses may be asked. ``resolver``: how names become addresses."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        allowed: Allowed = PUBLIC,
        resolver: Callable[[], AbstractResolver] = ThreadedResolver,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        joined: Joined[HubAccess] = Joined()
        self._trying = Trying(lambda: accesses(annotations_file, secrets, environment, joined))
        self._client = WebClient(
            connections,
            authority="into the Secret of the service account that has HF_TOKEN or HF_ENDPOINT, under the key ca.crt",
            allowed=allowed,
            resolver=resolver,
        )
        self._clock = clock
        self._paused: OrderedDict[HubAccess, tuple[float, StorageError]] = OrderedDict()

    async def close(self) -> None:
        await self._client.close()

    async def read_secrets(self) -> None:
        """Something of the Secrets has changed."""
        await self._trying.read_secrets()

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The repository's files, or those below a folder of it, or one. Raises StorageError."""
        return await self._trying.find(uri, lambda access: self._find(access, uri, limits))

    async def _find(self, access: HubAccess, uri: StorageUri, limits: Limits) -> Listing:
        self._refuse_while_paused(access)
        revision = dict(uri.parameters).get("revision", MAIN)
        asked = Asked(uri.bucket, revision, access.endpoint, access.origin, bool(access.token))
        try:
            async with bounded(uri):
                commit = await self._commit(access, asked)
                files = await self._files(access, asked, commit, uri, limits)
        except StorageError as error:
            if error.after:
                until = self._clock() + error.after
                remember(self._paused, access, (until, error), _MAX_PAUSES)
            raise
        url = f"{access.endpoint}/{uri.bucket}/resolve/{commit}/"
        return Listing(access.endpoint, as_artifact(files, uri.raw), _Place(url, commit, access.web, asked))

    def _refuse_while_paused(self, access: HubAccess) -> None:
        """A hub that wants to be left alone is not asked for every model that waits for it."""
        until, error = self._paused.get(access, (0.0, None))
        if error is not None and (left := until - self._clock()) > 0:
            raise StorageError(error.reason, error.message, after=left)

    async def _commit(self, access: HubAccess, asked: Asked) -> str:
        if _COMMIT.fullmatch(asked.revision):
            return asked.revision
        url = URL(f"{access.endpoint}/api/models/{asked.repository}/revision/{asked.revision}", encoded=True)
        content, _ = await self._json(url, access, asked)
        commit = content.get("sha") if isinstance(content, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise _no_hub(asked)
        return commit

    async def _files(
        self, access: HubAccess, asked: Asked, commit: str, uri: StorageUri, limits: Limits
    ) -> list[ArtifactFile]:
        files: list[ArtifactFile] = []
        missing: StorageError | None = None
        try:
            files = await self._below(access, asked, commit, uri, limits)
        except StorageError as error:
            if error.reason != ARTIFACT_NOT_FOUND or not uri.key:
                raise
            missing = error
        if not files and not uri.folder:
            try:
                files = await self._single(access, asked, commit, uri, limits)
            except StorageError as error:
                if error.reason != ARTIFACT_NOT_FOUND:
                    raise
        if not files:
            raise missing or asked.nothing(uri.key)
        return files

    async def _below(
        self, access: HubAccess, asked: Asked, commit: str, uri: StorageUri, limits: Limits
    ) -> list[ArtifactFile]:
        files: list[ArtifactFile] = []
        total = 0
        async for entry in self._entries(access, asked, commit, uri.key, recursive=True):
            if not entry.key.startswith(uri.prefix):
                raise StorageError(
                    ARTIFACT_INVALID, f"{asked.endpoint} listed {entry.key[:200]!r}, which is not below {uri.raw}."
                )
            path = entry.key[len(uri.prefix) :]
            if path in _GITS:
                continue
            total += entry.size
            files.append(replace(entry, path=safe_path(path, uri.raw)))
            if len(files) > limits.max_files:
                raise StorageError(
                    ARTIFACT_TOO_LARGE,
                    f"{uri.raw} holds more than {limits.max_files} files. Name the model's own folder behind the "
                    f"repository.{limits.raise_files}",
                )
            limits.refuse_beyond(total, uri.raw)
        return files

    async def _single(
        self, access: HubAccess, asked: Asked, commit: str, uri: StorageUri, limits: Limits
    ) -> list[ArtifactFile]:
        folder, _, name = uri.key.rpartition("/")
        async for entry in self._entries(access, asked, commit, folder, recursive=False):
            if entry.key == uri.key:
                limits.refuse_beyond(entry.size, uri.raw)
                return [replace(entry, path=safe_path(name, uri.raw))]
        return []

    async def _entries(
        self, access: HubAccess, asked: Asked, commit: str, folder: str, *, recursive: bool
    ) -> AsyncIterator[ArtifactFile]:
        below = f"/{quote(folder, safe='/')}" if folder else ""
        place = f"{access.endpoint}/api/models/{asked.repository}/tree/{commit}{below}"
        url = URL(f"{place}?recursive={str(recursive).lower()}&limit=1000", encoded=True)
        for _ in range(_MAX_PAGES):
            content, more = await self._json(url, access, asked, folder)
            if not isinstance(content, list):
                raise _no_hub(asked)
            for each in content:
                if isinstance(each, dict) and each.get("type") == "file":
                    yield _entry(each, asked)
            del content  # it is large, and the next page may be long in coming
            if more is None:
                return
            if not more.host or more.origin() != url.origin() or more == url:
                raise _no_hub(asked)  # the token is not for others
            url = more
        raise StorageError(
            ARTIFACT_TOO_LARGE,
            f"{asked.where} is listed in more than {_MAX_PAGES} pages. Name the model's own folder behind it.",
        )

    async def _json(self, url: URL, access: HubAccess, asked: Asked, folder: str = "") -> tuple[Any, URL | None]:
        """A page, and where the next one is, which may be nowhere that can be asked."""
        answer = await self._client.ask("GET", url, access.web, {"Accept": "application/json"})
        try:
            if answer.status != 200:
                raise explain(answer, asked, folder)
            return await self._client.json(answer, _MAX_ANSWER), _next(answer)
        finally:
            answer.close()

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Stream a part of a file of the commit; the whole of it is held to its digest afterwards."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        url = URL(f"{place.url}{quote(file.key, safe='/')}", encoded=True)
        answer = await self._client.ask("GET", url, place.access, ranged(file, start, end))
        try:
            if answer.status not in (200, 206):
                raise explain(answer, place.asked, file.key)
            refuse_other_size(answer, file)
            async for part in self._client.part(answer, start, end):
                yield part
        finally:
            answer.close()


def _entry(said: Mapping[str, Any], asked: Asked) -> ArtifactFile:
    """Of a listing. Its path is not looked at yet."""
    large = said.get("lfs")
    kind, of = (SHA256, large) if isinstance(large, dict) else (GIT, said)
    path, size, digest = text_of(said.get("path")), size_of(of.get("size", said.get("size"))), text_of(of.get("oid"))
    digest = f"{kind}:{digest}"
    if not path or size is None or not is_digest(digest):
        raise _no_hub(asked)
    return ArtifactFile(path, path, size, digest, digest=digest)


def _next(answer: Answer) -> URL | None:
    found = _NEXT.search(answer.header("Link"))
    if found is None:
        return None
    try:
        URL(found[1])  # raises, where one that is taken as it is would do so later
        return answer.url.join(URL(found[1], encoded=True))
    except ValueError:
        return URL()


def _no_hub(asked: Asked) -> StorageError:
    return StorageError(
        STORAGE_UNREACHABLE,
        f"{asked.endpoint} does not answer as Hugging Face's hub does, for {asked.where}. Correct HF_ENDPOINT in "
        f"{asked.origin}, or leave it out.",
    )
