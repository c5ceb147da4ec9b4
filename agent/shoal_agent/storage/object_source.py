"""Artifacts from object stores: what is the same whatever type of store a bucket is in.

A type of store (``StoreType``) says how it is reached and as whom, and puts its errors into words.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from obstore.exceptions import BaseError
from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    ARTIFACT_TOO_LARGE,
    STORAGE_ACCESS_DENIED,
    ArtifactFile,
    Limits,
    Listing,
    StorageError,
)
from .fetching import changed
from .paths import safe_path
from .stores import Entry, Store, Unsayable
from .tree import as_artifact
from .trying import Trying, remember

_MAX_STORES: Final = 64


class Access(Protocol):
    """One way to reach a type of store, hashable. ``origin`` names it in messages."""

    @property
    def origin(self) -> str: ...


A = TypeVar("A", bound=Access)


class StoreType(Protocol[A]):
    """One type of object store."""

    name: ClassVar[str]
    """As its errors call it."""
    failures: ClassVar[tuple[type[Exception], ...]]
    """What its libraries raise."""

    def read(self) -> list[A]:
        """All that may be tried, in that order; one at least. Blocks. Raises StorageError."""

    def candidates(self, known: Sequence[A], uri: StorageUri) -> list[A]:
        """Those of ``known`` that may be tried for a URI, one at least. Raises StorageError."""

    def open(self, access: A, bucket: str, connections: int, *, exact: bool) -> Store:
        """Blocks. ``exact``: one that knows keys which obstore's paths cannot say; only where ``has_exact``."""

    has_exact: ClassVar[bool]

    def wants_exact(self, access: A, error: Exception) -> bool:
        """Whether the other library can do what failed so."""

    def url(self, access: A, bucket: str, key: str) -> str:
        """As a user would write it."""

    def endpoint(self, access: A) -> str:
        """Which store it is, for messages and for telling stores apart."""

    def explain(self, error: Exception, access: A, bucket: str, key: str) -> StorageError:
        """The StorageError of what a call about that object, or the prefix ``key``, raised."""


@dataclass(frozen=True, slots=True)
class Place(Generic[A]):
    """A bucket, and how it is reached: what a listing was made with, and is fetched with."""

    access: A
    bucket: str


class ObjectSource(Generic[A]):
    """Credentials are read at each listing; a fetch uses those of its listing. ``connections`` to one bucket at most
    stay open while nothing is fetched."""

    def __init__(self, of_type: StoreType[A], connections: int) -> None:
        self._type, self._connections = of_type, connections
        self._trying: Trying[A] = Trying(of_type.read)
        self._stores: OrderedDict[tuple[Place[A], bool], Store] = OrderedDict()
        self._exact: OrderedDict[Hashable, None] = OrderedDict()  # URIs and places that are the other library's

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The objects of the prefix ``key/``, or else the object ``key``. Raises StorageError.

        Every Secret is tried until one finds them. One that found them before is asked first, and while its store does
        not answer no other one is: a bucket of that name elsewhere may hold something else under that key.
        """
        return await self._trying.find(uri, self._listing(uri, limits), lambda known: self._type.candidates(known, uri))

    async def find_with(self, uri: StorageUri, access: A, limits: Limits) -> Listing:
        """The same, with one access that was named. Raises StorageError."""
        return await self._trying.first(uri, self._type.candidates([access], uri), self._listing(uri, limits))

    async def read_secrets(self) -> None:
        """Something of the Secrets has changed: looked at now, so that each change is seen by itself."""
        await self._trying.read_secrets()

    def _listing(self, uri: StorageUri, limits: Limits) -> Callable[[A], Awaitable[Listing]]:
        return lambda access: self._list(Place(access, uri.bucket), uri, limits)

    async def _list(self, place: Place[A], uri: StorageUri, limits: Limits) -> Listing:
        access, bucket = place.access, place.bucket
        what = self._type.url(access, bucket, uri.prefix)
        denied: StorageError | None = None
        try:
            files = await self._below_prefix(place, uri, limits, what)
        except self._type.failures as error:
            denied = self._type.explain(error, access, bucket, uri.prefix)
            if denied.reason != STORAGE_ACCESS_DENIED or uri.folder:
                raise denied from error
            files = []
        if not files and not uri.folder:
            try:
                files = [await self._single(place, uri, limits)]
            except self._type.failures as error:
                explained = self._type.explain(error, access, bucket, uri.key)
                if explained.reason != ARTIFACT_NOT_FOUND or denied is not None:
                    # Keys that may get objects but not list the bucket are common: say what the listing said.
                    raise (denied or explained) from error
        if not files:
            raise StorageError(
                ARTIFACT_NOT_FOUND,
                f"{self._type.name} answered 404: no object {self._type.url(access, bucket, uri.key)}, and none below "
                f"{what}, at {self._type.endpoint(access)} (asked with {access.origin}). Upload the artifact, or "
                "correct storageUri; it is looked for again.",
            )
        return Listing(f"{self._type.endpoint(access)}/{bucket}", as_artifact(files, what), place)

    async def _below_prefix(self, place: Place[A], uri: StorageUri, limits: Limits, what: str) -> list[ArtifactFile]:
        exact = uri.raw in self._exact
        try:
            return await self._below((await self._store(place, exact)).list(uri.prefix), uri, limits, what)
        except Unsayable as error:
            if not self._type.has_exact:
                raise StorageError(
                    ARTIFACT_INVALID,
                    f"{what} holds an object that is refused: {error.__cause__ or error}. Rename or remove it.",
                ) from error
            remember(self._exact, uri.raw, None)
        except BaseError as error:
            if place in self._exact or not self._type.wants_exact(place.access, error):
                raise
            remember(self._exact, place, None)
        return await self._below((await self._store(place, exact=True)).list(uri.prefix), uri, limits, what)

    async def _below(
        self, entries: AsyncIterator[Entry], uri: StorageUri, limits: Limits, what: str
    ) -> list[ArtifactFile]:
        files: list[ArtifactFile] = []
        total = 0
        async for entry in entries:
            if entry.size == 0 and (entry.key.endswith("/") or entry.key == uri.key):
                continue  # how consoles mark a folder
            if not entry.key.startswith(uri.prefix):
                raise StorageError(
                    ARTIFACT_INVALID, f"{self._type.name} listed {entry.key[:200]!r}, which is not below {what}."
                )
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

    async def _single(self, place: Place[A], uri: StorageUri, limits: Limits) -> ArtifactFile:
        found = await (await self._store(place)).head(uri.key)
        what = self._type.url(place.access, place.bucket, uri.key)
        limits.refuse_beyond(found.size, what)
        return ArtifactFile(uri.key, safe_path(uri.key.rpartition("/")[2], what), found.size, found.etag)

    async def read(
        self, listing: Listing, file: ArtifactFile, start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Stream a part of one object: of the very content that was listed (ETag)."""
        place: Any = listing.access
        if not isinstance(place, Place):
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
        except self._type.failures as error:
            raise self._type.explain(error, place.access, place.bucket, file.key) from error

    async def _store(self, place: Place[A], exact: bool = False) -> Store:
        exact = exact or place in self._exact
        store = self._stores.get((place, exact))
        if store is None:
            store = await asyncio.to_thread(self._type.open, place.access, place.bucket, self._connections, exact=exact)
            store = self._stores.setdefault((place, exact), store)
        remember(self._stores, (place, exact), store, _MAX_STORES)
        return store
