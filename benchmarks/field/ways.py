"""A server beside its bare self: loads, the first answer after one, memory, and requests by both ways.

Each round does both sides one after the other, in changing order; figures are compared within a round, so that a busy
minute of the machine counts for both.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.common import Attack, Json, Target, attack, spread

from .kinds import Kind, Run, Setting
from .pods import BareServer, OurPod, bare_server, our_pod
from .processes import memory, spent, used_seconds

BARE: Final = "bare"
SHOAL: Final = "shoal"
ONE_BY_ONE: Final = 3
CONNECTIONS: Final = 16
STEADY: Final = 0.5
"""Of what the bare server answers at most: the rate at which latencies are compared."""

Side = OurPod | BareServer
Taken = dict[str, list[float]]


async def loads(run: Run, models: int) -> Json:
    """``models``: of each load."""
    async with _both(run) as (pod, sides):
        loaded = await _loads(run, pod, sides, models)
        return {"models": models, "rounds": run.rounds, "agent_mib": round(pod.agent_mib, 1)} | loaded


async def requests(run: Run) -> Json:
    """Under each of the server's settings."""
    async with _both(run) as (pod, sides):
        return {
            "rounds": run.rounds,
            "settings": [await _requests(run, pod, sides, each) for each in run.kind.settings],
        }


@asynccontextmanager
async def _both(run: Run) -> AsyncIterator[tuple[OurPod, dict[str, Side]]]:
    kind, folder = run.kind, run.folder
    async with our_pod(kind, folder / "pod", {}) as pod, bare_server(kind, pod.life.storage, folder / "bare") as bare:
        yield pod, {SHOAL: pod, BARE: bare}


async def _loads(run: Run, pod: OurPod, sides: dict[str, Side], models: int) -> Json:
    setting = run.kind.settings[0]
    taken: dict[str, Taken] = {side: {"loads_per_second": [], "mib_per_model": []} for side in sides}
    firsts: dict[str, Taken] = {side: {"asked_to_answer_ms": [], "first_request_ms": []} for side in sides}
    # What a server takes with its first model and gives never back is no model's.
    pod.store(["warm"], setting)
    for server in sides.values():
        await server.first_answer("warm", setting)
        await server.unload(["warm"])
    for number, order in enumerate(_orders(list(sides), run.rounds)):
        names = [f"r{number}-m{each}" for each in range(models)]
        alone = [f"r{number}-a{each}" for each in range(ONE_BY_ONE)]
        pod.store([*names, *alone], setting)
        for side in order:
            server = sides[side]
            before = memory(server.server_pid)
            took = await server.load(names, setting)
            taken[side]["loads_per_second"].append(models / took)
            taken[side]["mib_per_model"].append((memory(server.server_pid) - before) / models)
            for name in alone:
                asked, first = await server.first_answer(name, setting)
                firsts[side]["asked_to_answer_ms"].append(asked)
                firsts[side]["first_request_ms"].append(first)
            await server.unload([*names, *alone])
            _say(run.kind, f"round {number + 1}, {side}: {models} loads in {took:.2f} s")
    return {side: {name: spread(values) for name, values in (taken[side] | firsts[side]).items()} for side in sides} | {
        "ratio": ratio(taken[SHOAL]["loads_per_second"], taken[BARE]["loads_per_second"])
    }


async def _requests(run: Run, pod: OurPod, sides: dict[str, Side], setting: Setting) -> Json:
    folder, seconds = run.folder, run.seconds
    body = folder / "body.json"
    body.write_text(json.dumps(run.kind.body()))
    pod.store(["asked"], setting)
    targets: dict[str, Target] = {}
    for side, server in sides.items():
        await server.first_answer("asked", setting)
        targets[side] = server.target("asked", body)
    warm = {side: await _full(target, folder, seconds) for side, target in targets.items()}
    rate = max(2, int(STEADY * warm[BARE].rate))
    full: dict[str, list[Attack]] = {side: [] for side in sides}
    server_ms: Taken = {side: [] for side in sides}
    envoy_ms: list[float] = []
    steady: dict[str, list[Attack]] = {side: [] for side in sides}
    for order in _orders(list(sides), run.rounds):
        for side in order:
            before, envoy = used_seconds(sides[side].server_pid), used_seconds(pod.envoy_pid)
            found = await _full(targets[side], folder, seconds)
            full[side].append(found)
            server_ms[side].append(1e3 * spent(sides[side].server_pid, before) / found.requests)
            if side == SHOAL:
                envoy_ms.append(1e3 * spent(pod.envoy_pid, envoy) / found.requests)
        for side in order:
            steady[side].append(await attack([targets[side]], folder, seconds=seconds, rate=rate))
    for server in sides.values():
        await server.unload(["asked"])
    result: Json = {
        "setting": setting.label,
        "rate": rate,
        "full": _compared(full, ("rate", "p50", "p99")),
        "steady": _compared(steady, ("p50", "p99")),
        "cpu_ms": {side: spread(values) for side, values in server_ms.items()} | {"envoy": spread(envoy_ms)},
        "failed": {side: sum(each.failed for each in full[side] + steady[side]) for side in sides},
    }
    _say(run.kind, f"{setting.label}: {result['full']['rate']}, at {rate}/s {result['steady']['p50']}")
    return result


def _compared(taken: dict[str, list[Attack]], figures: tuple[str, ...]) -> Json:
    def of(side: str, figure: str) -> list[float]:
        return [getattr(each, figure) for each in taken[side]]

    return {
        figure: {
            **{side: spread(of(side, figure)) for side in taken},
            "ratio": ratio(of(SHOAL, figure), of(BARE, figure)),
        }
        for figure in figures
    }


def ratio(ours: list[float], bare: list[float]) -> Json:
    """Of each round's figures."""
    return spread([a / b for a, b in zip(ours, bare, strict=True)])


async def _full(target: Target, folder: Path, seconds: float) -> Attack:
    return await attack([target], folder, seconds=seconds, workers=CONNECTIONS)


def _orders(names: list[str], rounds: int) -> list[list[str]]:
    """Every other round the other way round, begun by lot."""
    first = random.Random(1).sample(names, len(names))
    return [first if number % 2 == 0 else first[::-1] for number in range(rounds)]


def _say(kind: Kind, what: str) -> None:
    print(f"{kind.name}: {what}", flush=True)
