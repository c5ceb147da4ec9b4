"""Small pieces of Envoy configuration, in its JSON form, that several files use. Pure."""

from typing import Any

from google.protobuf.message import Message

from . import vocabulary as words

Json = dict[str, Any]

EXTENSIONS = words.TYPE + "envoy.extensions."
CONNECTION_MANAGER = EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager"


def listener(name: str, host: str, port: int, manager: Json) -> Json:
    return {
        "name": name,
        "address": address(host, port),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def router() -> Json:
    return {
        "name": "router",
        "typed_config": {"@type": EXTENSIONS + "filters.http.router.v3.Router", "suppress_envoy_headers": True},
    }


def ads_source(fetch_timeout: str) -> Json:
    return {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": fetch_timeout}


def load_assignment(cluster: str, *addresses: tuple[str, int]) -> Json:
    endpoints = [{"endpoint": {"address": address(*each)}} for each in addresses]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def packed(message: type[Message], **fields: object) -> Json:
    """A message inside google.protobuf.Any. Naming it by its class also makes its type known to ParseDict."""
    return {"@type": words.TYPE + message.DESCRIPTOR.full_name, **fields}


def set_header(name: str, value: str) -> Json:
    """A header of exactly this value, whatever was there."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
