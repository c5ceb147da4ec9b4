"""What a type of model server is to the operator: plain values, and one pure function that says how it is started.

``servers`` has a module per type that makes one. Rendering, routing and status ask nothing else, and know no server by
name. What is said here to be so is shown by tests/component/servers against the server itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from shoal_api.names import SHARED_DIR
from shoal_api.tuning import Knob, Tuning

CONFIG_DIR: Final = f"{SHARED_DIR}/config"
"""Where the server finds ``Parts.files``."""
PLUGINS_DIR: Final = f"{SHARED_DIR}/plugins"
"""Where the server finds runtimes/<type>/plugin, in a folder named as the type."""

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Protocol(StrEnum):
    """What clients speak, as KServe's ``protocolVersion`` names it; ``NATIVE`` is the server's own."""

    V1 = "v1"
    V2 = "v2"
    GRPC_V2 = "grpc-v2"
    NATIVE = "native"


class Shown(StrEnum):
    """By what it was tried."""

    REAL = "real server"
    DOUBLE = "double"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True, slots=True)
class Ports:
    """In the pod, all of them. Only ``http`` and ``grpc`` are reached from outside it, by the gateway alone."""

    http: int
    grpc: int | None = None
    metrics: int | None = None
    management: int | None = None
    health: int | None = None

    def for_clients(self) -> tuple[int, ...]:
        """Those that the gateway reaches, and nobody else."""
        return (self.http,) if self.grpc is None else (self.http, self.grpc)

    def by_name(self) -> Mapping[str, int]:
        """Those that there are."""
        ports = {
            "http": self.http,
            "grpc": self.grpc,
            "metrics": self.metrics,
            "management": self.management,
            "health": self.health,
        }
        return {name: port for name, port in ports.items() if port is not None}


@dataclass(frozen=True, slots=True)
class Live:
    """How the kubelet asks whether the server runs, whichever models it holds: GET of ``path`` is 200; or, with an
    empty path, the port takes connections. ``port`` is one of ``Ports``."""

    path: str
    port: str = "http"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with this status (HTTP's, or gRPC's code) whose body (gRPC: message) contains all of ``contains``."""

    status: int
    contains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """How the server says that it does not have the model, so that the gateway has the request answered elsewhere.

    It must be said before anything was computed, and no model may say it by itself, as far as that can be told.
    ``marked``: a plug-in of ours sets the header x-model-not-loaded.
    """

    rest: tuple[Answer, ...] = ()
    grpc: tuple[Answer, ...] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder of its own that the server writes to. ``size``: as a Kubernetes quantity. Memory counts in the pod's."""

    path: str
    size: str
    in_memory: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the server's own settings that annotation ``shoal.dev/server-config`` may set. ``kind``: int, float, bool
    or str. ``least`` and ``most``: for numbers. ``choices``: for words."""

    kind: type
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


SettingValue = int | float | bool | str


def setting_text(value: SettingValue) -> str:
    """As properties files, options and variables of all these servers have it: ``true``, not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What starting a server may depend on. ``cpus``: limits.cpu of its container, None when there is none.
    ``request_seconds``: what a request may take. ``settings``: checked against the profile's. ``command``, ``args``: as
    the user or the runtime wrote them; None: not at all. ``written``: the environment that is set, where it has a
    plain value."""

    service: str
    capacity_bytes: int
    buffer_bytes: int
    cpus: float | None
    request_seconds: float
    loading_timeout_seconds: int | None
    settings: Mapping[str, SettingValue] = field(default_factory=lambda: _NOTHING)
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    written: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the server's container gets. ``environment``: variables that the adapter depends on; a user's value for
    them is dropped, in whichever case its name is written, and named in a condition. ``defaults``: variables that a
    user may set otherwise. ``python_path``: put in front of a user's PYTHONPATH. ``command``, ``args``: in place of
    what was written; None: that stays. ``files``: contents by name, in ``CONFIG_DIR`` before the server starts.
    ``ignored``: what was written and has no effect, each with where it stands. ``processes``: how many times the server
    has each model in memory, by its own settings; what a model's ``spec.serving.workers`` adds is counted beside it."""

    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    defaults: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    python_path: str = ""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    files: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    ignored: tuple[str, ...] = ()
    processes: int = 1

    def fixed(self, name: str) -> str | None:
        """The value of a variable that is the adapter's own; None for any other. Servers read names without case."""
        return self.environment.get(name.upper())


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """``title``: for people. ``images``: how the last part of such an image's name begins. ``formats``: what a
    container of this kind loads where no runtime says it, and by what each was tried. ``protocols``: what clients may
    speak; the gateway has no other routes. ``native``: paths of ``NATIVE``, of inference by POST, with ``{model}`` as a
    whole part. ``withheld``: headers, in small letters, by which a request would
    have the server do something else than its path says: the gateway takes them from what clients send. ``questions``:
    the server answers v1's and v2's about itself and its models; else the gateway does, from
    what it knows. ``idle_seconds``: shorter than the server keeps a connection on which nothing is asked. ``waits``: an
    unload is done once no request of the model runs; else nobody knows of those that do. ``tuning``:
    the fields of ``spec.serving`` that the server honours, and what each becomes; ``format_tuning``: those that it
    honours for models of a format on top; ``format_lacks``: those of ``tuning`` that it does not honour for such.
    ``settings``: see ``Setting``.
    ``memory``: how what a model takes is known. ``limits``: what users have to know, a sentence each.
    """

    server_type: str
    title: str
    images: tuple[str, ...]
    ports: Ports
    live: Live
    formats: Mapping[str, Shown]
    protocols: frozenset[Protocol]
    not_loaded: NotLoaded
    parts: Callable[[Inputs], Parts]
    memory: str
    native: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    questions: bool = True
    idle_seconds: float = 1.0
    waits: bool = True
    scratch: tuple[Scratch, ...] = ()
    tuning: Mapping[Knob, str] = field(default_factory=lambda: _NOTHING)
    format_tuning: Mapping[str, Mapping[Knob, str]] = field(default_factory=lambda: _NOTHING)
    format_lacks: Mapping[str, frozenset[Knob]] = field(default_factory=lambda: _NOTHING)
    settings: Mapping[str, Setting] = field(default_factory=lambda: _NOTHING)
    limits: tuple[str, ...] = ()

    @property
    def spoken(self) -> str:
        """What clients may speak, for people."""
        return ", ".join((*sorted(each for each in self.protocols if each != Protocol.NATIVE), *self.native))

    def path(self, protocol: str, model: str) -> str:
        """Where clients send inference requests of a model, by a protocol as KServe names it."""
        if Protocol.NATIVE in self.protocols and protocol not in (Protocol.V1, Protocol.V2, Protocol.GRPC_V2):
            return self.native[0].format(model=model)
        return f"/v1/models/{model}:predict" if protocol == Protocol.V1 else f"/v2/models/{model}/infer"

    def not_honoured(self, tuning: Tuning, request_seconds: float, framework: str = "") -> tuple[str, ...]:
        """What of ``spec.serving`` has no effect on a model of this format, a sentence each. ``request_seconds``: as in
        Inputs."""
        lacks = self.format_lacks.get(framework.lower(), frozenset())
        known = (self.tuning.keys() | self.format_tuning.get(framework.lower(), {}).keys()) - lacks
        whose = f"{self.title}, for a {framework.lower()} model," if lacks else self.title
        honoured = ", ".join(knob for knob in Knob if knob in known) or "none of these fields"
        said = [
            f"spec.serving.{knob}: {whose} cannot do that (it honours {honoured}); leave it out"
            for knob in Knob
            if knob in tuning.asked() and knob not in known
        ]
        if tuning.timeout is not None and Knob.TIMEOUT in known and tuning.timeout > request_seconds:
            said.append(
                f"spec.serving.timeout: {tuning.timeout:g}s is longer than the {request_seconds:g}s that the "
                "InferenceService gives a request; lower it, or raise spec.predictor.timeout"
            )
        return tuple(said)
