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
UNKNOWN_HEADER: Final = "x-shoal-unknown"
"""Internal. Set by resolve.lua to the model that no scope knows, for the text of the 404."""

ATTEMPT_HEADER: Final = "x-envoy-attempt-count"
"""Envoy's own, asked for on the way to the cold listener only: which attempt of a request this is."""
NOT_LOADED_HEADER: Final = "x-model-not-loaded"
"""A pod's word that it does not have the model: nothing was computed, another attempt is safe. Never reaches clients.
The plug-in of each model server says it (runtimes/mlserver/plugin)."""
NOT_SENT_HEADER: Final = "x-shoal-not-sent"
"""Internal. The cold listener's word that the pod computed nothing (not reached, or does not have the model)."""

COLD: Final = "cold"
"""The second, internal listener of each Envoy, and the static cluster that leads there."""
POD: Final = "pod"
"""The static cluster behind the cold listener (and ``routes.grpc_cluster`` of it): whichever pod the activator named,
by address, in the filter metadata ``ACTIVATION_FILTER`` under this key."""
ACTIVATION_FILTER: Final = "envoy.filters.http.ext_authz"
"""Waits for the activator's word. Envoy keeps what the activator answered under its filter's own name."""
NOT_LOADED_FILTER: Final = "shoal.not_loaded"

NORMALISE_FILTER: Final = "shoal.normalise"
EXTRACT_FILTER: Final = "shoal.extract"
RESOLVE_FILTER: Final = "shoal.resolve"
FILTERS: Final = (NORMALISE_FILTER, EXTRACT_FILTER, RESOLVE_FILTER)
"""Run in this order, and only when no scope matched: every model's route configuration switches them off, so that
requests for known models that come in the canonical form never pay for them."""

SERVICE_FRAGMENT: Final = "!"
"""Third part of the key of an InferenceService's own scope; no TrainedModel can have this name."""
MESSAGE_FRAGMENT: Final = ""
"""Third part of the key for gRPC without the model header: the name must be read from the message."""

GATE: Final = "gate"
"""Route configuration that is answered last: Envoy's /ready waits for it, and so for the models."""
MESSAGE_ROUTES: Final = "message"

GRPC_SERVICE: Final = "inference.GRPCInferenceService"
GRPC_MODEL_METHODS: Final = {
    "ModelInfer": "model_name",
    "ModelStreamInfer": "model_name",
    "ModelReady": "name",
    "ModelMetadata": "name",
}
"""Open Inference Protocol's methods (and Triton's stream) that name a model, and the field that does."""
GRPC_SERVER_METHODS: Final = ("ServerLive", "ServerReady", "ServerMetadata")

GRPC_MESSAGE_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Largest first message of a gRPC call without the model header: Envoy must hold it to read the name."""
