"""Certificates over decades: always valid, always trusted by who has read the bundle lately, two operators at once."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from shoal_operator.certificates import Certificates, CertificatesUnavailable, MemorySecrets
from shoal_operator.certificates.certificates import CA_SECRET, GATEWAY_SECRET, SERVER_SECRET
from shoal_operator.certificates.plan import certificate_names, split_bundle
from shoal_operator.certificates.secrets import Conflict, SecretRecord, SecretsUnavailable

START = datetime(2026, 1, 1, tzinfo=UTC)
HOST = "shoal-operator.shoal-system.svc"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secrets() -> MemorySecrets:
    return MemorySecrets()


async def opened(secrets: MemorySecrets, clock: Clock, service: str = "shoal-operator") -> Certificates:
    return await Certificates.open(secrets, "shoal-system", service, "cluster.local", clock)


def trusts(bundle: bytes, certificate: bytes, now: datetime, host: str | None = HOST) -> bool:
    """What a strict client says of the server's (host) or the gateway's (None) certificate."""
    builder = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle))).time(now)
    leaf = x509.load_pem_x509_certificate(certificate)
    try:
        if host is None:
            builder.build_client_verifier().verify(leaf, [])
        else:
            builder.build_server_verifier(x509.DNSName(host)).verify(leaf, [])
    except VerificationError:
        return False
    return True


async def test_the_first_start_makes_all_and_the_second_changes_nothing(secrets: MemorySecrets, clock: Clock) -> None:
    first = await opened(secrets, clock)
    assert set(secrets.held) == {CA_SECRET, SERVER_SECRET, GATEWAY_SECRET}
    assert set(secrets.held[SERVER_SECRET].data) == {"tls.crt", "tls.key", "ca.crt"}
    assert trusts(first.ca_pem, first.server.certificate, clock.now)
    assert trusts(first.ca_pem, first.gateway.certificate, clock.now, None)
    names = certificate_names(x509.load_pem_x509_certificate(first.server.certificate))
    assert names == {
        "shoal-operator",
        "shoal-operator.shoal-system",
        "shoal-operator.shoal-system.svc",
        "shoal-operator.shoal-system.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    }
    writes = secrets.writes
    second = await opened(secrets, clock)
    assert (second.server, second.gateway, second.ca_pem) == (first.server, first.gateway, first.ca_pem)
    assert secrets.writes == writes
    assert not await second.refresh()


async def test_each_certificate_does_only_what_it_is_for(secrets: MemorySecrets, clock: Clock) -> None:
    certificates = await opened(secrets, clock)
    purposes = {
        name: list(
            x509.load_pem_x509_certificate(pair.certificate)
            .extensions.get_extension_for_class(x509.ExtendedKeyUsage)
            .value
        )
        for name, pair in (("server", certificates.server), ("gateway", certificates.gateway))
    }
    assert purposes == {"server": [ExtendedKeyUsageOID.SERVER_AUTH], "gateway": [ExtendedKeyUsageOID.CLIENT_AUTH]}
    assert not trusts(certificates.ca_pem, certificates.gateway.certificate, clock.now)
    assert not trusts(certificates.ca_pem, certificates.server.certificate, clock.now, "evil.example")


async def test_fourteen_years_with_two_operators(secrets: MemorySecrets, clock: Clock) -> None:
    """Who read the bundle at most six days ago trusts what is served today, on every third day."""
    operators = [await opened(secrets, clock), await opened(secrets, clock)]
    bundles = [operators[0].ca_pem] * 3
    authorities, leaves = set(), set()
    for turn in range(14 * 365 // 3):
        clock.now += timedelta(days=3)
        operator, other = operators[turn % 2], operators[(turn + 1) % 2]
        await operator.refresh()
        assert trusts(operator.ca_pem, other.gateway.certificate, clock.now, None), "not yet reloaded"
        bundles = [*bundles[-2:], operator.ca_pem]
        assert trusts(bundles[0], operator.server.certificate, clock.now), clock.now
        assert trusts(bundles[0], operator.gateway.certificate, clock.now, None), clock.now
        authorities.add(split_bundle(operator.ca_pem)[0])
        leaves.add(operator.server.certificate)
        assert len(split_bundle(operator.ca_pem)) <= 3
    assert len(authorities) == 3
    assert 20 <= len(leaves) <= 26


async def test_after_years_without_an_operator_all_is_made_anew(secrets: MemorySecrets, clock: Clock) -> None:
    old = await opened(secrets, clock)
    clock.now += timedelta(days=20 * 365)
    new = await opened(secrets, clock)
    assert trusts(new.ca_pem, new.server.certificate, clock.now)
    assert old.ca_pem not in new.ca_pem


async def test_another_service_name_renews_the_server_only(secrets: MemorySecrets, clock: Clock) -> None:
    old = await opened(secrets, clock)
    new = await opened(secrets, clock, "release-shoal-operator")
    assert new.ca_pem == old.ca_pem
    assert new.gateway == old.gateway
    assert trusts(old.ca_pem, new.server.certificate, clock.now, "release-shoal-operator.shoal-system.svc")


@pytest.mark.parametrize("name", [CA_SECRET, SERVER_SECRET, GATEWAY_SECRET])
@pytest.mark.parametrize("key", ["tls.crt", "tls.key", "ca.crt"])
async def test_a_secret_that_somebody_broke_is_put_right(
    secrets: MemorySecrets, clock: Clock, name: str, key: str
) -> None:
    await opened(secrets, clock)
    held = secrets.held[name]
    secrets.held[name] = SecretRecord(held.data | {key: b"not what it was"}, held.version)
    again = await opened(secrets, clock)
    assert trusts(again.ca_pem, again.server.certificate, clock.now)
    assert trusts(again.ca_pem, again.gateway.certificate, clock.now, None)
    for kept in (SERVER_SECRET, GATEWAY_SECRET):
        assert secrets.held[kept].data["ca.crt"] == again.ca_pem
    writes = secrets.writes
    assert not await again.refresh()
    assert secrets.writes == writes


async def test_keys_of_two_operators_that_start_at_once_agree(clock: Clock) -> None:
    class Slow(MemorySecrets):
        async def read(self, name: str) -> SecretRecord:
            record = await super().read(name)
            await asyncio.sleep(0.001)
            return record

    secrets = Slow()
    both = await asyncio.gather(*(opened(secrets, clock) for _ in range(4)))
    for certificates in both:
        await certificates.refresh()
    assert len({c.ca_pem for c in both}) == 1
    assert len({c.server.certificate for c in both}) == 1


async def test_renewals_reach_watchers_and_nothing_secret_reaches_logs(
    secrets: MemorySecrets, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    certificates = await opened(secrets, clock)
    told: list[bytes] = []
    certificates.on_change(lambda: told.append(certificates.server.certificate))
    before = certificates.server.certificate
    clock.now += timedelta(days=244)
    assert await certificates.refresh()
    assert told == [certificates.server.certificate]
    assert told != [before]
    text = " ".join(str(record.__dict__) for record in caplog.records) + repr(certificates.server)
    assert "PRIVATE" not in text


async def test_giving_up_says_what_to_check(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(MemorySecrets):
        async def read(self, name: str) -> SecretRecord:
            raise SecretsUnavailable(f"reading Secret {name}: the API server answered 403")

    monkeypatch.setattr("shoal_operator.certificates.certificates.LONGEST_PAUSE_SECONDS", 0.001)
    with pytest.raises(CertificatesUnavailable, match=r"answered 403.*role may get, create and update Secrets"):
        await opened(Forbidden(), clock)


async def test_memory_refuses_a_stale_write(secrets: MemorySecrets) -> None:
    await secrets.write("a", SecretRecord({"k": b"1"}))
    with pytest.raises(Conflict):
        await secrets.write("a", SecretRecord({"k": b"2"}))
