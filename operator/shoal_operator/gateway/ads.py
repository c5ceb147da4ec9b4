"""The delta ADS server: gRPC streams of Envoys around ``subscription.EnvoySubscription``."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from .metrics import GatewayMetrics
from .subscription import Answer, EnvoySubscription
from .tables import Change, GatewayTables
from .tls import AdsTls, server_credentials

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MESSAGE_LIMIT_BYTES = 256 * 1024 * 1024
"""A million models are 217 MB at the first sync, 50 MB of versions at a reconnect."""

MAX_PENDING_CALLS = 20_000
HANDSHAKE_SECONDS = 5
"""Until a connection has shown a certificate of ours."""
FORMER_SECONDS = 660.0
"""What is asked of a server whose certificate was replaced is answered within it: the longest hold, and a little."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.so_reuseport", 1),  # a renewed certificate's server listens before the former one stops
    # Thousands of requests for cold models may come at once; by default gRPC refuses some of them beyond 1,000 that
    # Python has not looked at yet.
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
    # A stranger's connection costs a handshake's memory; by default gRPC lets one last two minutes.
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1_000),
    # Notice an Envoy whose node is gone; allow Envoy's own pings, which gRPC would punish by default.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
]


class _Stream:
    def __init__(self, subscription: EnvoySubscription, peer: str) -> None:
        self.subscription = subscription
        self.peer = peer
        self.wake = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class AdsServer:
    """Serves the tables to Envoys once opened; before, they keep what they have.

    ``on_progress`` is called whenever an Envoy came, went or answered.
    """

    def __init__(self, tables: GatewayTables, metrics: GatewayMetrics, on_progress: Callable[[], None]) -> None:
        self._tables = tables
        self._metrics = metrics
        self._on_progress = on_progress
        self._streams: set[_Stream] = set()
        self._open = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._former: dict[grpc.aio.Server, asyncio.Task[None]] = {}
        self._handlers: tuple[grpc.GenericRpcHandler, ...] = ()
        self._address = ""
        self._client_names: frozenset[str] = frozenset()

    @property
    def subscriptions(self) -> list[EnvoySubscription]:
        return [stream.subscription for stream in self._streams]

    def open(self) -> None:
        self._open.set()

    def changed(self, changes: Iterable[Change]) -> None:
        now = time.monotonic()
        for stream in self._streams:
            stream.subscription.changed(changes, now)
            stream.wake.set()

    async def start(
        self, host: str, port: int, tls: AdsTls | None, others: Iterable[grpc.GenericRpcHandler] = ()
    ) -> int:
        """Listen, for ``others`` too (which ask ``admitted`` themselves); returns the port (the one chosen when 0 was
        asked). Raises OSError when it is taken, ValueError when certificate and key do not fit."""
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._serve_stream
        )  # bytes in, bytes out
        discovery = grpc.method_handlers_generic_handler(SERVICE, {"DeltaAggregatedResources": handler})
        self._handlers = (discovery, *others)
        if port:  # gRPC shares its port with whoever does the same
            socket.create_server((host.strip("[]"), port), family=_family(host)).close()
        self._server, bound = await self._listen(f"{host}:{port}", tls)
        self._address = f"{host}:{bound}"
        return bound

    async def renew(self, tls: AdsTls) -> None:
        """Use another certificate, or authority, from now on: Envoys come back by new connections, and what is held
        for them goes on. Raises ValueError when it cannot be used; the former then stays."""
        former = self._server
        if former is None:
            return
        self._server, _ = await self._listen(self._address, tls)
        for stream in self._streams:
            stream.end()
        self._former[former] = asyncio.create_task(former.stop(FORMER_SECONDS))
        self._former[former].add_done_callback(lambda _: self._former.pop(former, None))

    async def stop(self) -> None:
        """End all streams at once: Envoys keep serving and connect to whoever comes next."""
        servers = [*self._former, self._server]
        self._server = None
        for server in servers:
            if server is not None:
                await server.stop(grace=None)

    async def _listen(self, address: str, tls: AdsTls | None) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(self._handlers)
        try:
            if tls is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, server_credentials(tls))
                self._client_names = tls.client_names
        except RuntimeError as error:
            raise OSError(f"the gateway's discovery service cannot listen on {address}: {error}") from error
        await server.start()
        return server, int(bound)

    async def _serve_stream(
        self, requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        if not self.admitted(context):
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "the client certificate does not name a Shoal gateway"
            )
        stream = _Stream(EnvoySubscription(self._tables, time.monotonic()), context.peer())
        self._streams.add(stream)
        self._metrics.connected.set(len(self._streams))
        reader = asyncio.create_task(self._read(stream, requests))
        self._on_progress()
        try:
            await self._open.wait()
            while not (reader.done() or stream.ended):
                stream.wake.clear()
                deltas, ask_again = stream.subscription.next_deltas(time.monotonic())
                for delta in deltas:
                    label = delta.type_url.rsplit(".", 1)[-1]
                    self._metrics.pushes.labels(label).inc()
                    self._metrics.resources.labels(label).inc(delta.resources)
                    self._metrics.bytes.labels(label).inc(len(delta.data))
                    yield delta.data
                await _wait(stream.wake, ask_again)
        finally:
            reader.cancel()
            self._streams.discard(stream)
            self._metrics.connected.set(len(self._streams))
            log.info("envoy %s at %s disconnected", stream.subscription.node or "?", stream.peer)
            self._on_progress()

    async def _read(self, stream: _Stream, requests: AsyncIterator[bytes]) -> None:
        try:
            async for data in requests:
                request = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
                new = not stream.subscription.node
                answer = stream.subscription.receive(request, time.monotonic())
                if new and stream.subscription.node:
                    log.info("envoy %s at %s connected", stream.subscription.node, stream.peer)
                if answer is not None:
                    self._count(stream, answer)
                    self._on_progress()
                stream.wake.set()
        finally:
            stream.wake.set()

    def _count(self, stream: _Stream, answer: Answer) -> None:
        label = answer.type_url.rsplit(".", 1)[-1]
        self._metrics.acknowledge_seconds.labels(label).observe(answer.seconds)
        if answer.rejection:
            self._metrics.rejections.labels(label).inc()
            log.log(
                logging.ERROR if answer.names == 1 else logging.WARNING,  # many: sent again in halves
                "envoy %s refused %d %s, the first %s: %s",
                stream.subscription.node,
                answer.names,
                label,
                answer.first_name,
                answer.rejection,
            )

    def admitted(self, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bool:
        """Whether the caller's certificate is a gateway's."""
        if not self._client_names:
            return True
        names = context.auth_context().get("x509_subject_alternative_name", ())
        return any(name.decode(errors="replace") in self._client_names for name in names)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _wait(event: asyncio.Event, until: float | None) -> None:
    if until is None:
        await event.wait()
        return
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            await event.wait()
    except TimeoutError:
        pass
