"""How Envoy knows that a pod does not have the model, where its server says so in words of its own. Pure.

A profile names status and text (``NotLoaded``). On the way back from a pod's cluster, before its answer counts, a
filter marks it with ``x-model-not-loaded``, which makes it a reason to try elsewhere. In the cold listener the rules
come with the activator's word, since any type of server may be there. Servers whose plug-in sets the mark have no
filter.
"""

from functools import cache

from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2

from . import surface
from . import vocabulary as words
from .envoy_json import Json, lua, packed

MAX_BYTES = 4096
"""A longer body, or one that does not state its length, is a model's own answer, and is not waited for."""
_PRINTABLE = frozenset(range(32, 127)) - frozenset(b'"\\')


@cache
def rules(server_type: str) -> Json:
    """``{"rest": [{"status", "contains": [..]}], "grpc": [..]}``; empty where the server marks its answers itself."""
    said = surface.of(server_type).not_loaded
    return {
        kind: [{"status": answer.status, "contains": list(answer.contains)} for answer in answers]
        for kind, answers in (("rest", said.rest), ("grpc", said.grpc))
        if answers
    }


@cache
def filters(server_type: str) -> Json:
    """Fields of a cluster's HTTP options where its pods are of this type; none where none is needed."""
    found = rules(server_type)
    if not found:
        return {}
    codec = packed(upstream_codec_pb2.UpstreamCodec)
    code = lua(words.LACKS_FILTER, "mark.lua", {"RULES": in_lua(found), "FUNCTION_LACKS": function()})["typed_config"]
    mark = packed(lua_pb2.Lua, default_source_code=code["default_source_code"])
    return {
        "http_filters": [
            {"name": words.LACKS_FILTER, "typed_config": mark},
            {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
        ]
    }


def function() -> str:
    """Lua: ``lacks(handle, rules)``."""
    code: str = lua("", "lacks.lua", {"MAX_BYTES": str(MAX_BYTES)})["typed_config"]["default_source_code"][
        "inline_string"
    ]
    return code


def in_lua(value: object) -> str:
    """A value as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {in_lua(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(in_lua, value)) + "}"
    if isinstance(value, str):
        return '"' + "".join(chr(byte) if byte in _PRINTABLE else f"\\{byte:03d}" for byte in value.encode()) + '"'
    return str(value)
