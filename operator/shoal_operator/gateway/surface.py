"""Which paths a type of model server is given by the gateway, from its profile. Pure.

Only what is listed here reaches a pod: servers manage models, show docs and metrics on the same ports.
"""

from dataclasses import dataclass
from functools import cache

from shoal_api.grammar import MODEL_NAME

from shoal_operator.server_profile import NotLoaded, Protocol
from shoal_operator.servers import profiles

_VERSIONED = f"/v2/models/{MODEL_NAME.pattern}(/versions/[^/]+)?"
_V1 = f"/v1/models/{MODEL_NAME.pattern}"
_V2_ENDS, _V1_ENDS = "(/((infer|generate)(_stream)?|ready))?", "(:predict|:explain)?"
_MARKED = NotLoaded(marked=True)
_OPEN = frozenset({Protocol.V1, Protocol.V2, Protocol.GRPC_V2})
"""Of a type that has no profile any more, or none yet: the Open Inference Protocol's."""

# Several expressions because Envoy refuses long ones (RE2 program size over 100).
_ANY_MODEL = {Protocol.V2: "/v2/models/[^/]+(/versions/[^/]+)?" + _V2_ENDS, Protocol.V1: "/v1/models/[^/:]+" + _V1_ENDS}


@dataclass(frozen=True, slots=True)
class Surface:
    """Regular expressions of paths, each of one model where it says so. ``infer``: what the model is needed for.
    ``ready``, ``metadata``: questions about it. ``model``: all of these. ``refused``: protocols that others
    speak. ``any_model``: of whatever the client takes for a model's name, answered here and never sent on.
    ``server``: paths of no model. ``questions``: GET of ``ready``, ``metadata`` and ``server`` is for the pod,
    else answered here. ``grpc``: the Open Inference Protocol over gRPC. ``lists``: models are listed, as
    KServe's v1 has it. ``spoken``: for people. ``idle_seconds``: how long an idle connection is kept.
    ``not_loaded``: how the server says that. ``native``: its own paths, with ``{model}``. ``withheld``: headers that it
    is not sent."""

    infer: tuple[str, ...]
    ready: tuple[str, ...]
    metadata: tuple[str, ...]
    model: tuple[str, ...]
    refused: tuple[str, ...]
    any_model: tuple[str, ...]
    server: tuple[str, ...]
    questions: bool
    grpc: bool
    lists: bool
    spoken: str
    idle_seconds: float
    not_loaded: NotLoaded
    native: tuple[str, ...]
    withheld: tuple[str, ...]


@cache
def of(server_type: str) -> Surface:
    """Of one type; of one that there is no profile of, the Open Inference Protocol's."""
    profile = profiles().get(server_type)
    protocols = profile.protocols if profile is not None else _OPEN
    v1, v2 = Protocol.V1 in protocols, Protocol.V2 in protocols
    own = profile.native if profile is not None else ()
    own_paths = tuple(map(_expression, own))
    v1_model, v2_model = _V1 + _V1_ENDS, _VERSIONED + _V2_ENDS
    return Surface(
        infer=(
            *((_VERSIONED + "/(infer|generate)(_stream)?",) if v2 else ()),
            *((_V1 + ":(predict|explain)",) if v1 else ()),
            *own_paths,
        ),
        ready=(*((_VERSIONED + "/ready",) if v2 else ()), *((_V1,) if v1 else ())),
        metadata=(_VERSIONED,) if v2 else (),
        model=(*((v2_model,) if v2 else ()), *((v1_model,) if v1 else ()), *own_paths),
        refused=(*(() if v2 else (v2_model,)), *(() if v1 else (v1_model,))),
        any_model=(*_ANY_MODEL.values(), *(path.replace(MODEL_NAME.pattern, "[^/]+") for path in own_paths)),
        server=("/v2|/v2/health/(live|ready)",) if v2 else (),
        questions=profile.questions if profile is not None else True,
        grpc=Protocol.GRPC_V2 in protocols,
        lists=v1,
        spoken=profile.spoken if profile is not None else ", ".join(sorted(_OPEN)),
        idle_seconds=profile.idle_seconds if profile is not None else 1.0,
        not_loaded=profile.not_loaded if profile is not None else _MARKED,
        native=own,
        withheld=profile.withheld if profile is not None else (),
    )


@cache
def native() -> tuple[str, ...]:
    """The own paths of all types, with ``{model}``, in order."""
    return tuple(sorted({path for profile in profiles().values() for path in profile.native}))


def native_expressions() -> tuple[str, ...]:
    """The same as regular expressions whose one group is the model's name."""
    return tuple(path.replace("{model}", "([^/?]+)") for path in native())


def native_in_lua() -> str:
    """Lua: the model's name in ``path``, where it is one of ``native``, else nil; to follow another expression."""
    patterns = [path.replace("-", "%-").replace("{model}", "([^/?]+)") for path in native()]
    return "".join(f'\n    or path:match("^{each}$") or path:match("^{each}%?")' for each in patterns)


def _expression(path: str) -> str:
    return path.replace("{model}", MODEL_NAME.pattern)
