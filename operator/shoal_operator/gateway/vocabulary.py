"""Words that Envoy's bootstrap and the resources sent to it must spell alike: headers, filters, paths, type URLs."""

from typing import Final

TYPE: Final = "type.googleapis.com/"
CLUSTER: Final = TYPE + "envoy.config.cluster.v3.Cluster"
SCOPE: Final = TYPE + "envoy.config.route.v3.ScopedRouteConfiguration"
ROUTES: Final = TYPE + "envoy.config.route.v3.RouteConfiguration"

SCOPE_HEADER: Final = "x-shoal-scope"
"""Internal. Envoy overwrites it on arrival with ``<path>/<model header>``, so a client's own value never counts; the
fourth part between slashes is the model of the scope key."""
MODEL_HEADER: Final = "mm-model-id"
"""ModelMesh's header (gRPC metadata) that names the model, so that Envoy need not read the message."""
VMODEL_HEADER: Final = "mm-vmodel-id"
"""ModelMesh's name of a virtual model; here it is a model's name like the other."""
PATH_STYLE_HEADER: Final = "x-shoal-path-style"
"""Internal. Set by normalise.lua on requests whose path named the InferenceService."""
UNKNOWN_HEADER: Final = "x-shoal-unknown"
"""Internal. Set by resolve.lua to the model that no scope knows, for the text of the 404."""

ATTEMPT_HEADER: Final = "x-envoy-attempt-count"
"""Envoy's own, asked for on the way to the cold listener only: which attempt of a request this is."""
TIMEOUT_HEADER: Final = "x-shoal-timeout"
"""Internal. To the cold listener: milliseconds that the request may take at its pod, once it was held."""
RECEIVED_HEADER: Final = "x-shoal-received"
"""Internal. To the cold listener, of a gRPC call: how many bytes of it the main listener has, which are none where it
did not read the model's name from the message; and how long all of it took to arrive, or "-" where more is to come."""
NOT_LOADED_HEADER: Final = "x-model-not-loaded"
"""A pod's word that it does not have the model: nothing was computed, another attempt is safe. Never reaches clients.
A plug-in in the server says it, or ``lacking`` reads it out of the server's own answer."""
NOT_SENT_HEADER: Final = "x-shoal-not-sent"
"""Internal. The cold listener's word that the pod computed nothing (not reached, or does not have the model)."""

COLD: Final = "cold"
"""The second, internal listener of each Envoy, and the static cluster that leads there."""
ANSWERS: Final = "answers"
"""Another internal listener, and the static cluster that leads there: what is answered without a pod (see
``answers``)."""
POD: Final = "pod"
"""The static cluster behind the cold listener (and ``routes.grpc_cluster`` of it): whichever pod the activator named,
by address, in the filter metadata ``ACTIVATION_FILTER`` under this key."""
LACKS: Final = "lacks"
"""Beside it: how that pod's server says that it does not have the model (see ``lacking``)."""
TOLD: Final = "told"
"""Instead of a pod: the gRPC message that answers the call, framed, in hexadecimal digits."""
TOLD_FILTER: Final = "shoal.told"
TOLD_HEADER: Final = "x-shoal-told"
"""Internal. In the cold listener: there is such an answer."""
LACKS_FILTER: Final = "shoal.lacks"
ACTIVATION_FILTER: Final = "envoy.filters.http.ext_authz"
"""Waits for the activator's word. Envoy keeps what the activator answered under its filter's own name."""
NOT_LOADED_FILTER: Final = "shoal.not_loaded"
QUESTION_FILTER: Final = "shoal.question"
"""Says in its metadata whose question to the activator it is (see ``questions``)."""

LIMIT_FILTER: Final = "shoal.limit"
"""Collects a request before it is sent on, where a route says how long it may be."""

NORMALISE_FILTER: Final = "shoal.normalise"
EXTRACT_FILTER: Final = "shoal.extract"
RESOLVE_FILTER: Final = "shoal.resolve"
SAGEMAKER_FILTER: Final = "shoal.sagemaker"
ENDPOINTS_PATH: Final = "/endpoints/"
"""Below it is SageMaker's runtime API (see ``sagemaker``)."""
FILTERS: Final = (SAGEMAKER_FILTER, NORMALISE_FILTER, EXTRACT_FILTER, RESOLVE_FILTER)
"""Run in this order, and only when no scope matched: every model's route configuration switches them off, so that
requests for known models that come in the canonical form never pay for them."""

SERVICE_FRAGMENT: Final = "!"
"""Third part of the key of an InferenceService's own scope; no TrainedModel can have this name."""
MESSAGE_FRAGMENT: Final = ""
"""Third part of the key for gRPC without the model header: the name must be read from the message."""

GATE: Final = "gate"
"""Route configuration that is answered last: Envoy's /ready waits for it, and so for the models."""
MESSAGE_ROUTES: Final = "message"
MODEL_HOST: Final = "model-host"
"""Route configuration of what is asked for at the host of one model of a group, and is not that model."""
MODELMESH_HOST: Final = "modelmesh-serving"
"""Host of all models of a namespace's groups, as ModelMesh's Service is called."""

GRPC_SERVICE: Final = "inference.GRPCInferenceService"
GRPC_MODEL_METHODS: Final = {
    "ModelInfer": "model_name",
    "ModelStreamInfer": "model_name",
    "ModelReady": "name",
    "ModelMetadata": "name",
}
"""Open Inference Protocol's methods (and Triton's stream) that name a model, and the field that does."""
GRPC_INFER_METHODS: Final = ("ModelInfer", "ModelStreamInfer")
GRPC_STREAM_METHODS: Final = ("ModelStreamInfer",)
GRPC_SERVER_METHODS: Final = ("ServerLive", "ServerReady", "ServerMetadata")
GRPC_HEALTH: Final = "/grpc.health.v1.Health/Check"

HEALTH_PATH: Final = "/healthz"
"""Whether this gateway takes requests, for load balancers before it; at any host, and of no InferenceService."""
