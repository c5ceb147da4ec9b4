"""Late leaders: what one hears of a later one, and what one that was elected late makes of what it finds."""

import asyncio

from prometheus_client import CollectorRegistry
from shoal_api.messages import ServerReport, SyncRequest
from shoal_operator.agents.border import facts
from shoal_operator.core import ROOMS, Core, Outlets
from shoal_operator.metrics import FailureMetrics
from shoal_operator.state.world import events

from tests.unit.state.world_in_hand import Hand, model_spec, pod_spec, service_spec, slot


async def test_a_leader_learns_of_a_later_one_from_an_agent_that_it_has_heard_before() -> None:
    hand = Hand().with_pods("pod-1")
    assert hand.world.pods["pod-1"].heard
    named: list[int] = []
    outlets = Outlets(lambda effects: None, dict.fromkeys(ROOMS, lambda effect: None), named=named.append)
    core = Core(hand.world, outlets, asyncio.get_running_loop().time, FailureMetrics(CollectorRegistry()))
    ours = hand.world.epoch
    for number, epoch in enumerate((ours, ours + 1)):
        request = SyncRequest(
            namespace="ns",
            pod="pod-1",
            pod_uid="pod-1",
            session="0000000001",
            epoch=epoch,
            server=ServerReport(type="mlserver", ready=True),
            observed_version=100 + number,
        )
        core.report(facts(request))
    assert named == [ours + 1]


def test_one_that_stood_by_for_an_hour_adopts_what_agents_hold() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    for kind in events.Kind:
        hand.do(events.Listed(kind))
    hand.wait(3600.0)
    hand.do(events.EpochClaimed(2))
    hand.do(events.StoreLoaded(()))
    assert hand.world.recovering, "no agent could connect before now"
    held = f"uid-m.{model_spec().content}"
    hand.report("pod-1", slot("m", held))
    assert not hand.world.recovering
    assert hand.route() == {"pod-1"}
    assert hand.desired() == {"m": held}
