"""Asks every model once and compares its answer with the one that only it gives."""

import asyncio
import json
import time
from dataclasses import dataclass

import aiohttp

from demo.predictions import v2_answer, v2_body, v2_path

from .artifacts import ROW
from .common import Json

AT_ONCE = 16
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask: a base URL, and headers such as the gateway's Host."""

    url: str
    headers: dict[str, str]


async def sweep(models: dict[str, tuple[Endpoint, float]]) -> Json:
    """Models by name with where to ask and what is right: seconds, how many were right, and the first that were not."""
    body = json.dumps(v2_body(list(ROW))).encode()
    wrong: list[str] = []
    waiting = iter(models.items())

    async def worker(session: aiohttp.ClientSession) -> None:
        for name, (endpoint, right) in waiting:
            problem = await _ask(session, endpoint, name, body, right)
            if problem:
                wrong.append(problem)

    started = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=90)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=False) as session:
        await asyncio.gather(*(worker(session) for _ in range(AT_ONCE)))
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 2),
        "right": len(models) - len(wrong),
        "wrong": len(wrong),
        "first": wrong[:_SHOWN],
    }


async def _ask(session: aiohttp.ClientSession, endpoint: Endpoint, name: str, body: bytes, right: float) -> str:
    try:
        async with session.post(endpoint.url + v2_path(name), data=body, headers=endpoint.headers) as answer:
            text = await answer.text()
        if answer.status != 200:
            return f"{name}: {answer.status} {text[:200]}"
        got = v2_answer(json.loads(text))
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
        return f"{name}: {type(error).__name__}: {error}"[:200]
    return "" if got == right else f"{name}: answered {got}, right is {right}"
