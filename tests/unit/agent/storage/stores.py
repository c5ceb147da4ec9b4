"""Storage by script: an S3 that keeps objects in a dictionary and can lie, and a scheme whose content is the key."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from botocore import exceptions as boto
from shoal_agent.storage import ArtifactFile, Limits, Listing
from shoal_agent.storage.s3 import S3Source
from shoal_agent.storage.stores import Content, Entry
from shoal_api.storage_uri import StorageUri

LIMITS = Limits(max_bytes=1000, max_files=5)


def client_error(status: int, code: str) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ListObjectsV2",
    )


class FakeBucket:
    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.listed_size: dict[str, int] = {}
        self.fails: Exception | None = None
        self.lists = self.told = 0

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        self.lists += 1
        if self.fails is not None:
            raise self.fails
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            self.told += 1
            yield Entry(key, self.listed_size.get(key, len(self.objects[key])), self._etag(key))

    async def head(self, key: str) -> Entry:
        if key not in self.objects:
            raise client_error(404, "404")
        return Entry(key, len(self.objects[key]), self._etag(key))

    async def get(self, key: str, etag: str, start: int, end: int, *, whole: bool) -> Content:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(start, end, 2):
                yield self.objects[key][at : min(at + 2, end)]

        return Content(len(self.objects[key]), self._etag(key), chunks())

    def _etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()}"'


def source(fake: FakeBucket, folder: Path) -> S3Source:
    return S3Source(
        folder / "storage.json",
        folder / "secrets",
        2,
        environment={},
        make_store=lambda access, bucket, connections: fake,
        make_exact=lambda access, bucket, connections: fake,
    )


class Echo:
    """Objects of 100 bytes; the content is the ETag. ``fails`` is raised by the next reads, one each."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.fetched: list[str] = []
        self.fails: list[Exception] = []

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        etag = self.content.get(uri.key, uri.key)
        return Listing(uri.key, (ArtifactFile(uri.key, "model.joblib", 100, etag),))

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        if self.fails:
            raise self.fails.pop(0)
        self.fetched.append(file.key)
        yield file.etag.encode().ljust(100)[start:end]
