"""One size of ``benchmarks.engine``, in a process of its own: ``python -m benchmarks.engine_size MODELSxPODS``.

What is done to the operator's core, and what its turns cost (``engine_turns.py``). Prints JSON.
"""

import gc
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .engine_turns import SERVICE, Agent, Turns, events, garbage, pod_spec, rebuild, service_spec, values

CHANGES = 50


def measure(models: int, pods: int) -> dict[str, Any]:
    """All models applied at once; the service unusable and usable again; another policy; another pod; put back after an
    error; the operator started again; all models deleted. Then, where memory is for half of them, all applied, and cold
    ones asked for."""
    result = {"models": models, "pods": pods} | _with_room(models, pods)
    return result | _without(models, pods)


def _with_room(models: int, pods: int) -> dict[str, Any]:
    before = _resident()
    turns = Turns(models, pods)
    turns.begin(room=1.25)
    turns.turns.clear()
    turns.add(turns.new_names(models))
    turns.until_quiet()
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) == models
    found: dict[str, Any] = {"apply": _costs(turns), "bytes_a_model": (_resident() - before) / models}
    found["one_more_us"] = _each(turns, _add_one)
    found["deleted_us"] = _each(turns, _delete_one)
    for what, work in (
        ("unusable", _unusable_and_usable),
        ("policy", _another_policy),
        ("join", _join),
        ("rebuild", _rebuild),
        ("delete", _delete_all),
    ):
        if what == "delete":
            found["restart"] = _restart(turns)
        if (what == "rebuild" and not hasattr(rebuild, "Rebuild")) or (
            what == "policy" and not hasattr(values, "RoutePolicy")
        ):
            continue  # an older commit's is one step, or there is none
        turns.turns.clear()
        turns.emitted.clear()
        work(turns)
        found[what] = _costs(turns)
        found[what] |= {"routes": turns.emitted["RouteChanged"]}
    return found


def _unusable_and_usable(turns: Turns) -> None:
    """Something is wrong with the InferenceService, and is mended."""
    for generation, problem in ((2, values.Problem("Wrong", "mend it")), (3, None)):
        pods = len(turns.agents)
        turns.do(events.ServiceSeen(replace(service_spec(turns.capacity, pods, generation), problem=problem)))
        turns.do(events.GatewayAcknowledged(turns.world.sequence))
        turns.now += 2.0


def _another_policy(turns: Turns) -> None:
    """Requests may take less time, and as much as before: one edit each of the InferenceService."""
    for generation, policy in ((4, values.RoutePolicy(timeout=10.0)), (5, values.RoutePolicy())):
        pods = len(turns.agents)
        turns.do(events.ServiceSeen(replace(service_spec(turns.capacity, pods, generation), policy=policy)))
        turns.do(events.GatewayAcknowledged(turns.world.sequence))


def _join(turns: Turns) -> None:
    """One pod more, and the first rounds of evening out."""
    agent = Agent("pod-new")
    turns.agents.append(agent)
    turns.do(events.ServiceSeen(service_spec(turns.capacity, len(turns.agents), generation=6)))
    turns.do(events.PodSeen(replace(pod_spec(agent.pod, turns.capacity), ready=True, gate_open=True)))
    turns.do(agent.report())
    for _ in range(3):
        turns.until_quiet()
        turns.now += 2.0
        turns.do(events.Tick())


def _rebuild(turns: Turns) -> None:
    """An exception: the InferenceService is taken out, its agents report everything, and it is put back."""
    known: Any = None

    def take_out() -> list[Any]:
        nonlocal known
        known, found = turns.engine.take_out(SERVICE, turns.now)
        return list(found)

    turns.turn(take_out)
    for agent in turns.agents:
        report = agent.report(everything=True)
        turns.turn(lambda report=report: [known.note(report)][:0])  # type: ignore[misc]
    back: Any = rebuild.Rebuild(turns.world, known)
    while not back.done:
        turns.turn(lambda: turns.engine.advance(back, turns.now))

    def forget() -> list[Any]:
        """As whoever contains errors does once the service is there again."""
        nonlocal known, back
        known = back = None
        return []

    turns.turn(forget)
    turns.work_off()
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) >= len(turns.world.models) > 0


def _delete_all(turns: Turns) -> None:
    gone = [events.ModelGone(key, model.spec.uid) for key, model in turns.world.models.items()]
    Agent.busy = True  # the list is no turn's
    for each in gone:
        turns.do(each)
    turns.do(events.GatewayAcknowledged(turns.world.sequence))
    turns.now += 2.0
    turns.do(events.Tick())
    turns.until_quiet()
    assert not any(pod.copies for pod in turns.world.pods.values())


def _restart(old: Turns) -> dict[str, Any]:
    """Another operator: told of all objects, then by all agents what they hold; from its last list until it is done."""
    agents = [replace(agent, version=0, pending=[], gone=[], session=2) for agent in old.agents]
    turns = Turns(old.models, len(agents), agents)
    turns.do(events.ServiceSeen(service_spec(old.capacity, len(agents))))
    for agent in agents:
        turns.do(events.PodSeen(replace(pod_spec(agent.pod, old.capacity), ready=True, gate_open=True)))
    turns.add(key.name for key in old.world.models)
    for agent in agents:
        turns.do(agent.report(everything=True))
    turns.turns.clear()
    turns.recover(epoch=2)
    assert not turns.world.recovering
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) >= len(old.world.models)
    return _costs(turns)


def _without(models: int, pods: int) -> dict[str, Any]:
    gc.collect()
    turns = Turns(models, pods)
    turns.begin(room=0.5)
    turns.turns.clear()
    turns.add(turns.new_names(models))
    turns.until_quiet()
    applied = _costs(turns)
    turns.now += 60.0
    decisions: list[float] = []
    turns.turns.clear()
    for _ in range(CHANGES):
        turns.now += 1.0
        key = next(iter(turns.world.services[SERVICE].cold))
        before = len(turns.turns)
        turns.do(events.Requested(SERVICE, key.name))
        decisions.append(sum(turns.turns[before:]))
        turns.until_quiet()
    return {
        "tight": applied,
        "decision_us": 1e6 * sum(decisions) / CHANGES,
        "decisions_a_second": CHANGES / sum(decisions),
        "cold_us": 1e6 * sum(turns.turns) / CHANGES,
        "cold": _costs(turns),
    }


def _costs(turns: Turns) -> dict[str, Any]:
    """``over``: turns of more than 50 ms."""
    ordered = sorted(turns.turns)
    return {
        "seconds": sum(ordered),
        "longest_ms": 1e3 * ordered[-1],
        "second_longest_ms": 1e3 * ordered[-2],
        "over": sum(turn > 0.05 for turn in ordered),
        "turns": len(ordered),
    }


def _each(turns: Turns, work: Callable[[Turns], None]) -> float:
    """Mean CPU microseconds of the engine for one of CHANGES."""
    turns.turns.clear()
    for _ in range(CHANGES):
        turns.now += 1.0
        work(turns)
    return 1e6 * sum(turns.turns) / CHANGES


def _add_one(turns: Turns) -> None:
    turns.add(turns.new_names(1))
    turns.until_quiet()


def _delete_one(turns: Turns) -> None:
    key = next(iter(turns.world.models))
    turns.do(events.ModelGone(key, turns.world.models[key].spec.uid))
    turns.until_quiet()
    turns.now += 2.0
    turns.do(events.Tick())
    turns.until_quiet()


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    if garbage is gc:
        gc.set_threshold(50_000, 50, 100)
    else:
        garbage.begin()
    models, pods = map(int, sys.argv[1].split("x"))
    print(json.dumps(measure(models, pods)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
