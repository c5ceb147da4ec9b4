"""The certificates of one installation, renewed while the operator runs.

Two operators may do this at once: every write is a compare-and-swap on the Secret, and who loses reads what won.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from kubernetes.aio.client import ApiClient, V1OwnerReference

from shoal_operator.logs import OncePer

from .issue import make_leaf, take_step
from .plan import Authority, AuthorityStep, KeyPair, Leaf, authority_step, leaf_due, readable, split_bundle
from .secrets import Conflict, KubernetesSecrets, MemorySecrets, SecretRecord, Secrets, SecretsUnavailable
from .tls import load, server_context

log = logging.getLogger(__name__)

CA_SECRET = "shoal-ca"  # noqa: S105 (names, not secrets)
SERVER_SECRET = "shoal-operator-tls"  # noqa: S105
GATEWAY_SECRET = "shoal-gateway-tls"  # noqa: S105
GATEWAY_NAME = "shoal-gateway"
CERTIFICATE, KEY, BUNDLE = "tls.crt", "tls.key", "ca.crt"
NEXT_CERTIFICATE, NEXT_KEY = "next.crt", "next.key"

ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 5.0
REFRESH_SECONDS = 900.0

Clock = Callable[[], datetime]


class CertificatesUnavailable(Exception):
    """The Secrets could not be read or written; the text says why and what to check."""


class Certificates:
    """Make one with ``ensure`` (or ``in_memory``), then keep ``run`` running."""

    def __init__(
        self, secrets: Secrets, namespace: str, service: str, cluster_domain: str, now: Clock | None = None
    ) -> None:
        self._secrets = secrets
        self._now = now or (lambda: datetime.now(UTC))
        self._leaves = {
            SERVER_SECRET: Leaf(service, server_names(service, namespace, cluster_domain), server=True),
            GATEWAY_SECRET: Leaf(GATEWAY_NAME, (GATEWAY_NAME,), client=True),
        }
        self._authority: Authority | None = None
        self._pairs: dict[str, KeyPair] = {}
        self._context = server_context()
        self._watchers: list[Callable[[], None]] = []
        self._log_again = OncePer(3600)

    @classmethod
    async def ensure(
        cls,
        api: ApiClient,
        namespace: str,
        service: str,
        cluster_domain: str,
        owner: V1OwnerReference | None = None,
    ) -> "Certificates":
        """Read the Secrets of ``namespace``, and make what is missing. Raises CertificatesUnavailable.

        The pods of InferenceServices outlive an uninstall, and so does the authority that they trust: with another
        one, the next installation's operator would be a stranger to every agent until the kubelet has brought each
        pod the new bundle, a minute or more.
        """
        secrets = KubernetesSecrets(api, namespace, owner, lasting=(CA_SECRET,))
        return await cls.open(secrets, namespace, service, cluster_domain)

    @classmethod
    async def in_memory(
        cls, namespace: str = "default", service: str = "shoal-operator", cluster_domain: str = "cluster.local"
    ) -> "Certificates":
        """Certificates for a run without Kubernetes; gone with the process."""
        return await cls.open(MemorySecrets(), namespace, service, cluster_domain)

    @classmethod
    async def open(
        cls, secrets: Secrets, namespace: str, service: str, cluster_domain: str, now: Clock | None = None
    ) -> "Certificates":
        """``ensure`` on any Secrets."""
        certificates = cls(secrets, namespace, service, cluster_domain, now)
        await certificates.refresh()
        return certificates

    @property
    def ca_pem(self) -> bytes:
        """Whom agents and gateways should trust: a bundle, more than one while the authority is rotated."""
        return self._ready().bundle

    @property
    def server(self) -> KeyPair:
        """For agents API, readers and ADS."""
        self._ready()
        return self._pairs[SERVER_SECRET]

    @property
    def gateway(self) -> KeyPair:
        """The client certificate that the gateway's Envoys show to ADS (also in Secret shoal-gateway-tls)."""
        self._ready()
        return self._pairs[GATEWAY_SECRET]

    def server_ssl_context(self) -> ssl.SSLContext:
        """One context for the life of the process: after a renewal, new connections get the new certificate."""
        self._ready()
        return self._context

    def on_change(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after every renewal, of the bundle too (say, to write the agents' ConfigMaps)."""
        self._watchers.append(watcher)

    async def refresh(self) -> bool:
        """Read the Secrets, renew what is due; True when anything differs. Raises CertificatesUnavailable."""
        cause: Exception | None = None
        for attempt in range(ATTEMPTS):
            try:
                return self._adopt(*await self._read_and_renew())
            except (Conflict, SecretsUnavailable) as error:
                cause = error
                longest = min(LONGEST_PAUSE_SECONDS, 0.05 * 2**attempt)
                await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 (no secret)
        raise CertificatesUnavailable(
            f"the certificates' Secrets cannot be kept ({cause}): check that the API server answers and that the "
            f"operator's role may get, create and update Secrets {CA_SECRET}, {SERVER_SECRET} and {GATEWAY_SECRET}"
        ) from cause

    async def run(self) -> None:
        """Renew in time, until cancelled; also picks up what another operator has renewed."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 (no secret)
            try:
                await self.refresh()
            except CertificatesUnavailable as error:
                if self._log_again.ready():
                    log.error(str(error), extra={"event": "CertificatesUnavailable"})

    async def _read_and_renew(self) -> tuple[Authority, dict[str, KeyPair]]:
        authority = await self._renew_authority()
        pairs = {name: await self._renew_leaf(name, leaf, authority) for name, leaf in self._leaves.items()}
        return authority, pairs

    async def _renew_authority(self) -> Authority:
        record = await self._secrets.read(CA_SECRET)
        authority = _authority(record)
        now = self._now()
        steps: list[str] = []
        while (step := authority_step(authority, now)) is not AuthorityStep.KEEP:
            authority = take_step(step, authority, now)
            steps.append(step)
        if steps:
            await self._secrets.write(CA_SECRET, SecretRecord(_authority_data(authority), record.version))
            log.info("the certificate authority changed", extra={"event": "AuthorityChanged", "steps": steps})
        assert authority is not None  # noqa: S101 (no authority is never kept)
        return authority

    async def _renew_leaf(self, name: str, leaf: Leaf, authority: Authority) -> KeyPair:
        record = await self._secrets.read(name)
        pair = _pair(record, CERTIFICATE, KEY)
        now = self._now()
        due = leaf_due(pair, leaf, authority, now)
        if pair is None or due:
            pair = make_leaf(leaf, authority, now)
        elif record.data.get(BUNDLE) == authority.bundle:
            return pair
        data = {CERTIFICATE: pair.certificate, KEY: pair.key, BUNDLE: authority.bundle}
        await self._secrets.write(name, SecretRecord(data, record.version))
        log.info(
            "a certificate was renewed",
            extra={"event": "CertificateRenewed", "kept_in": name, "why": due or "BundleChanged"},
        )
        return pair

    def _adopt(self, authority: Authority, pairs: dict[str, KeyPair]) -> bool:
        if (authority, pairs) == (self._authority, self._pairs):
            return False
        if self._pairs.get(SERVER_SECRET) != pairs[SERVER_SECRET]:
            load(self._context, pairs[SERVER_SECRET])
        self._authority, self._pairs = authority, pairs
        for watcher in self._watchers:
            watcher()
        return True

    def _ready(self) -> Authority:
        if self._authority is None:
            raise RuntimeError("the certificates have not been read yet: await refresh() first")
        return self._authority


def server_names(service: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """All names by which a pod, or a developer's port-forward, reaches the operator."""
    inside = f"{service}.{namespace}"
    return (service, inside, f"{inside}.svc", f"{inside}.svc.{cluster_domain}", "localhost", "127.0.0.1")


def _authority(record: SecretRecord) -> Authority | None:
    active = _pair(record, CERTIFICATE, KEY)
    if active is None:
        return None
    upcoming = _pair(record, NEXT_CERTIFICATE, NEXT_KEY)
    if upcoming is not None and readable(upcoming) is None:
        upcoming = None
    return Authority(active, upcoming, split_bundle(record.data.get(BUNDLE, b"")))


def _authority_data(authority: Authority | None) -> dict[str, bytes]:
    if authority is None:
        return {}
    data = {
        CERTIFICATE: authority.active.certificate,
        KEY: authority.active.key,
        BUNDLE: authority.bundle,
    }
    if authority.next is not None:
        data |= {NEXT_CERTIFICATE: authority.next.certificate, NEXT_KEY: authority.next.key}
    return data


def _pair(record: SecretRecord, certificate: str, key: str) -> KeyPair | None:
    if not record.data.get(certificate) or not record.data.get(key):
        return None
    # Written our way even when somebody put it there with comments or other line ends: it is compared by text.
    written = split_bundle(record.data[certificate])
    return KeyPair(written[0] if written else record.data[certificate], record.data[key])
