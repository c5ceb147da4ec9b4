"""TLS between Envoy and operator: both sides prove who they are, and certificates rotate while both run."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from shoal_operator.gateway import AdsTls
from shoal_operator.gateway.bootstrap import ca_secret, certificate_secret, to_yaml
from shoal_operator.state.world.effects import Unavailable

from .authority import Authority
from .test_control_plane import ask, connected
from .world import ENVOY_HOST, SERVICE, World, eventually

pytestmark = pytest.mark.component

GATEWAY = "shoal-gateway"


def operators(folder: Path) -> AdsTls:
    certificate, key, ca = [(folder / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")]
    return AdsTls(certificate, key, ca, frozenset({GATEWAY}))


def envoy_secrets(folder: Path, tls: Path) -> str:
    folder.mkdir()
    (folder / "tls-certificate.yaml").write_text(to_yaml(certificate_secret(str(tls))))
    (folder / "tls-ca.yaml").write_text(to_yaml(ca_secret(str(tls))))
    return str(folder)


async def waits(world: World, model: str) -> bool:
    return world.gateway.held(SERVICE, model) > 0


async def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_both_sides_rotate_to_another_ca_while_they_run(tmp_path: Path) -> None:
    world = World()
    first, second = Authority("first"), Authority("second")
    first.write(tmp_path / "operator", "shoal-operator")
    first.write(tmp_path / "gateway", GATEWAY)
    try:
        await world.serve(operators(tmp_path / "operator"))
        world.gateway.open()
        pod = await world.pod("a")
        sequence = world.route("m1", pod)
        envoy = await world.envoy(tls_files=envoy_secrets(tmp_path / "envoy", tmp_path / "gateway"))
        await world.applied(sequence)
        assert await ask(envoy, "m1") == (200, "a")
        await world.applied(world.route("cold", unavailable=Unavailable.COLD))
        world.state_says("cold", pod)
        assert await ask(envoy, "cold") == (200, "a")  # the activator is asked over the same port
        # A request that is held while the certificate changes is answered all the same.
        await world.applied(world.route("late", unavailable=Unavailable.COLD))
        held = asyncio.create_task(ask(envoy, "late"))
        await eventually(lambda: waits(world, "late"), 10, "the request is not held")
        updates = await envoy.stat("sds.certificate.key_rotation_failed")
        second.write(tmp_path / "operator", "shoal-operator")
        second.write(tmp_path / "gateway", GATEWAY)
        await asyncio.sleep(1)
        assert await envoy.stat("sds.certificate.key_rotation_failed") == updates
        world.gateway.renew(operators(tmp_path / "operator"))
        await asyncio.sleep(0.5)
        world.state_says("late", pod)
        assert await held == (200, "a")
        # Envoy came back by a new connection, which both certificates of the second authority have made.
        await eventually(lambda: connected(world, 1), 10, "Envoy did not come back with its new certificate")
        await world.applied(world.route("m2", pod))
        assert await ask(envoy, "m2") == (200, "a")
        await envoy.stop()
        await envoy.start()
        await world.applied(world.route("m3", pod))
        assert await ask(envoy, "m3") == (200, "a")
    finally:
        await world.close()


@pytest.mark.parametrize("wrong", ["operator's name", "operator's CA", "gateway's CA", "gateway's name"])
async def test_who_is_not_who_it_says_gets_nothing(tmp_path: Path, wrong: str) -> None:
    world = World()
    right, other = Authority("right"), Authority("other")
    (other if wrong == "operator's CA" else right).write(
        tmp_path / "operator", "shoal-impostor" if wrong == "operator's name" else "shoal-operator", ca=right
    )
    (other if wrong == "gateway's CA" else right).write(
        tmp_path / "gateway", "another-client" if wrong == "gateway's name" else GATEWAY, ca=right
    )
    try:
        await world.serve(operators(tmp_path / "operator"))
        world.gateway.open()
        envoy = await world.envoy(wait=False, tls_files=envoy_secrets(tmp_path / "envoy", tmp_path / "gateway"))
        await asyncio.sleep(2)
        assert not await envoy.is_ready()
        assert world.gateway.connected == 0
    finally:
        await world.close()


async def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    world = World()
    authority = Authority()
    authority.write(tmp_path / "operator", "shoal-operator")
    try:
        await world.serve(operators(tmp_path / "operator"))
        world.gateway.open()
        credentials = grpc.ssl_channel_credentials((tmp_path / "operator" / "ca.crt").read_bytes())
        options = [("grpc.ssl_target_name_override", "shoal-operator")]
        address = f"{ENVOY_HOST}:{world.ads_port}"
        async with grpc.aio.secure_channel(address, credentials, options) as channel:
            method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(method)()
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await world.close()


async def test_the_activator_answers_gateways_only(tmp_path: Path) -> None:
    world = World()
    authority = Authority()
    for name in ("shoal-operator", GATEWAY, "another-client"):
        authority.write(tmp_path / name, name)
    try:
        await world.serve(operators(tmp_path / "shoal-operator"))
        world.gateway.open()
        codes = []
        for name in (GATEWAY, "another-client"):
            key, certificate, ca = [(tmp_path / name / file).read_bytes() for file in ("tls.key", "tls.crt", "ca.crt")]
            credentials = grpc.ssl_channel_credentials(ca, key, certificate)
            options = [("grpc.ssl_target_name_override", "shoal-operator")]
            async with grpc.aio.secure_channel(f"{ENVOY_HOST}:{world.ads_port}", credentials, options) as channel:
                check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    "/envoy.service.auth.v3.Authorization/Check"
                )
                call = check(b"")
                codes.append(await call.code())
        assert codes == [grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED]
    finally:
        await world.close()


async def test_a_broken_rotation_keeps_the_former_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    authority = Authority()
    authority.write(tmp_path / "operator", "shoal-operator")
    authority.write(tmp_path / "gateway", GATEWAY)
    good, other = operators(tmp_path / "operator"), operators(tmp_path / "gateway")
    try:
        await world.serve(good)
        world.gateway.open()
        world.gateway.renew(replace(good, key=other.key))
        await eventually(lambda: said(caplog, "do not belong together"), 10, "it is not said")
        await world.envoy(tls_files=envoy_secrets(tmp_path / "envoy", tmp_path / "gateway"))
    finally:
        await world.close()
