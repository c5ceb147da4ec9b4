"""A new operator: what it waits for, and not for ever, and what it makes of what it finds."""

from shoal_api.messages import CopyPhase, content_digest, copy_id
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import (
    ClaimEpoch,
    CopyForgotten,
    PodEndpointChanged,
    Recovered,
    RouteChanged,
    ServiceRouteChanged,
    WakeAt,
)
from shoal_operator.state.world.values import Content

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def test_it_asks_to_be_woken_for_an_agent_that_says_nothing() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.recover()
    wakes = [effect.at for effect in hand.effects if isinstance(effect, WakeAt)]
    assert wakes == [hand.world.timing.recovery]
    hand.now = wakes[-1]
    assert any(isinstance(effect, Recovered) for effect in hand.do(events.Tick()))


def test_a_service_that_comes_after_its_pods_does_not_wait_for_ever_for_one_of_them() -> None:
    hand = Hand()
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid)))
    hand.report("pod-1")  # the other one's image cannot be pulled
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    assert not hand.desired()
    hand.wait(21)
    assert set(hand.desired()) == {"m"}


def test_what_no_status_vouches_for_is_not_ready_before_an_agent_has_seen_it() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    hand.report("pod-1")
    hand.recover()
    assert not hand.world.models[model_spec().key].ready


class TestItsBarrier:
    def given(self) -> Hand:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
        hand.do(events.ModelSeen(model_spec()))
        return hand

    def test_nothing_leaves_before_every_ready_pod_has_spoken(self) -> None:
        hand = self.given()
        hand.recover()
        assert not hand.effects or all(type(e).__name__ == "WakeAt" for e in hand.effects)
        hand.report("pod-1", slot("m", copy_id("uid-m", model_spec().content)))
        assert any(isinstance(e, Recovered) for e in hand.effects)

    def test_what_is_loaded_is_adopted_and_not_loaded_again(self) -> None:
        hand = self.given()
        hand.recover()
        held = copy_id("uid-m", model_spec().content)
        hand.report("pod-1", slot("m", held))
        assert hand.route() == {"pod-1"}
        assert hand.desired() == {"m": held}

    def test_a_silent_pod_is_waited_for_thirty_seconds_and_keeps_its_placement_from_the_store(self) -> None:
        hand = self.given()
        stored = events.StoredCopy(KEY, "uid-m", model_spec().content, "svc", "pod-1")
        hand.do(events.StoreLoaded((stored,)))
        hand.recover()
        hand.wait(31)
        recovered = [e for e in hand.effects if isinstance(e, Recovered)]
        assert recovered
        assert recovered[0].waited_for == ("pod-1",)
        assert set(hand.desired()) == {"m"}

    def test_what_a_silent_pod_held_is_put_there_again_a_piece_at_a_time(self) -> None:
        hand = self.given()
        specs = [model_spec(), *(model_spec(f"m{number}") for number in range(4))]
        for spec in specs[1:]:
            hand.do(events.ModelSeen(spec))
        hand.do(events.PodSeen(pod_spec("pod-2", ready=True, gate_open=True)))
        hand.report("pod-2")
        hand.world.pieces.size = 1
        stored = (events.StoredCopy(spec.key, spec.uid, spec.content, "svc", "pod-1") for spec in specs)
        hand.do(events.StoreLoaded(tuple(stored)))
        hand.recover()
        hand.wait(31)
        assert set(hand.desired()) == {spec.name for spec in specs}

    def test_stored_rows_of_what_is_gone_are_forgotten(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.StoreLoaded((events.StoredCopy(KEY, "uid-old", "c", "svc", "pod-old"),)))
        hand.recover()
        assert CopyForgotten("uid-old", "pod-old") in hand.effects

    def test_an_agent_that_obeyed_a_higher_epoch_makes_us_claim_one_above_it(self) -> None:
        hand = self.given()
        hand.recover(epoch=1)
        hand.report("pod-1", epoch=7)
        assert ClaimEpoch(8) in hand.effects
        assert not any(isinstance(e, Recovered) for e in hand.effects)
        hand.do(events.EpochClaimed(8))
        assert any(isinstance(e, Recovered) for e in hand.effects)

    def test_a_model_deleted_meanwhile_is_unloaded(self) -> None:
        hand = self.given()
        hand.do(events.ModelGone(KEY, "uid-m"))
        hand.recover()
        hand.report("pod-1", slot("m", "uid-m.x"))
        assert not hand.desired()
        assert hand.route() is None


class TestWhatIsFound:
    def test_a_move_that_another_operator_began_goes_on(self) -> None:
        hand = Hand(recovered=False)
        for service, pod in (("svc", "pod-1"), ("other", "pod-2")):
            hand.do(events.ServiceSeen(service_spec(name=service, uid=f"service-{service}")))
            hand.do(events.PodSeen(pod_spec(pod, service=service, ready=True)))
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        hand.report("pod-1", slot("m", copy_id("uid-m", model_spec().content)))
        hand.report("pod-2")
        hand.recover()
        assert hand.route(service="svc") == {"pod-1"}
        hand.loaded("pod-2")
        assert hand.route(service="other") == {"pod-2"}
        assert hand.route(service="svc") is None

    def test_a_move_that_had_ended_ends_here_too_and_waits_for_envoys(self) -> None:
        hand = Hand(recovered=False)
        held = slot("m", copy_id("uid-m", model_spec().content))
        for service, pod in (("svc", "pod-1"), ("other", "pod-2")):
            hand.do(events.ServiceSeen(service_spec(name=service, uid=f"service-{service}")))
            hand.do(events.PodSeen(pod_spec(pod, service=service, ready=True)))
            hand.report(pod, held)
        hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
        hand.recover()
        assert (hand.route(service="svc"), hand.route(service="other")) == (None, {"pod-2"})
        hand.wait(5)
        assert set(hand.desired("pod-1")) == {"m"}, "an Envoy may still send requests there"
        hand.acknowledge()
        hand.wait(1.1)
        assert not hand.desired("pod-1")

    def test_a_name_used_again_while_no_operator_ran_adopts_nothing(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True)))
        hand.do(events.ModelSeen(model_spec(uid="uid-2")))
        hand.report("pod-1", slot("m", copy_id("uid-m", model_spec().content)))
        hand.recover()
        hand.wait(1)
        assert not isinstance(hand.route(), set)
        assert not hand.desired(), "its name is not free yet"
        hand.report("pod-1")
        hand.wait(1)
        assert hand.desired()["m"].startswith("uid-2.")

    def test_what_the_store_says_is_believed_only_where_it_fits(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
        hand.do(events.PodSeen(pod_spec("pod-other", service="other", ready=True)))
        specs = [model_spec(f"m{i}", memory_bytes=40 * MI) for i in range(4)]
        for spec in specs:
            hand.do(events.ModelSeen(spec))
        pods = ("pod-1", "pod-1", "pod-1", "pod-other")
        stored = (events.StoredCopy(s.key, s.uid, s.content, "svc", p) for s, p in zip(specs, pods, strict=True))
        hand.do(events.StoreLoaded(tuple(stored)))
        hand.recover()
        hand.wait(31)
        assert hand.world.pods["pod-1"].committed == 80 * MI
        assert not hand.desired("pod-other")

    def test_every_endpoint_comes_before_a_route_to_it(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.ModelSeen(model_spec(min_copies=3)))
        held = copy_id("uid-m", model_spec().content)
        for uid in ("pod-1", "pod-2", "pod-3"):
            hand.do(events.PodSeen(pod_spec(uid)))
            hand.report(uid, slot("m", held))
        hand.recover()
        known: set[str] = set()
        for effect in hand.effects:
            if isinstance(effect, PodEndpointChanged):
                known.add(effect.pod_uid)
            elif isinstance(effect, RouteChanged | ServiceRouteChanged):
                assert effect.pods <= known
        assert hand.route() == {"pod-1", "pod-2", "pod-3"}

    def test_an_update_that_was_on_its_way_to_something_else_is_charged_for_both(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True)))
        hand.do(events.ModelSeen(model_spec()))
        hand.report("pod-1", slot("m", "uid-m.first", target="uid-m.second", phase=CopyPhase.LOADING))
        hand.recover()
        assert hand.world.pods["pod-1"].committed == 30 * MI, "both, and what is wanted now beside them"
        want = copy_id("uid-m", content_digest("s3://models/m", "sklearn"))
        hand.report("pod-1", slot("m", "uid-m.first", target=want, phase=CopyPhase.LOADING))
        assert hand.world.pods["pod-1"].committed == 20 * MI

    def test_adopting_never_charges_more_than_a_pod_has(self) -> None:
        hand = Hand(recovered=False)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec(ready=True)))
        specs = [model_spec(name, memory_bytes=60 * MI) for name in ("a", "b")]  # declared larger meanwhile
        for spec in specs:
            hand.do(events.ModelSeen(spec))
        wants = [copy_id(spec.uid, spec.content) for spec in specs]
        hand.report("pod-1", slot("a", "uid-a.old", target=wants[0], phase=CopyPhase.LOADING), slot("b", wants[1]))
        hand.recover()
        assert hand.world.pods["pod-1"].committed <= 100 * MI
        assert hand.route("b") == {"pod-1"} or "b" not in hand.desired()


def test_a_pod_that_is_given_up_before_it_ever_served_is_known_before_it_is_routed() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec()))
    hand.recover()
    hand.wait(16)
    found = [e for e in hand.report("pod-1") if isinstance(e, PodEndpointChanged | ServiceRouteChanged)]
    assert isinstance(found[0], PodEndpointChanged)


def test_what_is_adopted_ends_the_wait_for_first_pods() -> None:
    hand = Hand(recovered=False)
    hand.do(events.PodSeen(pod_spec()))
    hand.report("pod-1", slot("m", copy_id("uid-m", model_spec().content)))
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    hand.recover()
    assert hand.route() == {"pod-1"}
    assert not hand.world.gathering


def test_models_that_were_seen_before_their_service_are_placed_once_the_world_is_known() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ServiceSeen(service_spec()))
    hand.report("pod-1")
    hand.recover()
    assert set(hand.desired()) == {"m"}


def test_an_agent_that_says_what_changed_since_its_first_message_is_believed() -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec()))
    hand.report("pod-1")
    hand.report("pod-1", observed_base=1)
    assert hand.world.pods["pod-1"].observed_version == 2


def test_what_failed_under_another_operator_is_not_loaded_before_its_pause_is_over() -> None:
    """By its status; a copy that is kept is loaded with what worked."""
    hand = Hand(recovered=False)
    good = Content("s3://models/m", "sklearn", content_digest("s3://models/m", "sklearn"), 10 * MI)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec(storage_uri="s3://models/new"), last_good=good, failure=failure()))
    hand.report("pod-1")
    hand.recover()
    assert hand.desired() == {"m": copy_id("uid-m", good.digest)}


def test_after_a_start_first_pods_are_waited_for_as_ever_and_not_for_ever() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid)))
    hand.do(events.ModelSeen(model_spec()))
    hand.report("pod-1")  # the other one's image cannot be pulled
    hand.recover()
    assert not hand.desired()
    hand.wait(21.0)
    assert set(hand.desired()) == {"m"}
