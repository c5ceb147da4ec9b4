"""A proxy before a real store that is slow, throttles, cuts bodies off, and speaks TLS with a CA of its own."""

import asyncio
import datetime
import ipaddress
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

HOST, NAME = "127.0.51.2", "registry.example"
_CHUNK = 64 * 1024


@dataclass(slots=True)
class Faults:
    """``delay``: seconds to the first byte. ``throttle``: how many requests for objects are answered 503 SlowDown.
    ``cut``: how many bodies end after half of them. ``hold``: bodies stop after half until it is set.
    ``instead``: the content and ETag that objects have, whatever was asked for."""

    delay: float = 0.0
    throttle: int = 0
    cut: int = 0
    hold: asyncio.Event | None = None
    instead: tuple[bytes, str] | None = None
    seen: Counter[str] = field(default_factory=Counter)
    running: int = 0
    most: int = 0


@asynccontextmanager
async def proxy(upstream: str, faults: Faults, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its endpoint, for as long as the context lasts."""
    async with aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            faults.running += 1
            faults.most = max(faults.most, faults.running)
            try:
                return await _answer(session, upstream, request, faults)
            finally:
                faults.running -= 1

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield f"{'https' if tls else 'http'}://{HOST}:{port}"
        finally:
            await runner.cleanup()


async def _answer(
    session: aiohttp.ClientSession, upstream: str, request: web.Request, faults: Faults
) -> web.StreamResponse:
    listed = "list-type" in request.query or request.query.get("comp") == "list"
    listed = listed or request.path.startswith("/api/models/") or "/manifests/" in request.path
    of_object = request.method == "GET" and not listed
    faults.seen["object" if of_object else "list" if listed else request.method] += 1
    await asyncio.sleep(faults.delay)
    if of_object and faults.throttle:
        faults.throttle -= 1
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        return web.Response(status=503, body=body, content_type="application/xml")
    if of_object and faults.instead is not None:
        content, etag = faults.instead
        modified = {"ETag": etag, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return web.Response(body=content, headers=modified)
    # The Host header stays the client's, since it is signed.
    url = URL(upstream + request.raw_path, encoded=True)
    sent = await request.read() or None
    own = ("Content-Type", "Accept-Encoding")  # which would be signed, or change what comes
    async with session.request(request.method, url, headers=request.headers, data=sent, skip_auto_headers=own) as found:
        answer = web.StreamResponse(status=found.status, headers=found.headers)
        await answer.prepare(request)
        content = await found.read()
        half = len(content) // 2
        if of_object and found.status < 300 and (faults.cut or faults.hold):
            await answer.write(content[:half])
            if faults.cut:
                faults.cut -= 1
                await asyncio.sleep(0.01)
                if request.transport is not None:
                    request.transport.abort()
                return answer
            if faults.hold is not None:
                await faults.hold.wait()
            content = content[half:]
        if request.method != "HEAD":
            for at in range(0, len(content), _CHUNK):
                await answer.write(content[at : at + _CHUNK])
        await answer.write_eof()
        return answer


def authority(folder: Path, *, own: bool) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS, and the bundle to trust: a CA of its own, or ``own``: the server's certificate is the CA, as
    ``openssl req -x509`` makes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("ca", key, None, authority=True)
    server_key = key if own else ec.generate_private_key(ec.SECP256R1())
    server = ca if own else _certificate("server", server_key, (ca, key), authority=False)
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + server.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context, folder / "ca.pem"


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    *,
    authority: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName(NAME)]),
            critical=False,
        )
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
