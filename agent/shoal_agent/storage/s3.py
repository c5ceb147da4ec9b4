"""``s3://``, also where ``storage://`` leads to it: artifacts from S3 and what speaks its protocol.

Two libraries, each for what it is good at. obstore lists and fetches: a sixth of boto3's CPU a request, and requests
end when they are cancelled. boto3 finds credentials (its chain knows every cloud identity), and names the objects where
obstore's paths cannot: a folder's marker is to it like an empty file, a key with ``//`` like none.
"""

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from shoal_api.model_storage import STORAGE_CONFIG_SCHEME
from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    ARTIFACT_TOO_LARGE,
    CREDENTIAL_REASONS,
    STORAGE_ACCESS_DENIED,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .credentials import DEFAULT_REGION, S3Access, accesses
from .fetching import PASSING, changed
from .joined import Joined
from .paths import check_tree, safe_path
from .s3_errors import explain, of_certificate
from .s3_stores import Entry, Store, Unsayable, new_exact, new_store
from .storage_config import configured
from .unpack.formats import is_archive

ACCESSES_SECONDS: Final = 1.0
"""How long what was read of the Secrets is used."""
_MAX_STORES: Final = 64
_MAX_REMEMBERED: Final = 20_000
_ANOTHERS: Final = CREDENTIAL_REASONS | PASSING | {ARTIFACT_NOT_FOUND}
"""Another Secret, which may be for another store, may find what this one does not."""
_ORDER: Final = {STORAGE_UNREACHABLE: 0, STORAGE_UNAVAILABLE: 1, ARTIFACT_NOT_FOUND: 2}
"""Which of several failures is told: that of a store that may have it, then of one that would."""
_FAILURES: Final = (BaseError, ClientError, BotoCoreError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class _Place:
    """A bucket, and how it is reached: what a listing was made with, and is fetched with."""

    access: S3Access
    bucket: str


class S3Source:
    """Credentials are read at each listing; a fetch uses those of its listing. ``connections`` to one bucket at most
    stay open while nothing is fetched."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        environment: Mapping[str, str] = os.environ,
        make_store: Callable[[S3Access, str, int], Store] = new_store,
        make_exact: Callable[[S3Access, str, int], Store] = new_exact,
    ) -> None:
        self._annotations_file = annotations_file
        self._secrets = secrets
        self._connections = connections
        self._environment = environment
        self._candidates: list[S3Access] = []
        self._read_at = -ACCESSES_SECONDS
        self._joined: Joined[S3Access] = Joined()
        self._make = {False: make_store, True: make_exact}
        self._stores: OrderedDict[tuple[_Place, bool], Store] = OrderedDict()
        self._worked: OrderedDict[str, S3Access] = OrderedDict()  # by bucket: tried first
        self._found: OrderedDict[str, S3Access] = OrderedDict()  # by URI: tried before all others
        self._exact: OrderedDict[Hashable, None] = OrderedDict()  # URIs and places that are boto3's

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The objects of the prefix ``key/``, or else the object ``key``. Raises StorageError.

        Every Secret is tried until one finds them. One that found them before is asked first, and while its store does
        not answer no other one is: a bucket of that name elsewhere may hold something else under that key.
        """
        try:
            return await self._found_by_one(uri, limits)
        except StorageError:
            self._read_at = -ACCESSES_SECONDS  # a corrected Secret is tried at once
            raise

    async def read_secrets(self) -> None:
        """Something of the Secrets has changed: looked at now, so that each change is seen by itself."""
        self._read_at = -ACCESSES_SECONDS
        with contextlib.suppress(StorageError):
            await self._accesses()

    async def _accesses(self) -> list[S3Access]:
        """All that may be tried, as they were not longer than a moment ago: thousands of models ask at once."""
        now = time.monotonic()
        if now - self._read_at >= ACCESSES_SECONDS:
            self._candidates = await asyncio.to_thread(
                accesses, self._annotations_file, self._secrets, self._environment, joined=self._joined
            )
            self._read_at = now
        return list(self._candidates)

    async def _found_by_one(self, uri: StorageUri, limits: Limits) -> Listing:
        asked = uri.raw
        if uri.scheme == STORAGE_CONFIG_SCHEME:
            uri, access = await asyncio.to_thread(configured, uri, self._secrets)
            candidates = [access]
        else:
            candidates = await self._accesses()
        mine, often = self._found.get(asked), self._worked.get(uri.bucket)
        candidates.sort(key=lambda access: (access != mine, access != often))
        errors: list[StorageError] = []
        for access in candidates:
            try:
                listing = await self._list(_Place(access, uri.bucket), uri, limits)
            except StorageError as error:
                if error.reason not in _ANOTHERS:
                    raise
                if access == mine and error.reason in PASSING:
                    raise
                errors.append(error)
                continue
            _remember(self._worked, uri.bucket, access)
            _remember(self._found, asked, access)
            return listing
        worst = min(errors, key=lambda error: _ORDER.get(error.reason, len(_ORDER)))
        if len(candidates) > 1:
            raise StorageError(worst.reason, f"{worst.message} ({len(candidates)} Secrets were tried.)")
        raise worst

    async def _list(self, place: _Place, uri: StorageUri, limits: Limits) -> Listing:
        what = f"s3://{uri.bucket}/{uri.prefix}"
        denied: StorageError | None = None
        try:
            files = await self._below_prefix(place, uri, limits, what)
        except _FAILURES as error:
            denied = _explain(error, place, uri.prefix)
            if denied.reason != STORAGE_ACCESS_DENIED or uri.folder:
                raise denied from error
            files = []
        if not files and not uri.folder:
            try:
                files = [await self._single(place, uri, limits)]
            except _FAILURES as error:
                explained = _explain(error, place, uri.key)
                if explained.reason != ARTIFACT_NOT_FOUND or denied is not None:
                    # Keys that may get objects but not list the bucket are common: say what the listing said.
                    raise (denied or explained) from error
        if not files:
            raise StorageError(
                ARTIFACT_NOT_FOUND,
                f"S3 answered 404: no object s3://{uri.bucket}/{uri.key}, and none below {what}, at "
                f"{_endpoint(place.access)} (asked with {place.access.origin}). Upload the artifact, or correct "
                "storageUri; it is looked for again.",
            )
        check_tree([file.path for file in files], what)
        if len(files) == 1 and is_archive(files[0].path):
            files = [replace(files[0], unpack=True)]
        files.sort(key=lambda file: file.path)
        return Listing(f"{_endpoint(place.access)}/{uri.bucket}", tuple(files), place)

    async def _below_prefix(self, place: _Place, uri: StorageUri, limits: Limits, what: str) -> list[ArtifactFile]:
        exact = uri.raw in self._exact
        try:
            return await _below((await self._store(place, exact)).list(uri.prefix), uri, limits, what)
        except Unsayable:
            _remember(self._exact, uri.raw, None)
        except BaseError as error:
            if place in self._exact or not isinstance(place.access.verify, str) or not of_certificate(error):
                raise
            _remember(self._exact, place, None)
        return await _below((await self._store(place, exact=True)).list(uri.prefix), uri, limits, what)

    async def _single(self, place: _Place, uri: StorageUri, limits: Limits) -> ArtifactFile:
        found = await (await self._store(place)).head(uri.key)
        what = f"s3://{uri.bucket}/{uri.key}"
        limits.refuse_beyond(found.size, what)
        return ArtifactFile(uri.key, safe_path(uri.key.rpartition("/")[2], what), found.size, found.etag)

    async def read(
        self, listing: Listing, file: ArtifactFile, start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Stream a part of one object: of the very content that was listed (ETag)."""
        place = listing.access
        if not isinstance(place, _Place):
            raise TypeError("a listing of another source")
        try:
            whole = start == 0 and end == file.size
            store = await self._store(place)
            content = await store.get(file.key, file.etag, start, end, whole=whole)
            # A server that ignores If-Match is caught by comparing; the ETag names the content.
            if content.etag != file.etag:
                raise changed(file, "its ETag is another")
            if content.size != file.size:
                raise changed(file, f"it has {content.size} bytes, and {file.size} were listed")
            async for chunk in content.chunks:
                yield chunk
        except _FAILURES as error:
            raise _explain(error, place, file.key) from error

    async def _store(self, place: _Place, exact: bool = False) -> Store:
        exact = exact or place in self._exact
        store = self._stores.get((place, exact))
        if store is None:
            store = await asyncio.to_thread(self._make[exact], place.access, place.bucket, self._connections)
            store = self._stores.setdefault((place, exact), store)
        _remember(self._stores, (place, exact), store, _MAX_STORES)
        return store


async def _below(entries: AsyncIterator[Entry], uri: StorageUri, limits: Limits, what: str) -> list[ArtifactFile]:
    files: list[ArtifactFile] = []
    total = 0
    async for entry in entries:
        if entry.key.endswith("/") and entry.size == 0:
            continue  # how consoles mark a folder
        if not entry.key.startswith(uri.prefix):
            raise StorageError(ARTIFACT_INVALID, f"S3 listed {entry.key[:200]!r}, which is not below {what}.")
        total += entry.size
        files.append(ArtifactFile(entry.key, safe_path(entry.key[len(uri.prefix) :], what), entry.size, entry.etag))
        if len(files) > limits.max_files:
            raise StorageError(
                ARTIFACT_TOO_LARGE,
                f"{what} holds more than {limits.max_files} objects. Point storageUri at the model's own folder."
                f"{limits.raise_files}",
            )
        limits.refuse_beyond(total, what)
    return files


def _remember(kept: "OrderedDict[Any, Any]", key: object, value: object, most: int = _MAX_REMEMBERED) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _explain(error: Exception, place: _Place, key: str) -> StorageError:
    return explain(error, key, place.bucket, _endpoint(place.access), place.access.origin)


def _endpoint(access: S3Access) -> str:
    return access.endpoint or f"AWS S3 ({access.region or DEFAULT_REGION})"
