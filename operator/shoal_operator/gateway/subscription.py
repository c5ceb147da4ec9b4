"""One Envoy's delta ADS stream, without I/O: what it has, what it has acknowledged, what it gets next.

The order that keeps requests answered while models move (each rule was measured, see the component tests):
clusters before route configurations before scopes; a model's scope only after this Envoy acknowledged the route
configuration it points at; the route configuration ``gate``, which Envoy's readiness waits for, after everything else.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2

from . import scopes
from . import vocabulary as words
from .tables import Change, GatewayTables

SENDING_ORDER = (words.CLUSTER, words.ROUTES, words.SCOPE)
RESPONSE_LIMIT = 250_000
"""Resources in one response. Envoy's cost of a response is that of all its scopes, so they are not cut small."""
COALESCE_FACTOR = 4.0
COALESCE_MAX_SECONDS = 1.0
"""After a delta of scopes, the next waits four times as long as Envoy took for the last: a burst costs Envoy's main
thread a fifth of its time at most, and a single change goes at once."""
STALLED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Delta:
    """A response to send: ``data`` is the serialised DeltaDiscoveryResponse."""

    type_url: str
    data: bytes
    resources: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What Envoy said to a delta. ``rejection``: its message when it refused a single resource or a whole delta."""

    type_url: str
    seconds: float
    names: int
    rejection: str = ""
    first_name: str = ""


@dataclass(slots=True)
class _InFlight:
    nonce: str
    names: list[str]
    oldest: int
    sent_at: float


@dataclass(slots=True)
class _Subscription:
    """One resource type. ``changed``: name → sequence, not sent yet, oldest first."""

    wildcard: bool
    names: set[str] = field(default_factory=set)
    changed: dict[str, int] = field(default_factory=dict)
    halves: deque[tuple[list[str], int]] = field(default_factory=deque)
    in_flight: _InFlight | None = None
    initial: dict[str, str] | None = None  # versions that Envoy brought along, not compared yet
    greeting: bool = False  # Envoy waits for a first response, even an empty one
    not_before: float = 0.0

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def oldest(self) -> int | None:
        """The earliest sequence that Envoy has not acknowledged."""
        candidates = [next(iter(self.changed.values()))] if self.changed else []
        if self.in_flight:
            candidates.append(self.in_flight.oldest)
        candidates += [sequence for _, sequence in self.halves]
        return min(candidates, default=None)


class EnvoySubscription:
    """State of one stream. ``now`` is monotonic seconds, passed in."""

    def __init__(self, tables: GatewayTables, now: float) -> None:
        self.node = ""
        self._tables = tables
        self._types: dict[str, _Subscription] = {}
        self._held_routes: set[str] = set()
        self._nonce = 0
        self._progress_at = now

    @property
    def acknowledged(self) -> int:
        """Every route change up to this sequence is in this Envoy; -1 until it has its first full set."""
        subscription = self._types.get(words.SCOPE)
        if subscription is None or subscription.initial is not None or subscription.greeting:
            return -1
        oldest = subscription.oldest()
        return self._tables.sequence if oldest is None else oldest - 1

    def stalled(self, now: float) -> bool:
        """Something is outstanding, and nothing was acknowledged for STALLED_SECONDS."""
        return self.acknowledged < self._tables.sequence and now - self._progress_at > STALLED_SECONDS

    def changed(self, changes: Iterable[Change], now: float) -> None:
        """Resources were set or dropped in the tables."""
        if self.acknowledged >= self._tables.sequence:
            self._progress_at = now  # was idle: from now on it owes an answer
        for change in changes:
            subscription = self._types.get(change.type_url)
            if subscription is not None and subscription.wants(change.name):
                # The oldest unsent sequence stays: until this goes out, that one is not acknowledged either.
                subscription.changed.setdefault(change.name, change.sequence)

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest, now: float) -> Answer | None:
        """A request from Envoy: a first subscription, an answer to a delta, more or fewer names."""
        if request.node.id:
            self.node = request.node.id[:128]
        if request.type_url not in self._tables.resources:
            return None
        answer = self._answered(request, now) if request.response_nonce else None
        subscription = self._types.get(request.type_url)
        if subscription is None:
            self._subscribe(request)
        else:
            for name in request.resource_names_subscribe:
                subscription.names.add(name)
                subscription.changed.setdefault(name, self._tables.sequence)
            for name in request.resource_names_unsubscribe:
                subscription.names.discard(name)
                subscription.changed.pop(name, None)
                self._held_routes.discard(name)  # only route configurations are unsubscribed
        return answer

    def next_deltas(self, now: float) -> tuple[list[Delta], float | None]:
        """What to send now, and when to ask again although nothing happened (None: when something does).

        At most one delta per type is under way, so a slow Envoy collects changes instead of a queue of deltas.
        """
        deltas: list[Delta] = []
        ask_again: float | None = None
        for type_url, fresh in self._types.items():
            if fresh.initial is not None:
                self._compare(type_url, fresh, fresh.initial)
        for type_url in SENDING_ORDER:
            subscription = self._types.get(type_url)
            if subscription is None or subscription.in_flight is not None:
                continue
            if now < subscription.not_before:
                if subscription.changed or subscription.halves:
                    ask_again = subscription.not_before
                continue
            names, oldest = self._ready(type_url, subscription)
            if names or subscription.greeting:
                subscription.greeting = False
                deltas.append(self._delta(type_url, subscription, names, oldest, now))
        return deltas, ask_again

    def _subscribe(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        asked = set(request.resource_names_subscribe)
        wildcard = request.type_url != words.ROUTES and (not asked or "*" in asked)
        self._types[request.type_url] = _Subscription(
            wildcard, asked - {"*"}, initial=dict(request.initial_resource_versions)
        )

    def _compare(self, type_url: str, subscription: _Subscription, has: dict[str, str]) -> None:
        """Against what Envoy brought along from the control plane before: only differences are sent. Done when the
        first delta may leave, because the tables are not complete before the recovery barrier fell."""
        subscription.initial = None
        subscription.greeting = subscription.wildcard and not has
        current = self._tables.resources[type_url]
        subscription.changed = {}  # what changed since the stream began is part of the comparison
        for name in current if subscription.wildcard else subscription.names:
            resource = current.get(name)
            if resource is None or has.get(name) != resource.version:
                subscription.changed[name] = 0
            elif type_url == words.ROUTES:
                self._held_routes.add(name)
        for name in has:
            if name not in current:
                subscription.changed[name] = 0

    def _answered(self, request: discovery_pb2.DeltaDiscoveryRequest, now: float) -> Answer | None:
        subscription = self._types.get(request.type_url)
        sent = subscription.in_flight if subscription else None
        if subscription is None or sent is None or sent.nonce != request.response_nonce:
            return None
        subscription.in_flight = None
        self._progress_at = now
        seconds = now - sent.sent_at
        rejected = request.HasField("error_detail")
        if rejected and len(sent.names) > 1:
            # Envoy refused all for the sake of one: halve until the one is alone, so that the others arrive.
            middle = len(sent.names) // 2
            subscription.halves.append((sent.names[:middle], sent.oldest))
            subscription.halves.append((sent.names[middle:], sent.oldest))
        elif request.type_url == words.ROUTES:
            # Also when refused: its models answer 404 then, but do not keep Envoy from becoming ready.
            current = self._tables.resources[words.ROUTES]
            self._held_routes.update(n for n in sent.names if n in current and n in subscription.names)
        if request.type_url == words.SCOPE:
            subscription.not_before = now + min(COALESCE_MAX_SECONDS, COALESCE_FACTOR * seconds)
        return Answer(
            request.type_url,
            seconds,
            len(sent.names),
            (request.error_detail.message[:500] or "no message") if rejected else "",
            sent.names[0] if sent.names else "",
        )

    def _ready(self, type_url: str, subscription: _Subscription) -> tuple[list[str], int]:
        if subscription.halves:
            return subscription.halves.popleft()
        names: list[str] = []
        oldest = self._tables.sequence
        current = self._tables.resources[type_url]
        for name, sequence in subscription.changed.items():
            if type_url == words.SCOPE:
                resource = current.get(name)
                anchor = name.startswith(scopes.ANCHOR_PREFIX)
                if resource is not None and not anchor and resource.version not in self._held_routes:
                    continue
                if anchor and resource is None:
                    self._forget_routes(name.removeprefix(scopes.ANCHOR_PREFIX))
            elif name == words.GATE and self.acknowledged < 0:
                continue
            names.append(name)
            oldest = min(oldest, sequence)
            if len(names) == RESPONSE_LIMIT:
                break
        for name in names:
            del subscription.changed[name]
        return names, oldest

    def _forget_routes(self, name: str) -> None:
        """Its anchor leaves with the next delta, and Envoy drops it then. Should it come back, it counts as held only
        once Envoy subscribed again and acknowledged: an answer under way, or one sent before Envoy's unsubscription
        arrived, would be about the former."""
        self._held_routes.discard(name)
        subscription = self._types.get(words.ROUTES)
        if subscription is not None:
            subscription.names.discard(name)
            subscription.changed.pop(name, None)
            if subscription.in_flight is not None:
                subscription.in_flight.names = [n for n in subscription.in_flight.names if n != name]

    def _delta(self, type_url: str, subscription: _Subscription, names: list[str], oldest: int, now: float) -> Delta:
        self._nonce += 1
        nonce = str(self._nonce)
        current = self._tables.resources[type_url]
        rest = discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url, nonce=nonce, removed_resources=[name for name in names if name not in current]
        )
        payloads = [current[name].payload for name in names if name in current]
        payloads.append(rest.SerializeToString())
        subscription.in_flight = _InFlight(nonce, names, oldest, now)
        return Delta(type_url, b"".join(payloads), len(names))
