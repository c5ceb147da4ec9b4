"""What state keeps in order, so as not to look for it: models due at some time, and models by size."""

from shoal_operator.state.world.agenda import LEFT_OVER, Agenda, Topic
from shoal_operator.state.world.sizes import Sizes
from shoal_operator.state.world.values import ModelKey


def key(number: int) -> ModelKey:
    return ModelKey("ns", f"m{number:05d}")


def test_models_that_are_gone_are_swept_out_and_the_others_stay_due_in_order() -> None:
    agenda, many = Agenda(), 3 * LEFT_OVER
    for number in range(many):
        agenda.put(float(number), key(number), Topic.IDLE)
    for number in range(many):
        if number % 100:
            agenda.forget(key(number))
    assert len(agenda._heap) < 2 * LEFT_OVER
    assert agenda.next is not None
    due = []
    while (found := agenda.due(1e9)) is not None:
        due.append(found)
    assert due == [(key(number), Topic.IDLE) for number in range(0, many, 100)]


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
