"""Tokens: made-up ones cost nothing, answers are remembered as long as is safe, and nobody waits for a stranger."""

import asyncio
import base64
import json

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents import Refused, ReviewUnavailable, Tokens
from shoal_operator.agents.identity import claims
from shoal_operator.agents.metrics import AgentsMetrics
from shoal_operator.agents.tokens import (
    AGAIN_SECONDS,
    ATTEMPTS_BURST,
    BAD_SECONDS,
    GOOD_SECONDS,
    MAX_QUESTIONS_OF_A_SOURCE,
    MAX_TOKENS_OF_A_POD,
)

from tests.unit.agents.agents_parts import ScriptedReviews, jwt, token

FORGED = token()[:-4] + "AAAA"
"""Says all that a token should, and is signed by nobody."""


class Clock:
    def __init__(self) -> None:
        self.now = json.loads(base64.urlsafe_b64decode(token().split(".")[1] + "=="))["nbf"] + 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reviews() -> ScriptedReviews:
    return ScriptedReviews()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def address(namespace: str, pod: str, uid: str) -> str | None:
    """State knows pods of namespace team, each at an address of its own."""
    return f"10.0.0.{pod.removeprefix('pod-')}" if namespace == "team" and uid == f"uid-{pod}" else None


@pytest.fixture
def tokens(reviews: ScriptedReviews, clock: Clock) -> Tokens:
    return Tokens(reviews, "shoal", AgentsMetrics(CollectorRegistry()), address, clock=clock)


async def test_an_answer_is_kept_for_minutes(tokens: Tokens, reviews: ScriptedReviews, clock: Clock) -> None:
    mine = token()
    for _ in range(3):
        assert (await tokens.identity(mine)).pod_uid == "uid-pod-1"
    assert reviews.asked == 1
    clock.now += GOOD_SECONDS + 1
    await tokens.identity(mine)
    assert reviews.asked == 2


async def test_never_past_the_tokens_own_expiry(tokens: Tokens, reviews: ScriptedReviews, clock: Clock) -> None:
    mine = token(seconds=10)
    await tokens.identity(mine)
    clock.now += 15
    with pytest.raises(Refused, match="expired"):
        await tokens.identity(mine)
    assert reviews.asked == 1


async def test_a_refusal_is_kept_for_moments(tokens: Tokens, reviews: ScriptedReviews, clock: Clock) -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            await tokens.identity(FORGED)
    assert reviews.asked == 1
    clock.now += BAD_SECONDS + 1
    with pytest.raises(Refused):
        await tokens.identity(FORGED)
    assert reviews.asked == 2


async def test_no_answer_is_not_remembered(tokens: Tokens, reviews: ScriptedReviews) -> None:
    reviews.away = True
    with pytest.raises(ReviewUnavailable):
        await tokens.identity(token())
    reviews.away = False
    assert (await tokens.identity(token())).namespace == "team"


async def test_with_the_api_server_away_a_known_token_is_believed_until_it_expires(
    tokens: Tokens, reviews: ScriptedReviews, clock: Clock
) -> None:
    """Finding e8: after 120 s agents became lost, and nothing cold could load."""
    mine = token(seconds=3600)
    await tokens.identity(mine)
    reviews.away = True
    for _ in range(int(3500 / AGAIN_SECONDS)):
        clock.now += AGAIN_SECONDS
        assert (await tokens.identity(mine, "10.0.0.1")).pod_uid == "uid-pod-1"
    assert reviews.asked < 3600 / AGAIN_SECONDS, "asked at each sync"
    clock.now += 200
    with pytest.raises(Refused, match="expired"):
        await tokens.identity(mine)
    with pytest.raises(ReviewUnavailable):
        await tokens.identity(token("pod-2", seconds=9000))  # never vouched for


async def test_an_api_server_that_hangs_keeps_a_known_token_waiting_for_moments(
    tokens: Tokens, reviews: ScriptedReviews, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal_operator.agents.tokens.REVIEW_SECONDS", 0.05)
    mine = token()
    await tokens.identity(mine)
    reviews.gate = asyncio.Event()
    clock.now += GOOD_SECONDS + 1
    async with asyncio.timeout(5):
        assert (await tokens.identity(mine)).pod_uid == "uid-pod-1"
        assert (await tokens.identity(mine)).pod_uid == "uid-pod-1"
    reviews.gate.set()


async def test_a_refused_token_is_not_believed_any_more(
    tokens: Tokens, reviews: ScriptedReviews, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = token()
    await tokens.identity(mine)
    clock.now += GOOD_SECONDS + 1
    monkeypatch.setattr("time.time", lambda: clock.now + 10_000)  # the API server finds it expired
    with pytest.raises(Refused):
        await tokens.identity(mine)
    reviews.away = True
    with pytest.raises(Refused):
        await tokens.identity(mine)


async def test_many_requests_are_one_question_even_when_the_first_hangs_up(
    tokens: Tokens, reviews: ScriptedReviews
) -> None:
    reviews.gate = asyncio.Event()
    mine = token()
    asking = [asyncio.create_task(tokens.identity(mine)) for _ in range(10)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0.01)
    reviews.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {getattr(answer, "pod", None) for answer in answers[1:]} == {"pod-1"}
    assert reviews.asked == 1


BOUND = {
    "namespace": "team",
    "pod": {"name": "pod-1", "uid": "uid-pod-1"},
    "serviceaccount": {"name": "default", "uid": "x"},
}
MADE_UP = [
    "",
    "junk",
    "a.b",
    "a.b.c",
    "a.e30.c",
    "e30.e30.",
    "e30.W10.c2ln",
    "a.\udcff.c",
    "\udcff\udc80",
    "x" * 20_000,
    jwt([1]),
    jwt({"deep": [[[[]]]]}),
    token(aud=["another"]),
    token(aud="another"),
    token(aud={}),
    token(seconds=-100),
    token(exp="soon"),
    token(exp=True),
    token(exp=None),
    token(exp=1e300),
    token(nbf=10**11),
    token(iss=""),
    token(iss=None),
    token(iss="x" * 600),
    token(sub="system:admin"),
    token(sub="system:serviceaccount:other:default"),
    token(**{"kubernetes.io": None}),
    token(**{"kubernetes.io": {**BOUND, "pod": None}}),
    token(**{"kubernetes.io": {**BOUND, "pod": {"name": "pod-1"}}}),
    token(**{"kubernetes.io": {**BOUND, "pod": {"name": "pod-1", "uid": "u" * 300}}}),
    token(**{"kubernetes.io": {**BOUND, "serviceaccount": []}}),
    token(**{"kubernetes.io": {**BOUND, "namespace": 7}}),
]


@pytest.mark.parametrize("made_up", MADE_UP, ids=range(len(MADE_UP)))
async def test_a_made_up_token_costs_no_question(tokens: Tokens, reviews: ScriptedReviews, made_up: str) -> None:
    with pytest.raises(Refused) as caught:
        await tokens.identity(made_up, "10.9.9.9")
    assert caught.value.status == 401
    assert reviews.asked == 0


def test_one_audience_may_be_written_without_a_list(clock: Clock) -> None:
    assert claims(token(aud="shoal"), "shoal", clock.now).pod == "pod-1"


async def test_a_flood_from_one_address_keeps_nobody_else_waiting(
    tokens: Tokens, reviews: ScriptedReviews, clock: Clock
) -> None:
    """Finding exp_tokens: 288 of 300 valid tokens were turned away, and the API server got thousands of questions."""
    reviews.gate = asyncio.Event()
    # Forged ones that name known pods, from the address of one who may make pods himself.
    flood = [asyncio.create_task(tokens.identity(forged(f"pod-{n}"), "10.9.9.9")) for n in range(1000)]
    await asyncio.sleep(0)
    good = [asyncio.create_task(tokens.identity(token(f"pod-{n}"), f"10.0.0.{n}")) for n in range(200)]
    await asyncio.sleep(0.05)
    reviews.gate.set()
    answers = await asyncio.gather(*good)
    assert [answer.pod for answer in answers] == [f"pod-{n}" for n in range(200)]
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(each, Refused | ReviewUnavailable) for each in refused)
    assert sum(isinstance(each, Refused) and each.status == 429 for each in refused) >= 1000 - ATTEMPTS_BURST
    assert reviews.asked <= 200 + MAX_QUESTIONS_OF_A_SOURCE


def forged(pod: str) -> str:
    return token(pod)[:-4] + "AAAA"


async def test_a_lasting_flood_asks_little(tokens: Tokens, reviews: ScriptedReviews, clock: Clock) -> None:
    for number in range(3000):
        clock.now += 0.01
        with pytest.raises((Refused, ReviewUnavailable)):
            await tokens.identity(forged(f"pod-{number}"), "10.9.9.9")
    assert reviews.asked < 100  # in 30 s


async def test_memory_is_bounded(tokens: Tokens, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_operator.agents.tokens.MAX_TOKENS", 20)
    monkeypatch.setattr("shoal_operator.agents.tokens.MAX_REFUSALS", 5)
    for number in range(60):
        clock.now += 1
        await tokens.identity(token("pod-1", number=number), "10.0.0.1")
        with pytest.raises(Refused):
            await tokens.identity(forged(f"pod-{number + 1000}"), f"10.1.0.{number}")
        assert len(tokens._vouched) <= MAX_TOKENS_OF_A_POD
        assert len(tokens._refused) <= 5
    for number in range(60):
        await tokens.identity(token(f"pod-{number}"), f"10.0.0.{number}")
    assert len(tokens._vouched) == 20
    assert sum(len(held) for held in tokens._of_pod.values()) == 20
    for left in (tokens._asking, tokens._own, tokens._foreign):
        assert not left
