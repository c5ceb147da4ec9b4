"""What rendering a pod needs to know about a kind of model server."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """``environment``: variables that the agent's adapter depends on; a user's value for them is dropped.
    ``defaults``: variables that a user may set otherwise. ``python_path``: put in front of a user's PYTHONPATH.
    ``live_path``: answers 200 when the server runs, whichever models it holds. ``formats``: what a custom container
    of this kind is taken to load. ``images``: how the last part of such an image's name begins.
    """

    server_type: str
    http_port: int
    grpc_port: int
    metrics_port: int
    live_path: str
    formats: frozenset[str]
    images: tuple[str, ...]
    environment: Mapping[str, str]
    defaults: Mapping[str, str]
    python_path: str = ""
