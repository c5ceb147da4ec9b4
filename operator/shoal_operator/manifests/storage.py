"""The storage Secrets of a predictor: which ones there are, and what the agent is told of them (never their keys).

As in KServe, they are the Secrets that the predictor's service account names, and the endpoint, region and so on
are annotations of each. The operator reads only the Secrets' metadata; their keys reach the agent as mounted files.
The agent reads `shoal_api.storage_secrets.StorageDocument`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal_api.names import GROUP
from shoal_api.storage_secrets import S3_ANNOTATIONS, AnnotatedSecret, ServiceAccountNote, StorageDocument

MAX_SECRETS = 16
"""More than this many Secrets of one service account are not mounted: each is a volume of every pod."""

ANNOTATION_STORAGE = "shoal.dev/storage"
"""On pods, once their storage settings have changed: what these are now, for their kubelet to notice."""
_ANNOTATION_PREFIXES = (f"{GROUP}/", "eks.amazonaws.com/", "iam.gke.io/", "azure.workload.identity/")
_CA_CONFIGMAP = f"{S3_ANNOTATIONS}cabundle-configmap"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
# Secrets that Kubernetes and OpenShift add to a service account by themselves; none holds storage credentials.
_GENERATED = ("kubernetes.io/service-account.name", "openshift.io/")


@dataclass(frozen=True, slots=True)
class StorageSecret:
    """A Secret by name, with those of its annotations that speak of storage; ``uid`` and ``version``: of which one,
    and of which of its states. ``missing``: there is none, or it may not be read."""

    name: str
    annotations: tuple[tuple[str, str], ...] = ()
    uid: str = ""
    version: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """What a service account brings for storage; ``entries``: which Secret storage-config there is beside, and in which
    of its states."""

    service_account: str = "default"
    annotations: tuple[tuple[str, str], ...] = ()
    secrets: tuple[StorageSecret, ...] = ()
    entries: str = ""

    @property
    def mark(self) -> str:
        """Changes when anything of it does."""
        text = f"{self.document()}{self.entries}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def authorities(self) -> tuple[str, ...]:
        """Names of the ConfigMaps whose authorities stores' certificates are by."""
        everything = (self.annotations, *(secret.annotations for secret in self.secrets))
        named = (value.strip() for said in everything for key, value in said if key == _CA_CONFIGMAP)
        return tuple(sorted({name for name in named if _NAME.fullmatch(name)}))

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the Secrets that the service account lists in vain."""
        return tuple(secret.name for secret in self.secrets if secret.missing)

    def document(self) -> str:
        """``storage.json``; the same text for the same content."""
        document = StorageDocument(
            serviceAccount=ServiceAccountNote(name=self.service_account, annotations=dict(self.annotations)),
            secrets=[
                AnnotatedSecret(
                    name=secret.name,
                    annotations=dict(secret.annotations),
                    uid=secret.uid,
                    version=secret.version,
                    missing=secret.missing,
                )
                for secret in self.secrets
            ],
        )
        return document.model_dump_json(by_alias=True)


def secret_names(service_account: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the Secrets that a ServiceAccount object lists, at most MAX_SECRETS, without repeats: those for images
    (imagePullSecrets) last, which ``oci://`` is fetched with."""
    items = (*(service_account.get("secrets") or ()), *(service_account.get("imagePullSecrets") or ()))
    listed = (str(item.get("name", "")) for item in items)
    return tuple(dict.fromkeys(name for name in listed if name))[:MAX_SECRETS]


def storage_annotations(metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Those annotations of an object that speak of storage or of a cloud identity, sorted."""
    annotations = metadata.get("annotations") or {}
    return tuple(sorted((k, str(v)) for k, v in annotations.items() if k.startswith(_ANNOTATION_PREFIXES)))


def is_generated(metadata: Mapping[str, Any]) -> bool:
    """Whether a Secret is a service account's own token or registry login."""
    return any(key.startswith(_GENERATED) for key in metadata.get("annotations") or {})
