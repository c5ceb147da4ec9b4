"""Epochs on a real API server whose Lease is deleted while operators start and agents are served."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration, CoordinationV1Api
from kubernetes.aio.client.exceptions import ApiException
from shoal_agent.exchange import Accepted, Exchange, Identity
from shoal_api.messages import CopyPhase, ServerReport, SlotReport
from shoal_operator.agents.answer import answer
from shoal_operator.agents.border import facts
from shoal_operator.leadership import claim_epoch
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from tests.unit.state.world_in_hand import Hand, model_spec, pod_spec, service_spec

from .server import ApiServer

pytestmark = pytest.mark.component

NAMESPACE = "default"


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[ApiClient]:
    configuration = Configuration()
    load: Any = config.load_kube_config  # the library has no types here
    await load(config_file=str(server.kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield client


async def delete_lease(api: ApiClient) -> bool:
    try:
        await CoordinationV1Api(api).delete_namespaced_lease("shoal-operator", NAMESPACE)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


async def test_a_lease_that_is_deleted_again_and_again_takes_no_epoch_back(api: ApiClient) -> None:
    """Operators start one after the other, without a store."""
    over = asyncio.Event()

    async def delete() -> int:
        deleted = 0
        while not over.is_set():
            deleted += await delete_lease(api)
            await asyncio.sleep(0.01)
        return deleted

    deleting = asyncio.create_task(delete())
    try:
        claimed = [await claim_epoch(api, NAMESPACE, f"op-{n}", 0) for n in range(30)]
    finally:
        over.set()
    assert await deleting > 5
    assert all(earlier < later for earlier, later in itertools.pairwise(claimed))


async def test_an_operator_without_lease_and_store_is_obeyed_and_loads_nothing_again(
    api: ApiClient,
) -> None:
    """The agent's own half of the protocol on one side, state on the other, through three operators' lives."""
    await delete_lease(api)
    spec = model_spec("m")
    agent = Exchange(Identity("ns", "pod-1", "pod-1", "0000000001-a"))
    epochs = []
    for life in range(3):
        hand = Hand(recovered=False)
        hand.do(events.EpochClaimed(await claim_epoch(api, NAMESPACE, f"op-{life}", 0)))
        epochs.append(hand.world.epoch)
        hand.do(events.ServiceSeen(service_spec()))
        hand.do(events.PodSeen(pod_spec("pod-1", ready=True)))
        hand.do(events.ModelSeen(spec))
        told: list[Accepted] = []
        for _ in range(4):
            sync(hand, agent, told)
            if hand.world.silent:
                hand.recover(hand.world.epoch)
        for intent in told[-1].wanted or (each for accepted in told for each in accepted.wanted):
            # It loads what it is told to, once.
            agent.observed.put(
                SlotReport(name="m", serving=intent.copy_id, target=intent.copy_id, phase=CopyPhase.LOADED)
            )
        sync(hand, agent, told)
        assert hand.world.models[ModelKey("ns", "m")].ready
        assert hand.route("m") == {"pod-1"}
        assert not any("m" in accepted.unwanted for accepted in told)
        # The Lease goes while the agent is served, and there is no store.
        assert await delete_lease(api)
        sync(hand, agent, told)
        assert hand.route("m") == {"pod-1"}
    assert epochs == sorted(set(epochs))


def sync(hand: Hand, agent: Exchange, told: list[Accepted]) -> None:
    """One exchange; the agent refuses no answer."""
    request = agent.request(ServerReport(type="mlserver", ready=True), draining=False, wait_seconds=0)
    report = facts(request)
    hand.do(events.AgentReported(report))
    response = answer(hand.world, report, hand.world.pods["pod-1"].observed_version)
    accepted = agent.response(request, response)
    assert isinstance(accepted, Accepted), accepted
    told.append(accepted)
