"""What the agent writes: so much of one event, and how much was left out."""

import logging

from shoal_agent.logs import MOST_EVENTS, MOST_IN_A_WINDOW, WINDOW_SECONDS, Bounded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _record(event: str, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("shoal.agent", logging.WARNING, "", 0, event, None, None)
    record.__dict__.update(extra)
    return record


def test_of_one_event_no_more_than_so_many_lines_and_others_go_on() -> None:
    bounded = Bounded(Clock())
    written = [bounded.filter(_record("model failed", fields={"model": f"made-up-{n}"})) for n in range(10_000)]
    assert written.count(True) == MOST_IN_A_WINDOW
    assert all(written[:MOST_IN_A_WINDOW])
    assert bounded.filter(_record("server down"))


def test_the_next_line_says_how_many_were_left_out_and_only_that_one() -> None:
    clock = Clock()
    bounded = Bounded(clock)
    for _ in range(MOST_IN_A_WINDOW + 41):
        bounded.filter(_record("model failed"))
    clock.now = WINDOW_SECONDS
    first, second = _record("model failed", fields={"model": "m1"}), _record("model failed", fields={"model": "m2"})
    assert bounded.filter(first)
    assert bounded.filter(second)
    assert first.__dict__["fields"] == {"model": "m1", "left_out": 41}
    assert second.__dict__["fields"] == {"model": "m2"}


def test_what_was_not_beyond_it_leaves_nothing_out() -> None:
    clock = Clock()
    bounded = Bounded(clock)
    bounded.filter(_record("model failed"))
    clock.now = WINDOW_SECONDS
    later = _record("model failed")
    assert bounded.filter(later)
    assert not hasattr(later, "fields")


def test_made_up_events_take_no_memory() -> None:
    bounded = Bounded(Clock())
    written = [bounded.filter(_record(f"another {n}")) for n in range(10 * MOST_EVENTS)]
    assert written.count(True) <= MOST_EVENTS + MOST_IN_A_WINDOW
    assert len(bounded._lines) <= MOST_EVENTS + 1
