"""A type of model server that only these tests know, with everything that MLServer has not."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from shoal_api.tuning import Knob
from shoal_operator import servers
from shoal_operator.gateway import lacking, surface
from shoal_operator.server_profile import (
    Answer,
    Inputs,
    Live,
    NotLoaded,
    Parts,
    Ports,
    Protocol,
    Scratch,
    ServerProfile,
    Setting,
    Shown,
)


def _parts(inputs: Inputs) -> Parts:
    return Parts(
        environment={"ACME_HOME": "/mnt/shoal/config"},
        command=("acme", "serve"),
        args=(f"--workers={inputs.settings.get('workers', 1)}", *(inputs.args or ())),
        files={"acme.properties": f"timeout={inputs.request_seconds:g}\n"},
        ignored=("args[0] of the model server (--port is Shoal's own)",),
    )


ACME = ServerProfile(
    server_type="acme",
    title="Acme Serving",
    images=("acme-serving",),
    ports=Ports(http=7000, management=7001),
    live=Live(""),
    formats={"acme": Shown.REAL},
    protocols=frozenset({Protocol.NATIVE}),
    native=("/predictions/{model}", "/models/{model}/invoke"),
    not_loaded=NotLoaded(rest=(Answer(404, ('"ModelNotFoundException"', 'say "x"\n')),)),
    parts=_parts,
    memory="estimated from the artifact",
    idle_seconds=7.5,
    scratch=(Scratch("/dev/shm", "1Gi", in_memory=True), Scratch("/var/acme", "2Gi")),
    tuning={Knob.WORKERS: "acme.workers", Knob.TIMEOUT: "acme.timeout"},
    settings={
        "workers": Setting(int, least=1, most=8),
        "ratio": Setting(float),
        "verbose": Setting(bool),
        "mode": Setting(str, choices=("fast", "safe")),
    },
)


@contextmanager
def known() -> Iterator[None]:
    """Acme is among the types."""
    entry = SimpleNamespace(name="acme", load=lambda: ACME)
    caches = (servers.profiles, surface.of, surface.native, lacking.rules, lacking.filters)
    for cached in caches:
        cached.cache_clear()
    with mock.patch.object(servers, "entry_points", return_value=[entry]):
        yield
    for cached in caches:
        cached.cache_clear()
