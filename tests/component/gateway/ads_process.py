"""An operator's discovery service in a process of its own, whose certificate is renewed all the time. Prints its port,
then the PEMs that a gateway needs, in one line of JSON."""

import asyncio
import json
import sys

from prometheus_client import CollectorRegistry
from shoal_operator.certificates import Certificates
from shoal_operator.gateway.ads import AdsServer
from shoal_operator.gateway.metrics import GatewayMetrics
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.gateway.tls import AdsTls

RENEWALS_SECONDS = 0.5


async def main(host: str, seconds: float) -> None:
    certificates = await Certificates.in_memory()
    pair = certificates.server
    tls = AdsTls(pair.certificate, pair.key, certificates.ca_pem, frozenset({"shoal-gateway"}))
    server = AdsServer(GatewayTables(), GatewayMetrics(CollectorRegistry()), lambda: None)
    port = await server.start(host, 0, tls)
    gateway = certificates.gateway
    pems = {"key": gateway.key, "certificate": gateway.certificate, "ca": certificates.ca_pem}
    print(json.dumps({"port": port, **{name: pem.decode() for name, pem in pems.items()}}), flush=True)
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(RENEWALS_SECONDS)
        await server.renew(tls)
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
