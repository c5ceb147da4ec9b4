"""Containers by SageMaker's contract for many models: a custom container whose program is the user's.

It listens where SageMaker's variables say, for management as for inference; only the gateway comes to it, and has no
other paths of it than inference.
"""

from shoal_api.server_types import SAGEMAKER

from shoal_operator.server_profile import (
    Answer,
    Inputs,
    Live,
    NotLoaded,
    Parts,
    Ports,
    Protocol,
    ServerProfile,
    Shown,
)

_PORTS = Ports(http=8080)


def _parts(inputs: Inputs) -> Parts:
    own = inputs.command is not None or inputs.args is not None
    return Parts(
        environment={
            "SAGEMAKER_MULTI_MODEL": "true",
            "SAGEMAKER_BIND_TO_PORT": str(_PORTS.http),
        },
        # As SageMaker starts every container.
        args=None if own else ("serve",),
    )


PROFILE = ServerProfile(
    server_type=SAGEMAKER,
    title="SageMaker's contract",
    images=("sagemaker",),
    ports=_PORTS,
    live=Live("/ping"),
    formats={"custom": Shown.DOUBLE},
    protocols=frozenset({Protocol.NATIVE}),
    native=("/models/{model}/invoke",),
    # The contract says 404, and leaves the words to the container.
    not_loaded=NotLoaded(rest=tuple(Answer(404, (words,)) for words in ("not found", "Not Found", "not loaded"))),
    parts=_parts,
    memory="estimated: declared, or from the artifact; the contract tells nothing but 507, no memory left",
    idle_seconds=1.0,
    waits=False,
    limits=(
        "Custom containers (`containers` with MULTI_MODEL_SERVER=true and the server's type as an annotation), or a "
        "ServingRuntime of this type: GET, POST and DELETE of /models, /models/<model>/invoke and /ping, all on the "
        "port that SAGEMAKER_BIND_TO_PORT names.",
        "POST /models has the path of the model's folder as its url; what SageMaker would have unpacked is unpacked.",
        "404 of an invocation counts as a model that is not there where its body says `not found`, `Not Found` or "
        "`not loaded`.",
        "Use is not counted: a model counts as used only when a request has it loaded, and the container has to "
        "finish running requests itself before it unloads.",
        "No batching, queue or workers of one model.",
    ),
)
