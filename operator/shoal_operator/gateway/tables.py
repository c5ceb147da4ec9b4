"""Every Envoy resource that follows from state's routes, kept current one change at a time. Pure.

One scope per model and two per InferenceService; the route configurations they point at are few, shared and
immutable. What a change costs does not depend on how many models there are.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from shoal_operator.state.effects import (
    Effect,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    Unavailable,
)
from shoal_operator.state.views import Endpoint

from . import clusters, routes, scopes
from . import vocabulary as words

MAX_TARGETS = 2048
"""Pods and sets of pods with clusters of their own (each costs Envoy about 100 kB). Beyond, a new set of pods is
served by one of its pods until others are gone."""


class Resource(NamedTuple):
    """``payload``: a serialised DeltaDiscoveryResponse that holds nothing but this resource, so that a response is
    the payloads joined (protobuf merges repeated fields of concatenated messages)."""

    version: str
    payload: bytes


class Change(NamedTuple):
    """A resource that was set or dropped, and the latest state change that it carries."""

    type_url: str
    name: str
    sequence: int


class _Target:
    """A set of pods with its clusters, and the route configurations that lead there."""

    __slots__ = ("name", "pods", "routes", "users")

    def __init__(self, pods: frozenset[str]) -> None:
        self.pods = pods
        self.name = scopes.digest(",".join(sorted(pods)))
        self.routes: set[str] = set()
        self.users = 0  # scopes that point at one of `routes`


class GatewayTables:
    """Takes state's effects in order and answers with the resources that they changed.

    ``resources``: type URL → name → Resource, to be read by the discovery service, which sends what ``apply`` and
    ``collect`` name. ``sequence``: the latest change applied.
    """

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Resource]] = {words.CLUSTER: {}, words.ROUTES: {}, words.SCOPE: {}}
        self.sequence = 0
        self._pods: dict[str, Endpoint] = {}
        self._targets: dict[frozenset[str], _Target] = {}
        self._targets_of_pod: dict[str, set[frozenset[str]]] = {}
        self._target_of_routes: dict[str, _Target] = {}
        self._retired: dict[frozenset[str], int] = {}
        self._changes: list[Change] = []
        for configuration in (
            routes.gate(),
            routes.from_message(),
            routes.of_service(_service_routes(None), None),
            routes.cold(_unavailable_routes(Unavailable.COLD)),
            *(routes.unavailable(_unavailable_routes(r), r) for r in Unavailable if r is not Unavailable.COLD),
        ):
            self._put_routes(configuration)
        self._changes.clear()

    def apply(self, effects: Iterable[Effect]) -> list[Change]:
        """Follow state's effects; those that are not about routes are passed over."""
        for effect in effects:
            match effect:
                case PodEndpointChanged():
                    self._pod(effect)
                case RouteChanged():
                    self._model(effect)
                case ServiceRouteChanged():
                    self._service(effect)
        return self._take_changes()

    def collect(self, acknowledged: int) -> list[Change]:
        """Drop clusters and route configurations that no Envoy can still be using.

        ``acknowledged``: the sequence that every connected Envoy has; only what was left by then goes.
        """
        for pods, sequence in list(self._retired.items()):
            if sequence <= acknowledged:
                del self._retired[pods]
                self._drop_target(self._targets[pods])
        return self._take_changes()

    def endpoints(self, target: str) -> frozenset[Endpoint]:
        """The pods of the target whose clusters have this name; none when it is gone."""
        known = self._target_of_routes.get(_model_routes(target))
        pods = known.pods if known is not None else ()
        return frozenset(self._pods[uid] for uid in pods if uid in self._pods)

    # One method per effect

    def _pod(self, effect: PodEndpointChanged) -> None:
        uid = effect.pod_uid
        if effect.ip:
            self._pods[uid] = Endpoint(effect.ip, effect.http_port, effect.grpc_port)
            # Ahead of the first model: its scope need not wait for the route configuration then.
            self._routes_to(self._target(frozenset((uid,))))
        elif self._pods.pop(uid, None) is None:
            return
        for pods in self._targets_of_pod.get(uid, ()):
            target = self._targets[pods]
            self._put_clusters(target)
            self._retire_if_unused(target)

    def _model(self, effect: RouteChanged) -> None:
        self.sequence = max(self.sequence, effect.sequence)
        namespace, service = effect.service
        name = scopes.scope_name(service, namespace, effect.model)
        if effect.pods:
            pods = self._bounded(effect.pods, effect.model)
            self._point(name, self._routes_to(self._target(pods)), service, namespace, effect.model)
        elif effect.unavailable is not None:
            self._point(name, _unavailable_routes(effect.unavailable), service, namespace, effect.model)
        else:
            self._drop_scope(name)

    def _service(self, effect: ServiceRouteChanged) -> None:
        self.sequence = max(self.sequence, effect.sequence)
        namespace, service = effect.service
        own = scopes.scope_name(service, namespace, words.SERVICE_FRAGMENT)
        message = scopes.scope_name(service, namespace, words.MESSAGE_FRAGMENT)
        if not effect.known:
            self._drop_scope(own)
            self._drop_scope(message)
            return
        if effect.pods:
            target = self._target(self._bounded(effect.pods, service))
            name = self._routes_to(target, of_service=True)
        else:
            name = _service_routes(None)
        self._point(own, name, service, namespace, words.SERVICE_FRAGMENT)
        self._point(message, words.MESSAGE_ROUTES, service, namespace, words.MESSAGE_FRAGMENT)

    # Scopes

    def _point(self, name: str, routes_name: str, service: str, namespace: str, model: str) -> None:
        before = self.resources[words.SCOPE].get(name)
        if before is None or before.version != routes_name:
            self._use(routes_name, +1)
            if before is not None:
                self._use(before.version, -1)
        # The version is the route configuration's name: after a restart, nothing that is the same is sent again.
        # Sent even when it points where it did: the sequence is acknowledged with it.
        self._put(words.SCOPE, name, routes_name, scopes.scope(name, routes_name, service, namespace, model))

    def _drop_scope(self, name: str) -> None:
        before = self.resources[words.SCOPE].get(name)
        if before is not None:
            self._drop(words.SCOPE, name)
            self._use(before.version, -1)

    def _use(self, routes_name: str, by: int) -> None:
        target = self._target_of_routes.get(routes_name)
        if target is not None:
            target.users += by
            self._retire_if_unused(target)

    # Targets

    def _bounded(self, pods: frozenset[str], salt: str) -> frozenset[str]:
        if len(pods) == 1 or pods in self._targets or len(self._targets) < MAX_TARGETS:
            return pods
        ordered = sorted(pods)
        return frozenset((ordered[int.from_bytes(scopes.digest(salt).encode()) % len(ordered)],))

    def _target(self, pods: frozenset[str]) -> _Target:
        target = self._targets.get(pods)
        if target is None:
            target = self._targets[pods] = _Target(pods)
            for uid in pods:
                self._targets_of_pod.setdefault(uid, set()).add(pods)
            self._put_clusters(target)
            self._retire_if_unused(target)
        return target

    def _routes_to(self, target: _Target, *, of_service: bool = False) -> str:
        name = _service_routes(target.name) if of_service else _model_routes(target.name)
        if name not in target.routes:
            target.routes.add(name)
            self._target_of_routes[name] = target
            build = routes.of_service if of_service else routes.to_pods
            self._put_routes(build(name, target.name))
        return name

    def _retire_if_unused(self, target: _Target) -> None:
        wanted = target.users > 0 or (len(target.pods) == 1 and not target.pods.isdisjoint(self._pods))
        if wanted:
            self._retired.pop(target.pods, None)
        else:
            self._retired[target.pods] = self.sequence

    def _drop_target(self, target: _Target) -> None:
        for name in target.routes:
            self._drop(words.SCOPE, scopes.anchor_name(name))
            self._drop(words.ROUTES, name)
            del self._target_of_routes[name]
        for name in (target.name, routes.grpc_cluster(target.name)):
            self._drop(words.CLUSTER, name)
        for uid in target.pods:
            self._targets_of_pod[uid].discard(target.pods)
            if not self._targets_of_pod[uid]:
                del self._targets_of_pod[uid]
        del self._targets[target.pods]

    def _put_clusters(self, target: _Target) -> None:
        endpoints = [self._pods[uid] for uid in sorted(target.pods) if uid in self._pods]
        for cluster in clusters.of_target(target.name, endpoints):
            version = _content_version(cluster)
            before = self.resources[words.CLUSTER].get(cluster.name)
            if before is None or before.version != version:
                self._put(words.CLUSTER, cluster.name, version, cluster)

    # Resources

    def _put_routes(self, configuration: Message) -> None:
        name: str = configuration.name  # type: ignore[attr-defined]  # generated messages have no stubs
        self._put(words.ROUTES, name, _content_version(configuration), configuration)
        self._put(words.SCOPE, scopes.anchor_name(name), name, scopes.anchor(name))

    def _put(self, type_url: str, name: str, version: str, message: Message) -> None:
        response = discovery_pb2.DeltaDiscoveryResponse()
        resource = response.resources.add(name=name, version=version)
        resource.resource.type_url = type_url
        resource.resource.value = message.SerializeToString(deterministic=True)
        self.resources[type_url][name] = Resource(version, response.SerializeToString())
        self._changes.append(Change(type_url, name, self.sequence))

    def _drop(self, type_url: str, name: str) -> None:
        if self.resources[type_url].pop(name, None) is not None:
            self._changes.append(Change(type_url, name, self.sequence))

    def _take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes


def _model_routes(target: str) -> str:
    return "pods-" + target


def _service_routes(target: str | None) -> str:
    return "service-" + (target or "unavailable")


def _unavailable_routes(reason: Unavailable) -> str:
    if reason is Unavailable.COLD:
        return words.COLD
    return "unavailable-" + reason.value


def _content_version(message: Message) -> str:
    return hashlib.blake2b(message.SerializeToString(deterministic=True), digest_size=6).hexdigest()
