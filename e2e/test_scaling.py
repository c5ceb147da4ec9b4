"""Pods come and go with load and with memory pressure, and no request is lost over it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from demo import kubernetes
from demo.readiness import condition
from e2e import load
from e2e.cold import FIT, create, pods_of, ready_pods, small
from e2e.installation import SCALE_DOWN_SECONDS, Installation, install_chart
from e2e.space import Space, space

BUSY = {f"busy-{index}": 10.0 + index for index in range(3)}
CROWD = {f"crowd-{index}": 20.0 + index for index in range(2 * FIT)}
RATE, QUIET_RATE = 15.0, 2.0
SCALED_SECONDS = 90.0
"""Fifteen seconds of sustained need, a look every five, and a pod's start."""
FEWER_SECONDS = 60.0 + SCALE_DOWN_SECONDS
"""The average rate has to sink first."""


AUTOSCALER = "of-the-user"
AUTOSCALER_MANIFEST = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": AUTOSCALER},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "brought-predictor"},
        "minReplicas": 2,  # kept also where there is no metrics server, as here
        "maxReplicas": 3,
    },
}


@pytest.fixture(scope="module")
def scaled(installation: Installation) -> Iterator[Space]:
    """`busy` follows its requests, `crowded` the memory that its models need, `brought` a user's autoscaler; each has
    one pod or two."""
    install_chart()  # the demo may have run since, which installs it with the chart's own times
    with space(installation, "scaling") as fresh:
        fresh.service("busy", maxReplicas=2, scaleMetric="rps", scaleTarget=5, **small())
        fresh.service("crowded", maxReplicas=2, **small())
        fresh.service("brought", maxReplicas=2, **small())
        fresh.apply(AUTOSCALER_MANIFEST)
        create(fresh, BUSY, "busy")
        create(fresh, CROWD, "crowded")
        create(fresh, {"brought-0": 30.0}, "brought")
        fresh.wait_ready(*BUSY, *CROWD)
        yield fresh


def scaling(space: Space, service: str) -> dict[str, Any]:
    """The InferenceService's condition that says why there are as many pods."""
    return condition(space.inference_service(service), "Scaled")


def test_pods_follow_the_load_and_no_request_is_lost(scaled: Space) -> None:
    """Meanwhile the other InferenceService's models take turns in its one pod, until it gets a second one."""
    questions = scaled.questions(BUSY)
    crowd = scaled.questions(CROWD)
    with (
        load.running(scaled.target("busy"), questions, RATE) as busy,
        load.running(scaled.target("crowded"), crowd, QUIET_RATE) as crowded,
    ):
        scaled.wait(lambda: len(ready_pods(scaled, "busy")) == 2, "a second pod for the load", SCALED_SECONDS)
        scaled.wait(lambda: len(ready_pods(scaled, "crowded")) == 2, "a second pod for memory", SCALED_SECONDS)
        scaled.wait(lambda: len(_used(scaled, BUSY)) == 2, "models on both pods")
    busy.result.check(at_least=100)
    crowded.result.check(at_least=20)
    for service, word in (("busy", "requests a second"), ("crowded", "make way")):
        said = scaled.wait(lambda service=service: _said(scaled, service), f"{service}'s condition Scaled")  # type: ignore[misc]
        assert "2 pods" in said["message"], said
        assert word in said["message"], said
    assert {name: scaled.answer(name, "crowded") for name in CROWD} == CROWD
    assert "Scaled" in kubernetes.kubectl("get", "events", "-n", scaled.name)


def test_fewer_pods_when_it_is_quiet_and_no_request_is_lost(scaled: Space) -> None:
    scaled.wait(lambda: len(scaled.pods("busy")) == 2, "two pods, as the load left them")
    with load.running(scaled.target("busy"), scaled.questions(BUSY), QUIET_RATE) as running:
        scaled.wait(lambda: len(scaled.pods("busy")) == 1, "one pod less", FEWER_SECONDS)
        scaled.wait(lambda: len(_used(scaled, BUSY)) == 1, "all models on the pod that stays")
        time.sleep(3)
    running.result.check(at_least=5)
    scaled.wait(lambda: "1 pod:" in scaling(scaled, "busy").get("message", ""), "the condition says so")
    assert scaled.condition("busy-0")["status"] == "True"


def test_an_autoscaler_of_ones_own_decides_until_it_is_deleted(scaled: Space) -> None:
    """Two pods for one model that nobody asks for; the autoscaler is as old as they are."""
    scaled.wait(lambda: len(ready_pods(scaled, "brought")) == 2, "the two pods of the autoscaler", SCALED_SECONDS)
    scaled.wait(lambda: AUTOSCALER in scaling(scaled, "brought").get("message", ""), "the condition names it")
    scaled.delete("horizontalpodautoscaler", AUTOSCALER)
    scaled.wait(lambda: len(scaled.pods("brought")) == 1, "one pod, as Shoal has it", FEWER_SECONDS)
    assert scaled.answer("brought-0", "brought") == 30.0


def _used(space: Space, models: dict[str, float]) -> set[str]:
    return {pod for name in models for pod in pods_of(space, name)}


def _said(space: Space, service: str) -> dict[str, Any] | None:
    found = scaling(space, service)
    return found if "2 pods" in found.get("message", "") else None
