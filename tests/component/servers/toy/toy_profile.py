"""The operator's side of the toy server."""

from shoal_api.tuning import Knob
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


def _parts(_: Inputs) -> Parts:
    return Parts(command=("python", "/opt/toy_server.py", "7070", "0.0.0.0"))  # noqa: S104


PROFILE = ServerProfile(
    server_type="toy",
    title="Toy",
    images=("toy",),
    ports=Ports(http=7070),
    live=Live("/alive"),
    formats={"toy": Shown.REAL},
    protocols=frozenset({Protocol.NATIVE}),
    native=("/toy/{model}",),
    not_loaded=NotLoaded(rest=(Answer(404, ("toy: nothing is loaded as ",)),)),
    parts=_parts,
    memory="estimated from the artifact",
    tuning={Knob.WORKERS: "workers of POST /scale"},
)
