"""Small pieces of Envoy configuration, in its JSON form, that several files use. Pure."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from google.protobuf.message import Message
from shoal_api.grammar import MODEL_NAME, NAMESPACE, SERVICE_NAME

from . import vocabulary as words

Json = dict[str, Any]

EXTENSIONS = words.TYPE + "envoy.extensions."
CONNECTION_MANAGER = EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager"


def listener(name: str, host: str, port: int, manager: Json) -> Json:
    return {
        "name": name,
        "address": address(host, port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def router() -> Json:
    return {
        "name": "router",
        "typed_config": {"@type": EXTENSIONS + "filters.http.router.v3.Router", "suppress_envoy_headers": True},
    }


_WORDS = {
    "IS_MODEL": MODEL_NAME.lua,
    "IS_SERVICE": SERVICE_NAME.lua,
    "IS_NAMESPACE": NAMESPACE.lua,
    "IN_WORDS": MODEL_NAME.in_words(),
    "MODELMESH_HOST": words.MODELMESH_HOST.replace("-", "%-"),
}


def lua(name: str, file: str, replace: Mapping[str, str] | None = None) -> Json:
    """A filter that runs ``lua/<file>``; ``replace``: upper-case words in it, beside those of the grammar of names."""
    code = resources.files(__package__).joinpath("lua", file).read_text()
    for word, value in (_WORDS | dict(replace or {})).items():
        code = code.replace(word, value)
    return {
        "name": name,
        "typed_config": {
            "@type": EXTENSIONS + "filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": code},
        },
    }


def ads_source(fetch_timeout: str) -> Json:
    return {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": fetch_timeout}


def load_assignment(cluster: str, *addresses: tuple[str, int]) -> Json:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [_endpoint(address(*each)) for each in addresses]}]}


def load_assignment_before(cluster: str, last_resort: Json) -> Json:
    """Requests go to ``last_resort``, an address, while nothing is at priority 0, or when a retry says so."""
    assignment = load_assignment(cluster)
    assignment["endpoints"].append({"priority": 1, "lb_endpoints": [_endpoint(last_resort)]})
    return assignment


def internal_address(listener_name: str, endpoint: str = "") -> Json:
    """A listener inside the same Envoy. ``endpoint`` is free text that the listener sees as the connection's target."""
    internal = {"server_listener_name": listener_name}
    return {"envoy_internal_address": internal | ({"endpoint_id": endpoint} if endpoint else {})}


def _endpoint(where: Json) -> Json:
    return {"endpoint": {"address": where}}


def address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def packed(message: type[Message], **fields: object) -> Json:
    """A message inside google.protobuf.Any. Naming it by its class also makes its type known to ParseDict."""
    return {"@type": words.TYPE + message.DESCRIPTOR.full_name, **fields}


def set_header(name: str, value: str) -> Json:
    """A header of exactly this value, whatever was there."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
