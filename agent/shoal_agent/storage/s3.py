"""``s3://``: artifacts from S3 and what speaks its protocol, with boto3. Blocking; run in a pool of threads."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from shoal_api.storage_uri import StorageUri

from . import (
    ARTIFACT_CHANGED,
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    ARTIFACT_TOO_LARGE,
    CREDENTIAL_REASONS,
    STORAGE_ACCESS_DENIED,
    ArtifactFile,
    Cancelled,
    Limits,
    Listing,
    StorageError,
)
from .credentials import DEFAULT_REGION, S3Access, accesses
from .paths import check_tree, safe_path
from .s3_errors import explain

_CHUNK: Final = 1024 * 1024
_MAX_CLIENTS: Final = 8
_MAX_REMEMBERED: Final = 1024


class Client(Protocol):
    """What we call of boto3's S3 client."""

    def list_objects_v2(self, **arguments: Any) -> Mapping[str, Any]: ...
    def head_object(self, **arguments: Any) -> Mapping[str, Any]: ...
    def get_object(self, **arguments: Any) -> Mapping[str, Any]: ...


class S3Source:
    """Lists and fetches. Credentials are read at each listing; a fetch uses those that its listing worked with."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        environment: Mapping[str, str] = os.environ,
        make_client: Callable[[S3Access, int], Client] | None = None,
    ) -> None:
        self._annotations_file = annotations_file
        self._secrets = secrets
        self._connections = connections
        self._environment = environment
        self._make_client = make_client or new_client
        self._lock = threading.Lock()
        self._clients: OrderedDict[S3Access, Client] = OrderedDict()
        self._worked: OrderedDict[str, S3Access] = OrderedDict()  # by bucket

    def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The objects of the prefix ``key/``, or else the object ``key``. Raises StorageError."""
        candidates = accesses(self._annotations_file, self._secrets, self._environment)
        preferred = self._worked.get(uri.bucket)
        if preferred in candidates:
            candidates.sort(key=lambda access: access != preferred)
        first: StorageError | None = None
        for access in candidates:
            try:
                listing = self._list(access, uri, limits)
            except StorageError as error:
                if error.reason not in CREDENTIAL_REASONS:
                    raise
                first = first or error
                continue
            with self._lock:
                self._worked[uri.bucket] = access
                self._worked.move_to_end(uri.bucket)
                if len(self._worked) > _MAX_REMEMBERED:
                    self._worked.popitem(last=False)
            return listing
        if first is None:  # accesses() never returns nothing
            raise RuntimeError("no S3 access to try")
        if len(candidates) > 1:
            raise StorageError(first.reason, f"{first.message} ({len(candidates)} Secrets were tried.)")
        raise first

    def _list(self, access: S3Access, uri: StorageUri, limits: Limits) -> Listing:
        client = self._client(access)
        what = f"s3://{uri.bucket}/{uri.prefix}"
        denied: StorageError | None = None
        try:
            files = self._below_prefix(client, uri, limits, what)
        except (ClientError, BotoCoreError, OSError, ValueError) as error:
            denied = self._explain(error, uri, uri.prefix, access)
            if denied.reason != STORAGE_ACCESS_DENIED or uri.folder:
                raise denied from error
            files = []
        if not files:
            try:
                files = [] if uri.folder else self._single(client, uri, limits)
            except (ClientError, BotoCoreError, OSError, ValueError) as error:
                explained = self._explain(error, uri, uri.key, access)
                if explained.reason != ARTIFACT_NOT_FOUND or denied is not None:
                    # Keys that may get objects but not list the bucket are common: say what the listing said.
                    raise (denied or explained) from error
        if not files:
            raise StorageError(
                ARTIFACT_NOT_FOUND,
                f"S3 answered 404: no object s3://{uri.bucket}/{uri.key}, and none below {what}, at "
                f"{_endpoint(access)} (asked with {access.origin}). Upload the artifact, or correct storageUri; it is "
                "looked for again.",
            )
        check_tree([file.path for file in files], what)
        files.sort(key=lambda file: file.path)
        return Listing(place=f"{_endpoint(access)}/{uri.bucket}/{uri.key}", files=tuple(files))

    def _below_prefix(self, client: Client, uri: StorageUri, limits: Limits, what: str) -> list[ArtifactFile]:
        files: list[ArtifactFile] = []
        total = 0
        arguments: dict[str, Any] = {"Bucket": uri.bucket, "Prefix": uri.prefix}
        while True:
            page = client.list_objects_v2(**arguments)
            for entry in page.get("Contents", ()):
                key, size = str(entry["Key"]), int(entry["Size"])
                if key.endswith("/") and size == 0:
                    continue  # how consoles mark a folder
                if not key.startswith(uri.prefix):
                    raise StorageError(ARTIFACT_INVALID, f"S3 listed {key[:200]!r}, which is not below {what}.")
                path = safe_path(key[len(uri.prefix) :], what)
                total += size
                files.append(ArtifactFile(key=key, path=path, size=size, etag=str(entry["ETag"])))
                if len(files) > limits.max_files:
                    raise StorageError(
                        ARTIFACT_TOO_LARGE,
                        f"{what} holds more than {limits.max_files} objects (SHOAL_MAX_ARTIFACT_FILES). Point "
                        "storageUri at the model's own folder.",
                    )
                _within(total, limits, what)
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return files
            arguments["ContinuationToken"] = token

    def _single(self, client: Client, uri: StorageUri, limits: Limits) -> list[ArtifactFile]:
        head = client.head_object(Bucket=uri.bucket, Key=uri.key)
        size = int(head["ContentLength"])
        what = f"s3://{uri.bucket}/{uri.key}"
        _within(size, limits, what)
        path = safe_path(uri.key.rpartition("/")[2], what)
        return [ArtifactFile(key=uri.key, path=path, size=size, etag=str(head["ETag"]))]

    def fetch(self, uri: StorageUri, file: ArtifactFile, target: Path, cancelled: threading.Event) -> None:
        """Stream one object to ``target``: the very content that was listed (ETag), all of it (size)."""
        access = self._worked.get(uri.bucket)
        if access is None:  # only after a listing; a thousand other buckets may have pushed it out
            access = accesses(self._annotations_file, self._secrets, self._environment)[0]
        try:
            answer = self._client(access).get_object(Bucket=uri.bucket, Key=file.key, IfMatch=file.etag)
            # A server that ignores If-Match is caught by comparing; the ETag names the content.
            if str(answer.get("ETag", file.etag)) != file.etag:
                raise _changed(uri, file, "its ETag is another")
            with contextlib.closing(answer["Body"]) as body, target.open("xb") as out:
                written = 0
                while chunk := body.read(_CHUNK):
                    if cancelled.is_set():
                        raise Cancelled
                    written += len(chunk)
                    if written > file.size:
                        raise _changed(uri, file, f"it is longer than the {file.size} bytes listed")
                    out.write(chunk)
            if written != file.size:
                raise _changed(uri, file, f"{written} of {file.size} bytes came")
        except (ClientError, BotoCoreError, OSError) as error:
            raise self._explain(error, uri, file.key, access) from error

    def _explain(self, error: Exception, uri: StorageUri, key: str, access: S3Access) -> StorageError:
        return explain(error, key, uri.bucket, _endpoint(access), access.origin)

    def _client(self, access: S3Access) -> Client:
        # Making a client is neither cheap (it reads API models) nor thread-safe; using one is both.
        with self._lock:
            client = self._clients.get(access)
            if client is None:
                try:
                    client = self._make_client(access, self._connections)
                except (BotoCoreError, ValueError) as error:
                    raise explain(error, "", "", _endpoint(access), access.origin) from error
                self._clients[access] = client
                if len(self._clients) > _MAX_CLIENTS:
                    self._clients.popitem(last=False)
            self._clients.move_to_end(access)
            return client


def new_client(access: S3Access, connections: int) -> Client:
    """A boto3 client of that access. It retries little: the agent's own back-off does, and tells."""
    addressing: Literal["auto", "virtual", "path"] = "path" if access.endpoint else "auto"
    if access.virtual_host is not None:
        addressing = "virtual" if access.virtual_host else "path"
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "max_attempts": 2},
        max_pool_connections=connections,
        s3={"addressing_style": addressing},
        # Stores other than AWS send no such checksums, or wrong ones; ETag and size are compared instead.
        response_checksum_validation="when_required",
        request_checksum_calculation="when_required",
        signature_version=UNSIGNED if access.anonymous else None,
    )
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region or (DEFAULT_REGION if access.endpoint else None),
        verify=access.verify,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        aws_session_token=access.session_token,
        config=config,
    )
    return cast(Client, client)  # its stubs type every argument; we type what we call


def _endpoint(access: S3Access) -> str:
    return access.endpoint or f"AWS S3 ({access.region or DEFAULT_REGION})"


def _within(size: int, limits: Limits, what: str) -> None:
    if size > limits.max_bytes:
        raise StorageError(
            ARTIFACT_TOO_LARGE,
            f"{what} holds {size} bytes or more; at most {limits.max_bytes} are pulled (SHOAL_MAX_ARTIFACT_BYTES).",
        )


def _changed(uri: StorageUri, file: ArtifactFile, how: str) -> StorageError:
    return StorageError(
        ARTIFACT_CHANGED,
        f"s3://{uri.bucket}/{file.key} changed while it was being fetched ({how}). It is fetched again.",
    )
