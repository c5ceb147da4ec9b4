"""A resolved InferenceService → the objects that run it. Deterministic: the same input gives the same manifests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from shoal_api.inference_service import InferenceService
from shoal_api.names import (
    AGENT_PORT,
    GROUP,
    LABEL_COMPONENT,
    LABEL_INFERENCE_SERVICE,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    SERVER_CONTAINER,
)
from shoal_api.storage_secrets import STORAGE_FILE

from shoal_operator.server_profile import ServerProfile
from shoal_operator.state.world.values import is_group

from .agent import storage_configmap
from .former import ANNOTATION_SERVES, serves
from .pod_template import pod_template, selector
from .resolve import Resolution
from .scaling import DEFAULT_UTILIZATION, Decision, Scaling
from .settings import WorkloadSettings
from .storage import Storage
from .volume_claims import ANNOTATION_MOUNTED, NONE_MOUNTED, Mounting, mount, note

Object = dict[str, Any]


def render(
    isvc: InferenceService,
    resolution: Resolution,
    storage: Storage,
    settings: WorkloadSettings,
    pods: Decision,
    *,
    mounting: Mounting = NONE_MOUNTED,
) -> list[Object]:
    """ConfigMap, Deployment, Services, PodDisruptionBudget, and where they are wanted a NetworkPolicy and a
    HorizontalPodAutoscaler.

    In the order in which they are to be applied. ``resolution`` must be one without a problem. Nothing but the
    Deployment's spec.replicas depends on the number of pods, so that scaling is no rollout.
    """
    if resolution.profile is None:
        raise ValueError(f"{resolution.spec.key} cannot be rendered: {resolution.spec.problem}")
    # The storage settings before the pods, so that their first pull has its endpoint. Also when there are none: an
    # agent must not go on with those of Secrets that were taken away.
    manifests = [
        _storage_config(isvc, storage),
        _deployment(isvc, resolution, storage, settings, pods, mounting=mounting),
    ]
    if settings.network_policy:
        manifests.insert(0, _network_policy(isvc, resolution.profile, settings))
    if not is_group(isvc.metadata.name):  # whose models have hosts of their own
        names = (isvc.metadata.name, predictor_name(isvc.metadata.name))
        manifests += [_service(isvc, name, settings) for name in names]
    manifests.append(_disruption_budget(isvc))
    if pods.autoscaler:
        manifests.append(_autoscaler(isvc, resolution.scaling))
    return manifests


def predictor_name(service: str) -> str:
    """Name of an InferenceService's Deployment and of what belongs to its pods."""
    return f"{service}-predictor"


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Changes when anything in the manifest does."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _object(isvc: InferenceService, api_version: str, kind: str, name: str) -> Object:
    meta = isvc.metadata
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": {
                LABEL_MANAGED_BY: MANAGED_BY,
                LABEL_INFERENCE_SERVICE: meta.name,
                LABEL_COMPONENT: "predictor",
            },
            "ownerReferences": [_owner(isvc)],
        },
    }


def _owner(isvc: InferenceService) -> Object:
    """Whose the objects are: the InferenceService's, or of a group its runtime's."""
    meta = isvc.metadata
    if is_group(meta.name):
        return dict(meta.owner_references[0])
    return {
        "apiVersion": f"{GROUP}/{InferenceService.version}",
        "kind": InferenceService.kind_name,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
    }


def _deployment(
    isvc: InferenceService,
    resolution: Resolution,
    storage: Storage,
    settings: WorkloadSettings,
    pods: Decision,
    *,
    mounting: Mounting,
) -> Object:
    manifest = _object(isvc, "apps/v1", "Deployment", predictor_name(isvc.metadata.name))
    theirs = dict(resolution.claims.volumes)
    template = mount(pod_template(isvc, resolution, storage, settings), theirs, theirs)
    made_of = fingerprint(template)
    claims = tuple(claim for claim in mounting.claims(made_of) if claim not in theirs)
    manifest["metadata"]["annotations"] = {
        ANNOTATION_SERVES: serves(resolution.spec),
        ANNOTATION_MOUNTED: note(claims, made_of, mounting.proven),
    }
    manifest["spec"] = {
        "selector": {"matchLabels": selector(isvc.metadata.name)},
        # A new pod takes its share of models before an old one gives its share up.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 3,
        "template": mount(template, claims, {}),
    }
    if pods.replicas is not None:
        manifest["spec"]["replicas"] = pods.replicas
    return manifest


def _autoscaler(isvc: InferenceService, scaling: Scaling) -> Object:
    """As KServe renders it for cpu and memory, but for what is measured: only the model server's container.

    A Resource metric counts all containers of a pod, fails when one of them requests nothing, and would let the
    agent's small figures blur the server's.
    """
    name = predictor_name(isvc.metadata.name)
    manifest = _object(isvc, "autoscaling/v2", "HorizontalPodAutoscaler", name)
    target = {"type": "Utilization", "averageUtilization": int(scaling.target or DEFAULT_UTILIZATION)}
    measured = {"name": scaling.resource, "container": SERVER_CONTAINER, "target": target}
    manifest["spec"] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.least,
        "maxReplicas": scaling.most,
        "metrics": [{"type": "ContainerResource", "containerResource": measured}],
    }
    return manifest


def _service(isvc: InferenceService, name: str, settings: WorkloadSettings) -> Object:
    manifest = _object(isvc, "v1", "Service", name)
    manifest["spec"] = {"type": "ExternalName", "externalName": settings.gateway_host}
    return manifest


def _disruption_budget(isvc: InferenceService) -> Object:
    manifest = _object(isvc, "policy/v1", "PodDisruptionBudget", predictor_name(isvc.metadata.name))
    manifest["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(isvc.metadata.name)},
        # A pod that never became ready holds no traffic, and must not block a node from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return manifest


def _storage_config(isvc: InferenceService, storage: Storage) -> Object:
    manifest = _object(isvc, "v1", "ConfigMap", storage_configmap(isvc.metadata.name))
    manifest["data"] = {STORAGE_FILE: storage.document()}
    return manifest


def _network_policy(isvc: InferenceService, profile: ServerProfile, settings: WorkloadSettings) -> Object:
    """Only the gateway reaches the model server, whose port may also load and unload models; where management has a
    port of its own, nobody does.

    Kubelet's probes and hooks come from the pod's own node and are always let through. The agent's port shows
    metrics and drains the pod; it is open to what runs beside the operator.
    """
    home = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}}}
    gateway = {**home, "podSelector": {"matchLabels": dict(settings.gateway_labels)}}
    manifest = _object(isvc, "networking.k8s.io/v1", "NetworkPolicy", predictor_name(isvc.metadata.name))
    manifest["spec"] = {
        "podSelector": {"matchLabels": selector(isvc.metadata.name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [gateway],
                "ports": [{"port": port, "protocol": "TCP"} for port in profile.ports.for_clients()],
            },
            {"from": [home], "ports": [{"port": AGENT_PORT, "protocol": "TCP"}]},
        ],
    }
    return manifest
