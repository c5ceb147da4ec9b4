"""Sockets that strangers may reach: how many connections each address has, and how long one may say nothing of use.

Both TLS ports with tokens listen so: the agents API, and the port for readers.
"""

from .listener import TOKEN_SECONDS, Listener, as_kubernetes_writes

__all__ = ["TOKEN_SECONDS", "Listener", "as_kubernetes_writes"]
