"""Places for connections: known pods' are theirs, strangers share theirs, nothing is ever given back twice."""

from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.connections import places
from shoal_operator.connections.places import Place, Places


def fill(made: Places, source: str, *, own: bool = False, now: float = 0.0) -> list[Place]:
    found = []
    while (place := made.enter(source, own=own, now=now)) is not None:
        found.append(place)
    return found


def test_strangers_have_few_each_and_a_number_together() -> None:
    made = Places()
    assert len(fill(made, "10.0.0.1")) == places.PLACES_OF_A_SOURCE
    taken = [len(fill(made, f"10.0.1.{number}")) for number in range(100)]
    assert sum(taken) == places.FOREIGN_PLACES - places.PLACES_OF_A_SOURCE
    assert len(fill(made, "10.0.0.2", own=True)) == places.PLACES_OF_A_POD
    assert len(fill(made, "10.0.0.3", own=True)) == places.PLACES_OF_A_POD


def test_a_good_token_frees_the_strangers_place_for_the_next() -> None:
    """As agents behind one NAT come in."""
    made = Places()
    for number in range(200):
        place = made.enter("10.0.0.1", own=False, now=number / 5)
        assert place is not None
        assert made.vouched(place, f"uid-{number}")
        assert made.vouched(place, f"uid-{number}")  # with each of its requests
    assert len(made) == 200


def test_a_pod_has_so_many_connections_wherever_they_come_from() -> None:
    made = Places()
    opened = [made.enter(f"10.0.0.{number}", own=False, now=0) for number in range(places.PLACES_OF_A_POD + 1)]
    vouched = [made.vouched(place, "uid") for place in opened if place is not None]
    assert vouched == [True] * places.PLACES_OF_A_POD + [False]


def test_who_opens_and_closes_without_end_is_slowed_down_alone() -> None:
    made = Places()
    opened = 0
    for turn in range(10_000):
        place = made.enter("10.0.0.1", own=False, now=turn / 1_000)
        if place is not None:
            opened += 1
            made.leave(place)
    assert opened <= places.OPENED_BURST + places.OPENED_PER_SECOND * 10 + 1
    assert made.enter("10.0.0.2", own=False, now=10) is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(["", "u", "v"])), max_size=200))
def test_nothing_is_left_when_all_have_ended(opened: list[tuple[str, bool, str]]) -> None:
    made = Places()
    alive = []
    for number, (source, own, uid) in enumerate(opened):
        place = made.enter(source, own=own, now=float(number))
        if place is not None:
            alive.append(place)
            if uid:
                made.vouched(place, uid)
        assert len(made) == len(alive)
    for place in alive:
        made.leave(place)
    assert len(made) == 0
    assert not made._of_address
    assert not made._foreign
    assert not made._of_pod
