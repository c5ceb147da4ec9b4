"""Objects in the shapes of KServe's multi-model samples and of predictors that its users write, as plain data."""

from typing import Any

Object = dict[str, Any]


def trained_model(name: str = "model1-sklearn", **model: Any) -> Object:
    """A TrainedModel of KServe's sklearn sample; ``model`` replaces fields of spec.model (None removes one)."""
    spec = {"storageUri": "s3://models/sklearn/1.0", "framework": "sklearn", "memory": "256Mi", **model}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": name},
        "spec": {
            "inferenceService": "sklearn-iris-example",
            "model": {key: value for key, value in spec.items() if value is not None},
        },
    }


def inference_service(predictor: Object, name: str = "sklearn-iris-example") -> Object:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }


def runtime(name: str = "custom", kind: str = "ServingRuntime", **spec: Any) -> Object:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True, "priority": 2}],
            "multiModel": True,
            "protocolVersions": ["v2", "grpc-v2"],
            "builtInAdapter": {
                "serverType": "mlserver",
                "runtimeManagementPort": 8081,
                "memBufferBytes": 134217728,
                "modelLoadingTimeoutMillis": 90000,
                "env": [{"name": "A", "value": "b"}],
            },
            "containers": [
                {
                    "name": "mlserver",
                    "image": "example.com/mlserver:1",
                    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 5, "memory": "1Gi"}},
                }
            ],
            **spec,
        },
    }


_RESOURCES = {
    "limits": {"cpu": "100m", "memory": "512Mi", "nvidia.com/gpu": 1},
    "requests": {"cpu": "100m", "memory": "512Mi"},
}

SKLEARN: Object = {
    "minReplicas": 1,
    "sklearn": {"protocolVersion": "v1", "name": "sklearn-iris-predictor", "resources": _RESOURCES},
}

TRITON: Object = {
    "triton": {
        "args": ["--log-verbose=1"],
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1", "memory": "2Gi"}},
    }
}

BY_FORMAT: Object = {
    "model": {"modelFormat": {"name": "sklearn", "version": "1"}, "runtime": "shoal-mlserver", "protocolVersion": "v2"}
}

CUSTOM: Object = {
    "containers": [
        {
            "name": "kserve-container",
            "image": "example.com/server:1",
            "env": [
                {"name": "MULTI_MODEL_SERVER", "value": "true"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            ],
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        }
    ]
}

POD_LEVEL: Object = {
    "xgboost": {"resources": _RESOURCES, "securityContext": {"runAsNonRoot": True}},
    "minReplicas": 2,
    "maxReplicas": 4,
    "scaleTarget": 10,
    "scaleMetric": "concurrency",
    "containerConcurrency": 4,
    "timeout": 60,
    "serviceAccountName": "models",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
            }
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
    "initContainers": [{"name": "init", "image": "example.com/init:1", "command": ["true"]}],
    "imagePullSecrets": [{"name": "registry"}],
    "labels": {"team": "a"},
    "annotations": {"note": "b"},
    "priorityClassName": "high",
    "terminationGracePeriodSeconds": 90,
    "logger": {"mode": "all", "url": "http://logs"},
    "batcher": {"maxBatchSize": 32, "maxLatency": 500},
    "canaryTrafficPercent": 10,
    "fieldOfTomorrow": {"deep": [{"er": True, "list": [1, "a", {"b": 1.5}]}]},
}

PREDICTORS: dict[str, Object] = {
    "sklearn": SKLEARN,
    "triton": TRITON,
    "by format": BY_FORMAT,
    "custom": CUSTOM,
    "pod level": POD_LEVEL,
}
