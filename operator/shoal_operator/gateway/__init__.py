"""The gateway: what state says about routes becomes Envoy resources, sent to every Envoy by delta xDS.

tables.py (pure) keeps the resources; subscription.py (no I/O) decides what one Envoy gets next; ads.py talks gRPC;
service.py is what main.py wires; bootstrap.py writes the configuration that Envoy starts with.
"""

from .service import Gateway
from .tables import GatewayTables
from .tls import AdsTls

__all__ = ["AdsTls", "Gateway", "GatewayTables"]
