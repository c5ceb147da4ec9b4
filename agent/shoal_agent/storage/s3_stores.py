"""One bucket in S3: as obstore reads it, and as boto3 does, which knows every key and finds credentials."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError
from obstore.store import S3Store

from .credentials import DEFAULT_REGION, S3Access
from .sayable import refuse_endpoint, refuse_text
from .stores import CHUNK, CONNECT_SECONDS, READ_SECONDS, Content, Entry, ObstoreBucket, Store, client_options

_ACCELERATE: Final = "https://s3-accelerate.amazonaws.com"
_CREDENTIALS: Final = timedelta(minutes=5)
"""How long credentials of the chain are used before it is asked again, which renews them in time."""


class BotoBucket:
    """``Store`` with boto3, in threads."""

    def __init__(self, client: Any, bucket: str, *, requester_pays: bool = False) -> None:
        self._client = client
        self._asking = {"Bucket": bucket} | ({"RequestPayer": "requester"} if requester_pays else {})

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        arguments = self._asking | {"Prefix": prefix}
        while True:
            page: Mapping[str, Any] = await asyncio.to_thread(self._client.list_objects_v2, **arguments)
            for found in page.get("Contents", ()):
                yield Entry(str(found["Key"]), int(found["Size"]), str(found["ETag"]))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            arguments["ContinuationToken"] = token

    async def head(self, key: str) -> Entry:
        found = await asyncio.to_thread(self._client.head_object, **self._asking, Key=key)
        return Entry(key, int(found["ContentLength"]), str(found["ETag"]))

    async def get(self, key: str, etag: str, start: int, end: int, *, whole: bool) -> Content:
        part = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
        found = await asyncio.to_thread(self._client.get_object, **self._asking, Key=key, IfMatch=etag, **part)
        size = str(found["ContentRange"]).rpartition("/")[2] if "ContentRange" in found else found["ContentLength"]
        return Content(int(size), str(found["ETag"]), _read(found["Body"]))


async def _read(body: Any) -> AsyncIterator[bytes]:
    with contextlib.closing(body):
        while chunk := await asyncio.to_thread(body.read, CHUNK):
            yield chunk


def new_store(access: S3Access, bucket: str, connections: int) -> Store:
    """Blocks. A part that breaks off is tried again by whoever fetches it, within the pod's budget of connections: the
    library does not. Raises StorageError (StorageCredentialsInvalid) for what no request can have."""
    _refuse_unsayable(access)
    config: dict[str, Any] = {
        "region": access.region or DEFAULT_REGION,
        "virtual_hosted_style_request": _virtual(access),
        "skip_signature": access.anonymous,
        "request_payer": access.requester_pays,
    }
    if access.accelerate and not access.endpoint:
        config["endpoint"] = _for_bucket(_ACCELERATE, bucket)
    elif access.endpoint:
        config["endpoint"] = _for_bucket(access.endpoint, bucket) if _virtual(access) else access.endpoint
    provider = None
    if access.access_key and access.secret_key:
        config |= {"access_key_id": access.access_key, "secret_access_key": access.secret_key}
        if access.session_token:
            config["session_token"] = access.session_token
    elif not access.anonymous:
        provider = _Chain()
    authority = access.verify if isinstance(access.verify, str) else None
    options = client_options(connections, authority=authority, verify=access.verify is not False)
    return ObstoreBucket(
        S3Store(
            bucket,
            config=cast(Any, config),
            client_options=cast(Any, options),
            retry_config={"max_retries": 0},
            credential_provider=cast(Any, provider),
        )
    )


class _Chain:
    """boto3's own chain of credentials: environment, web identity, instance metadata. None found is no state: it is
    looked for again each time."""

    def __init__(self) -> None:
        self._found: Credentials | None = None

    async def __call__(self) -> Mapping[str, object]:
        keys = await asyncio.to_thread(self._keys)
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS,
        }

    def _keys(self) -> Any:
        if self._found is None:
            self._found = boto3.session.Session().get_credentials()
        if self._found is None:
            raise NoCredentialsError
        return self._found.get_frozen_credentials()


def new_exact(access: S3Access, bucket: str, connections: int) -> Store:
    """Blocks. What obstore cannot do: keys that its paths cannot say, and certificates that OpenSSL takes and it does
    not (a server's own, which is named as the authority)."""
    addressing: Literal["virtual", "path"] = "virtual" if _virtual(access) else "path"
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 1},
        max_pool_connections=connections,
        # Stores other than AWS send no such checksums, or wrong ones; ETag and size are compared instead.
        response_checksum_validation="when_required",
        request_checksum_calculation="when_required",
        s3={"addressing_style": addressing, "use_accelerate_endpoint": access.accelerate and not access.endpoint},
        signature_version=UNSIGNED if access.anonymous else None,
    )
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region or DEFAULT_REGION,
        verify=access.verify,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        aws_session_token=access.session_token,
        config=config,
    )
    return BotoBucket(client, bucket, requester_pays=access.requester_pays)


def _refuse_unsayable(access: S3Access) -> None:
    if access.endpoint:
        refuse_endpoint(access.endpoint, access.origin)
    for what in ("access_key", "secret_key", "session_token", "region"):
        refuse_text(getattr(access, what), what.replace("_", " "), access.origin)


def _virtual(access: S3Access) -> bool:
    """AWS's own buckets are hosts; elsewhere they are paths, unless it is said otherwise."""
    return access.virtual_host if access.virtual_host is not None else access.endpoint is None


def _for_bucket(endpoint: str, bucket: str) -> str:
    """obstore takes the endpoint of the bucket itself where the bucket is a host."""
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"
