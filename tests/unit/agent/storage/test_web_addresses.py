"""Which addresses of web servers are asked, and which never."""

import ipaddress

import pytest
from shoal_agent.storage import STORAGE_ACCESS_DENIED, StorageError
from shoal_agent.storage.web_addresses import PUBLIC, Allowed

PRIVATE = Allowed(private=True)


def refused(allowed: Allowed, address: str) -> str:
    """What is said; empty when it is asked."""
    found = ""
    try:
        allowed.refuse(ipaddress.ip_address(address), "host.example")
    except StorageError as error:
        found = f"{error.reason}: {error.message}"
    assert not found or found.startswith(f"{STORAGE_ACCESS_DENIED}: host.example is ")
    return found


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"])
def test_public_ones_are_asked(address: str) -> None:
    assert refused(PUBLIC, address) == refused(PRIVATE, address) == ""


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1"])
def test_private_ones_are_asked_where_the_chart_allows_them(address: str) -> None:
    assert "privateAddresses" in refused(PUBLIC, address)
    assert refused(PRIVATE, address) == ""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        "0.0.0.0",  # noqa: S104  # not bound to
        "::",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "ff02::1",
        "240.0.0.1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
    ],
)
def test_the_pod_the_link_and_what_is_nobodys_are_never_asked(address: str) -> None:
    assert "no model is fetched from there" in refused(PUBLIC, address)
    assert "no model is fetched from there" in refused(PRIVATE, address)


def test_an_address_that_is_written_out_is_judged_and_a_name_is_not() -> None:
    with pytest.raises(StorageError):
        PRIVATE.refuse_written("169.254.169.254")
    PUBLIC.refuse_written("host.example")
    PUBLIC.refuse_written("")


def test_servers_of_this_machine_where_they_are_meant() -> None:
    assert refused(Allowed(loopback=True), "127.0.0.1") == ""
    assert refused(Allowed(loopback=True), "169.254.1.1")
