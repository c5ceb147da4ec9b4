"""A plan is carried out as far as the world is still as it was when the plan was made."""

import pytest
from shoal_operator.state.owners import plans
from shoal_operator.state.owners.plans import plan_input
from shoal_operator.state.world import events
from shoal_operator.state.world.values import Eviction, ModelKey, Placement, Plan

from .world_in_hand import KEY, Hand, model_spec, pod_spec, service_spec

SERVICE = service_spec().key
NOBODY = ModelKey("ns", "nobody")


def loaded() -> Hand:
    """The model is on the first of two pods."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    return hand


@pytest.mark.parametrize(
    ("key", "pod"),
    [(NOBODY, "pod-2"), (KEY, "nowhere"), (KEY, "pod-1"), (KEY, "pod-2")],
    ids=["a model that is gone", "a pod that is gone", "where it is already", "a pod that goes"],
)
def test_nothing_is_placed_that_cannot_be_any_more(key: ModelKey, pod: str) -> None:
    hand = loaded()
    if pod == "pod-2":
        hand.do(events.PodSeen(pod_spec("pod-2", deleting=True)))
    before = hand.desired("pod-1")
    hand.do(events.Planned(Plan(SERVICE, models=(key,), add=(Placement(key, pod),))))
    assert (hand.desired("pod-1"), hand.desired("pod-2")) == (before, {})
    assert hand.world.pods["pod-1"].committed == 10 << 20


@pytest.mark.parametrize(("key", "pod"), [(NOBODY, "pod-1"), (KEY, "nowhere"), (KEY, "pod-2")])
def test_nothing_leaves_or_is_updated_that_is_not_there(key: ModelKey, pod: str) -> None:
    hand = loaded()
    before = hand.desired("pod-1")
    where = (Placement(key, pod),)
    hand.do(events.Planned(Plan(SERVICE, models=(key,), retire=where, replace=where, evict=(Eviction(key, pod, KEY),))))
    assert hand.desired("pod-1") == before
    assert hand.route() == {"pod-1"}


def test_a_plan_of_a_service_that_is_gone_is_no_plan() -> None:
    hand = loaded()
    hand.do(events.ServiceGone(SERVICE, "service-1"))
    hand.do(events.Planned(Plan(SERVICE, models=(KEY,), add=(Placement(KEY, "pod-2"),))))
    assert not hand.desired("pod-2")
    assert plan_input(hand.world, SERVICE, hand.now) is None


@pytest.mark.parametrize("every", [plans.EVERY, 0], ids=["all of few pods", "few of many"])
def test_the_order_in_which_pods_came_decides_nothing(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(plans, "EVERY", every)
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    for uid in ("pod-2", "pod-3", "pod-1"):
        hand.do(events.PodSeen(pod_spec(uid)))
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert [pod.uid for pod in given.pods] == ["pod-1", "pod-2", "pod-3"]


def test_nobody_is_asked_about_a_model_that_is_not_there_or_whose_service_is_not() -> None:
    hand = Hand()
    hand.do(events.ModelSeen(model_spec()))
    assert plans.offers(hand.world, NOBODY, hand.now) is None
    assert plans.offers(hand.world, KEY, hand.now) is None
    hand.with_pods("pod-1")
    found = plans.offers(hand.world, KEY, hand.now)
    assert found is not None
    assert [pod.uid for pod in found[1]] == ["pod-1"]
