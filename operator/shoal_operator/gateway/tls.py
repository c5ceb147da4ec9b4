"""TLS of the discovery service: clients must show certificates, and rotation needs no restart."""

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdsTls:
    """Files in PEM. ``client_names``: DNS names of which a client's certificate must carry one; empty: any
    certificate that ``client_ca`` signed."""

    certificate: Path
    key: Path
    client_ca: Path
    client_names: frozenset[str] = frozenset()


def server_credentials(tls: AdsTls) -> grpc.ServerCredentials:
    """Credentials that read the files again when they change. Raises OSError or ValueError if they cannot be used
    now; a later change that cannot be used is logged, and the former certificate stays."""
    reload = _Reloader(tls)
    return grpc.dynamic_ssl_server_credentials(reload.current, reload.latest, require_client_authentication=True)


class _Reloader:
    def __init__(self, tls: AdsTls) -> None:
        self._tls = tls
        self._stamp = self._stamps()
        self.current = _read(tls)

    def latest(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC before every handshake; Kubernetes swaps a Secret's files by one rename."""
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                self.current = _read(self._tls)
                self._stamp = stamp
                log.info("gateway certificate reloaded")
        except (OSError, ValueError) as error:
            log.warning("gateway certificate not reloaded, keeping the former: %s", error)
        return self.current

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in (self._tls.certificate, self._tls.key, self._tls.client_ca)]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _read(tls: AdsTls) -> grpc.ServerCertificateConfiguration:
    certificate, key = tls.certificate.read_bytes(), tls.key.read_bytes()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = x509.load_pem_x509_certificate(certificate).public_key().public_bytes(*form)
    if certified != load_pem_private_key(key, None).public_key().public_bytes(*form):
        raise ValueError(f"{tls.certificate} and {tls.key} do not belong together")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], tls.client_ca.read_bytes())
