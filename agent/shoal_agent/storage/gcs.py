"""``gs://``: artifacts from Google Cloud Storage, by obstore, which speaks its XML interface."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from obstore.exceptions import BaseError
from obstore.store import GCSStore
from shoal_api.storage_uri import StorageUri

from . import ARTIFACT_INVALID, StorageError
from .cloud_errors import Words, unusable
from .cloud_type import CloudType
from .gcs_access import ENDPOINT, KEY_FILE, GcsAccess, accesses
from .joined import Joined
from .object_source import ObjectSource
from .sayable import refuse_endpoint
from .stores import CloudBucket, Store, client_options

GOOGLE: Final = "Google Cloud Storage"
_AS_STORED: Final = {"accept-encoding": "gzip"}
"""Google decompresses for those who do not say so; nothing else is compressed on the way."""
_WORDS: Final = Words(
    store=GOOGLE,
    bucket="bucket",
    bad_keys=frozenset({"AuthenticationRequired", "InvalidSecurity", "ExpiredToken", "SignatureDoesNotMatch"}),
    private=frozenset({"AuthenticationRequired"}),
    no_bucket=frozenset({"NoSuchBucket"}),
    correct=f"Correct the key file under {KEY_FILE}; a corrected Secret is noticed.",
    allow="Grant its service account storage.objects.list and storage.objects.get (role Storage Object Viewer) on the "
    "bucket, or use other credentials.",
    give=f"Add a Secret with a service account's key file, under {KEY_FILE}, to the predictor's service account, bind "
    "that to a Google identity (workload identity), or make the bucket public.",
    endpoint=f"annotation serving.kserve.io/gcs-endpoint, or {ENDPOINT}",
)


class GcsBucket(CloudBucket):
    """``Store``."""

    def _refuse(self, key: str, attributes: Mapping[str, str]) -> None:
        if "gzip" in attributes.get("Content-Encoding", ""):
            raise StorageError(
                ARTIFACT_INVALID,
                f"{key[:200]!r} is stored with Content-Encoding gzip: what it stands for has another size than is "
                "listed. Upload it without (gcloud storage cp, not with --gzip-local), or as an archive.",
            )


class GcsType(CloudType[GcsAccess]):
    """``StoreType``."""

    name: ClassVar[str] = GOOGLE
    words: ClassVar[Words] = _WORDS

    def __init__(self, annotations_file: Path, secrets: Path, environment: Mapping[str, str]) -> None:
        self._annotations_file, self._secrets, self._environment = annotations_file, secrets, environment
        self._joined: Joined[GcsAccess] = Joined()

    def read(self) -> list[GcsAccess]:
        return accesses(self._annotations_file, self._secrets, self._environment, self._joined)

    def candidates(self, known: Sequence[GcsAccess], uri: StorageUri) -> list[GcsAccess]:
        return list(known)

    def open(self, access: GcsAccess, bucket: str, connections: int, *, exact: bool) -> Store:
        """A part that breaks off is tried again by whoever fetches it: the library does not."""
        config: dict[str, Any] = {"skip_signature": access.anonymous}
        if access.endpoint is not None:
            refuse_endpoint(access.endpoint, access.origin)
            config["base_url"] = access.endpoint
        if access.key is not None:
            config["service_account_key"] = access.key
        elif access.user is not None:
            config["application_credentials"] = access.user
        client = client_options(connections, authority=access.authority) | {"default_headers": _AS_STORED}
        try:
            return GcsBucket(
                GCSStore(
                    bucket,
                    config=cast(Any, config),
                    client_options=cast(Any, client),
                    retry_config={"max_retries": 0},
                )
            )
        except (BaseError, OSError) as error:
            raise unusable(error, self.asked(access, bucket, ""), _WORDS) from error

    def url(self, access: GcsAccess, bucket: str, key: str) -> str:
        return f"gs://{bucket}/{key}"

    def endpoint(self, access: GcsAccess) -> str:
        return access.endpoint or GOOGLE


class GcsSource(ObjectSource[GcsAccess]):
    """``Source`` of ``gs://``."""

    def __init__(
        self,
        annotations_file: Path,
        secrets: Path,
        connections: int,
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__(GcsType(annotations_file, secrets, environment), connections)
