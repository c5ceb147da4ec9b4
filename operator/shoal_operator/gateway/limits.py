"""What the gateway may take, and what Envoy does when it comes near: connections, streams, headers, memory. Pure.

The wall stands in this order. Each connection and stream is small and may not be silent for long. Near the heap's limit
free memory goes back first, then the streams that hold most are ended, then new requests get 503, then new connections
are closed: long before the kernel would kill the process, and with it every request. Probes are exempt from all of it.
"""

from dataclasses import dataclass

from .envoy_json import EXTENSIONS, Json

MEMORY_BYTES = 1024 * 1024 * 1024
"""The chart's default of gateway.resources.limits.memory, which the other defaults follow from."""
HEAP_SHARE = 0.75
"""Of the container's memory limit. The rest: the program itself, threads, and the kernel's buffers of sockets."""

Number = int | str
"""A number, or the placeholder that the chart puts a value in for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one Envoy. ``heap_bytes``: what it may allocate (``HEAP_SHARE``). ``connections``: of clients.
    ``streams``: requests at a time on one HTTP/2 connection. ``idle_seconds``: a connection without a request.
    ``header_seconds``: until a new connection has said anything, and a request's headers are complete.
    ``held_requests``: that wait for the activator or an answer by way of the cold listener.
    """

    heap_bytes: Number = int(HEAP_SHARE * MEMORY_BYTES)
    connections: Number = 10_000
    streams: Number = 512
    idle_seconds: Number = 75
    header_seconds: Number = 10
    held_requests: Number = MEMORY_BYTES // (256 * 1024)


PLACEHOLDERS = Limits(
    heap_bytes="SHOAL_HEAP_BYTES",
    connections="SHOAL_CONNECTIONS",
    streams="SHOAL_STREAMS",
    idle_seconds="SHOAL_IDLE_SECONDS",
    header_seconds="SHOAL_HEADER_SECONDS",
    held_requests="SHOAL_HELD_REQUESTS",
)
"""For the chart's file: charts/shoal/templates/gateway.yaml replaces them."""

BUFFER_BYTES = 256 * 1024
"""What piles up in either direction of a stream before its sender has to wait."""
CLIENT_WINDOW_BYTES = 256 * BUFFER_BYTES
"""Of an HTTP/2 connection with a client. Many streams' worth: bodies that wait must not keep others from passing."""
UNNAMED_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest first message of a gRPC call without the model header: Envoy must hold it to read the name."""
UNLIMITED_WINDOW_BYTES = 2**31 - 1
"""Of connections that several clients share: what one of them does not read must not keep others from reading."""

HEADERS_KILOBYTES = 32
HEADERS = 100
"""Of a client's request."""
POD_ANSWER: Json = {"max_headers_count": HEADERS, "max_response_headers_kb": 60}
INNER_HEADERS_KILOBYTES = 8 * HEADERS_KILOBYTES
INNER_HEADERS = 10 * HEADERS
"""On the way through the cold listener. Several times as much, so that nothing that was let in can end a connection
there, whatever Envoy adds to it."""
INNER_ANSWER: Json = {"max_headers_count": INNER_HEADERS, "max_response_headers_kb": INNER_HEADERS_KILOBYTES}

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"
PROBE_CONNECTIONS = 100
_PROBES_LIMIT = "envoy.resource_limits.listener.probes.connection_limit"


def overload_manager(limits: Limits) -> Json:
    """envoy.config.overload.v3.OverloadManager. Listeners that say ``bypass_overload_manager`` are exempt."""
    return {
        "refresh_interval": "0.02s",  # at 1 GB/s a client can send 20 MB in between
        "resource_monitors": [
            {
                "name": _HEAP,
                "typed_config": {
                    "@type": EXTENSIONS + "resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": limits.heap_bytes,
                },
            },
            {
                "name": _CONNECTIONS,
                "typed_config": {
                    "@type": EXTENSIONS + "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": limits.connections,
                },
            },
        ],
        "actions": [
            _action("shrink_heap", threshold=0.5),
            {
                # Connections without a request go sooner, down to after 2 s, the fewer are left.
                **_action("reduce_timeouts", scaled=(0.6, 0.9), resources=(_HEAP, _CONNECTIONS)),
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
                    "timer_scale_factors": [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "2s"}],
                },
            },
            _action("reset_high_memory_stream", scaled=(0.6, 0.8)),
            _action("stop_accepting_requests", threshold=0.95),
            _action("reject_incoming_connections", threshold=0.98),
        ],
        # Streams that hold 256 KiB and more are told apart by size: the largest go first.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 18},
    }


def of_listener(header_seconds: Number) -> Json:
    """Part of a listener that clients connect to: who has not begun a request by then is closed."""
    inspector = {"@type": EXTENSIONS + "filters.listener.http_inspector.v3.HttpInspector"}
    return {
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "listener_filters": [{"name": "envoy.filters.listener.http_inspector", "typed_config": inspector}],
        "listener_filters_timeout": f"{header_seconds}s",
        "continue_on_listener_filters_timeout": False,
    }


def runtime() -> Json:
    """envoy.config.bootstrap.v3.LayeredRuntime."""
    return {"layers": [{"name": "limits", "static_layer": {_PROBES_LIMIT: PROBE_CONNECTIONS}}]}


def _action(
    name: str,
    *,
    threshold: float | None = None,
    scaled: tuple[float, float] | None = None,
    resources: tuple[str, ...] = (_HEAP,),
) -> Json:
    when: Json = {}
    if threshold is not None:
        when["threshold"] = {"value": threshold}
    if scaled is not None:
        when["scaled"] = {"scaling_threshold": scaled[0], "saturation_threshold": scaled[1]}
    triggers = [{"name": resource, **when} for resource in resources]
    return {"name": f"envoy.overload_actions.{name}", "triggers": triggers}
