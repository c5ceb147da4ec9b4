"""What the cluster says of pods and autoscalers: seen by watches, and not believed to be absent before that."""

from typing import Any

import pytest
from shoal_operator.kube import KubeError
from shoal_operator.replicas.decide import LiveReplicas
from shoal_operator.replicas.live_replicas import LiveCounts
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.work_queue import Retry

IRIS, OTHER = ServiceKey("ns", "iris"), ServiceKey("ns", "other")


class Api:
    """A namespace with the ``replicas`` of iris; counts what it was asked."""

    def __init__(self) -> None:
        self.replicas: int | None = None
        self.refusal: KubeError | None = None
        self.asked: list[str] = []

    async def request(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        if method == "PATCH":
            return {}
        self.asked.append(path)
        if self.refusal is not None:
            raise self.refusal
        if self.replicas is None:
            raise KubeError(404, "NotFound", path)
        return deployment(self.replicas)


def deployment(replicas: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "iris-predictor"}, "spec": {"replicas": replicas}}


def autoscaler(name: str, target: str, *, kind: str = "Deployment", ours: bool = False) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "shoal"} if ours else {}
    return {
        "metadata": {"namespace": "ns", "name": name, "labels": labels},
        "spec": {"scaleTargetRef": {"kind": kind, "name": target}},
    }


async def test_nothing_is_decided_before_all_autoscalers_were_seen() -> None:
    api = Api()
    api.replicas = 4
    live = LiveCounts(api)
    with pytest.raises(Retry):
        await live.read(IRIS)
    live.autoscaler_seen("ns", "mine", autoscaler("mine", "iris-predictor"))
    assert live.autoscalers_listed()
    assert not live.autoscalers_listed(), "each further list is no news"
    assert await live.read(IRIS) == LiveReplicas(4, autoscaler="mine")
    asked = len(api.asked)
    assert await live.read(IRIS) == LiveReplicas(4, autoscaler="mine")
    assert len(api.asked) == asked == 1, "a Deployment is asked for once, autoscalers never"


async def test_an_api_server_that_cannot_say_is_not_taken_for_a_no() -> None:
    api = Api()
    live = LiveCounts(api)
    live.autoscalers_listed()
    api.refusal = KubeError(503, "Unavailable", "later")
    with pytest.raises(Retry):
        await live.read(IRIS)
    api.refusal, api.replicas = None, 3
    assert await live.read(IRIS) == LiveReplicas(3)


@pytest.mark.parametrize(
    "obj",
    [
        autoscaler("a", "iris-predictor", ours=True),
        autoscaler("a", "iris-predictor", kind="StatefulSet"),
        autoscaler("a", "iris"),
        {"metadata": {"namespace": "ns", "name": "a"}, "spec": {}},
    ],
)
def test_autoscalers_of_no_concern(obj: dict[str, Any]) -> None:
    live = LiveCounts(Api())
    assert live.autoscaler_seen("ns", "a", obj) == set()
    assert live.of(IRIS) == LiveReplicas()


def test_an_autoscaler_comes_turns_to_another_and_goes() -> None:
    live = LiveCounts(Api())
    assert live.autoscaler_seen("ns", "a", autoscaler("a", "iris-predictor")) == {IRIS}
    assert live.autoscaler_seen("ns", "a", autoscaler("a", "iris-predictor")) == set()
    assert live.autoscaler_seen("ns", "a", autoscaler("a", "other-predictor")) == {IRIS, OTHER}
    assert (live.of(IRIS).autoscaler, live.of(OTHER).autoscaler) == ("", "a")
    assert live.autoscaler_seen("elsewhere", "a", None) == set()
    assert live.autoscaler_seen("ns", "a", None) == {OTHER}
    assert live.of(OTHER).autoscaler == ""


def test_a_deployment_is_seen_to_come_change_and_go() -> None:
    live = LiveCounts(Api())
    assert live.deployment_seen(IRIS, deployment(2))
    assert not live.deployment_seen(IRIS, deployment(2))
    assert live.deployment_seen(IRIS, deployment(5))
    assert live.of(IRIS).wanted == 5
    assert live.deployment_seen(IRIS, None)
    assert live.of(IRIS).wanted is None
