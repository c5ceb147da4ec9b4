"""What is watched: every kind with its place in the API, and which of its objects the API server is asked for."""

from typing import NamedTuple

from shoal_api.names import GROUP, LABEL_INFERENCE_SERVICE, LABEL_MANAGED_BY, MANAGED_BY

_OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


class Watched(NamedTuple):
    """``selector``: labels of the objects that are sent, empty for all. ``namespaced`` False: the cluster has them.

    ``needed`` False: where the kind is not served, or may not be read, all else goes on without it.
    """

    kind: str
    api_version: str
    plural: str
    selector: str = ""
    namespaced: bool = True
    needed: bool = True


MODELS = Watched("TrainedModel", f"{GROUP}/v1alpha1", "trainedmodels")
SERVICES = Watched("InferenceService", f"{GROUP}/v1beta1", "inferenceservices")
PODS = Watched("Pod", "v1", "pods", f"{LABEL_INFERENCE_SERVICE},{_OURS}")
# KServe's minimal set of CRDs may lack either.
RUNTIMES = (
    Watched("ServingRuntime", f"{GROUP}/v1alpha1", "servingruntimes", needed=False),
    Watched("ClusterServingRuntime", f"{GROUP}/v1alpha1", "clusterservingruntimes", namespaced=False, needed=False),
)
# All of them, not only ours: users bring autoscalers for our Deployments.
AUTOSCALERS = Watched("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers", needed=False)
OWNED = (
    Watched("Deployment", "apps/v1", "deployments", _OURS, needed=False),
    Watched("Service", "v1", "services", _OURS, needed=False),
    Watched("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", _OURS, needed=False),
    Watched("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", _OURS, needed=False),
    AUTOSCALERS,
)
WATCHED = (*RUNTIMES, SERVICES, PODS, MODELS, *OWNED)
