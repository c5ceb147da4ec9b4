"""The four CustomResourceDefinitions: schemas from the models, rules in CEL, and what `kubectl get` shows.

Lowest supported Kubernetes: 1.29 (CEL rules with messageExpression and the quantity library; native sidecars are on by
default). Rules stand here and not in the models because they are the API server's: reading must not depend on them.
Strings and lists that rules look at are bounded, or the API server's estimate of a rule's cost refuses the whole CRD.
"""

from typing import Any, Final

from .azure_uri import AZURE_EXAMPLE, FILE_SHARE
from .claim_uri import CLAIM_EXAMPLE, CLAIM_SCHEME, CLAIM_URI
from .common import Resource
from .grammar import MODEL_NAME, SERVICE_NAME, Grammar
from .hub_uri import HUB_EXAMPLE, HUB_SCHEME, HUB_URI
from .inference_service import CONTAINERS_KEY, FRAMEWORKS, MODEL_KEY, InferenceService
from .names import GROUP, LABEL_MANAGED_BY, MANAGED_BY, SERVER_CONTAINER
from .oci_uri import OCI_EXAMPLE, OCI_SCHEME, OCI_URI
from .quantity import whole_number
from .schema import PRESERVE, VALIDATIONS, Schema, structural
from .serving_runtime import ClusterServingRuntime, ServingRuntime
from .storage_uri import SUPPORTED_SCHEMES
from .trained_model import TrainedModel

ANNOTATION_SCHEMA_REVISION: Final = "shoal.dev/schema-revision"
SCHEMA_REVISION: Final = 7
"""Grows when a schema changes; an older installer never replaces the schemas of a newer one."""

SHORT_NAMES: Final = {"TrainedModel": ["tm"], "InferenceService": ["isvc"]}


def definitions() -> list[dict[str, Any]]:
    """All four definitions, as objects to apply."""
    return [
        _definition(TrainedModel, _trained_model_schema(), _TRAINED_MODEL_COLUMNS),
        _definition(InferenceService, _inference_service_schema(), _INFERENCE_SERVICE_COLUMNS),
        _definition(ServingRuntime, _serving_runtime_schema(ServingRuntime), _SERVING_RUNTIME_COLUMNS),
        _definition(ClusterServingRuntime, _serving_runtime_schema(ClusterServingRuntime), _SERVING_RUNTIME_COLUMNS),
    ]


def is_ours(definition: dict[str, Any]) -> bool:
    """Whether a CustomResourceDefinition read from the API server is Shoal's, and so may be changed by it."""
    labels = definition.get("metadata", {}).get("labels") or {}
    return bool(labels.get(LABEL_MANAGED_BY) == MANAGED_BY)


def revision(definition: dict[str, Any]) -> int:
    """The schema revision written on a definition of ours; 0 where there is none."""
    annotations = definition.get("metadata", {}).get("annotations") or {}
    text = str(annotations.get(ANNOTATION_SCHEMA_REVISION, ""))
    return whole_number(text) or 0


def _definition(resource: type[Resource], schema: Schema, columns: list[dict[str, Any]]) -> dict[str, Any]:
    singular = resource.kind_name.lower()
    names: dict[str, Any] = {
        "kind": resource.kind_name,
        "listKind": f"{resource.kind_name}List",
        "plural": resource.plural,
        "singular": singular,
        "categories": ["shoal"],
    }
    if resource.kind_name in SHORT_NAMES:
        names["shortNames"] = SHORT_NAMES[resource.kind_name]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{GROUP}",
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, "app.kubernetes.io/part-of": MANAGED_BY},
            "annotations": {ANNOTATION_SCHEMA_REVISION: str(SCHEMA_REVISION)},
        },
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _root(resource: type[Resource]) -> Schema:
    schema = structural(resource)
    # The root may say nothing of metadata, and unknown fields beside spec and status have no meaning.
    schema["properties"]["metadata"] = {"type": "object"}
    del schema[PRESERVE]
    schema["required"] = ["spec"]
    return schema


def _rule(rule: str, message: str, **more: str) -> dict[str, str]:
    return {"rule": rule, "message": message, **more}


def _named(field: str, grammar: Grammar) -> str:
    return f"{field}.matches('{grammar.anchored}') && size({field}) <= {grammar.longest}"


def _trained_model_schema() -> Schema:
    schema = _root(TrainedModel)
    schema[VALIDATIONS] = [
        _rule(
            _named("self.metadata.name", MODEL_NAME),
            "metadata.name is part of the model's URL: use lower-case letters, digits and '-', without dots, "
            "such as my-model-1",
        )
    ]
    spec = schema["properties"]["spec"]
    spec["properties"]["inferenceService"][VALIDATIONS] = [
        _rule(
            _named("self", SERVICE_NAME),
            "name an InferenceService of the same namespace, such as sklearn-iris (not namespace/name)",
        )
    ]
    model = spec["properties"]["model"]
    model["properties"]["storageUri"][VALIDATIONS] = [
        _rule(
            f"self.matches('^({'|'.join(SUPPORTED_SCHEMES)})://.+$')",
            f"start with one of {', '.join(f'{scheme}://' for scheme in SUPPORTED_SCHEMES)}, such as s3://bucket/folder",
        ),
        _rule(
            f"!self.matches('^{FILE_SHARE}$')",
            f"Azure's file shares cannot be fetched: copy the artifact to Blob Storage ({AZURE_EXAMPLE})",
        ),
        _rule(
            f"!self.startsWith('{HUB_SCHEME}://') || self.matches('^{HUB_URI}$')",
            f"name a repository of the hub like {HUB_EXAMPLE}; the revision, without '/', may be left out",
        ),
        _rule(
            f"!self.startsWith('{OCI_SCHEME}://') || self.matches('^{OCI_URI}$')",
            f"name an image or an artifact like {OCI_EXAMPLE}, or with @sha256: and its digest",
        ),
        _rule(
            f"!self.startsWith('{CLAIM_SCHEME}://') || self.matches('^{CLAIM_URI}$')",
            f"name a PersistentVolumeClaim of this namespace like {CLAIM_EXAMPLE}",
        ),
    ]
    model["properties"]["framework"]["minLength"] = 1
    model[VALIDATIONS] = [
        _rule(
            "has(self.storageUri) != has(self.storage)",
            "set exactly one of storageUri (s3://bucket/folder) and storage (key and path)",
        )
    ]
    model["properties"]["storage"]["properties"]["key"][VALIDATIONS] = [
        _rule("self.matches('^[-._a-zA-Z0-9]+$')", "name a key of the Secret storage-config, such as default")
    ]
    serving = spec["properties"]["serving"]
    serving[VALIDATIONS] = [
        _rule(
            "!has(self.minCopies) || !has(self.maxCopies) || self.minCopies <= self.maxCopies",
            "minCopies is above maxCopies: lower one or raise the other",
            fieldPath=".minCopies",
        )
    ]
    serving["properties"]["workers"][VALIDATIONS] = [
        _rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min is above max: lower one or raise the other",
            fieldPath=".min",
        )
    ]
    return schema


def _inference_service_schema() -> Schema:
    schema = _root(InferenceService)
    schema[VALIDATIONS] = [
        _rule(
            _named("self.metadata.name", SERVICE_NAME),
            f"metadata.name becomes a Service and a host name: use {SERVICE_NAME.in_words()}, such as sklearn-iris",
        )
    ]
    predictor = schema["properties"]["spec"]["properties"]["predictor"]
    keys = (*FRAMEWORKS, MODEL_KEY)
    server = f"has(self.containers) && self.containers.exists(c, c.name == '{SERVER_CONTAINER}')"
    kinds = {key: f"has(self.{key})" for key in keys} | {CONTAINERS_KEY: server}
    frameworks = " || ".join(kinds[key] for key in keys)
    count = " + ".join(f"({present} ? 1 : 0)" for present in kinds.values())
    only_containers = f"(!({frameworks}) && has(self.containers) && size(self.containers) > 0)"
    wanted = f"set exactly one of {', '.join(kinds)}"
    found = " + ".join(f"({present} ? ' {key}' : '')" for key, present in kinds.items())
    predictor[VALIDATIONS] = [
        _rule(
            f"{only_containers} || {count} == 1",
            wanted,
            messageExpression=f"'{wanted}; found' + ({count} == 0 ? ' none' : {found})",
        ),
        _rule(
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.maxReplicas == 0 "
            "|| self.minReplicas <= self.maxReplicas",
            "minReplicas is above maxReplicas: lower one or raise the other",
            fieldPath=".minReplicas",
        ),
    ]
    return schema


def _serving_runtime_schema(resource: type[ServingRuntime]) -> Schema:
    schema = _root(resource)
    spec = schema["properties"]["spec"]
    spec["properties"]["containers"]["minItems"] = 1
    spec[VALIDATIONS] = [
        _rule(
            "!has(self.multiModel) || !self.multiModel || has(self.builtInAdapter) || has(self.grpcEndpoint)",
            "a multi-model runtime needs builtInAdapter.serverType (such as mlserver), which says how models are "
            "loaded into it",
            fieldPath=".multiModel",
        )
    ]
    spec["properties"]["grpcEndpoint"] = {
        "description": "ModelMesh's own adapter protocol; not spoken here.",
        "type": "string",
    }
    return schema


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


_READY = ".status.conditions[?(@.type=='Ready')]"
_AGE = _column("Age", ".metadata.creationTimestamp", "date")

_TRAINED_MODEL_COLUMNS = [
    _column("InferenceService", ".spec.inferenceService"),
    _column("Framework", ".spec.model.framework"),
    _column("Memory", ".spec.model.memory"),
    _column("Ready", f"{_READY}.status", description="Whether a request will be answered"),
    _column("Serving", ".status.serving", description="Kept, OnDemand, Failed or Waiting; not what is loaded just now"),
    _column("Reason", f"{_READY}.reason"),
    _AGE,
    _column("URL", ".status.url", wide=True),
    _column("Storage", ".spec.model.storageUri", wide=True),
    _column("Message", f"{_READY}.message", wide=True),
]

_INFERENCE_SERVICE_COLUMNS = [
    _column("URL", ".status.url"),
    _column("Ready", f"{_READY}.status"),
    _column("Models", ".status.modelsReady", description="Ready and all TrainedModels of this InferenceService"),
    _AGE,
    _column("Reason", f"{_READY}.reason", wide=True),
    _column("Message", f"{_READY}.message", wide=True),
]

_SERVING_RUNTIME_COLUMNS = [
    _column("Disabled", ".spec.disabled", "boolean"),
    _column("MultiModel", ".spec.multiModel", "boolean"),
    _column("Formats", ".spec.supportedModelFormats[*].name"),
    _column("Server", ".spec.builtInAdapter.serverType"),
    _AGE,
]
