"""KServe's Python server: a custom container whose program is the user's, built on ``kserve.ModelServer``.

Its options are those of ``kserve.model_server.parser`` and, by KServe's convention, ``--model_dir``: they are written
behind the user's own words, so that they hold over them.
"""

from collections.abc import Iterable
from typing import Final

from shoal_api.names import MODELS_DIR
from shoal_api.server_types import KSERVE

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
_OURS: Final = {
    "model_dir": f"{MODELS_DIR}/slots",
    "http_port": str(_PORTS.http),
    # gRPC would be on a port that nobody asks.
    "enable_grpc": "false",
    # Each process has a registry of its own, and a load reaches one of them.
    "workers": "1",
}
_WITHOUT_LOSS: Final = {("model_dir", MODELS_DIR), ("enable_grpc", "False")}


def _parts(inputs: Inputs) -> Parts:
    kept: list[str] = []
    ignored: list[str] = []
    for name, value, words in _options(inputs.args or ()):
        if name not in _OURS:
            kept += words
        elif value != _OURS[name] and (name, value) not in _WITHOUT_LOSS:
            ignored.append(f"args --{name} of the model server (it is {_OURS[name]!r} here)")
    return Parts(args=(*kept, *(f"--{name}={value}" for name, value in _OURS.items())), ignored=tuple(ignored))


def _options(words: Iterable[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Each option with its value and the words that it is written with; a word that is none has no name."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            found.append((name.replace("-", "_"), value if equals else "", (word,)))
        elif found and found[-1][0] in _OURS and not found[-1][1]:
            found[-1] = (found[-1][0], word, (*found[-1][2], word))
        else:
            found.append(("", "", (word,)))
    return found


PROFILE = ServerProfile(
    server_type=KSERVE,
    title="KServe's Python server",
    images=("kserve",),
    ports=_PORTS,
    live=Live("/v2/health/live"),
    formats={"custom": Shown.REAL},
    protocols=frozenset({Protocol.V1, Protocol.V2}),
    not_loaded=NotLoaded(rest=(Answer(404, ("Model with name ", " does not exist.")),)),
    parts=_parts,
    memory="measured for the whole process; a model's own is declared, or estimated from its artifact",
    # uvicorn's 5 s, without the time that a request takes to arrive.
    idle_seconds=4.0,
    waits=False,
    limits=(
        "Custom containers only (`containers` with MULTI_MODEL_SERVER=true and the server's type as an annotation).",
        "The program has to give ModelServer a ModelRepository whose load(name) loads the folder of that name below "
        "--model_dir and calls update(); the base class's own load() does nothing.",
        "load() and predict() that block hold up every other request: have them in a thread (asyncio.to_thread).",
        "Requests under way are not told by the server, finished ones are: a model that computes for longer than it "
        "takes to look unused (30 s) may be chosen to make way; its requests are answered first.",
        "No batching, queue or workers of one model; one process, since a load would reach only one of several.",
    ),
)
