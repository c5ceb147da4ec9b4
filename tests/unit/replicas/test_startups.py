"""Pods that take long to start: what their probes last said, asked for seldom and not for everyone."""

import time
from datetime import UTC, datetime
from typing import Any

from shoal_operator.kube import KubeError
from shoal_operator.replicas.startups import FRESH_SECONDS, MAX_ASKED, PATIENCE_SECONDS, Startups, last_said
from shoal_operator.state.world.values import ServiceKey

IRIS = ServiceKey("demo", "iris")


def at(seconds_ago: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(pod: str, message: str, when: str, container: str = "spec.initContainers{shoal-agent}") -> dict[str, Any]:
    about = {"name": pod, "fieldPath": container}
    return {"involvedObject": about, "message": message, "lastTimestamp": when, "reason": "Unhealthy"}


EVENTS = [
    event("iris-predictor-a", "Startup probe failed: connection refused", at(20)),
    event("iris-predictor-b", "Readiness probe failed: HTTP 500", at(9), "spec.containers{kserve-container}"),
    event("other-predictor-a", "Startup probe failed: mine", at(5)),
]


class Api:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: KubeError | None = None
        self.pages = [EVENTS]

    async def request(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        page = int(asked["query"].get("continue", 0))
        if page == 0:
            self.asked.append(path)
        if self.error is not None:
            raise self.error
        more = {"continue": str(page + 1)} if page + 1 < len(self.pages) else {}
        return {"items": self.pages[page], "metadata": more}


def test_the_latest_word_of_the_services_own_pods() -> None:
    assert (
        last_said(EVENTS, IRIS, 0) == "Container kserve-container's probe last said: Readiness probe failed: HTTP 500."
    )
    assert last_said(EVENTS[:1], IRIS, 0).startswith("Container shoal-agent's probe last said: Startup probe failed")
    assert last_said([event("iris-predictor-a", "no", at(1), "")], IRIS, 0) == "A probe last said: no."
    assert last_said(EVENTS, ServiceKey("demo", "iri"), 0) == ""
    assert len(last_said([event("iris-predictor-a", "x" * 5000, at(1))], IRIS, 0)) < 250


def test_what_was_said_of_former_pods_is_not_said_of_these() -> None:
    """Kubernetes keeps events for an hour."""
    old = event("iris-predictor-of-before", "Startup probe failed: connection refused", at(3000))
    assert last_said([old], IRIS, time.time() - FRESH_SECONDS) == ""
    assert "HTTP 500" in last_said([old, *EVENTS], IRIS, time.time() - FRESH_SECONDS)


def test_an_inference_service_whose_name_begins_alike_is_another_one() -> None:
    other = event("iris-predictor-predictor-6d5f7-abcde", "Startup probe failed: theirs", at(1))
    assert last_said([other], IRIS, 0) == ""
    assert "theirs" in last_said([other], ServiceKey("demo", "iris-predictor"), 0)


async def test_what_is_wrong_with_a_volume_is_said_and_what_the_pods_status_says_is_not() -> None:
    api, now = Api(), [0.0]
    mount = {**event("iris-predictor-a", 'secret "nope" not found', at(3), ""), "reason": "FailedMount"}
    api.pages = [[*EVENTS, mount, {**mount, "lastTimestamp": at(1), "reason": "BackOff", "message": "back-off"}]]
    startups = Startups(api, lambda _: None, clock=lambda: now[0])
    startups.seen(IRIS, starting=True)
    now[0] = PATIENCE_SECONDS
    await startups.look()
    assert startups.said(IRIS) == 'A pod\'s node last said: secret "nope" not found.'


async def test_what_many_others_say_hides_nobodys_words() -> None:
    api, now = Api(), [0.0]
    api.pages = [[event(f"a-predictor-{page}", "Startup probe failed: theirs", at(1))] for page in range(9)] + [EVENTS]
    startups = Startups(api, lambda _: None, clock=lambda: now[0])
    startups.seen(IRIS, starting=True)
    now[0] = PATIENCE_SECONDS
    await startups.look()
    assert "HTTP 500" in startups.said(IRIS)


async def test_asked_only_when_it_lasts_and_forgotten_when_it_is_over() -> None:
    api, changed, now = Api(), list[ServiceKey](), [100.0]
    startups = Startups(api, changed.append, clock=lambda: now[0])
    startups.seen(IRIS, starting=True)
    await startups.look()
    assert (api.asked, startups.said(IRIS)) == ([], "")
    now[0] += PATIENCE_SECONDS
    await startups.look()
    await startups.look()
    assert startups.said(IRIS).startswith("Container kserve-container's probe last said: Readiness")
    assert changed == [IRIS]  # the same words are no news
    startups.seen(IRIS, starting=False)
    assert (startups.said(IRIS), changed) == ("", [IRIS, IRIS])


async def test_a_thousand_that_start_are_asked_for_in_turn() -> None:
    api, now = Api(), [0.0]
    startups = Startups(api, lambda _: None, clock=lambda: now[0])
    for number in range(3 * MAX_ASKED):
        startups.seen(ServiceKey(f"ns-{number}", "iris"), starting=True)
    for _ in range(3):
        now[0] += PATIENCE_SECONDS
        before = len(api.asked)
        await startups.look()
        assert len(api.asked) - before == MAX_ASKED
    assert len(set(api.asked)) == 3 * MAX_ASKED


async def test_events_that_may_not_be_read_cost_only_the_words() -> None:
    api, now = Api(), [0.0]
    api.error = KubeError(403, "Forbidden", "no")
    startups = Startups(api, lambda _: None, clock=lambda: now[0])
    startups.seen(IRIS, starting=True)
    now[0] = 100.0
    await startups.look()
    assert startups.said(IRIS) == ""
