"""Sockets that strangers may reach: how many connections each address has, and how long one may say nothing of use.

The agents API and both ports of the operator's own HTTP listen so.
"""

from .listener import TOKEN_SECONDS, Listener, as_kubernetes_writes
from .places import Places

__all__ = ["TOKEN_SECONDS", "Listener", "Places", "as_kubernetes_writes"]
