"""What the gateway tells state about acknowledgements when there is no Envoy to ask."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.gateway import Gateway, GatewayTables
from shoal_operator.gateway.vocabulary import CLUSTER
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged
from shoal_operator.state.world.values import ServiceKey


def a_gateway(reported: list[int], **options: Any) -> Gateway:
    return Gateway(GatewayTables(), reported.append, registry=CollectorRegistry(), **options)


def changed(sequence: int) -> RouteChanged:
    return RouteChanged(ServiceKey("default", "iris"), "m1", sequence)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_operator.gateway.service.APPLIED_SECONDS", 0.02)
    monkeypatch.setattr("shoal_operator.gateway.service.WATCH_SECONDS", 0.02)


async def test_with_no_envoy_everything_is_acknowledged_but_never_within_apply() -> None:
    reported: list[int] = []
    gateway = a_gateway(reported, reconnect_seconds=0.0)
    gateway.open()
    gateway.apply([changed(1), changed(2)])
    assert reported == []
    await asyncio.sleep(0.1)
    assert reported == [2]
    gateway.apply([changed(3)])
    await asyncio.sleep(0.1)
    assert reported == [2, 3]
    assert gateway.connected == 0


async def test_nothing_is_acknowledged_before_the_barrier_fell() -> None:
    reported: list[int] = []
    gateway = a_gateway(reported, reconnect_seconds=0.0)
    gateway.apply([changed(1)])
    await asyncio.sleep(0.1)
    assert reported == []
    gateway.open()
    await asyncio.sleep(0.1)
    assert reported == [1]


async def test_envoys_have_time_to_come_back_before_they_count_as_absent() -> None:
    """They still route as the operator before this one said."""
    reported: list[int] = []
    gateway = a_gateway(reported, reconnect_seconds=0.3)
    await gateway.serve("127.0.0.1", 0)
    try:
        gateway.open()
        gateway.apply([changed(1)])
        await asyncio.sleep(0.15)
        assert reported == []
        await asyncio.sleep(0.4)
        assert reported == [1]
    finally:
        await gateway.close()


async def test_what_is_acknowledged_is_said_at_once_and_dropped_a_moment_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Envoy's workers may still use a cluster that its main thread has left."""
    monkeypatch.setattr("shoal_operator.gateway.service.APPLIED_SECONDS", 0.3)
    reported: list[int] = []
    tables = GatewayTables()
    gateway = Gateway(tables, reported.append, registry=CollectorRegistry(), reconnect_seconds=0.0)
    await gateway.serve("127.0.0.1", 0)
    try:
        gateway.open()
        gateway.apply([changed(1), PodEndpointChanged("a", "10.0.0.1"), PodEndpointChanged("a", "")])
        await asyncio.sleep(0.1)
        assert reported == [1]
        assert len(tables.resources[CLUSTER]) == 2
        await asyncio.sleep(0.4)
        assert len(tables.resources[CLUSTER]) == 0
    finally:
        await gateway.close()


async def test_a_taken_address_is_said(unused_tcp_port: int) -> None:
    first, second = a_gateway([]), a_gateway([])
    port = await first.serve("127.0.0.1", unused_tcp_port)
    assert port == unused_tcp_port
    try:
        with pytest.raises(OSError, match=str(port)):
            await second.serve("127.0.0.1", port)
    finally:
        await first.close()
        await second.close()
