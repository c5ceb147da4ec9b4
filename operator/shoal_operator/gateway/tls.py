"""TLS of the discovery service: gateways must show certificates.

gRPC can also be given a function that it asks for certificates before each handshake. It then replaces what handshakes
are made with beside other handshakes, and two hundred strangers at once end the process by a segmentation fault (grpcio
1.85; tests/component/gateway/test_ads_strangers.py). So credentials never change here: a renewal is another server on
the same port.
"""

from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


@dataclass(frozen=True, slots=True)
class AdsTls:
    """In PEM. ``client_names``: DNS names of which a client's certificate must carry one; empty: any certificate that
    ``client_ca`` signed."""

    certificate: bytes
    key: bytes
    client_ca: bytes
    client_names: frozenset[str] = frozenset()


def server_credentials(tls: AdsTls) -> grpc.ServerCredentials:
    """Raises ValueError if they cannot be used."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = x509.load_pem_x509_certificate(tls.certificate).public_key().public_bytes(*form)
    if certified != load_pem_private_key(tls.key, None).public_key().public_bytes(*form):
        raise ValueError("the discovery service's certificate and key do not belong together")
    pair = (tls.key, tls.certificate)
    return grpc.ssl_server_credentials([pair], tls.client_ca, require_client_auth=True)
