"""``s3://``: artifacts from S3 and what speaks its protocol.

Two libraries, each for what it is good at. obstore lists and fetches: a sixth of boto3's CPU a request, and requests
end when they are cancelled. boto3 finds credentials (its chain knows every cloud identity), and names the objects where
obstore's paths cannot: a folder's marker is to it like an empty file, a key with ``//`` like none.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from shoal_api.storage_uri import StorageUri

from . import StorageError
from .credentials import DEFAULT_REGION, S3Access, accesses
from .joined import Joined
from .object_source import ObjectSource
from .obstore_errors import of_certificate
from .s3_errors import explain
from .s3_stores import new_exact, new_store
from .stores import Store

Make = Callable[[S3Access, str, int], Store]


class S3Type:
    """``StoreType``."""

    name: ClassVar[str] = "S3"
    failures: ClassVar[tuple[type[Exception], ...]] = (BaseError, ClientError, BotoCoreError, OSError, ValueError)
    has_exact: ClassVar[bool] = True

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        environment: Mapping[str, str],
        make_store: Make = new_store,
        make_exact: Make = new_exact,
    ) -> None:
        self._annotations_file, self._secrets, self._environment = annotations_file, secrets, environment
        self._joined: Joined[S3Access] = Joined()
        self._make = {False: make_store, True: make_exact}

    def read(self) -> list[S3Access]:
        return accesses(self._annotations_file, self._secrets, self._environment, joined=self._joined)

    def candidates(self, known: Sequence[S3Access], uri: StorageUri) -> list[S3Access]:
        return list(known)

    def open(self, access: S3Access, bucket: str, connections: int, *, exact: bool) -> Store:
        return self._make[exact](access, bucket, connections)

    def wants_exact(self, access: S3Access, error: Exception) -> bool:
        return isinstance(access.verify, str) and of_certificate(error)

    def url(self, access: S3Access, bucket: str, key: str) -> str:
        return f"s3://{bucket}/{key}"

    def endpoint(self, access: S3Access) -> str:
        return access.endpoint or f"AWS S3 ({access.region or DEFAULT_REGION})"

    def explain(self, error: Exception, access: S3Access, bucket: str, key: str) -> StorageError:
        return explain(error, key, bucket, self.endpoint(access), access.origin)


class S3Source(ObjectSource[S3Access]):
    """``Source`` of ``s3://``."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        environment: Mapping[str, str] = os.environ,
        make_store: Make = new_store,
        make_exact: Make = new_exact,
    ) -> None:
        super().__init__(S3Type(annotations_file, secrets, environment, make_store, make_exact), connections)
