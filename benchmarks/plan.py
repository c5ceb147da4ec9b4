"""How long placement takes, how many models it moves, and how even it is: ``python -m benchmarks.plan`` (make
bench-plan).

Placement is pure: no cluster, no clock of its own. Each case runs in a process of its own, so that the memory it
reports is its own. The moves are counted as state would carry them out: plan by plan until nothing is left to do.
"""

import argparse
import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shoal_operator.placement.planner import plan
from shoal_operator.state.world.values import (
    CopyAt,
    ModelKey,
    ModelNeed,
    Placement,
    Plan,
    PlanInput,
    PodOffer,
    ServiceKey,
    Victim,
)

from . import common

SERVICE: Final = ServiceKey("default", "models")
MEBIBYTE: Final = 1 << 20
SIZES: Final = (16, 32, 64, 128)  # MiB, of models; each as likely as the others
FILL: Final = 0.8  # of all pods' memory, declared by all models
SHAPES: Final = ((10_000, 60), (1_000_000, 10_000))
AIM_SECONDS: Final = {10_000: 0.1, 1_000_000: 10.0}
AIM_MOVES: Final = 1.05
TOLERANCE: Final = 0.1  # of the mean fullness, within which placement calls pods even
MAX_ROUNDS: Final = 50
VICTIMS: Final = 32  # copies that each pod names for eviction


@dataclass
class Fleet:
    """Pods and what they hold, as state would know it; ``place`` and ``take`` keep the pods' ledgers."""

    pods: dict[str, PodOffer]
    memory: dict[ModelKey, int]
    held: dict[ModelKey, set[str]]

    @classmethod
    def empty(cls, models: int, pods: int) -> "Fleet":
        chosen = random.Random(1)
        memory = {ModelKey("default", f"m{n}"): chosen.choice(SIZES) * MEBIBYTE for n in range(models)}
        capacity = int(sum(memory.values()) / FILL / pods)
        # Three zones, and as many pods a node as fit on a large one.
        offers = {f"pod-{n}": _offer(f"pod-{n}", capacity, node=n // 10, zone=n % 3) for n in range(pods)}
        return cls(offers, memory, {key: set() for key in memory})

    def place(self, placement: Placement) -> None:
        self.held[placement.model].add(placement.pod_uid)
        self._charge(placement.pod_uid, self.memory[placement.model], 1)

    def take(self, placement: Placement) -> None:
        self.held[placement.model].remove(placement.pod_uid)
        if placement.pod_uid in self.pods:
            self._charge(placement.pod_uid, -self.memory[placement.model], -1)

    def need(self, key: ModelKey) -> ModelNeed:
        """As state builds it: every copy is loaded, those on a leaving pod are leaving."""
        copies = tuple(
            CopyAt(uid, answers=True, current=True, loaded=True, leaving=self.pods[uid].leaving)
            for uid in sorted(self.held[key])
        )
        return ModelNeed(key, self.memory[key], 1, copies)

    def given(self, keys: list[ModelKey], *, balance: bool = False) -> PlanInput:
        return PlanInput(SERVICE, tuple(self.pods.values()), tuple(self.need(key) for key in keys), balance)

    def carry_out(self, made: Plan) -> None:
        for placement in made.add:
            self.place(placement)
        for placement in made.retire:
            self.take(placement)

    def on(self, uid: str) -> list[ModelKey]:
        return [key for key, pods in self.held.items() if uid in pods]

    def peak_to_mean(self) -> float:
        fullness = [pod.committed / pod.capacity for pod in self.pods.values() if not pod.leaving]
        return max(fullness) / (sum(fullness) / len(fullness))

    def _charge(self, uid: str, memory: int, copies: int) -> None:
        pod = self.pods[uid]
        self.pods[uid] = replace(pod, committed=pod.committed + memory, copies=pod.copies + copies)


def full(models: int, pods: int) -> common.Json:
    """Every model is new: as after many were applied at once, or with the store and all agents lost."""
    fleet = Fleet.empty(models, pods)
    given = fleet.given(list(fleet.memory))
    made, seconds, memory = timed(given)
    fleet.carry_out(made)
    return {
        "seconds": seconds,
        "plan_mebibytes": memory,
        "placed": len(made.add),
        "refused": len(made.refused),
        "peak_to_mean": fleet.peak_to_mean(),
        # No plan can be more even than this: some pod holds a whole number of the largest models.
        "largest_model_to_mean": max(SIZES) * MEBIBYTE / (sum(fleet.memory.values()) / pods),
    }


def used(models: int, pods: int) -> common.Json:
    """The same when every model is in use: copies then go where the fewest requests go."""
    fleet = Fleet.empty(models, pods)
    chosen = random.Random(2)
    given = fleet.given(list(fleet.memory))
    given = replace(given, needs=tuple(replace(need, rate=chosen.expovariate(1.0)) for need in given.needs))
    made, seconds, _ = timed(given)
    rates = {need.key: need.rate for need in given.needs}
    busy = dict.fromkeys(fleet.pods, 0.0)
    for placement in made.add:
        busy[placement.pod_uid] += rates[placement.model]
    fleet.carry_out(made)
    return {
        "seconds": seconds,
        "peak_to_mean": fleet.peak_to_mean(),
        "busiest_to_mean": max(busy.values()) / (sum(busy.values()) / pods),
    }


def evict(models: int, pods: int) -> common.Json:
    """A request asks for a cold model and all pods are full: the least recently used one of all makes way."""
    chosen = random.Random(3)
    offers, idle = [], []
    for number in range(pods):
        ages = sorted((chosen.uniform(60.0, 86_400.0) for _ in range(VICTIMS)), reverse=True)
        victims = tuple(Victim(ModelKey("default", f"v{number}-{n}"), 64 * MEBIBYTE, age) for n, age in enumerate(ages))
        idle.append(ages[0])
        offer = _offer(f"pod-{number}", 1 << 40, node=number // 10, zone=number % 3)
        offers.append(replace(offer, committed=1 << 40, copies=models // pods, victims=victims))
    need = ModelNeed(ModelKey("default", "cold"), 64 * MEBIBYTE, 1, (), evict_idle=0.0)
    given = PlanInput(SERVICE, tuple(offers), (need,))
    times = []
    for _ in range(20):
        made, seconds, _ = timed(given)
        times.append(seconds)
        assert [eviction.model.name for eviction in made.evict] == [f"v{idle.index(max(idle))}-0"], "not the oldest"
    return {"each": common.spread(times)}


def change(models: int, pods: int) -> common.Json:
    """One more model, in a full world; and one that no pod has room for."""
    fleet = _placed(models, pods)
    result: common.Json = {}
    for name, memory in (("added", 64 * MEBIBYTE), ("refused", max(pod.capacity for pod in fleet.pods.values()))):
        times = []
        for number in range(20):
            key = ModelKey("default", f"new-{number}")
            fleet.memory[key], fleet.held[key] = memory, set()
            made, seconds, _ = timed(fleet.given([key]))
            fleet.carry_out(made)
            times.append(seconds)
            moved = len(made.retire)
            assert moved == 0, f"one more model moved {moved}"
        result[name] = common.spread(times)
    return result


def leaving(models: int, pods: int) -> common.Json:
    """A pod drains: its own models move, no other."""
    fleet = _placed(models, pods)
    own = fleet.on("pod-1")
    fleet.pods["pod-1"] = replace(fleet.pods["pod-1"], leaving=True)
    return _carry_through(fleet, lambda: own, balance=False) | {"minimum_moves": len(own)}


def lost(models: int, pods: int) -> common.Json:
    """A pod is gone: its own models are placed again, no other moves."""
    fleet = _placed(models, pods)
    own = fleet.on("pod-1")
    del fleet.pods["pod-1"]
    for key in own:
        fleet.held[key].discard("pod-1")
    return _carry_through(fleet, lambda: own, balance=False) | {"minimum_moves": len(own)}


def joined(models: int, pods: int) -> common.Json:
    """A pod joins: models move to it until all are even, to placement's own tolerance.

    The minimum: the bytes that the new pod must get for that, which must come from the others whoever they are.
    """
    fleet = _placed(models, pods)
    capacity = fleet.pods["pod-1"].capacity
    fleet.pods["pod-new"] = _offer("pod-new", capacity, node=pods // 10, zone=pods % 3)
    mean = sum(fleet.memory.values()) / (pods + 1)
    least = (mean * (pods + 1) / pods - TOLERANCE * mean) / (1 + 1 / pods)
    result = _carry_through(fleet, lambda: list(fleet.memory), balance=True)
    return result | {
        "minimum_bytes": least,
        "bytes_to_minimum": result["moved_bytes"] / least,
        "bytes_to_even": result["moved_bytes"] / mean,
        "peak_to_mean": fleet.peak_to_mean(),
        "new_to_mean": fleet.pods["pod-new"].committed / mean,
    }


CASES: Final[dict[str, Callable[[int, int], common.Json]]] = {
    "full": full,
    "used": used,
    "evict": evict,
    "change": change,
    "leaving": leaving,
    "lost": lost,
    "joined": joined,
}


def timed(given: PlanInput) -> tuple[Plan, float, float]:
    """The plan, its seconds, and by how many MiB the process's peak grew.

    Seconds of CPU: a plan waits for nothing, and what else the machine does meanwhile is not its doing.
    """
    gc.collect()
    before = _resident()
    started = time.thread_time()
    made = plan(given)
    return made, time.thread_time() - started, max(0.0, _peak() - before)


def _carry_through(fleet: Fleet, keys: Callable[[], list[ModelKey]], *, balance: bool) -> common.Json:
    """Plan and carry out until a plan decides nothing; what it took."""
    seconds, moves, moved = [], 0, 0
    for _ in range(MAX_ROUNDS):
        made, took, _ = timed(fleet.given(keys(), balance=balance))
        seconds.append(took)
        moves += len(made.add)
        moved += sum(fleet.memory[placement.model] for placement in made.add)
        fleet.carry_out(made)
        if not made.add and not made.retire and not made.unbalanced:
            break
    return {"seconds": max(seconds), "plans": len(seconds), "moves": moves, "moved_bytes": moved}


def _placed(models: int, pods: int) -> Fleet:
    fleet = Fleet.empty(models, pods)
    fleet.carry_out(plan(fleet.given(list(fleet.memory))))
    return fleet


def _offer(name: str, capacity: int, *, node: int, zone: int) -> PodOffer:
    return PodOffer(
        uid=name,
        name=name,
        node=f"node-{node}",
        zone=f"zone-{zone}",
        capacity=capacity,
        committed=0,
        copies=0,
        server_ready=True,
        agent_connected=True,
        leaving=False,
    )


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEBIBYTE


def _peak() -> float:
    """Peak of the process in MiB (VmHWM: Linux's ru_maxrss is inherited from the parent)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(shapes: list[tuple[int, int]], rounds: int) -> common.Json:
    """Each case ``rounds`` times in processes of its own."""
    about = common.context()
    result: common.Json = {"context": about, "rounds": rounds, "shapes": []}
    for models, pods in shapes:
        shape: common.Json = {"models": models, "pods": pods, "aim_seconds": AIM_SECONDS.get(models)}
        for name in CASES:
            print(f"{models:,} models on {pods:,} pods: {name}", flush=True)
            each = [_in_process(name, models, pods) for _ in range(rounds)]
            shape[name] = each[0] | (
                {"seconds": common.spread([one["seconds"] for one in each])} if "seconds" in each[0] else {}
            )
        result["shapes"].append(shape)
    return result


def _in_process(case: str, models: int, pods: int) -> common.Json:
    command = [sys.executable, "-m", "benchmarks.plan", "--case", case, "--shape", f"{models}x{pods}"]
    done = subprocess.run(command, cwd=common.REPOSITORY, check=True, capture_output=True, text=True)
    found: common.Json = json.loads(done.stdout)
    return found


def text(result: common.Json) -> str:
    lines = [
        common.heading("Placement", result["context"]),
        f"Models declare {', '.join(map(str, SIZES))} MiB, alike often, and fill {FILL:.0%} of the pods. Median"
        f" (least - most) of {result['rounds']} runs, each in a process of its own. Seconds are of CPU: a plan waits"
        " for nothing.\n\n",
        "| | " + " | ".join(f"{s['models']:,} models, {s['pods']:,} pods" for s in result["shapes"]) + " |\n",
        "|---" * (len(result["shapes"]) + 1) + "|\n",
    ]
    for title, cell in ROWS:
        lines.append(f"| {title} | " + " | ".join(cell(shape) for shape in result["shapes"]) + " |\n")
    lines.append(
        f"\nAims: a plan in at most {' and '.join(f'{v:g} s' for v in AIM_SECONDS.values())};"
        f" moves at most {AIM_MOVES} times the minimum. A lost pod's minimum is its own models. A joined pod's is the"
        f" bytes without which the pods cannot be within {TOLERANCE:.0%} of the mean of each other.\n"
    )
    return "".join(lines)


def _seconds(found: common.Json) -> str:
    return f"{found['median']:.3g} s ({found['min']:.3g} - {found['max']:.3g})"


def _milliseconds(found: common.Json) -> str:
    return f"{1e3 * found['median']:.3g} ms ({1e3 * found['min']:.3g} - {1e3 * found['max']:.3g})"


def _moves(found: common.Json) -> str:
    return f"{found['moves']:,} of {found['minimum_moves']:,} ({found['moves'] / max(1, found['minimum_moves']):.3f})"


ROWS: Final[list[tuple[str, Callable[[common.Json], str]]]] = [
    ("full plan", lambda s: _seconds(s["full"]["seconds"])),
    ("memory that it takes", lambda s: f"{s['full']['plan_mebibytes']:,.0f} MiB"),
    ("fullest pod to the mean", lambda s: f"{s['full']['peak_to_mean']:.4f}"),
    ("full plan, all models in use", lambda s: _seconds(s["used"]["seconds"])),
    ("busiest pod to the mean", lambda s: f"{s['used']['busiest_to_mean']:.4f}"),
    ("one cold model, all pods full", lambda s: _milliseconds(s["evict"]["each"])),
    ("one more model", lambda s: _milliseconds(s["change"]["added"])),
    ("one model that fits nowhere", lambda s: _milliseconds(s["change"]["refused"])),
    ("pod drained: plan", lambda s: _seconds(s["leaving"]["seconds"])),
    ("pod drained: moves of the minimum", lambda s: _moves(s["leaving"])),
    ("pod lost: plan", lambda s: _seconds(s["lost"]["seconds"])),
    ("pod lost: moves of the minimum", lambda s: _moves(s["lost"])),
    ("pod joined: slowest plan", lambda s: _seconds(s["joined"]["seconds"])),
    ("pod joined: plans, moves", lambda s: f"{s['joined']['plans']}, {s['joined']['moves']:,}"),
    ("pod joined: bytes moved to the minimum", lambda s: f"{s['joined']['bytes_to_minimum']:.3f}"),
    ("pod joined: fullest pod to the mean", lambda s: f"{s['joined']['peak_to_mean']:.4f}"),
]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure placement.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", action="append", help="MODELSxPODS; may be given more than once")
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print its figures")
    options = parser.parse_args(arguments)
    shapes = [tuple(map(int, shape.split("x"))) for shape in options.shape] if options.shape else list(SHAPES)
    if options.case:
        print(json.dumps(CASES[options.case](*shapes[0])))
        return 0
    result = run([(models, pods) for models, pods in shapes], options.rounds)
    report = text(result)
    print(report)
    for file in common.write("plan", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
