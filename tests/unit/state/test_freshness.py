"""Nobody is evicted on old news: agents say what is used now first."""

import pytest
from shoal_api.messages import ModelUse
from shoal_operator.state.copies import freshness
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import DesiredChanged
from shoal_operator.state.world.values import ServiceKey

from .world_in_hand import MI, Hand, model_spec, service_spec, slot

SERVICE = ServiceKey("ns", "svc")


def full(**timing: float) -> Hand:
    """One pod that holds `a` and `b`, of which `a` was used last as far as anyone was told; `c` is cold."""
    hand = Hand(**{"use_wait": 0.1, "residency": 1.0, **timing}).with_pods("pod-1")
    hand.do(events.ServiceSeen(service_spec(strict=False, generation=2)))
    for name in ("a", "b"):
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=50 * MI)))
    hand.loaded()
    hand.do(events.ModelSeen(model_spec("c", memory_bytes=50 * MI)))
    hand.now += 100.0
    told(hand, b=50.0, a=10.0)
    hand.now += 5.0
    return hand


def told(hand: Hand, *, now: bool = False, **idle: float) -> None:
    held = [slot(name, copy) for name, copy in hand.desired().items() if name in ("a", "b")]
    use = [ModelUse(name=name, requests=int(hand.now), idle_seconds=seconds) for name, seconds in idle.items()]
    hand.report("pod-1", *held, use=use, use_now=now)


def evicted(hand: Hand) -> set[str]:
    return {"a", "b"} - {name for name in ("a", "b") if hand.route(name) == {"pod-1"}}


def test_what_was_used_since_the_last_word_stays() -> None:
    hand = full()
    effects = hand.do(events.Requested(SERVICE, "c"))
    assert freshness.wanted(hand.world, "pod-1")
    assert DesiredChanged("pod-1") in effects  # its agent's poll is answered
    assert not evicted(hand)
    hand.now += 0.02
    told(hand, now=True, b=0.5)  # nobody knew: b is in use
    assert evicted(hand) == {"a"}
    assert not freshness.wanted(hand.world, "pod-1")


def test_an_agent_that_nothing_was_used_at_says_so_too() -> None:
    hand = full()
    hand.do(events.Requested(SERVICE, "c"))
    told(hand, now=True)
    assert evicted(hand) == {"b"}


def test_an_agent_that_does_not_answer_is_not_waited_for() -> None:
    hand = full()
    hand.do(events.Requested(SERVICE, "c"))
    hand.wait(0.05)
    assert not evicted(hand)
    hand.wait(0.06)
    assert evicted(hand) == {"b"}
    assert not freshness.wanted(hand.world, "pod-1")


def test_with_very_many_pods_no_request_waits_for_all_their_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MAX_ASKED", 0)
    hand = full()
    hand.do(events.Requested(SERVICE, "c"))
    assert evicted(hand) == {"b"}


def test_with_fresh_news_nobody_waits() -> None:
    hand = full()
    told(hand, a=10.0)
    hand.now += 0.2
    hand.do(events.Requested(SERVICE, "c"))
    assert evicted(hand) == {"b"}


def test_where_there_is_room_nobody_is_asked() -> None:
    hand = full()
    hand.do(events.ModelSeen(model_spec("small", memory_bytes=1 * MI)))
    hand.do(events.ModelGone(model_spec("a").key, "uid-a"))
    hand.acknowledge()
    hand.wait(2.0)
    hand.report("pod-1", slot("b", hand.desired()["b"]))
    hand.do(events.Requested(SERVICE, "small"))
    assert not freshness.wanted(hand.world, "pod-1")
    assert "small" in hand.desired()
