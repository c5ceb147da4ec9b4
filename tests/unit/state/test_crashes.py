"""Models whose load ends the model server's process: what is said, how often that is tried, and what mends it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from shoal_api.messages import MODEL_SERVER_CRASHED, CopyFailure, CopyPhase, FailureStage, content_digest
from shoal_operator.state.owners.project import activation_view, model_view
from shoal_operator.state.wish.states import MAX_CRASHES
from shoal_operator.state.world import events
from shoal_operator.status.model_status import model_status
from shoal_operator.watch.parse import failure as failure_of

from .overcommitted import SERVICE, Cold
from .world_in_hand import MI, model_spec, pod_spec, slot

GOOD = "s3://models/good"


class Crashing(Cold):
    """``crash``: the pod's agent says that its server ended while it was loading that model."""

    def __init__(self, *pods: str, **given: object) -> None:
        super().__init__(*pods, **given)  # type: ignore[arg-type]
        self.crashes = 0

    def crash(self, name: str = "bad", pod: str = "pod-1", times: int = 1) -> None:
        self.crashes += 1
        why = CopyFailure(
            stage=FailureStage.LOAD, reason=MODEL_SERVER_CRASHED, message="It ended.", attempts=times, retry_at=None
        )
        target = self.desired(pod)[name]
        others = [self._slot(pod, each) for each in self.desired(pod) if each != name]
        self.report(pod, *others, slot(name, None, target=target, phase=CopyPhase.WAITING, failure=why))

    def crash_until_left_alone(self, name: str = "bad", pod: str = "pod-1") -> None:
        for times in range(1, MAX_CRASHES + 1):
            assert name in self.desired(pod), f"{times} times"
            self.crash(name, pod, times)

    def ends(self, name: str, pod: str = "pod-1", *, out_of_memory: bool = True) -> None:
        before = self.world.pods[pod].spec
        self.do(events.PodSeen(replace(before, server_ended=name, out_of_memory=out_of_memory)))

    def said(self, name: str = "bad") -> str:
        """The message of Ready; a refused request is told the same."""
        view = model_view(self.world, model_spec(name).key, self.now, url="")
        assert view is not None
        status = model_status(view, None, datetime(2026, 1, 1, tzinfo=UTC))
        (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
        assert (ready["status"], ready["reason"]) == ("False", MODEL_SERVER_CRASHED)
        told = activation_view(self.world, SERVICE, name, self.now)
        assert told is not None
        assert told.message in ("", ready["message"])
        return str(ready["message"])


@pytest.mark.parametrize("least", [0, 1], ids=["may be cold", "kept"])
def test_a_model_that_nobody_asks_for_takes_servers_down_a_few_times_and_no_more(least: int) -> None:
    hand = Crashing("pod-1", "pod-2")
    hand.do(events.ModelSeen(model_spec("bad", min_copies=least)))
    for _ in range(400):
        for pod in ("pod-1", "pod-2"):
            if "bad" in hand.desired(pod):
                hand.crash(pod=pod, times=min(hand.crashes + 1, MAX_CRASHES))
        hand.wait(30)
        for pod in ("pod-1", "pod-2"):
            if "bad" not in hand.desired(pod):
                hand.report(pod)
    assert hand.crashes == MAX_CRASHES
    assert not hand.model("bad").ready
    assert hand.world.pods["pod-1"].committed == 0, "its memory is others'"
    assert "left alone" in hand.said()
    assert least or hand.model("bad").target == 0, "no copy is wanted"


def test_who_asks_has_it_tried_once_after_growing_pauses() -> None:
    hand = Crashing("pod-1")
    hand.do(events.ModelSeen(model_spec("bad")))
    hand.crash_until_left_alone()
    hand.report("pod-1")
    waits = []
    for _ in range(4):
        view = activation_view(hand.world, SERVICE, "bad", hand.now)
        assert view is not None
        assert view.retry_after is not None
        hand.ask("bad")
        hand.agents()
        assert "bad" not in hand.desired("pod-1"), "not before the pause is over"
        waits.append(view.retry_after)
        hand.wait(view.retry_after + 1)
        hand.report("pod-1")
        assert "bad" not in hand.desired("pod-1"), "nor without a request"
        hand.ask("bad")
        hand.crash()
        hand.report("pod-1")
        assert "bad" not in hand.desired("pod-1"), "one try a request"
        assert hand.refused("bad") == "LoadFailed"
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]
    view = activation_view(hand.world, SERVICE, "bad", hand.now)
    assert view is not None
    assert view.retry_after is not None
    hand.wait(view.retry_after + 1)
    hand.ask("bad")
    hand.agents()  # the cause is gone
    assert hand.route("bad") == {"pod-1"}
    assert hand.model("bad").ready
    assert hand.model("bad").crashes == 0


MENDS = {
    "spec.model.memory": events.ModelSeen(model_spec("bad", memory_bytes=15 * MI, generation=2)),
    "its content": events.ModelSeen(
        model_spec("bad", storage_uri=GOOD, content=content_digest(GOOD, "sklearn"), generation=2)
    ),
}


@pytest.mark.parametrize("least", [0, 1], ids=["may be cold", "kept"])
@pytest.mark.parametrize("mend", [*MENDS, "limits.memory"])
def test_an_edit_heals_at_once(mend: str, least: int) -> None:
    hand = Crashing("pod-1")
    hand.do(events.ModelSeen(model_spec("bad", min_copies=least)))
    hand.crash_until_left_alone()
    hand.report("pod-1")
    hand.wait(1.0)
    if mend in MENDS:
        edit = MENDS[mend]
        hand.do(events.ModelSeen(replace(edit.spec, min_copies=least)))
    else:
        hand.do(events.ServiceSeen(replace(hand.spec, capacity_bytes=100 * MI, generation=2)))
    hand.wait(1.0)
    hand.agents()
    assert hand.route("bad") == {"pod-1"}
    assert hand.model("bad").ready


def test_what_worked_before_is_served_and_the_content_that_takes_servers_down_is_not_tried_again() -> None:
    hand = Crashing("pod-1")
    hand.add("bad")
    assert hand.route("bad") == {"pod-1"}
    hand.do(
        events.ModelSeen(model_spec("bad", storage_uri=GOOD, content=content_digest(GOOD, "sklearn"), generation=2))
    )
    tried = 0
    for _ in range(100):
        if hand.desired("pod-1").get("bad") == hand.want("bad"):
            tried += 1
            hand.crash(times=min(tried, MAX_CRASHES))
        hand.agents()  # the former content comes back with the server
        hand.ask("bad")
        hand.wait(60)
        hand.now += hand.world.timing.crash_last
    assert MAX_CRASHES - 1 <= tried <= MAX_CRASHES
    hand.ask("bad")
    hand.agents()
    assert hand.route("bad") == {"pod-1"}
    assert hand.model("bad").ready


def test_what_worked_before_is_kept_in_memory_where_the_new_content_takes_servers_down() -> None:
    hand = Crashing("pod-1")
    hand.add("bad", min_copies=1)
    content = content_digest(GOOD, "sklearn")
    hand.do(events.ModelSeen(model_spec("bad", storage_uri=GOOD, content=content, generation=2, min_copies=1)))
    for times in range(200):
        if hand.desired("pod-1").get("bad") == hand.want("bad"):
            hand.crash(times=min(times + 1, MAX_CRASHES))
        hand.agents()
        hand.wait(60)
    assert hand.crashes <= MAX_CRASHES
    assert hand.route("bad") == {"pod-1"}
    hand.do(events.PodGone("pod-1"))
    hand.join("pod-2")
    for _ in range(10):
        assert hand.desired("pod-2").get("bad") != hand.want("bad"), "nor is it tried on another pod"
        hand.agents()
        hand.wait(1)
    assert hand.route("bad") == {"pod-2"}


@pytest.mark.parametrize("first", ["the agent", "Kubernetes"])
def test_that_it_was_for_want_of_memory_is_said(first: str) -> None:
    hand = Crashing("pod-1")
    hand.do(events.ModelSeen(model_spec("bad")))
    if first == "Kubernetes":
        hand.ends("1")
        hand.wait(1.0)
    hand.crash()
    if first == "the agent":
        assert "OOMKilled" not in hand.said()
        hand.wait(2.0)
        hand.ends("1")
    assert "OOMKilled" in hand.said()
    assert "spec.model.memory" in hand.said()
    assert "resources.limits.memory" in hand.said()


def test_another_end_of_the_server_says_nothing_of_this_one() -> None:
    hand = Crashing("pod-1")
    hand.ends("1")
    hand.do(events.ModelSeen(model_spec("bad")))
    hand.wait(600)
    hand.crash()
    assert "OOMKilled" not in hand.said()
    hand.wait(2)
    hand.ends("2", out_of_memory=False)
    assert "OOMKilled" not in hand.said()
    hand.wait(2)
    hand.ends("3")
    assert "OOMKilled" not in hand.said(), "it was told of its own end already"


def test_a_new_operator_leaves_it_alone_too() -> None:
    """What it says in the status is all that is left of it."""
    hand = Crashing("pod-1")
    hand.do(events.ModelSeen(model_spec("bad")))
    hand.ends("1")
    hand.crash_until_left_alone()
    said = hand.said()
    status = {
        "observedGeneration": 1,
        "conditions": [{"type": "Loaded", "status": "False", "reason": MODEL_SERVER_CRASHED, "message": said}],
    }
    known = failure_of({"metadata": {"generation": 1}, "status": status})
    assert known is not None

    later = Crashing(recovered=False)
    later.do(events.ServiceSeen(hand.spec))
    later.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI)))
    later.do(events.ModelSeen(model_spec("bad", min_copies=1), failure=known))
    later.recover()
    later.report("pod-1")
    for _ in range(100):
        later.wait(30)
        later.report("pod-1")
        assert "bad" not in later.desired("pod-1")
    assert later.said() == said
