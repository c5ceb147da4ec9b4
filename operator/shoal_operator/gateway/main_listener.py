"""Envoy's main listener: how a request becomes a scope key, and what Envoy says by itself. Pure.

The key is InferenceService and namespace (Host) and model. The model comes from the path, from ModelMesh's header, or,
for gRPC without it, from the first message. Requests in another form than the scopes' own go through the filters.
"""

from base64 import b64encode

from google.protobuf import descriptor_pb2

from . import limits, not_sent_on, replies, sagemaker
from . import vocabulary as words
from .envoy_json import CONNECTION_MANAGER, EXTENSIONS, Json, ads_source, listener, lua, router, set_header
from .policy import MAX_REQUEST_BYTES
from .surface import native_in_lua

NAMES_DISAGREE = 422
"""Stands for "message and metadata name different models" until the local reply says so: nothing else answers so."""


def main_listener(host: str, port: int, bounds: limits.Limits) -> Json:
    """The listener ``main`` on ``host``:``port``."""
    manager: Json = {
        "@type": CONNECTION_MANAGER,
        "stat_prefix": "gateway",
        # The scope key is made of the Host without its port, and of the path as the pod will see it.
        "strip_any_host_port": True,
        "strip_trailing_host_dot": False,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # Clients are never trusted with Envoy's own x-envoy-* headers, wherever they call from.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": False,
        "common_http_protocol_options": {
            "idle_timeout": f"{bounds.idle_seconds}s",
            "max_headers_count": limits.HEADERS,
        },
        "request_headers_timeout": f"{bounds.header_seconds}s",
        "max_request_headers_kb": limits.HEADERS_KILOBYTES,
        "http2_protocol_options": {
            "max_concurrent_streams": bounds.streams,
            "initial_stream_window_size": limits.BUFFER_BYTES,
            "initial_connection_window_size": limits.CLIENT_WINDOW_BYTES,
            # A client whose node is gone is noticed.
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        },
        "early_header_mutation_extensions": [_scope_header()],
        "local_reply_config": {"mappers": _local_replies()},
        "http_filters": [
            sagemaker.filter_(),
            *not_sent_on.filters(),
            _health(),
            _limit(),
            lua(words.NORMALISE_FILTER, "normalise.lua", {"OR_NATIVE": native_in_lua()}),
            _extract(),
            lua(words.RESOLVE_FILTER, "resolve.lua", {"DISAGREE": str(NAMES_DISAGREE)}),
            router(),
        ],
        "scoped_routes": {
            "name": "models",
            "scope_key_builder": {
                "fragments": [
                    _fragment(":authority", ".", 0),
                    _fragment(":authority", ".", 1),
                    _fragment(words.SCOPE_HEADER, "/", 3),
                ]
            },
            "rds_config_source": ads_source("60s"),
            "scoped_rds": {"scoped_rds_config_source": ads_source("0s")},
        },
    }
    return {**listener("main", host, port, manager), **limits.of_listener(bounds.header_seconds)}


def _scope_header() -> Json:
    return {
        "name": "scope",
        "typed_config": {
            "@type": EXTENSIONS + "http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                # One name, the first of all that are sent, which the scope is chosen by.
                {"append": set_header(words.MODEL_HEADER, f"%REQ({words.MODEL_HEADER}?{words.VMODEL_HEADER})%")},
                {"append": set_header(words.SCOPE_HEADER, f"%REQ(:path)%/%REQ({words.MODEL_HEADER})%")},
                {"remove": words.UNKNOWN_HEADER},
                {"remove": words.PATH_STYLE_HEADER},
                {"remove": words.TIMEOUT_HEADER},
            ],
        },
    }


def _health() -> Json:
    """Answers for this gateway itself; 503 while it is being drained."""
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": words.HEALTH_PATH + r"/?(\?.*)?"}}}
    kind = EXTENSIONS + "filters.http.health_check.v3.HealthCheck"
    return {
        "name": "health",
        "typed_config": {"@type": kind, "pass_through_mode": False, "headers": [path]},
    }


def _limit() -> Json:
    """Off until a route says how long a request may be."""
    kind = EXTENSIONS + "filters.http.buffer.v3.Buffer"
    return {
        "name": words.LIMIT_FILTER,
        "disabled": True,
        "typed_config": {"@type": kind, "max_request_bytes": MAX_REQUEST_BYTES},
    }


def _local_replies() -> list[Json]:
    return [
        *sagemaker.local_replies(not_sent_on.STATUS),
        *replies.not_sent_on(not_sent_on.STATUS),
        *replies.no_upgrade(),
        *replies.no_route(),
        *replies.too_large(),
        *replies.named_twice(NAMES_DISAGREE),
        *replies.compressed(),
        *replies.message_not_read(),
        *replies.grpc_codes(),
        *replies.overloaded("OM", "UO"),
        *replies.unreachable("UF", "UH", "UC", "UR", "URX", "NC"),
        *replies.slow(),
        *replies.timeout(),
        *replies.malformed(),
    ]


def _extract() -> Json:
    return {
        "name": words.EXTRACT_FILTER,
        "typed_config": {
            "@type": EXTENSIONS + "filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
            "descriptor_set": {"inline_bytes": b64encode(_descriptors()).decode()},
            "extractions_by_method": {
                f"{words.GRPC_SERVICE}.{method}": {"request_field_extractions": {field: {}}}
                for method, field in words.GRPC_MODEL_METHODS.items()
            },
        },
    }


def _descriptors() -> bytes:
    """The Open Inference Protocol's service with only the field that names the model: Envoy skips the rest."""
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package="inference", syntax="proto3")
    string = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    once = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    for field in sorted(set(words.GRPC_MODEL_METHODS.values())):
        file.message_type.add(name=field.title().replace("_", "")).field.add(
            name=field, number=1, type=string, label=once
        )
    file.message_type.add(name="Answer")
    service = file.service.add(name=words.GRPC_SERVICE.rpartition(".")[2])
    for method, field in words.GRPC_MODEL_METHODS.items():
        streams = "Stream" in method
        service.method.add(
            name=method,
            input_type=".inference." + field.title().replace("_", ""),
            output_type=".inference.Answer",
            client_streaming=streams,
            server_streaming=streams,
        )
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString(deterministic=True)


def _fragment(header: str, separator: str, index: int) -> Json:
    return {"header_value_extractor": {"name": header, "element_separator": separator, "index": index}}
