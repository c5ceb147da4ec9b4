"""The agent's side of the protocol: deltas both ways, whole lists on any doubt, the epoch fence."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_agent.exchange import Accepted, Exchange, Identity, Observed, Refused
from shoal_api.messages import CopyIntent, CopyPhase, ServerReport, SlotReport, SyncRequest, SyncResponse

SERVER = ServerReport(type="mlserver", ready=True)


def report(name: str, phase: CopyPhase = CopyPhase.LOADED) -> SlotReport:
    return SlotReport(name=name, phase=phase)


def intent(name: str, copy: str = "u.c") -> CopyIntent:
    return CopyIntent(name=name, copy_id=copy, storage_uri="s3://b/m", framework="sklearn", memory_bytes=1)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(Identity("default", "pod", "uid", "session"))


def ask(exchange: Exchange, draining: bool = False) -> SyncRequest:
    return exchange.request(SERVER, draining, 20)


def test_the_first_request_is_whole_and_the_next_a_delta(exchange: Exchange) -> None:
    exchange.observed.put(report("a"))
    exchange.observed.put(report("b"))
    first = ask(exchange)
    assert (first.observed_base, [slot.name for slot in first.observed]) == (None, ["a", "b"])
    assert exchange.pending
    exchange.observed.put(report("c"))  # while the first is under way
    exchange.response(first, SyncResponse(epoch=1, observed_acknowledged=first.observed_version))
    exchange.observed.drop("a")
    exchange.observed.put(report("b", CopyPhase.LOADING))
    second = ask(exchange)
    assert second.observed_base == first.observed_version
    assert ([slot.name for slot in second.observed], second.observed_gone) == (["c", "b"], ["a"])
    exchange.response(second, SyncResponse(epoch=1, observed_acknowledged=second.observed_version))
    assert not exchange.pending
    third = ask(exchange)
    assert (third.observed, third.observed_gone) == ([], [])


@pytest.mark.parametrize("acknowledged", [0, 10**6, 2**63 - 1])
def test_an_acknowledgement_that_is_not_ours_asks_for_everything(exchange: Exchange, acknowledged: int) -> None:
    exchange.observed.put(report("a"))
    request = ask(exchange)
    exchange.response(request, SyncResponse(epoch=1, observed_acknowledged=acknowledged))
    again = ask(exchange)
    assert (again.observed_base, len(again.observed)) == (None, 1)


def test_desired_whole_then_delta_then_nothing(exchange: Exchange) -> None:
    request = ask(exchange)
    assert request.desired_version == 0
    accepted = exchange.response(
        request, SyncResponse(epoch=1, observed_acknowledged=1, desired_version=5, desired=[intent("a")])
    )
    assert accepted == Accepted(wanted=(intent("a"),), whole=True)
    accepted = exchange.response(
        ask(exchange),
        SyncResponse(
            epoch=1,
            observed_acknowledged=1,
            desired_version=7,
            desired_base=5,
            desired=[intent("b")],
            desired_gone=["a"],
        ),
    )
    assert accepted == Accepted(wanted=(intent("b"),), unwanted=("a",))
    assert ask(exchange).desired_version == 7
    assert exchange.response(ask(exchange), SyncResponse(epoch=1, observed_acknowledged=1)) == Accepted()
    assert ask(exchange).desired_version == 7


def test_a_delta_on_another_version_is_refused_and_everything_asked_for(exchange: Exchange) -> None:
    response = SyncResponse(epoch=1, observed_acknowledged=1, desired_version=9, desired_base=8, desired_gone=["a"])
    outcome = exchange.response(ask(exchange), response)
    assert isinstance(outcome, Refused)
    assert ask(exchange).desired_version == 0


def desired(version: int, *names: str, base: int | None = None) -> SyncResponse:
    intents = [intent(name) for name in names]
    return SyncResponse(epoch=1, observed_acknowledged=0, desired_version=version, desired_base=base, desired=intents)


@pytest.mark.parametrize("base", [None, 2])
def test_a_list_older_than_one_that_was_obeyed_is_late_whatever_is_held_now(
    exchange: Exchange, base: int | None
) -> None:
    """Answers come over two connections. An old whole list would have what is routed here by now unloaded."""
    request = ask(exchange)
    exchange.response(request, desired(5, "a", "b"))
    late = desired(3, "a", base=base)
    assert exchange.response(request, late) == Accepted()
    assert exchange.desired_version == 5
    exchange.response(request, desired(9, base=8))  # a gap: all is asked for
    assert exchange.response(request, late) == Accepted()
    assert ask(exchange).desired_version == 0
    again = exchange.response(request, desired(5, "a", "b"))
    assert isinstance(again, Accepted)
    assert (again.whole, exchange.desired_version) == (True, 5)


def test_an_older_epoch_is_refused_whole(exchange: Exchange) -> None:
    exchange.response(ask(exchange), SyncResponse(epoch=5, observed_acknowledged=1, desired_version=50))
    outcome = exchange.response(
        ask(exchange), SyncResponse(epoch=4, observed_acknowledged=0, desired_version=60, desired=[intent("x")])
    )
    assert isinstance(outcome, Refused)
    assert "epoch 4 is older than 5" in outcome.reason
    request = ask(exchange)
    assert (request.epoch, request.desired_version, request.observed_base) == (5, 50, 1)


def test_drained_counts_only_when_it_was_asked_for(exchange: Exchange) -> None:
    response = SyncResponse(epoch=1, observed_acknowledged=1, drained=True)
    assert exchange.response(ask(exchange), response) == Accepted(drained=False)
    assert exchange.response(ask(exchange, draining=True), response) == Accepted(drained=True)


def test_a_report_that_is_the_same_is_no_change() -> None:
    observed = Observed()
    assert observed.put(report("a"))
    assert not observed.put(report("a"))
    assert observed.drop("a")
    assert not observed.drop("a")


@given(st.integers(0, 2**32))
def test_whatever_is_lost_both_sides_end_up_equal(seed: int) -> None:
    """Answers get lost, the operator forgets, models come and go: the operator's picture ends up the agent's."""
    chance = random.Random(seed)
    exchange = Exchange(Identity("n", "p", "u", "s"))
    truth: dict[str, SlotReport] = {}
    picture: dict[str, SlotReport] = {}
    version = 0
    for turn in range(60):
        for _ in range(chance.randrange(4) if turn < 50 else 0):
            name = f"m{chance.randrange(6)}"
            if chance.random() < 0.4:
                truth.pop(name, None)
                exchange.observed.drop(name)
            else:
                truth[name] = report(name, chance.choice(list(CopyPhase)))
                exchange.observed.put(truth[name])
        request = ask(exchange)
        if chance.random() < 0.1 and turn < 50:
            picture, version = {}, 0  # another operator
        acknowledged = 0
        if request.observed_base is None or request.observed_base <= version:
            if request.observed_base is None:
                picture = {}
            picture.update({slot.name: slot for slot in request.observed})
            for name in request.observed_gone:
                picture.pop(name, None)
            acknowledged = version = request.observed_version
        if chance.random() < 0.7 or turn >= 50:
            exchange.response(request, SyncResponse(epoch=1, observed_acknowledged=acknowledged))
    assert picture == truth
    assert not exchange.pending
