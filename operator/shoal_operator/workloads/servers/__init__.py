"""One file per model server whose pods can be rendered; the agent has a file of the same name."""

from collections.abc import Mapping

from . import mlserver
from .profile import ServerProfile

SERVERS: Mapping[str, ServerProfile] = {profile.server_type: profile for profile in (mlserver.PROFILE,)}
"""By serverType as runtimes spell it. A server is listed once its agent adapter has a contract test."""

__all__ = ["SERVERS", "ServerProfile"]
