"""The claims tried: a server's settings under the same requests, round by round, the server asked itself.

Models are loaded by the agent, tuned by ``spec.serving``: so that what is compared is what a user can set.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.common import Attack, Json, attack, spread
from tests.component.agent.parts import HOST

from .claims import BATCH, FAMILIES, FLOODS, LONE, P99, RATE, SCALED, Family, Flood
from .kinds import Kind, Run, Setting
from .pods import OurPod, our_pod
from .processes import resident

LONE_RATE: Final = 10
FLOOD_RATE: Final = 200
FLOOD_NUMBERS: Final = 4096
SCALE_SECONDS: Final = 6.0
_LOOK_SECONDS: Final = 0.05

Pods = dict[tuple[tuple[str, int], ...], OurPod]


async def measure(run: Run) -> Json:
    kind = run.kind
    families = FAMILIES.get(kind.name, ())
    flood = FLOODS.get(kind.name)
    settings = [setting for family in families for setting in family.settings]
    settings += [flood.short, flood.long] if flood is not None else []
    async with _pods(kind, run.folder, settings) as pods:
        rows: list[Json] = []
        for family in families:
            rows += await _family(run, pods[()], family)
        flooded = None if flood is None else await _flood(run, pods, flood)
        scaled = await _scaling(run, pods[()]) if kind.name == "djl" else None
    return {"rounds": run.rounds, "compared": rows, "flood": flooded, "scaling": scaled}


@asynccontextmanager
async def _pods(kind: Kind, folder: Path, settings: list[Setting]) -> AsyncIterator[Pods]:
    """One for all settings of models, and one for each of the server's own."""
    async with AsyncExitStack() as stack:
        pods: Pods = {}
        for number, server in enumerate(dict.fromkeys([(), *(setting.server for setting in settings)])):
            pods[server] = await stack.enter_async_context(our_pod(kind, folder / f"pod{number}", dict(server)))
        yield pods


async def _family(run: Run, pod: OurPod, family: Family) -> list[Json]:
    kind, folder, seconds = run.kind, run.folder, run.seconds
    body = folder / "body.json"
    body.write_text(json.dumps(kind.body()))
    names = [f"setting{number}" for number in range(len(family.settings))]
    for name, setting in zip(names, family.settings, strict=True):
        pod.store([name], setting)
        await pod.first_answer(name, setting)
    lone = any(each.figure == LONE for each in family.compared)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}

    async def one(name: str, length: float) -> dict[str, float]:
        target = [pod.direct(name, body)]
        full = await attack(target, folder, seconds=length, workers=family.connections)
        _answered(kind, full)
        figures = {RATE: full.rate, P99: full.p99}
        if lone:
            alone = await attack(target, folder, seconds=length, rate=LONE_RATE)
            _answered(kind, alone)
            figures[LONE] = alone.p50
        return figures

    for name in names:
        await one(name, seconds / 2)  # code and connections warm
    for number in range(run.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            measured[name].append(await one(name, seconds))
            print(f"{kind.name}: {family.settings[int(name[-1])].label}: {measured[name][-1]}", flush=True)
    await pod.unload(names)
    rows = []
    for each in family.compared:
        first, second = (
            [figures[each.figure] for figures in measured[names[place]]] for place in (each.first, each.second)
        )
        rows.append(
            {
                "claim": each.claim,
                "figure": each.figure,
                "expects": each.expects.value,
                "first": {"setting": family.settings[each.first].label} | spread(first),
                "second": {"setting": family.settings[each.second].label} | spread(second),
                "ratios": [round(b / a, 4) for a, b in zip(first, second, strict=True)],
            }
        )
    return rows


async def _flood(run: Run, pods: Pods, flood: Flood) -> Json:
    kind, folder, seconds = run.kind, run.folder, run.seconds
    body = folder / "flood.json"
    body.write_text(json.dumps(kind.body(FLOOD_NUMBERS)))
    found: dict[str, list[Json]] = {"short": [], "long": []}
    queues = {"short": flood.short, "long": flood.long}
    for name, setting in queues.items():
        pod = pods[setting.server]
        pod.store([name], setting)
        await pod.first_answer(name, setting)
        await attack([pod.direct(name, body)], folder, seconds=seconds, workers=8)  # buffers are there
    for number in range(run.rounds):
        for name in queues if number % 2 == 0 else reversed(queues):
            pod = pods[queues[name].server]
            async with _watched(pod.server_pid) as most:
                sent = await attack([pod.direct(name, body)], folder, seconds=seconds, rate=FLOOD_RATE)
            found[name].append({"codes": sent.codes, "grown_mib": round(max(most) - most[0], 2), "max_ms": sent.max})
            print(f"{kind.name}: {queues[name].label}: {found[name][-1]}", flush=True)
    for name, setting in queues.items():
        await pods[setting.server].unload([name])
    return {name: {"setting": queues[name].label, "rounds": found[name]} for name in queues}


@asynccontextmanager
async def _watched(pid: int) -> AsyncIterator[list[float]]:
    """Resident MiB of the server and its workers meanwhile, the first before anything."""
    seen = [resident(pid)]

    async def look() -> None:
        while True:
            seen.append(await asyncio.to_thread(resident, pid))
            await asyncio.sleep(_LOOK_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()


async def _scaling(run: Run, pod: OurPod) -> Json:
    """Callers that ask again as soon as they are answered: as many as twice a batch, so that the queue never holds
    more, and many more; and the most workers that there were."""
    taken: dict[int, list[int]] = {2 * BATCH: [], 6 * BATCH: []}
    for number in range(run.rounds):
        for callers, most in taken.items():
            name = f"scaled{number}-{callers}"  # a model that has more workers keeps them for a minute
            pod.store([name], SCALED)
            await pod.first_answer(name, SCALED)
            most.append(await _most_workers(run.kind, pod, name, callers))
            await pod.unload([name])
            print(f"{run.kind.name}: {callers} callers: {most[-1]} workers", flush=True)
    return {"setting": SCALED.label, "batch": BATCH, "workers": [list(each) for each in taken.items()]}


async def _most_workers(kind: Kind, pod: OurPod, name: str, callers: int) -> int:
    url = pod.direct(name, Path()).url
    management = f"http://{HOST}:{pod.life.ground.ports['management']}/models/{name}"

    async def ask(session: aiohttp.ClientSession) -> None:
        while True:
            async with session.post(url, json=kind.body()) as response:
                await response.read()

    most = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(ask(session)) for _ in range(callers)]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCALE_SECONDS):
                    while True:
                        async with session.get(management) as response:
                            ((model,),) = [workflow["models"] for workflow in await response.json()]
                        most = max(most, sum(len(group["workers"]) for group in model["workerGroups"]))
                        await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return most


def _answered(kind: Kind, found: Attack) -> None:
    if found.failed:
        raise RuntimeError(f"{kind.name}: {found.failed} of {found.requests} requests failed: {found.answers}")
