"""MLServer: the environment that puts an unmodified upstream image under the agent's control.

The repository plug-in (delivered by the agent under SHARED_DIR) goes straight to the folder of a staged model, where
MLServer's own reads every settings file at each load. Workers stay off by default: they multiply memory by their
number, and models are spread over pods already.
"""

from shoal_api.names import MODELS_DIR, SHARED_DIR

from .profile import ServerProfile

_SLOTS = f"{MODELS_DIR}/slots"

PROFILE = ServerProfile(
    server_type="mlserver",
    http_port=8080,
    grpc_port=8081,
    metrics_port=8082,
    live_path="/v2/health/live",
    formats=frozenset(
        {
            "sklearn",
            "xgboost",
            "lightgbm",
            "catboost",
            "mlflow",
            "huggingface",
            "alibi-detect",
            "alibi-explain",
            "custom",
        }
    ),
    images=("mlserver",),
    python_path=f"{SHARED_DIR}/plugins/mlserver",
    environment={
        "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": "shoal_mlserver.repository.SlotRepository",
        # Both: `mlserver start FOLDER`, as the upstream image runs it, overrides the second with the first.
        "MLSERVER_MODELS_DIR": _SLOTS,
        "MLSERVER_MODEL_REPOSITORY_ROOT": _SLOTS,
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
        "MLSERVER_HTTP_PORT": "8080",
        "MLSERVER_GRPC_PORT": "8081",
        "MLSERVER_METRICS_PORT": "8082",
        "SHOAL_SHARED_DIR": SHARED_DIR,
    },
    # MLServer's default is debug, which writes a line for every request.
    defaults={"MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_DEBUG": "false"},
)
