"""Makes keys and certificates, with the ``cryptography`` library; P-256, because every TLS stack here speaks it."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .plan import Authority, AuthorityStep, KeyPair, Leaf, general_name, trusted

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
CLOCK_SKEW = timedelta(hours=1)


def take_step(step: AuthorityStep, authority: Authority | None, now: datetime) -> Authority:
    """The authority after ``step`` (see plan.authority_step)."""
    if authority is None or step is AuthorityStep.CREATE:
        fresh = Authority(make_authority(now), None, authority.trusted if authority else ())
    elif step is AuthorityStep.PREPARE:
        fresh = Authority(authority.active, make_authority(now), authority.trusted)
    elif step is AuthorityStep.SWITCH and authority.next is not None:
        fresh = Authority(authority.next, None, (*authority.trusted, authority.active.certificate))
    else:
        fresh = authority
    return Authority(fresh.active, fresh.next, trusted(fresh, now))


def make_authority(now: datetime) -> KeyPair:
    """A self-signed certificate that may sign leaves and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"shoal-ca-{now:%Y%m%d%H%M%S}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def make_leaf(leaf: Leaf, authority: Authority, now: datetime) -> KeyPair:
    """A certificate for ``leaf``, signed by the authority's active key."""
    signer = x509.load_pem_x509_certificate(authority.active.certificate)
    signing_key = serialization.load_pem_private_key(authority.active.key, password=None)
    if not isinstance(signing_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("the authority's key is neither an elliptic curve's nor RSA")  # plan.readable excludes it
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if leaf.server else []
    purposes += [ExtendedKeyUsageOID.CLIENT_AUTH] if leaf.client else []
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=False,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])
    identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(name, signer.subject, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(n) for n in leaf.names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
    return _pair(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
