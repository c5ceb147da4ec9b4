"""Whose fault an exception is: one InferenceService is rebuilt, and not the whole process ended."""

from typing import Any

import pytest
from shoal_operator.state.world import events
from shoal_operator.state.world.blame import blamed
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import Failed
from shoal_operator.state.world.values import ServiceKey

from .world_in_hand import Hand, model_spec, service_spec


class Bug(Exception):
    """The one that is looked into."""


def inner(thing: Any) -> None:
    raise Bug(thing)


def outer(other: Any, thing: Any) -> None:
    inner(thing)


@pytest.fixture
def hand() -> Hand:
    return Hand().with_pods("pod-1").with_loaded(model_spec())


def named(hand: Hand, *given: Any) -> ServiceKey | None:
    with pytest.raises(Bug) as caught:
        outer(*given)
    return blamed(hand.world, caught.value)


def test_whatever_is_looked_at_names_its_service(hand: Hand) -> None:
    world, mine = hand.world, service_spec().key
    model, pod = world.models[model_spec().key], world.pods["pod-1"]
    things = [world.services[mine], world.services[mine].spec, model, model.spec, model.spec.key, pod, pod.spec]
    for thing in [*things, pod.copies["m"], mine]:
        assert named(hand, None, thing) == mine, type(thing)


def test_what_was_looked_at_last_counts_most(hand: Hand) -> None:
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
    mine, other = (hand.world.services[service_spec(name=name).key] for name in ("svc", "other"))
    assert named(hand, other, mine) == mine.spec.key
    assert named(hand, other, 7) == other.spec.key, "where that names nobody, what was looked at before it"
    assert named(hand, 7, 7) is None


def test_who_is_blamed_is_said_beside_the_error(hand: Hand) -> None:
    ctx = Context(hand.world, hand.now)
    with ctx.contained("a test"):
        inner(hand.world.pods["pod-1"])
    (failed,) = ctx.effects
    assert isinstance(failed, Failed)
    assert (failed.service, failed.doing) == (service_spec().key, "a test")
