"""Scopes: a key made of InferenceService, namespace and model, and the route configuration it points at. Pure."""

import hashlib
from base64 import urlsafe_b64encode

from envoy.config.route.v3 import scoped_route_pb2

ANCHOR_PREFIX = "~"
_NOT_A_HOST = " "


def digest(text: str) -> str:
    """16 characters: as a name, cheaper in Envoy than long ones, and the same after a restart of the operator."""
    return urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=12).digest()).decode()


def scope_name(service: str, namespace: str, model: str) -> str:
    """A hash of the key, so that no two scopes can have one key (Envoy would refuse the whole delta)."""
    return digest(f"{namespace}/{service}/{model}")


def scope(
    name: str, routes: str, service: str, namespace: str, model: str
) -> scoped_route_pb2.ScopedRouteConfiguration:
    message = scoped_route_pb2.ScopedRouteConfiguration(name=name, route_configuration_name=routes)
    for fragment in (service, namespace, model):
        message.key.fragments.add().string_key = fragment
    return message


def anchor_name(routes: str) -> str:
    return ANCHOR_PREFIX + routes


def anchor(routes: str) -> scoped_route_pb2.ScopedRouteConfiguration:
    """Keeps Envoy subscribed to a route configuration while no model uses it; its key matches no Host header."""
    return scope(anchor_name(routes), routes, _NOT_A_HOST, _NOT_A_HOST, routes)
