"""Strangers at the discovery service's port: whatever they say, and while its certificate is renewed, it stays."""

import asyncio
import contextlib
import json
import os
import random
import ssl
import sys

import grpc
import pytest

from tests.patience import BUSY

from .world import ENVOY_HOST

pytestmark = pytest.mark.component

STRANGERS_AT_ONCE = 60
ROUNDS = 25


async def stranger(port: int, chance: random.Random) -> None:
    """One that speaks no TLS, breaks off a handshake, says nothing, or has no certificate."""
    kind = chance.randrange(6)
    context = None
    if kind == 0:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(BUSY):
            _, writer = await asyncio.open_connection(ENVOY_HOST, port, ssl=context)
        try:
            if kind == 1:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
            elif kind == 2:
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200))
            elif kind == 3:
                writer.write(os.urandom(1_000))
            elif kind == 0:
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            await asyncio.sleep(chance.random() * (0.3 if kind == 4 else 0.05))
        finally:
            writer.transport.abort()


async def test_no_stranger_ends_the_process_and_gateways_come_in_after_them() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.component.gateway.ads_process", ENVOY_HOST, "300"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        chance = random.Random(0)
        for _ in range(ROUNDS):
            await asyncio.gather(*(stranger(said["port"], chance) for _ in range(STRANGERS_AT_ONCE)))
            assert process.returncode is None, f"it ended with {process.returncode}"
        credentials = grpc.ssl_channel_credentials(
            said["ca"].encode(), said["key"].encode(), said["certificate"].encode()
        )
        options = [("grpc.ssl_target_name_override", "shoal-operator")]
        async with grpc.aio.secure_channel(f"{ENVOY_HOST}:{said['port']}", credentials, options) as channel:
            async with asyncio.timeout(6 * BUSY):
                await channel.channel_ready()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
