"""Every Envoy resource that follows from state's routes, kept current one change at a time. Pure.

One scope per model and two per InferenceService (a model of a group has a host of its own, hence three); the route
configurations they point at are few: each InferenceService has one for its cold models, one for each reason why others
are unavailable, and one for each set of its pods. What a change costs does not depend on how many models there are: a
change of one model is one scope, and a change of an InferenceService's policy is its few route
configurations, in place.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from envoy.service.discovery.v3 import discovery_pb2

from shoal_operator.state.world.effects import (
    Effect,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    Unavailable,
)
from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy, ServiceKey, is_group
from shoal_operator.state.world.views import Endpoint

from . import clusters, routes, scopes, surface
from . import vocabulary as words
from .hosts import Hosts
from .limits import UNNAMED_MESSAGE_BYTES
from .stencils import Form, serialised

MAX_TARGETS = 2048
"""Pods and sets of pods with clusters of their own (each costs Envoy about 100 kB). Beyond, a new set of pods is
served by one of its pods until others are gone."""

MAX_UNKNOWN = 256
"""InferenceServices that are not there and have routes of their own, as anyone can name what is not there."""
_NO_SERVICE = "no-service"


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


class _Routes:
    """A route configuration of an InferenceService. ``form``: its content, but for name, policy and target. ``kept``:
    while the InferenceService is known, used or not."""

    __slots__ = ("form", "kept", "name", "service", "target", "users")

    def __init__(self, name: str, service: ServiceKey, form: Form, target: _Target | None, kept: bool) -> None:
        self.name = name
        self.service = service
        self.kept = kept
        self.form = form
        self.target = target
        self.users = 0  # scopes that point at it


class GatewayTables:
    """Takes state's effects in order and answers with the resources that they changed.

    ``resources``: type URL → name → Resource, to be read by the discovery service, which sends what ``apply`` and
    ``collect`` name. ``sequence``: the latest change applied.

    ``message_bytes``: the largest message that a model's name is read from.
    """

    def __init__(self, message_bytes: int = UNNAMED_MESSAGE_BYTES) -> None:
        self.resources: dict[str, dict[str, Resource]] = {words.CLUSTER: {}, words.ROUTES: {}, words.SCOPE: {}}
        self.sequence = 0
        self._pods: dict[str, Endpoint] = {}
        self._policies: dict[ServiceKey, RoutePolicy] = {}
        self._targets: dict[frozenset[str], _Target] = {}
        self._targets_by_name: dict[str, _Target] = {}
        self._targets_of_pod: dict[str, set[frozenset[str]]] = {}
        self._routes: dict[str, _Routes] = {}
        self._hosts = Hosts()
        self._routes_of: dict[ServiceKey, set[str]] = {}
        self._retired_targets: dict[frozenset[str], int] = {}
        self._retired_routes: dict[str, int] = {}
        self._changes: list[Change] = []
        self._message_bytes = message_bytes
        shared = routes.from_message(words.MESSAGE_ROUTES, DEFAULT_POLICY, message_bytes)
        for name, made in (
            (words.GATE, routes.gate()),
            (words.MESSAGE_ROUTES, shared),
            (words.MODEL_HOST, routes.model_host(words.MODEL_HOST)),
            (_NO_SERVICE, routes.no_service(_NO_SERVICE)),
        ):
            self._put_routes(name, serialised(made))
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
        for name, sequence in list(self._retired_routes.items()):
            if sequence <= acknowledged:
                del self._retired_routes[name]
                self._drop_routes(name)
        for pods, sequence in list(self._retired_targets.items()):
            if sequence <= acknowledged:
                del self._retired_targets[pods]
                self._drop_target(self._targets[pods])
        return self._take_changes()

    def endpoints(self, target: str) -> frozenset[Endpoint]:
        """The pods of the target whose clusters have this name; none when it is gone."""
        known = self._targets_by_name.get(target)
        pods = known.pods if known is not None else ()
        return frozenset(self._pods[uid] for uid in pods if uid in self._pods)

    # One method per effect

    def _pod(self, effect: PodEndpointChanged) -> None:
        uid = effect.pod_uid
        if effect.ip:
            self._pods[uid] = Endpoint(effect.ip, effect.http_port, effect.grpc_port, effect.server_type)
            target = self._target(frozenset((uid,)))
            if effect.service is not None:
                # Ahead of the first model: its scope need not wait for the route configuration then.
                self._to_pods(effect.service, target)
        elif self._pods.pop(uid, None) is None:
            return
        for pods in self._targets_of_pod.get(uid, ()):
            target = self._targets[pods]
            self._put_clusters(target)
            self._retire_target_if_unused(target)

    def _model(self, effect: RouteChanged) -> None:
        self.sequence = max(self.sequence, effect.sequence)
        service, model = effect.service, effect.model
        leads_to: str | None = None
        if effect.pods:
            leads_to = self._to_pods(service, self._target(self._bounded(effect.pods, model)))
        elif effect.unavailable is not None:
            leads_to = self._without_pods(service, effect.unavailable)
        if is_group(service.name):
            leads_to = self._hosts.put(service, model, leads_to, answers=bool(effect.pods))
            service = ServiceKey(service.namespace, model)
            self._host(service, there=leads_to is not None)
        name = scopes.scope_name(service.name, service.namespace, model)
        if leads_to is not None:
            self._point(name, leads_to, service, model)
        else:
            self._drop_scope(name)

    def _host(self, host: ServiceKey, *, there: bool) -> None:
        """What is asked for at a host, beside the models that are."""
        if host in self._policies:
            return  # an InferenceService has that name
        for fragment, leads_to in (
            (words.SERVICE_FRAGMENT, words.MODEL_HOST),
            (words.MESSAGE_FRAGMENT, words.MESSAGE_ROUTES),
        ):
            name = scopes.scope_name(host.name, host.namespace, fragment)
            if not there:
                self._drop_scope(name)
            elif name not in self.resources[words.SCOPE]:
                self._point(name, leads_to, host, fragment)

    def _service(self, effect: ServiceRouteChanged) -> None:
        self.sequence = max(self.sequence, effect.sequence)
        service = effect.service
        if is_group(service.name):
            self._host(ServiceKey(service.namespace, words.MODELMESH_HOST), there=self._hosts.group(effect))
        own = scopes.scope_name(service.name, service.namespace, words.SERVICE_FRAGMENT)
        message = scopes.scope_name(service.name, service.namespace, words.MESSAGE_FRAGMENT)
        self._set_policy(service, effect.policy if effect.known else None)
        if not effect.known:
            self._drop_scope(own)
            self._drop_scope(message)
            for name in list(self._routes_of.get(service, ())):
                if self._routes[name].kept:
                    self._retire_routes_if_unused(name)
            return
        target = self._target(self._bounded(effect.pods, service.name)) if effect.pods else None
        self._point(own, self._of_service(service, target), service, words.SERVICE_FRAGMENT)
        self._point(message, self._from_message(service), service, words.MESSAGE_FRAGMENT)
        self._without_pods(service, Unavailable.COLD)  # ahead of the first model that needs it

    def _set_policy(self, service: ServiceKey, policy: RoutePolicy | None) -> None:
        before = self._policies.get(service)
        if (before or DEFAULT_POLICY) != (policy or DEFAULT_POLICY):
            for name in sorted(self._routes_of.get(service, ())):
                self._render(self._routes[name], policy or DEFAULT_POLICY)
        if policy is not None:
            self._policies[service] = policy
        else:
            self._policies.pop(service, None)

    # Scopes

    def _point(self, name: str, routes_name: str, service: ServiceKey, model: str) -> None:
        before = self.resources[words.SCOPE].get(name)
        if before is None or before.version != routes_name:
            self._use(routes_name, +1)
            if before is not None:
                self._use(before.version, -1)
        # The version is the route configuration's name: after a restart, nothing that is the same is sent again.
        # Sent even when it points where it did: the sequence is acknowledged with it.
        scope = scopes.scope(name, routes_name, service.name, service.namespace, model)
        self._put(words.SCOPE, name, routes_name, serialised(scope))

    def _drop_scope(self, name: str) -> None:
        before = self.resources[words.SCOPE].get(name)
        if before is not None:
            self._drop(words.SCOPE, name)
            self._use(before.version, -1)

    def _use(self, routes_name: str, by: int) -> None:
        known = self._routes.get(routes_name)
        if known is None:
            return  # shared by all, and never dropped
        known.users += by
        if known.target is None:
            self._retire_routes_if_unused(routes_name)
        else:
            known.target.users += by
            self._retire_target_if_unused(known.target)

    # Route configurations

    def _to_pods(self, service: ServiceKey, target: _Target) -> str:
        return self._made("pods", service, target.name, Form(routes.to_pods), target)

    def _of_service(self, service: ServiceKey, target: _Target | None) -> str:
        of = target.name if target is not None else ""
        return self._made("service", service, of, Form(routes.of_service), target)

    def _from_message(self, service: ServiceKey) -> str:
        policy = self._policies[service]
        if policy.max_request_bytes is None and surface.of(policy.server_type).grpc:
            return words.MESSAGE_ROUTES
        form = Form(routes.from_message, (("message_bytes", self._message_bytes),))
        return self._made("message", service, "", form)

    def _without_pods(self, service: ServiceKey, reason: Unavailable) -> str:
        unknown = len(self._routes_of) - len(self._policies)
        if unknown >= MAX_UNKNOWN and service not in self._routes_of and service not in self._policies:
            return _NO_SERVICE  # anybody may name one that is not there
        if reason is Unavailable.SERVICE_NOT_READY:
            return self._made("waiting", service, "", Form(routes.waiting))
        if reason is Unavailable.COLD:
            return self._made("cold", service, "", Form(routes.cold), kept=True)
        return self._made("unavailable", service, reason.value, Form(routes.unavailable, (("reason", reason),)))

    def _made(
        self,
        kind: str,
        service: ServiceKey,
        detail: str,
        form: Form,
        target: _Target | None = None,
        *,
        kept: bool = False,
    ) -> str:
        """The name of the InferenceService's route configuration of this kind, which is made if need be."""
        name = f"{kind}-{scopes.digest('/'.join((*service, detail)))}"
        if name not in self._routes:
            made = _Routes(name, service, form, target, kept)
            self._render(made, self._policies.get(service, DEFAULT_POLICY))
            # Known once it is there: were it the other way round, what fails would never be made.
            self._routes[name] = made
            self._routes_of.setdefault(service, set()).add(name)
            if target is not None:
                target.routes.add(name)
        return name

    def _render(self, made: _Routes, policy: RoutePolicy) -> None:
        target = made.target.name if made.target is not None else None
        self._put_routes(made.name, made.form.filled(made.name, policy, target))

    def _retire_routes_if_unused(self, name: str) -> None:
        known = self._routes[name]
        if known.users or (known.kept and known.service in self._policies):
            self._retired_routes.pop(name, None)
        else:
            self._retired_routes[name] = self.sequence

    def _drop_routes(self, name: str) -> None:
        self._drop(words.SCOPE, scopes.anchor_name(name))
        self._drop(words.ROUTES, name)
        service = self._routes.pop(name).service
        self._routes_of[service].discard(name)
        if not self._routes_of[service]:
            del self._routes_of[service]

    # Targets

    def _bounded(self, pods: frozenset[str], salt: str) -> frozenset[str]:
        if len(pods) == 1 or pods in self._targets or len(self._targets) < MAX_TARGETS:
            return pods
        ordered = sorted(pods)
        return frozenset((ordered[int.from_bytes(scopes.digest(salt).encode()) % len(ordered)],))

    def _target(self, pods: frozenset[str]) -> _Target:
        target = self._targets.get(pods)
        if target is None:
            target = _Target(pods)
            self._put_clusters(target)
            self._targets[pods] = self._targets_by_name[target.name] = target
            for uid in pods:
                self._targets_of_pod.setdefault(uid, set()).add(pods)
            self._retire_target_if_unused(target)
        return target

    def _retire_target_if_unused(self, target: _Target) -> None:
        wanted = target.users > 0 or (len(target.pods) == 1 and not target.pods.isdisjoint(self._pods))
        if wanted:
            self._retired_targets.pop(target.pods, None)
        else:
            self._retired_targets[target.pods] = self.sequence

    def _drop_target(self, target: _Target) -> None:
        for name in sorted(target.routes):
            self._drop_routes(name)
        for name in (target.name, routes.grpc_cluster(target.name)):
            self._drop(words.CLUSTER, name)
        for uid in target.pods:
            self._targets_of_pod[uid].discard(target.pods)
            if not self._targets_of_pod[uid]:
                del self._targets_of_pod[uid]
        del self._targets_by_name[target.name]
        del self._targets[target.pods]

    def _put_clusters(self, target: _Target) -> None:
        endpoints = [self._pods[uid] for uid in sorted(target.pods) if uid in self._pods]
        for cluster in clusters.of_target(target.name, endpoints):
            content = serialised(cluster)
            version = _content_version(content)
            before = self.resources[words.CLUSTER].get(cluster.name)
            if before is None or before.version != version:
                self._put(words.CLUSTER, cluster.name, version, content)

    # Resources

    def _put_routes(self, name: str, content: bytes) -> None:
        self._put(words.ROUTES, name, _content_version(content), content)
        self._put(words.SCOPE, scopes.anchor_name(name), name, serialised(scopes.anchor(name)))

    def _put(self, type_url: str, name: str, version: str, content: bytes) -> None:
        response = discovery_pb2.DeltaDiscoveryResponse()
        resource = response.resources.add(name=name, version=version)
        resource.resource.type_url = type_url
        resource.resource.value = content
        self.resources[type_url][name] = Resource(version, response.SerializeToString())
        self._changes.append(Change(type_url, name, self.sequence))

    def _drop(self, type_url: str, name: str) -> None:
        if self.resources[type_url].pop(name, None) is not None:
            self._changes.append(Change(type_url, name, self.sequence))

    def _take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes


def _content_version(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()
