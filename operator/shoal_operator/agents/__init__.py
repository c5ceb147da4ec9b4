"""The agents' side of the operator: desired lists go out, reports come in, over HTTPS long-polls."""

from .identity import AgentIdentity, Refused, ReviewUnavailable
from .review import KubernetesReviews
from .server import AgentsServer, Backend
from .tokens import Tokens

__all__ = [
    "AgentIdentity",
    "AgentsServer",
    "Backend",
    "KubernetesReviews",
    "Refused",
    "ReviewUnavailable",
    "Tokens",
]
