"""How far agents are believed: what a pod may say of itself stays bounded, for good, and harms nobody else."""

import random

import pytest
from shoal_api.messages import CopyPhase, ModelUse, SlotReport
from shoal_operator.state.pods import limits
from shoal_operator.state.pods.limits import EPOCH_STEP
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ClaimEpoch
from shoal_operator.state.world.values import ModelKey, ScaleMetric

from .overcommitted import Cold
from .world_in_hand import Hand, model_spec, pod_spec, service_spec, slot


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A lower limit, so that the tests are quick."""
    monkeypatch.setattr(limits, "MAX_STRAYS", 20)
    monkeypatch.setattr(limits, "MAX_UNKNOWN", 60)
    return 20


def strays(*numbers: int) -> list[SlotReport]:
    return [slot(f"made-up-{number}", "a.b") for number in numbers]


def noted(hand: Hand, pod: str = "pod-1") -> int:
    return max(len(hand.world.pods[pod].slots), len(hand.world.pods[pod].copies))


def test_made_up_slots_are_noted_up_to_a_number(few: int) -> None:
    """Finding exp_slots: report after report of new slots stayed for good."""
    hand = Hand().with_pods("pod-1")
    for turn in range(5):
        first = turn * 100
        base = None if not turn else hand.versions["pod-1"]
        hand.report("pod-1", *strays(*range(first, first + 100)), observed_base=base, desired_version=0)
        assert noted(hand) <= few
    hand.report("pod-1", *strays(*range(1000, 1100)))
    assert noted(hand) <= 2 * few  # those of before are still waited for


def test_strays_that_are_never_confirmed_gone_do_not_pile_up(few: int) -> None:
    """Made up, gone, and made up anew, by an agent that never obeys."""
    hand = Hand().with_pods("pod-1")
    rng = random.Random(1)
    for _ in range(300):
        held = list(hand.world.pods["pod-1"].slots)
        hand.report(
            "pod-1",
            *strays(rng.randrange(10**9)),
            observed_base=hand.versions["pod-1"],
            observed_gone=rng.sample(held, len(held) // 2),
            desired_version=0,
        )
        assert noted(hand) <= few
        assert len(hand.world.pods["pod-1"].strays) <= few


def test_once_strays_are_gone_others_are_noted_again(few: int) -> None:
    hand = Hand().with_pods("pod-1")
    hand.report("pod-1", *strays(*range(50)))
    hand.report("pod-1")  # its agent has let go of all
    assert noted(hand) == 0
    hand.report("pod-1", *strays(*range(100, 110)))
    assert len(hand.world.pods["pod-1"].slots) == 10


def test_what_can_be_the_pods_own_is_never_left_out(few: int) -> None:
    hand = Hand().with_pods("pod-1")
    names = [f"m{number}" for number in range(3 * few)]
    for name in names:
        hand.do(events.ModelSeen(model_spec(name, memory_bytes=1)))
    hand.report("pod-1", *strays(*range(100)))
    hand.loaded("pod-1")
    assert set(names) <= hand.world.pods["pod-1"].slots.keys()
    assert all(hand.world.models[ModelKey("ns", name)].ready for name in names)


def test_while_models_are_not_known_yet_what_an_agent_holds_is_kept_and_then_adopted(few: int) -> None:
    hand = Hand(recovered=False)
    specs = [model_spec(f"m{number}", memory_bytes=1) for number in range(2 * few)]
    hand.do(events.EpochClaimed(1))
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec("pod-1", ready=True)))
    copies = [slot(spec.name, f"{spec.uid}.{spec.content}") for spec in specs]
    hand.report("pod-1", *copies, *strays(*range(1000)))
    assert noted(hand) <= limits.MAX_UNKNOWN
    for spec in specs:
        hand.do(events.ModelSeen(spec))
    hand.recover()
    assert all(hand.world.models[spec.key].ready for spec in specs)
    assert noted(hand) <= 3 * few


def test_an_agent_raises_the_epoch_by_a_small_step_at_most_however_often_it_tries() -> None:
    """Findings exp_epoch, exp_agent."""
    hand = Hand().with_pods("pod-1", "pod-2")
    first = hand.world.epoch
    for attempt in (10**18, first + EPOCH_STEP + 1, first + EPOCH_STEP, first + EPOCH_STEP + 1, 2**63 - 1):
        for number in range(3):
            uid = f"evil-{attempt}-{number}"
            hand.do(events.PodSeen(pod_spec(uid, namespace="tenant", service="nothing")))
            for effect in hand.report(uid, namespace="tenant", epoch=attempt):
                if isinstance(effect, ClaimEpoch):
                    hand.do(events.EpochClaimed(effect.epoch))
    assert hand.world.epoch == first + EPOCH_STEP + 1
    # The refused ones count for nothing, and nobody else noticed.
    assert not hand.world.pods[f"evil-{10**18}-0"].known
    assert hand.world.pods["pod-1"].placeable
    hand.do(events.ModelSeen(model_spec("m")))
    assert hand.world.epoch <= limits.epoch_limit(hand.world), "what all agents obey now is believed of them"
    for pod in ("pod-1", "pod-2"):
        hand.report(pod, *(slot(i.name, i.copy_id) for i in hand.world.pods[pod].desired), epoch=hand.world.epoch)
    assert hand.route("m") is not None


def test_the_largest_numbers_that_pass_the_border_raise_nowhere() -> None:
    """Finding exp_inf: an infinite sum of seconds raised in a review, and other services' effects were lost."""
    hand = Cold(
        "pod-1",
        "pod-2",
        room=2,
        service={"autoscaled": True, "max_replicas": 4, "scale_metric": ScaleMetric.CONCURRENCY, "scale_target": 10.0},
    )
    hand.add("a", "b")
    hand.pass_time(10)
    pod = hand.pod_of("a")
    extremes = [(0, 0.0, 0.0), (2**63 - 1, 1e11, 1e11), (0, 1e11, 0.0), (2**63 - 1, 0.0, 1e11), (1, 1.0, 1.0)]
    for requests, busy, idle in extremes:
        use = ModelUse(name="a", requests=requests, in_flight=requests, busy_seconds=busy, idle_seconds=idle)
        held = [slot(copy.name, copy.serving, phase=CopyPhase.LOADED) for copy in hand.world.pods[pod].copies.values()]
        hand.report(pod, *held, use=[use], use_now=True)
        for _ in range(10):
            hand.pass_time(5)
    victim = service_spec(namespace="victim", name="v", uid="v", autoscaled=True, max_replicas=3)
    hand.do(events.ServiceSeen(victim))
    hand.do(events.ModelSeen(model_spec("other", namespace="victim", service="v")))
    hand.pass_time(60)
    assert ModelKey("victim", "other") in hand.world.models
