"""A model whose last content worked is no outage because its wanted one is broken or untried, also after a restart."""

from datetime import UTC, datetime
from typing import Any

import pytest
from shoal_api.messages import Action, CopyPhase, FailureStage, SlotReport, content_digest, copy_id
from shoal_operator.state.owners.project import activation_view, model_view
from shoal_operator.state.world import events
from shoal_operator.status.model_status import diagnose, model_status
from shoal_operator.watch import parse

from .world_in_hand import KEY, MI, Hand, failure, model_spec, pod_spec, service_spec, slot

SERVICE = service_spec().key
GOOD = copy_id("uid-m", content_digest("s3://models/m", "sklearn"))
BROKEN_URI = "s3://models/broken"
BROKEN = copy_id("uid-m", content_digest(BROKEN_URI, "sklearn"))
NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Cluster(Hand):
    """One pod of 20 MiB and an agent that loads everything but the broken content."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=20 * MI)))
        self.do(events.PodSeen(pod_spec(capacity_bytes=20 * MI, gate_open=True, ready=True)))

    def agent(self, *, broken: FailureStage = FailureStage.LOAD, slow: tuple[str, ...] = ()) -> None:
        """It does what it is told to, and Envoy acknowledges, until nothing changes. ``slow``: not loaded yet."""
        for _ in range(6):
            self.acknowledge()
            pod = self.world.pods["pod-1"]
            self.report("pod-1", *(self._slot(intent, broken, slow) for intent in pod.desired))

    def _slot(self, intent: Any, broken: FailureStage, slow: tuple[str, ...] = ()) -> SlotReport:
        before = self.world.pods["pod-1"].slots.get(intent.name)
        serving = before.serving if before is not None else None
        bad = intent.copy_id == BROKEN and (intent.action is Action.LOAD or broken is FailureStage.STORAGE)
        if bad:
            told = {"phase": CopyPhase.WAITING, "failure": failure(broken)}
        elif intent.action is Action.LOAD and intent.name in slow:
            told = {"phase": CopyPhase.LOADING}
        elif intent.action is Action.LOAD:
            serving, told = intent.copy_id, {}
        else:
            told = {"phase": CopyPhase.SEEN if intent.action is Action.STAT else CopyPhase.PULLED}
        return slot(intent.name, serving, target=intent.copy_id, action=intent.action, artifact_bytes=5 * MI, **told)

    def ready(self, name: str = "m") -> tuple[str, str]:
        view = model_view(self.world, model_spec(name).key, self.now, url="")
        assert view is not None
        found = diagnose(view)["Ready"]
        return found.verdict.value, found.reason

    def ask(self, name: str = "m") -> Any:
        """A request, as long as it is held; where it goes, or why nowhere."""
        for _ in range(12):
            view = activation_view(self.world, SERVICE, name, self.now)
            assert view is not None
            if view.endpoints or view.unavailable is None or view.unavailable.value != "Cold":
                break
            self.do(events.Requested(SERVICE, name))
            self.agent()
            self.wait(1.0)
        return self.route(name)

    def served(self) -> str | None:
        copy = self.world.pods["pod-1"].copies.get("m")
        return copy.serving if copy is not None else None

    def make_cold(self) -> None:
        """Others are asked for until the model has made way."""
        self.wait(100.0)
        for name in ("x", "y"):
            self.do(events.ModelSeen(model_spec(name)))
            self.ask(name)
            self.wait(40.0)
            self.agent()
        assert self.route("m") == "Cold"


def _update(hand: Hand, uri: str = BROKEN_URI, **given: Any) -> None:
    hand.do(events.ModelSeen(model_spec(storage_uri=uri, generation=2, **given)))


def _loaded() -> Cluster:
    hand = Cluster()
    hand.report()
    hand.do(events.ModelSeen(model_spec()))
    hand.agent()
    assert hand.route("m") == {"pod-1"}
    return hand


@pytest.mark.parametrize("stage", list(FailureStage))
def test_a_broken_update_is_said_at_once_and_the_old_content_serves(stage: FailureStage) -> None:
    hand = _loaded()
    _update(hand)
    hand.agent(broken=stage)
    assert (hand.route("m"), hand.served()) == ({"pod-1"}, GOOD)
    assert hand.ready() == ("True", "UpdateFailed")
    assert hand.world.pods["pod-1"].committed == 10 * MI, "it is not tried all the time"


def test_evicted_beside_a_broken_update_it_comes_back_with_what_worked() -> None:
    hand = _loaded()
    _update(hand)
    hand.agent()
    hand.make_cold()
    assert hand.ready() == ("True", "UpdateFailed")
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD


def test_evicted_before_the_update_was_tried_the_request_is_answered_all_the_same() -> None:
    hand = _loaded()
    hand.make_cold()
    _update(hand)
    assert hand.ready()[0] == "True"
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD
    assert hand.ready() == ("True", "UpdateFailed")


@pytest.mark.parametrize(
    "update", [{"framework": "onnx", "content": content_digest(BROKEN_URI, "onnx")}, {"memory_bytes": 30 * MI}], ids=str
)
def test_what_cannot_be_loaded_here_at_all_is_not_waited_for(update: dict[str, Any]) -> None:
    hand = _loaded()
    _update(hand, **update)
    hand.agent()
    assert hand.route("m") == {"pod-1"}
    hand.make_cold()
    assert hand.ready()[0] == "True"
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD


def test_it_is_tried_again_and_loaded_once_it_works() -> None:
    hand = _loaded()
    _update(hand)
    hand.agent()
    tried = 0
    for _ in range(40):
        hand.wait(1.0)
        tried += hand.desired()["m"] == BROKEN
        hand.agent()
        assert hand.route("m") == {"pod-1"}
    assert 1 <= tried <= 4, "with growing pauses"
    _update(hand, "s3://models/mended")
    hand.agent()
    assert hand.served() == copy_id("uid-m", content_digest("s3://models/mended", "sklearn"))
    assert hand.ready() == ("True", "OnDemand")


def _restarted(before: Hand, obj_uri: str) -> Cluster:
    """Another operator, which knows the status that the first one wrote, and agents that hold nothing."""
    view = model_view(before.world, KEY, before.now, url="")
    assert view is not None
    status = model_status(view, None, NOW)
    obj = {
        "metadata": {"namespace": "ns", "name": "m", "uid": "uid-m", "generation": 2},
        "spec": {"inferenceService": "svc", "model": {"framework": "sklearn", "storageUri": obj_uri, "memory": "10Mi"}},
        "status": status,
    }
    hand = Cluster(recovered=False)
    hand.do(events.ModelSeen(parse.model_spec(obj), parse.vouched(obj), parse.last_good(obj)))
    hand.report()
    hand.recover(2)
    return hand


def test_another_operator_knows_the_last_good_content_by_the_status() -> None:
    before = _loaded()
    _update(before)
    before.agent()
    hand = _restarted(before, BROKEN_URI)
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD
    assert hand.ready() == ("True", "UpdateFailed")


def test_edited_while_no_operator_ran_it_is_answered_by_what_worked() -> None:
    hand = _restarted(_loaded(), BROKEN_URI)
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD


def test_an_edit_that_cannot_be_used_and_that_no_operator_saw_leaves_the_last_good_in_force() -> None:
    hand = _restarted(_loaded(), "foo://x")
    assert hand.ready() == ("True", "UpdateFailed")
    assert hand.ask() == {"pod-1"}
    assert hand.served() == GOOD


def test_when_the_last_good_content_fails_too_the_cause_is_that_of_the_wanted_one() -> None:
    hand = _loaded()
    _update(hand)
    hand.agent()
    hand.make_cold()
    for _ in range(8):
        hand.wait(0.5)
        hand.do(events.Requested(SERVICE, "m"))
        hand.acknowledge()
        pod = hand.world.pods["pod-1"]
        told = [pod.slots[intent.name] for intent in pod.desired if intent.name != "m"]
        wanted = pod.desired.get("m")
        if wanted is not None:
            waits: dict[str, Any] = {"target": wanted.copy_id, "action": wanted.action, "phase": CopyPhase.WAITING}
            told.append(slot("m", None, failure=failure(), **waits))
        hand.report("pod-1", *told)
    assert hand.ready() == ("False", "LoadFailed")
    assert hand.route("m") == "LoadFailed"
    assert not hand.world.models[KEY].fallback, "it is left alone for a while"
    hand.now = hand.world.models[KEY].last_good_retry_at
    hand.do(events.Tick())
    assert hand.world.models[KEY].fallback, "it is tried again in time, which nothing else would bring about"


def test_no_request_waits_for_what_is_known_not_to_load() -> None:
    """The retry of the broken content is due; a request gets what worked, and the retry waits until it is answered."""
    hand = _loaded()
    _update(hand)
    hand.agent()
    hand.make_cold()
    hand.wait(1000.0)
    assert hand.ready() == ("True", "UpdateFailed")
    hand.do(events.Requested(SERVICE, "m"))
    assert hand.desired()["m"] == GOOD, "without another try of what failed"
    for _ in range(30):
        hand.wait(1.0)
        hand.do(events.Requested(SERVICE, "m"))
        hand.agent(slow=("m",))
        assert hand.desired()["m"] == GOOD, "nor while it waits"
    hand.agent()
    assert hand.served() == GOOD
    for name in ("x", "y"):
        hand.do(events.ModelGone(model_spec(name).key, model_spec(name).uid))
    tried = set()
    for _ in range(60):
        hand.wait(1.0)
        tried.add(hand.desired()["m"])
        hand.agent()
        assert hand.route("m") == {"pod-1"}
    assert BROKEN in tried, "it is tried again afterwards"


def test_a_broken_update_of_an_idle_model_loads_nothing_for_nobody() -> None:
    hand = _loaded()
    _update(hand, idle_unload=3.0)
    hand.agent()
    for _ in range(20):
        hand.wait(2.0)
        hand.agent()
    assert hand.route("m") == "Cold"
    for _ in range(400):
        hand.wait(1.0)
        hand.agent()
        assert hand.served() is None
    assert hand.ready() == ("True", "UpdateFailed")
    assert hand.ask() == {"pod-1"}


def test_kept_and_lost_while_a_broken_update_is_tried_again_it_comes_back_with_what_worked_first() -> None:
    """What is only tried again may wait: nothing answers."""
    hand = Cluster()
    hand.report()
    hand.do(events.ModelSeen(model_spec(min_copies=1)))
    hand.agent()
    _update(hand, min_copies=1)
    hand.agent()
    model = hand.world.models[KEY]
    hand.wait(model.retry_at - hand.now + 0.1)
    assert not model.fallback, "the broken one is tried again beside what serves"
    hand.do(events.PodGone("pod-1"))
    hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=20 * MI, gate_open=True, ready=True)))
    hand.report("pod-2")
    hand.wait(1.0)
    assert hand.desired("pod-2") == {"m": GOOD}
    assert hand.ready() == ("Unknown", "Pending"), "a request is held, and is answered once it has loaded"
    assert hand.world.services[SERVICE].failed_count == 0
    hand.loaded("pod-2")
    assert hand.route("m") == {"pod-2"}
    assert hand.ready() == ("True", "UpdateFailed")
    hand.wait(60.0)
    assert hand.desired("pod-2") == {"m": BROKEN}, "and then the update is tried"
