"""Shares of what a gateway may hold: bounded together, and nobody's flood takes another's."""

from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.gateway.held import (
    LARGEST_BYTES,
    LARGEST_RETRIED_BYTES,
    REQUEST_BYTES,
    HeldMemory,
    held_bytes,
)
from shoal_operator.state.world.values import ServiceKey

SERVICES = [ServiceKey("default", name) for name in "abcdef"]


def test_what_a_request_takes() -> None:
    assert held_bytes(0, retried=False) == REQUEST_BYTES
    assert held_bytes(1000, retried=False) == REQUEST_BYTES + 2000
    assert held_bytes(10**15, retried=False) == held_bytes(None, retried=False) == LARGEST_BYTES
    assert held_bytes(10**15, retried=True) == held_bytes(None, retried=True) == LARGEST_RETRIED_BYTES


def test_what_the_main_listener_has_read_already_is_there_however_much_it_is() -> None:
    assert held_bytes(1000, retried=False, received=1000) == REQUEST_BYTES + 2000
    assert held_bytes(4_000_000, retried=False, received=4_000_000) == REQUEST_BYTES + 4_000_000
    assert held_bytes(None, retried=False, received=4_000_000) == LARGEST_BYTES + 4_000_000


def _flood(memory: HeldMemory, service: ServiceKey, gateway: str = "g") -> int:
    taken = 0
    while memory.take(gateway, service, 1):
        taken += 1
    return taken


def test_a_flood_takes_half_and_the_next_half_of_the_rest() -> None:
    memory = HeldMemory(1000)
    assert [_flood(memory, service) for service in SERVICES[:3]] == [500, 250, 125]
    assert _flood(memory, SERVICES[0], "another gateway") == 500


@given(st.lists(st.tuples(st.sampled_from(SERVICES), st.integers(1, 400), st.booleans()), max_size=200))
def test_together_never_more_than_all_and_always_room_for_who_has_nothing(
    steps: list[tuple[ServiceKey, int, bool]],
) -> None:
    memory = HeldMemory(1000)
    held: list[tuple[ServiceKey, int]] = []
    for service, amount, leaves in steps:
        if leaves and held:
            gone, was = held.pop(0)
            memory.give_back("g", gone, was)
        elif memory.take("g", service, amount):
            held.append((service, amount))
        total = sum(each for _, each in held)
        assert total <= 1000
        for one in SERVICES:
            own = sum(each for holder, each in held if holder == one)
            fits = memory.take("g", one, 1)
            assert fits == (own + 1 <= 1000 - total)
            if fits:
                memory.give_back("g", one, 1)
    for service, amount in held:
        memory.give_back("g", service, amount)
    assert memory._gateways == memory._services == {}
