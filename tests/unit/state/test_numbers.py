"""Numbers that users plan with: where the documentation names one, it is the one that holds."""

from pathlib import Path

import pytest
from shoal_operator.placement import balance
from shoal_operator.state.copies import asking, memory, routes
from shoal_operator.state.demand import cold, use
from shoal_operator.state.owners import plans
from shoal_operator.state.pods import limits
from shoal_operator.state.wish import states
from shoal_operator.state.world.timing import Timing
from shoal_operator.state.world.values import UNSET_TIMEOUT_SECONDS, RoutePolicy

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {page: " ".join((DOCS / f"{page}.md").read_text().split()) for page in ("architecture", "usage", "operating")}
SECONDS = Timing()
IN_WORDS = {1 / 16: "sixteenth", 0.5: "half", 2: "two", 3: "three", 8: "eight", 1.0: "second", 60.0: "minute"}


def minutes(seconds: float) -> float:
    return seconds / 60


@pytest.mark.parametrize(
    ("page", "sentence", "numbers"),
    [
        ("architecture", "that was loaded in the last {} s.", [SECONDS.residency]),
        (
            "architecture",
            "it is tried again after {} s, then twice as long, up to {} min",
            [SECONDS.failure_first, minutes(SECONDS.failure_last)],
        ),
        ("architecture", "(told up to {} s apart)", [SECONDS.crash_told]),
        ("architecture", "up after {} s of wanting more", [SECONDS.scale_up]),
        ("architecture", "down after {} min, one at a time", [minutes(SECONDS.scale_down)]),
        ("architecture", "(or {} s after all else had come)", [SECONDS.recovery]),
        ("architecture", "at most {} s from the first", [SECONDS.first_placement]),
        ("architecture", "its share is loaded or failed, at most {} min", [minutes(SECONDS.gate)]),
        ("architecture", "its agent restores it; given up after {} s", [SECONDS.server_restart]),
        ("architecture", "until the new one has loaded, at most {} min", [minutes(SECONDS.service_move)]),
        ("architecture", "after {} s nobody counts on its memory any more", [SECONDS.unload]),
        ("architecture", "between {} and {} times what is justified nothing moves", [use.GROW, use.SHRINK]),
        ("architecture", "services of at most {} pods", [plans.EVERY]),
        (
            "architecture",
            "at most {} moves between {} pairs of pods",
            [balance.MAX_IN_FLIGHT, balance.MAX_PAIRS],
        ),
        ("usage", "after pauses of {} s to {} min", [SECONDS.revise_first, minutes(SECONDS.revise_last)]),
        ("usage", "{} a second of all models together", [1 / SECONDS.check_pace]),
        ("usage", "(`predictor.timeout`; {} s)", [UNSET_TIMEOUT_SECONDS]),
        ("usage", "| `shoal.dev/retries` | 0 to 10 | {} |", [RoutePolicy().retries]),
    ],
)
def test_what_is_written_in_figures(page: str, sentence: str, numbers: list[float]) -> None:
    assert sentence.format(*(f"{number:g}" for number in numbers)) in PAGES[page]


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("(at most a {} of a pod)", cold.RESERVED),
        ("may draw {} a pod's fair share", use.FAIR_PART),
        ("ended model servers {} times", states.MAX_CRASHES),
        ("in the last {} activation timeouts", asking.GIVE_UP_FACTOR),
        ("to at most {} pods of a service", routes.SERVICE_PODS),
        ("tell use each {} where models are cold", use.REPORT_SECONDS_COLD),
        ("unless something was evicted in the last {}.", SECONDS.pressure),
        ("all else at most once a {}.", SECONDS.look_up),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_written_in_words(sentence: str, number: float) -> None:
    assert sentence.format(IN_WORDS.get(number, number)) in PAGES["architecture"]


def test_the_rest() -> None:
    assert f"believed up to {limits.EPOCH_STEP:,} above what Lease and store held" in PAGES["architecture"]
    assert f"what was wanted of the pod plus {limits.MAX_STRAYS:,} others" in PAGES["architecture"]
    assert ("after pauses that grow to an hour" in PAGES["architecture"]) == (SECONDS.crash_last == 3600.0)
    assert ("at first twice its artifact's bytes" in PAGES["operating"]) == (memory.FIRST_ESTIMATE == 2.0)


def test_what_nobody_notices_is_short() -> None:
    """A request whose model needs others to make way, a model that was refused, a copy on its way out."""
    assert SECONDS.use_wait + SECONDS.retry_refused < 1.0
    assert "a second for requests on the wire" in PAGES["architecture"]
    assert 1.0 <= SECONDS.drain_grace < 2.0


def test_what_was_used_is_told_in_time() -> None:
    assert use.REPORT_SECONDS_COLD < use.REPORT_SECONDS < SECONDS.use_told
