"""What agents count decides who is hot, who is idle, and how many copies there are."""

from typing import Any

import pytest
from shoal_api.messages import ModelUse, copy_id
from shoal_operator.state.demand.use import rate, report_seconds
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from .overcommitted import Cold
from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec, slot


def hot(*pods: str, **given: Any) -> Cold:
    hand = Cold(*(pods or ("pod-1", "pod-2", "pod-3")), room=3, **given)
    hand.add("a", "b", "c")
    return hand


def traffic(hand: Cold, seconds: int, **rates: float) -> None:
    """Requests a second by model, even over its copies, told by agents each second."""
    totals = hand.__dict__.setdefault("totals", {})
    for _ in range(seconds):
        hand.now += 1.0
        for uid in list(hand.world.pods):
            use = []
            for name in hand.desired(uid):
                copies = len(hand.model(name).routes[hand.spec.key].pods)
                if uid not in hand.model(name).routes[hand.spec.key].pods:
                    totals.pop((uid, name), None)
                elif name in rates:
                    totals[uid, name] = totals.get((uid, name), 0.0) + rates[name] / copies
                    use.append(ModelUse(name=name, requests=int(totals[uid, name]), idle_seconds=0.0))
            hand.report(uid, *(hand._slot(uid, each) for each in hand.desired(uid)), use=use)
        hand.wait(0.0)
        hand.acknowledge()
    hand.pass_time(3)


def copies(hand: Cold, name: str = "a") -> int:
    return len(hand.model(name).routes[hand.spec.key].pods)


def test_what_a_server_had_counted_before_this_operator_began_is_no_use_of_now() -> None:
    hand = Hand(recovered=False)
    for event in (events.ServiceSeen(service_spec()), events.PodSeen(pod_spec()), events.ModelSeen(model_spec("a"))):
        hand.do(event)
    held = slot("a", copy_id("uid-a", model_spec("a").content))
    hand.report("pod-1", held, use=[ModelUse(name="a", requests=5, idle_seconds=0.0)])
    hand.recover()
    hand.report("pod-1", held, use=[ModelUse(name="a", requests=5, idle_seconds=0.0)])
    model = hand.world.models[ModelKey("ns", "a")]
    assert rate(model, hand.now) == 0.0
    hand.report("pod-1", held, use=[ModelUse(name="a", requests=6, idle_seconds=0.0)])
    assert rate(model, hand.now) > 0.0


def test_totals_are_counted_once_however_often_they_are_told() -> None:
    hand = hot("pod-1")
    for _ in range(3):
        hand.use("a", 20)
    assert rate(hand.model("a"), hand.now) == pytest.approx(1.0)
    hand.use("a", 30)
    assert rate(hand.model("a"), hand.now) == pytest.approx(1.5)


def test_a_server_that_restarts_counts_from_nothing() -> None:
    hand = hot("pod-1")
    hand.use("a", 20)
    hand.use("a", 10)
    assert rate(hand.model("a"), hand.now) == pytest.approx(1.5)


def test_rates_fade() -> None:
    hand = hot("pod-1")
    hand.use("a", 100)
    hand.now += 200
    assert rate(hand.model("a"), hand.now) < 0.01


def test_a_late_word_does_not_make_a_model_older() -> None:
    hand = hot("pod-1")
    hand.now = 100.0
    hand.use("a", 1)
    hand.use("a", 2, idle=50.0)
    assert hand.model("a").last_used == 100.0


def test_a_hot_model_gets_copies_on_all_pods_and_loses_them_when_it_cools() -> None:
    hand = hot()
    traffic(hand, 40, a=90, b=5, c=5)
    assert copies(hand) == 3
    assert (copies(hand, "b"), copies(hand, "c")) == (1, 1)
    traffic(hand, 120, a=1, b=50, c=50)
    assert copies(hand) == 1


def test_copies_of_a_hot_model_that_a_new_operator_finds_go_once_it_is_not_hot() -> None:
    hand = hot("pod-1", "pod-2")
    traffic(hand, 40, a=90, b=5, c=5)
    assert copies(hand) == 2
    after = Cold.__new__(Cold)
    Hand.__init__(after, recovered=False)
    after.now, after.room, after.broken, after.spec = hand.now, hand.room, hand.broken, hand.spec
    after.do(events.ServiceSeen(hand.spec))
    for uid in ("pod-1", "pod-2"):
        after.do(events.PodSeen(pod_spec(uid, capacity_bytes=30 * MI)))
    for name in ("a", "b", "c"):
        after.do(events.ModelSeen(model_spec(name), vouched=True))
    for uid in ("pod-1", "pod-2"):
        after.report(uid, *(slot(name, want) for name, want in hand.desired(uid).items()))
    after.recover()
    assert copies(after) == 2, "they may be needed still"
    after.pass_time(300, step=5)
    traffic(after, 30, b=50, c=50)
    assert copies(after) == 1


def test_even_traffic_copies_nothing() -> None:
    hand = Cold("pod-1", "pod-2", "pod-3", room=6)
    names = [f"m{i}" for i in range(18)]
    hand.add(*names)
    traffic(hand, 40, **dict.fromkeys(names, 20.0))
    assert all(copies(hand, name) == 1 for name in names)


def test_what_hardly_anybody_uses_is_not_hot() -> None:
    hand = hot()
    traffic(hand, 60, a=2)
    assert copies(hand) == 1, "though it has all requests"


def test_steady_traffic_moves_nothing() -> None:
    """Hysteresis: whatever the share, copies come to rest."""
    for share in (15, 25, 35, 60):
        hand = Cold("pod-1", "pod-2", "pod-3", "pod-4", room=6)
        hand.add(*(f"m{i}" for i in range(16)))
        others = {f"m{i}": (100.0 - share) / 15 for i in range(1, 16)}
        traffic(hand, 100, m0=float(share), **others)
        before = (hand.service.stats.copies_added, hand.service.stats.copies_removed)
        traffic(hand, 100, m0=float(share), **others)
        assert before == (hand.service.stats.copies_added, hand.service.stats.copies_removed), share


def test_no_more_copies_than_allowed_nor_fewer_than_asked_for() -> None:
    hand = Cold("pod-1", "pod-2", "pod-3", room=3)
    hand.add("a", max_copies=2)
    hand.add("b", min_copies=2)
    traffic(hand, 40, a=90, b=1)
    assert (copies(hand), copies(hand, "b")) == (2, 2)
    traffic(hand, 200, a=1, b=90)
    assert copies(hand) == 1
    assert copies(hand, "b") >= 2


def test_a_copy_that_finds_no_room_is_not_asked_for_again_and_again() -> None:
    hand = Cold("pod-1", "pod-2", room=1)
    hand.add("a")
    hand.add("kept", min_copies=1)
    traffic(hand, 30, a=90, kept=10)
    assert copies(hand) == 1
    assert hand.service.stats.copies_added == 0
    assert sum(each.what == "Copied" for each in hand.model("a").decisions) == 1


def test_a_further_copy_takes_the_place_of_what_was_not_used_for_long() -> None:
    hand = Cold("pod-1", "pod-2", room=1)
    hand.add("a", "unused")
    hand.now += 100
    traffic(hand, 60, a=90)
    assert copies(hand) == 2
    assert hand.route("unused") == "Cold"


def test_agents_tell_more_often_where_models_are_cold() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a")
    assert report_seconds(hand.world, "pod-1") == 5.0
    hand.add("b")
    assert report_seconds(hand.world, "pod-1") == 1.0


def test_nothing_is_looked_at_once_nobody_asks() -> None:
    hand = hot()
    traffic(hand, 40, a=90)
    assert hand.world.reviewing
    hand.pass_time(300, step=5)
    assert not hand.world.reviewing
    assert hand.world.review_at is None


def test_nor_once_others_have_taken_the_copies_of_a_hot_model() -> None:
    hand = Cold("pod-1", "pod-2", room=1)
    hand.add("a")
    traffic(hand, 40, a=90)
    assert copies(hand) == 2
    hand.add("kept", min_copies=1)
    assert copies(hand) == 1
    hand.pass_time(300, step=5)
    assert not hand.world.reviewing


def test_use_of_what_was_deleted_is_nothing() -> None:
    hand = hot("pod-1")
    hand.do(events.ModelGone(hand.model("a").spec.key, "uid-a"))
    hand.report("pod-1", use=[ModelUse(name="a", requests=5, idle_seconds=0.0)])
    hand.do(events.ModelSeen(model_spec("d")))
