"""The agent's container and the volumes that it shares with the model server."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shoal_api.model_storage import STORAGE_CONFIG_SECRET
from shoal_api.names import (
    AGENT_AUDIENCE,
    AGENT_CONTAINER,
    AGENT_CREDENTIALS_DIR,
    AGENT_PORT,
    CA_CONFIGMAP,
    MODELS_DIR,
    SHARED_DIR,
    STORAGE_SECRETS_DIR,
)
from shoal_api.storage_secrets import CA_FOLDER, MOUNTED_STORAGE_FILE, STORAGE_FILE

from shoal_operator.server_profile import Parts, ServerProfile

from .artifact_limits import ArtifactLimits
from .settings import WorkloadSettings
from .storage import Storage
from .volume_claims import CLAIM_VOLUME_PREFIX

Object = dict[str, Any]

AGENT_UID = 65532
TOKEN_SECONDS = 3600
MODELS_VOLUME = "shoal-models"
SHARED_VOLUME = "shoal-shared"
CREDENTIALS_VOLUME = "shoal-credentials"
SECRET_VOLUME_PREFIX = "shoal-storage-"  # noqa: S105  # of a name
AUTHORITY_VOLUME_PREFIX = f"{SECRET_VOLUME_PREFIX}ca-"
SCRATCH_VOLUME_PREFIX = "shoal-scratch-"
_MEDIUM: Mapping[bool, Mapping[str, str]] = {False: {}, True: {"medium": "Memory"}}
_STORAGE_ENV = ("AWS_", "S3_", "STORAGE_EMULATOR_HOST", "HF_TOKEN", "HF_ENDPOINT")


def agent_container(
    service: str,
    profile: ServerProfile,
    parts: Parts,
    *,
    storage: Storage,
    server_env: Sequence[Mapping[str, Any]],
    loading_timeout_seconds: int,
    limits: ArtifactLimits,
    drain_seconds: int,
    settings: WorkloadSettings,
) -> Object:
    """A native sidecar: started and healthy before the model server starts, ended after it has ended.

    The storage settings that the user gave the model server (AWS_*, S3_*, STORAGE_EMULATOR_HOST, HF_TOKEN, HF_ENDPOINT)
    are the agent's, since it is the one that pulls.
    """
    mounts = [
        {"name": MODELS_VOLUME, "mountPath": MODELS_DIR},
        {"name": SHARED_VOLUME, "mountPath": SHARED_DIR},
        {"name": CREDENTIALS_VOLUME, "mountPath": AGENT_CREDENTIALS_DIR, "readOnly": True},
    ]
    mounts += [
        {"name": secret_volume(name), "mountPath": f"{STORAGE_SECRETS_DIR}/{name}", "readOnly": True}
        for name in dict.fromkeys((*(s.name for s in storage.secrets), STORAGE_CONFIG_SECRET))
    ]
    mounts += [
        {"name": authority_volume(name), "mountPath": f"{STORAGE_SECRETS_DIR}/{CA_FOLDER}/{name}", "readOnly": True}
        for name in storage.authorities
    ]
    return {
        "name": AGENT_CONTAINER,
        "image": settings.agent_image,
        "imagePullPolicy": settings.agent_image_pull_policy,
        "restartPolicy": "Always",
        "env": _env(
            {
                "SHOAL_INFERENCE_SERVICE": service,
                "SHOAL_SERVER_TYPE": profile.server_type,
                "SHOAL_SERVER_PORTS": ",".join(f"{name}={port}" for name, port in profile.ports.by_name().items()),
                **_threads(server_env),
                **({"SHOAL_SERVER_FILES": json.dumps(dict(parts.files), sort_keys=True)} if parts.files else {}),
                "SHOAL_MODEL_LOADING_TIMEOUT_SECONDS": str(loading_timeout_seconds),
                "SHOAL_DRAIN_TIMEOUT_SECONDS": str(drain_seconds),
                **limits.environment(),
                "SHOAL_PRIVATE_ADDRESSES": str(settings.private_addresses).lower(),
                **({"SHOAL_PLAIN_REGISTRIES": ",".join(plain)} if (plain := settings.plain_registries) else {}),
            },
            server_env,
            settings,
        ),
        "ports": [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}],
        # The server starts once this has passed: the agent is ready when plug-in and folders are laid out.
        "startupProbe": _probe("/readyz", periodSeconds=1, failureThreshold=120),
        "readinessProbe": _probe("/readyz", periodSeconds=5, failureThreshold=3),
        "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=6),
        "resources": {key: dict(value) for key, value in settings.agent_resources.items()},
        "securityContext": {
            **RESTRICTED,
            "runAsNonRoot": True,
            "runAsUser": AGENT_UID,
            "runAsGroup": AGENT_UID,
        },
        "volumeMounts": mounts,
    }


def _threads(server_env: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the server's numeric libraries start, for engines in there that do not read the variable."""
    said = next((str(item.get("value") or "") for item in server_env if item.get("name") == "OMP_NUM_THREADS"), "")
    number = int(said) if said.isascii() and said.isdecimal() and len(said) <= 4 else 0
    return {"SHOAL_SERVER_THREADS": str(number)} if number else {}


RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Kubernetes' restricted pod security standard asks of a container, beside runAsNonRoot."""


def volumes(service: str, storage: Storage, profile: ServerProfile) -> list[Object]:
    """All volumes that agent and server need beside the user's own."""
    credentials = {
        "serviceAccountToken": {
            "audience": AGENT_AUDIENCE,
            "expirationSeconds": TOKEN_SECONDS,
            "path": "token",
        }
    }
    sources = [
        credentials,
        {"configMap": {"name": CA_CONFIGMAP, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "configMap": {
                "name": storage_configmap(service),
                "items": [{"key": STORAGE_FILE, "path": STORAGE_FILE}],
                "optional": True,
            }
        },
    ]
    return [
        {"name": MODELS_VOLUME, "emptyDir": {}},
        # In memory: the plug-in's counters are written on every request. Both sides together hold a few MiB.
        {"name": SHARED_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        *(
            {"name": scratch_volume(number), "emptyDir": {**_MEDIUM[each.in_memory], "sizeLimit": each.size}}
            for number, each in enumerate(profile.scratch)
        ),
        {"name": CREDENTIALS_VOLUME, "projected": {"sources": sources}},
        *(
            {"name": secret_volume(s.name), "projected": {"sources": _secret_sources(service, s.name)}}
            for s in storage.secrets
            if s.name != STORAGE_CONFIG_SECRET
        ),
        # Whose entries say all by themselves; models name them, whenever it is made.
        {
            "name": secret_volume(STORAGE_CONFIG_SECRET),
            "secret": {"secretName": STORAGE_CONFIG_SECRET, "optional": True},
        },
        *(
            {"name": authority_volume(name), "configMap": {"name": name, "optional": True}}
            for name in storage.authorities
        ),
    ]


def _secret_sources(service: str, secret: str) -> list[Object]:
    """A Secret's keys and what is said of it, which the kubelet exchanges at once: keys are never joined with what was
    said of another Secret of that name.

    Optional: a Secret that is made later must not keep the pod from starting.
    """
    items = [{"key": STORAGE_FILE, "path": MOUNTED_STORAGE_FILE}]
    return [
        {"secret": {"name": secret, "optional": True}},
        {"configMap": {"name": storage_configmap(service), "items": items, "optional": True}},
    ]


def own_volume(name: str) -> bool:
    """A volume of that name is Shoal's: nobody else's may have it, and no other container may mount it. The agent's
    token is in one of them, the stores' Secrets in others."""
    own = (MODELS_VOLUME, SHARED_VOLUME, CREDENTIALS_VOLUME)
    return name in own or name.startswith((SECRET_VOLUME_PREFIX, SCRATCH_VOLUME_PREFIX, CLAIM_VOLUME_PREFIX))


def storage_configmap(service: str) -> str:
    """ConfigMap with the InferenceService's storage.json."""
    return f"{service}-shoal-storage"


def scratch_volume(number: int) -> str:
    """Name of the volume of the profile's scratch folder of this number."""
    return f"{SCRATCH_VOLUME_PREFIX}{number}"


def secret_volume(secret: str) -> str:
    """Name of a Secret's volume: Secret names may be longer than volume names, and hold dots."""
    return f"{SECRET_VOLUME_PREFIX}{_short(secret)}"


def authority_volume(configmap: str) -> str:
    """Name of the volume of a ConfigMap with a store's authority."""
    return f"{AUTHORITY_VOLUME_PREFIX}{_short(configmap)}"


def _short(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=6).hexdigest()


def _env(own: Mapping[str, str], server_env: Iterable[Mapping[str, Any]], settings: WorkloadSettings) -> list[Object]:
    values = {
        **own,
        "SHOAL_OPERATOR_URL": settings.operator_url,
        "SHOAL_MODELS_DIR": MODELS_DIR,
        "SHOAL_SHARED_DIR": SHARED_DIR,
        "SHOAL_CREDENTIALS_DIR": AGENT_CREDENTIALS_DIR,
        "SHOAL_STORAGE_SECRETS_DIR": STORAGE_SECRETS_DIR,
    }
    fields = {
        "SHOAL_NAMESPACE": "metadata.namespace",
        "SHOAL_POD": "metadata.name",
        "SHOAL_POD_UID": "metadata.uid",
    }
    env: list[Object] = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]
    env += [{"name": name, "value": value} for name, value in sorted(values.items())]
    copied = [dict(item) for item in server_env if str(item.get("name", "")).startswith(_STORAGE_ENV)]
    names = {item["name"] for item in env}
    return env + [item for item in copied if item["name"] not in names]


def _probe(path: str, **timing: int) -> Object:
    return {"httpGet": {"path": path, "port": AGENT_PORT, "scheme": "HTTP"}, "timeoutSeconds": 5, **timing}
