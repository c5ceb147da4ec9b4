"""Token answers are remembered as long as is safe, and asked for once."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents import Refused, ReviewUnavailable, Tokens
from shoal_operator.agents.identity import expiry
from shoal_operator.agents.metrics import AgentsMetrics
from shoal_operator.agents.tokens import BAD_SECONDS, GOOD_SECONDS, MAX_QUESTIONS

from tests.unit.agents.agents_parts import ScriptedReviews, token


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reviews() -> ScriptedReviews:
    return ScriptedReviews()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(reviews: ScriptedReviews, clock: Clock) -> Tokens:
    return Tokens(reviews, "shoal", AgentsMetrics(CollectorRegistry()), clock=clock)


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
    clock.now = (expiry(mine) or 0) - 10
    await tokens.identity(mine)
    clock.now += 9
    await tokens.identity(mine)
    assert reviews.asked == 1
    clock.now += 2
    await tokens.identity(mine)
    assert reviews.asked == 2


async def test_a_refusal_is_kept_for_moments(tokens: Tokens, reviews: ScriptedReviews, clock: Clock) -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            await tokens.identity("forged")
    assert reviews.asked == 1
    clock.now += BAD_SECONDS + 1
    with pytest.raises(Refused):
        await tokens.identity("forged")
    assert reviews.asked == 2


async def test_no_answer_is_not_remembered(tokens: Tokens, reviews: ScriptedReviews) -> None:
    reviews.away = True
    with pytest.raises(ReviewUnavailable):
        await tokens.identity(token())
    reviews.away = False
    assert (await tokens.identity(token())).namespace == "team"


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


async def test_a_flood_of_tokens_is_not_handed_on(tokens: Tokens, reviews: ScriptedReviews) -> None:
    reviews.gate = asyncio.Event()
    asking = [asyncio.create_task(tokens.identity(f"made-up-{n}")) for n in range(MAX_QUESTIONS + 20)]
    await asyncio.sleep(0.01)
    reviews.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert reviews.asked == MAX_QUESTIONS
    assert sum(isinstance(answer, ReviewUnavailable) for answer in answers) == 20


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "a.e30.c", "a.W10.c", "a.eyJleHAiOiJ4In0.c", "a.eyJleHAiOnRydWV9.c", "a.\udcff.c"]
)
def test_tokens_without_a_readable_expiry(text: str) -> None:
    assert expiry(text) is None


async def test_bytes_that_are_no_text_are_refused_like_any_token(tokens: Tokens) -> None:
    with pytest.raises(Refused):
        await tokens.identity("\udcff\udc80")
