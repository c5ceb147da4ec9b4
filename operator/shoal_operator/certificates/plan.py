"""What must be made or renewed, given what there is and the time. Pure: makes no key, reads no clock."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SPREAD = timedelta(days=7)
"""How long a new authority is only trusted before it signs: all that mount the bundle have read it by then."""
LAST_MOMENT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair([hidden])"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, who will sign next, and whom to trust (PEM certificates, the signer first)."""

    active: KeyPair
    next: KeyPair | None = None
    trusted: tuple[bytes, ...] = ()

    @property
    def bundle(self) -> bytes:
        """``ca.crt``."""
        return b"".join(self.trusted)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a certificate is for. ``names``: DNS names and IP addresses that it serves, or is known by."""

    common_name: str
    names: tuple[str, ...]
    server: bool = False
    client: bool = False


class AuthorityStep(StrEnum):
    KEEP = "Keep"
    CREATE = "Create"  # there is none, or none of use
    PREPARE = "Prepare"  # make the next one, and trust it
    SWITCH = "Switch"  # the next one signs from now on
    PRUNE = "Prune"  # an expired or unreadable one is trusted


def authority_step(authority: Authority | None, now: datetime) -> AuthorityStep:
    """The one thing to do now; ask again after doing it."""
    if authority is None:
        return AuthorityStep.CREATE
    active = readable(authority.active)
    ending = active is None or now >= active.not_valid_after_utc - LAST_MOMENT
    upcoming = readable(authority.next) if authority.next else None
    if upcoming is not None and (ending or now >= upcoming.not_valid_before_utc + SPREAD):
        return AuthorityStep.SWITCH
    if active is None or ending:
        return AuthorityStep.CREATE
    if upcoming is None and now >= renewal(active):
        return AuthorityStep.PREPARE
    if trusted(authority, now) != authority.trusted:
        return AuthorityStep.PRUNE
    return AuthorityStep.KEEP


def trusted(authority: Authority, now: datetime) -> tuple[bytes, ...]:
    """The signer, the next one, and earlier ones until they expire; each once, in that order."""
    wanted = [authority.active.certificate]
    if authority.next is not None:
        wanted.append(authority.next.certificate)
    for pem in authority.trusted:
        certificate = _certificate(pem)
        if certificate is not None and certificate.not_valid_after_utc > now:
            wanted.append(pem)
    return tuple(dict.fromkeys(wanted))


def leaf_due(pair: KeyPair | None, leaf: Leaf, authority: Authority, now: datetime) -> str:
    """Why a certificate must be made anew, as a stable CamelCase reason; empty when it need not."""
    if pair is None:
        return "Missing"
    certificate, signer = readable(pair), _certificate(authority.active.certificate)
    if certificate is None or signer is None:
        return "Unreadable"
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return "SignedByAnother"
    if certificate_names(certificate) != frozenset(leaf.names):
        return "NamesChanged"
    if not certificate.not_valid_before_utc <= now < renewal(certificate):
        return "Expiring"
    return ""


def readable(pair: KeyPair) -> x509.Certificate | None:
    """The certificate, when it and its key (of a kind that can sign here) can be read and belong together."""
    certificate = _certificate(pair.certificate)
    if certificate is None:
        return None
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return None
    return certificate if key.public_key() == certificate.public_key() else None


def renewal(certificate: x509.Certificate) -> datetime:
    """Two thirds through its life."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def certificate_names(certificate: x509.Certificate) -> frozenset[str]:
    """Its subject alternative names: DNS names and IP addresses as text."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return frozenset((*found.get_values_for_type(x509.DNSName), *addresses))


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def split_bundle(pem: bytes) -> tuple[bytes, ...]:
    """The PEM certificates of a bundle; nothing when it cannot be read."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return ()
    return tuple(certificate.public_bytes(serialization.Encoding.PEM) for certificate in found)


def _certificate(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None
