"""minReplicas 0: pods go when nobody asks, and come for a request or for what nobody has looked up."""

from datetime import UTC, datetime
from typing import Any

import pytest
from shoal_api.messages import copy_id
from shoal_operator.state.owners.project import activation_view, model_view, service_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ReplicasWanted
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source
from shoal_operator.status.model_status import diagnose
from shoal_operator.status.service_status import service_status

from .overcommitted import Cold
from .world_in_hand import Hand, model_spec, pod_spec, service_spec

IDLE, TOLD, WAKE, LOOK = 60.0, 6.0, 120.0, 60.0
SERVICE = {"idle": IDLE, "wake_timeout": WAKE}
KEY = ServiceKey("ns", "svc")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Zero(Cold):
    """``wanted``: the pods that were asked for, in turn. Pods come and go as a Deployment's do, when told to."""

    def __init__(self, *pods: str, **given: Any) -> None:
        super().__init__(*pods, service={**SERVICE, "min_replicas": 1, **given})

    @property
    def wanted(self) -> list[int]:
        return [effect.replicas for effect in self.effects if isinstance(effect, ReplicasWanted)]

    @property
    def phase(self) -> Phase:
        return self.service.rest.phase

    def sleep(self) -> None:
        """Nobody asks, until no pod is wanted; they go."""
        self.pass_time(IDLE + TOLD + 5, step=1.0)
        assert self.phase is Phase.ZERO
        for uid in list(self.world.pods):
            self.do(events.PodGone(uid))

    def ready(self, name: str) -> tuple[str, str]:
        view = model_view(self.world, ModelKey("ns", name), self.now, url="")
        assert view is not None
        found = diagnose(view)["Ready"]
        return found.verdict.value, found.reason

    def timeout(self, name: str) -> float:
        view = activation_view(self.world, KEY, name, self.now)
        assert view is not None
        return view.timeout


def used(*names: str) -> Zero:
    hand = Zero("pod-1")
    hand.add(*names)
    hand.pass_time(2)
    for name in names:
        hand.use(name)
    return hand


def test_a_service_that_is_new_has_no_pod_until_there_is_a_model_to_be_looked_up() -> None:
    hand = Zero()
    hand.wait(10)
    assert (hand.phase, hand.wanted[-1]) == (Phase.ZERO, 0)
    hand.add("m")
    hand.wait(0.1)
    assert hand.ready("m") == ("Unknown", "NotLookedUp")
    assert (hand.phase, hand.wanted[-1]) == (Phase.WAKING, 1)
    hand.join("pod-1")
    hand.agents()
    assert (hand.phase, hand.ready("m")) == (Phase.UP, ("True", "OnDemand"))


def test_unused_pods_are_emptied_and_go_and_the_models_stay_ready() -> None:
    hand = used("a", "b")
    assert hand.loaded_models() == {"a", "b"}
    hand.pass_time(IDLE + TOLD - 2)
    assert hand.phase is Phase.UP
    hand.sleep()
    assert hand.wanted[-1] == 0
    assert hand.loaded_models() == set()
    assert {hand.ready(name) for name in ("a", "b")} == {("True", "OnDemand")}
    assert (hand.refused("a"), hand.timeout("a")) == ("Cold", WAKE)
    assert hand.service.stats.rests == 1


def test_pods_go_only_once_they_hold_nothing() -> None:
    hand = used("a")
    hand.now += IDLE + TOLD + 1
    hand.wait(0)
    assert (hand.phase, hand.route("a")) == (Phase.EMPTYING, "Cold")
    for _ in range(20):
        hand.wait(1)  # its agent does not confirm: a request runs
    assert (hand.phase, hand.wanted[-1]) == (Phase.EMPTYING, 1)
    hand.pass_time(5)
    assert (hand.phase, hand.wanted[-1]) == (Phase.ZERO, 0)


def test_a_request_that_runs_keeps_them() -> None:
    hand = Zero("pod-1")
    hand.add("a")
    hand.pass_time(2)
    hand.use("a", in_flight=1)
    hand.pass_time(5 * IDLE, step=5.0)
    assert (hand.phase, hand.route("a")) == (Phase.UP, {"pod-1"})
    hand.use("a", in_flight=0)
    hand.sleep()


def test_nobody_knows_what_a_pod_does_whose_agent_is_away() -> None:
    hand = used("a")
    hand.do(events.AgentLost("pod-1", "0000000001"))
    for _ in range(10):
        hand.wait(IDLE)
    assert hand.phase is Phase.UP


def test_a_trickle_of_requests_does_not_flap() -> None:
    hand = Zero("pod-1")
    hand.add("a")
    for count in range(1, 30):
        hand.pass_time(IDLE - 1, step=10.0)
        hand.pass_time(5, step=5.0)  # which its agent tells so late
        hand.use("a", requests=count, idle=5.0)
    assert hand.service.stats.rests == 0
    assert hand.service.stats.unloads == 0


def test_a_request_has_a_pod_started_and_waits_for_it() -> None:
    hand = used("a", "b")
    hand.sleep()
    before = hand.service.stats.wakes
    hand.ask("a")
    assert (hand.phase, hand.wanted[-1], hand.service.stats.wakes) == (Phase.WAKING, 1, before + 1)
    for _ in range(5):
        hand.now += 1
        hand.ask("a")  # as the activator says again each second
    assert hand.wanted[-2:] == [0, 1]
    assert (hand.ready("a"), hand.ready("b"), hand.refused("a")) == (("True", "OnDemand"),) * 2 + ("Cold",)
    hand.join("pod-2")
    hand.pass_time(2)
    assert hand.route("a") == {"pod-2"}
    assert hand.timeout("b") == hand.spec.activation_timeout


def test_a_request_that_comes_while_pods_are_emptied_ends_that() -> None:
    hand = used("a")
    hand.now += IDLE + TOLD + 1
    hand.wait(0)
    hand.ask("a")
    assert hand.phase is Phase.UP
    hand.pass_time(5)
    assert hand.route("a") == {"pod-1"}
    assert hand.wanted[-1] == 1


def test_a_pod_that_does_not_come_is_said_once_it_is_late() -> None:
    hand = used("a")
    hand.sleep()
    hand.ask("a")
    hand.wait(WAKE - 1)
    assert (hand.ready("a"), hand.refused("a")) == (("True", "OnDemand"), "Cold")
    hand.wait(2)
    assert (hand.ready("a"), hand.refused("a")) == (("False", "PodsNotReady"), "InferenceServiceNotReady")
    for _ in range(20):
        hand.wait(IDLE)
    assert hand.wanted[-1] == 1, "it goes on being wanted: what keeps it out stays visible"
    hand.join("pod-2")
    hand.pass_time(2)
    assert hand.ready("a") == ("True", "OnDemand")


def test_models_that_are_applied_while_there_is_no_pod_share_one_a_minute() -> None:
    hand = Zero()
    for number in range(5):
        hand.add(f"m{number}")
        hand.wait(0.1)
    assert hand.service.stats.wakes == 1
    hand.join("pod-1")
    hand.sleep()
    slept = hand.now
    hand.add("late")
    hand.wait(0.1)
    assert hand.service.stats.wakes == 2, "the last one is longer ago"
    assert hand.now - slept < 1


def test_what_is_not_known_wakes_a_pod_no_more_often_however_often_it_is_asked_for() -> None:
    hand = Zero()
    hand.add("m")
    hand.wait(0.1)
    service, first = hand.service, hand.now
    for _ in range(40):  # pods that are taken away at once, as a short idle time has it
        service.rest.turn(Phase.ZERO, hand.now)
        hand.now += 1
        hand.ask("m")
        hand.wait(0)
    assert hand.now < first + LOOK
    assert service.stats.wakes == 1
    hand.now = first + LOOK
    hand.wait(0.1)
    assert service.stats.wakes == 2


def test_names_that_are_not_there_wake_none() -> None:
    hand = used("a")
    hand.sleep()
    for number in range(100):
        hand.ask(f"made-up-{number}")
    assert hand.phase is Phase.ZERO


def test_an_edit_is_looked_up_and_what_was_good_answers_meanwhile() -> None:
    hand = used("a")
    hand.sleep()
    hand.do(events.ModelSeen(model_spec("a", storage_uri="s3://models/other", generation=2)))
    hand.wait(0.1)
    assert (hand.phase, hand.ready("a")) == (Phase.WAKING, ("True", "Updating"))


def test_min_copies_keep_nothing_and_it_is_said() -> None:
    hand = Zero("pod-1")
    hand.add("a", min_copies=1)
    hand.use("a")
    assert hand.ready("a") == ("True", "OnDemand")
    view = model_view(hand.world, ModelKey("ns", "a"), hand.now, url="")
    assert view is not None
    assert "minReplicas is 0" in diagnose(view)["FieldsIgnored"].message
    hand.sleep()
    assert hand.ready("a") == ("True", "OnDemand")


def test_no_longer_zero_has_pods_at_any_time() -> None:
    hand = used("a")
    hand.sleep()
    hand.spec = service_spec(strict=False, capacity_bytes=hand.spec.capacity_bytes, generation=2)
    hand.do(events.ServiceSeen(hand.spec))
    assert (hand.phase, hand.ready("a")) == (Phase.UP, ("False", "PodsNotReady"))
    hand.join("pod-2")
    hand.pass_time(5 * IDLE, step=10.0)
    assert hand.route("a") == {"pod-2"}
    hand.do(events.ServiceSeen(service_spec(strict=False, **SERVICE, capacity_bytes=1 << 30, generation=3)))
    hand.sleep()


def test_autoscaled_it_goes_from_any_number_and_comes_back_with_the_least() -> None:
    hand = Zero("pod-1", "pod-2", autoscaled=True, min_replicas=1, max_replicas=4)
    hand.add("a", "b", "c")
    hand.sleep()
    hand.ask("a")
    assert hand.wanted[-1] == 1
    hand.join("pod-3")
    hand.pass_time(3)
    assert (hand.phase, hand.route("a")) == (Phase.UP, {"pod-3"})


@pytest.mark.parametrize("vouched", [True, False])
def test_an_operator_that_starts_where_there_is_no_pod(vouched: bool) -> None:
    """By the models' status: what was Ready is Ready, and wakes nobody; of the rest nothing is known."""
    hand = Zero.__new__(Zero)
    Hand.__init__(hand, recovered=False)
    hand.room, hand.broken = 2, set()
    hand.do(events.ServiceSeen(service_spec(strict=False, **SERVICE)))
    hand.do(events.ModelSeen(model_spec("a"), vouched=vouched))
    hand.recover()
    hand.wait(1)
    if vouched:
        assert (hand.phase, hand.wanted, hand.ready("a")) == (Phase.ZERO, [0], ("True", "OnDemand"))
        hand.ask("a")
    assert (hand.phase, hand.wanted) == (Phase.WAKING, [0, 1])
    hand.join("pod-1")
    hand.pass_time(2)
    assert hand.ready("a") == ("True", "OnDemand")


def test_an_operator_that_starts_while_a_pod_does_takes_it_for_what_it_is() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(strict=False, **SERVICE)))
    hand.do(events.ModelSeen(model_spec("a"), vouched=True))
    hand.do(events.PodSeen(pod_spec()))
    hand.recover()
    assert hand.world.services[KEY].rest.phase is Phase.WAKING
    assert [each.replicas for each in hand.effects if isinstance(each, ReplicasWanted)] == [1]
    hand.report()
    assert hand.world.services[KEY].rest.phase is Phase.UP


def own(pods: int = 1) -> Hand:
    hand = Hand()
    spec = service_spec(multi_model=False, strict=False, min_replicas=1, **SERVICE)
    hand.do(events.ServiceSeen(spec))
    given = {"uid": spec.uid, "source": Source.INFERENCE_SERVICE, "memory_bytes": 1}
    hand.do(events.ModelSeen(model_spec("svc", **given)))
    hand.wait(0.1)
    return hand


def phase_of(hand: Hand) -> Phase:
    return hand.world.services[KEY].rest.phase


def test_a_model_of_its_own_goes_and_comes_with_its_pods() -> None:
    hand, key = own(), ModelKey("ns", "svc")
    assert phase_of(hand) is Phase.WAKING
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.wait(1)
    hand.loaded()
    assert hand.route("svc") == {"pod-1"}
    for _ in range(100):
        hand.wait(1)
        hand.loaded()
        hand.acknowledge()
    assert phase_of(hand) is Phase.ZERO
    hand.do(events.PodGone("pod-1"))
    whole = service_view(hand.world, KEY, hand.now, url="", gateways=1)
    assert whole is not None
    assert (whole.pods_wanted, whole.pods_ready) == (0, 0)
    hand.do(events.Requested(KEY, "svc"))
    assert phase_of(hand) is Phase.WAKING
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    spec = hand.world.models[key].spec
    assert hand.desired("pod-2") == {"svc": copy_id(spec.uid, spec.content)}


def test_what_the_inference_service_says() -> None:
    hand = used("a")

    def said() -> tuple[str, str]:
        view = service_view(hand.world, KEY, hand.now, url="", gateways=1)
        assert view is not None
        found = service_status(view, None, MOMENT)["conditions"]
        ready = next(each for each in found if each["type"] == "Ready")
        return ready["status"], ready["reason"]

    hand.sleep()
    assert said() == ("True", "ScaledToZero")
    hand.ask("a")
    assert said() == ("True", "Waking")
    hand.wait(WAKE + 1)
    assert said() == ("Unknown", "PodsStarting")
    hand.join("pod-2", ready=True)
    assert said() == ("True", "Ready")
