"""Open-loop load: requests leave at fixed times whatever the answers do, and none is retried."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from .world import Envoy


class Load:
    """``outcomes`` counts every request sent: "ok", a status, or the error's name. ``wrong`` keeps a few examples.

    ``expected(model)``: names of the pods of which one must answer; None: any.
    """

    def __init__(self, envoy: Envoy, models: list[str], *, rate: float = 300.0) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.expected: Callable[[str], set[str]] | None = None
        self._envoy = envoy
        self._models = models
        self._rate = rate

    async def __aenter__(self) -> "Load":
        self._session = aiohttp.ClientSession(
            base_url=self._envoy.base,
            headers={"Host": "iris.default"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=10),
        )
        self._running: set[asyncio.Task[None]] = set()
        self._pace = asyncio.create_task(self._go())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pace.cancel()
        with suppress(asyncio.CancelledError):
            await self._pace
        await asyncio.gather(*self._running)
        await self._session.close()

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, model in enumerate(itertools.cycle(self._models)):
            await asyncio.sleep(max(0.0, start + number / self._rate - loop.time()))
            task = asyncio.create_task(self._one(model))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _one(self, model: str) -> None:
        before = self.expected(model) if self.expected else set()
        try:
            async with self._session.post(f"/v2/models/{model}/infer", data=b"{}") as response:
                outcome = "ok" if response.status == 200 else str(response.status)
                text = await response.text()
                if self.expected and outcome == "ok":
                    # Right if it was at any time while the request was on its way.
                    right = before | self.expected(model)
                    outcome = "ok" if (await response.json())["pod"] in right else "wrong pod"
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome, text = type(error).__name__, str(error)
        self.outcomes[outcome] += 1
        if outcome != "ok" and len(self.wrong) < 5:
            self.wrong.append(f"{model}: {outcome}: {text[:400]}")
