"""``storage.json``: what the operator tells an agent of the storage Secrets of its predictor's service account.

Never their keys, which the kubelet mounts as files under STORAGE_SECRETS_DIR/<name>.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

STORAGE_FILE: Final = "storage.json"
MOUNTED_STORAGE_FILE: Final = ".shoal-storage.json"
"""The same beside a Secret's keys, in one volume: the kubelet exchanges both at once."""
CA_FOLDER: Final = ".ca"
"""Beside the Secrets' folders, which cannot be called so: a folder for each ConfigMap that holds an authority."""
CA_FILE: Final = "cabundle.crt"
"""Its key, as in KServe."""
S3_ANNOTATIONS: Final = "serving.kserve.io/s3-"
"""What the annotations begin with that say how S3 is to be reached."""
GCS_ANNOTATIONS: Final = "serving.kserve.io/gcs-"
AZURE_ANNOTATIONS: Final = "serving.kserve.io/azure-"
HUB_ANNOTATIONS: Final = "serving.kserve.io/hf-"
"""The same of Google Cloud Storage, Azure Blob Storage and Hugging Face's hub; not in KServe."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class AnnotatedSecret(_Document):
    """A Secret by name, with those of its annotations that speak of storage (serving.kserve.io/s3-* and so on).

    ``uid`` and ``version`` (Kubernetes' resourceVersion) say of which one they were read, and in which of its states;
    an older operator does not say it. ``missing``: there was none, or it may not be read.
    """

    name: str
    annotations: dict[str, str] = {}
    uid: str = ""
    version: str = ""
    missing: bool = False


class ServiceAccountNote(_Document):
    """The predictor's service account, with its annotations of a cloud identity, and those of S3 for its Secrets that
    say nothing themselves."""

    name: str = "default"
    annotations: dict[str, str] = {}


class StorageDocument(_Document):
    """The file. ``secrets`` in the order in which the service account names them, which is the order of trying."""

    version: Literal[1] = 1
    service_account: ServiceAccountNote = Field(default=ServiceAccountNote(), alias="serviceAccount")
    secrets: list[AnnotatedSecret] = []
