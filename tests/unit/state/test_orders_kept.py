"""What state keeps in order, so as not to look for it: models due at some time, and models by size."""

from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.state.world.agenda import LEFT_OVER, MOVED, Agenda, Topic
from shoal_operator.state.world.sizes import Sizes
from shoal_operator.state.world.values import ModelKey


def key(number: int) -> ModelKey:
    return ModelKey("ns", f"m{number:05d}")


def entries(agenda: Agenda) -> int:
    return sum(map(len, (agenda._heap, *agenda._older)))


def test_models_that_are_gone_are_swept_out_and_the_others_stay_due_in_order() -> None:
    agenda, many = Agenda(), 3 * LEFT_OVER
    for number in range(many):
        agenda.put(float(number), key(number), Topic.IDLE)
    most_at_once, before = 0, many
    for number in range(many):
        if number % 100:
            agenda.forget(key(number))
            most_at_once, before = max(most_at_once, before - entries(agenda)), entries(agenda)
    assert entries(agenda) < 2 * LEFT_OVER
    assert most_at_once <= MOVED, "never all in the turn of one"
    assert agenda.next == 0.0
    due = []
    while (found := agenda.due(1e9)) is not None:
        due.append(found)
    assert due == [(key(number), Topic.IDLE) for number in range(0, many, 100)]


@given(st.lists(st.tuples(st.sampled_from(["put", "forget", "due", "merge"]), st.integers(0, 9), st.integers(0, 30))))
def test_they_are_due_as_a_plain_dict_would_say(acts: list[tuple[str, int, int]]) -> None:
    agenda, plain = Agenda(), dict[ModelKey, int]()
    for what, number, at in acts:
        match what:
            case "put":
                agenda.put(float(at), key(number), Topic.IDLE)
                plain[key(number)] = min(at, plain.get(key(number), at))
            case "forget":
                agenda.forget(key(number))
                plain.pop(key(number), None)
            case "merge":  # of an InferenceService that was put back; its entry from before is left, and counts no more
                other = Agenda()
                other.put(float(at), key(number), Topic.IDLE)
                agenda.take_over(other)
                plain[key(number)] = at
            case "due":
                found = agenda.due(float(at))
                least = min(plain.values(), default=None)
                if found is None:
                    assert least is None or least > at
                else:
                    assert plain.pop(found[0]) == least
        assert agenda.next is None or not plain or agenda.next <= min(plain.values())


def test_what_is_taken_over_is_not_looked_at() -> None:
    agenda, other = Agenda(), Agenda()
    for number in range(LEFT_OVER):
        other.put(float(number), key(number), Topic.IDLE)
    heap = other._heap
    agenda.take_over(other)
    assert agenda._older[0] is heap
    assert agenda.due(0.0) == (key(0), Topic.IDLE)


def test_the_earlier_of_two_times_counts_and_counts_once() -> None:
    agenda = Agenda()
    for at in (5.0, 3.0, 9.0):
        agenda.put(at, key(1), Topic.RETRY)
    assert agenda.due(2.9) is None
    assert agenda.due(3.0) == (key(1), Topic.RETRY)
    assert agenda.due(100.0) is None


def test_a_model_of_another_size_is_found_by_that_one_only() -> None:
    sizes = Sizes()
    for number in (1, 2):
        sizes.put(key(number), 10)
    sizes.put(key(1), 30)
    assert list(sizes.between(0, 10)) == [key(2)]
    assert list(sizes.between(10, 30)) == [key(1)]
    sizes.put(key(1), None)
    assert sizes.largest() == 10
