"""Waits until all TrainedModels are Ready, with a bar where there is a terminal, and says what is missing if not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.failure import DemoError

_POLL_SECONDS = 0.5
_PLAIN_LINE_SECONDS = 5.0
_SHOWN_WHEN_LATE = 5


def condition(resource: dict[str, Any], kind: str = "Ready") -> dict[str, Any]:
    """A condition of a resource's status; empty when it has none of that type."""
    conditions: list[dict[str, Any]] = resource.get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry.get("type") == kind), {})


def is_ready(resource: dict[str, Any]) -> bool:
    """Ready is True, and said of the generation that is there now."""
    seen = resource.get("status", {}).get("observedGeneration", resource["metadata"].get("generation"))
    return condition(resource).get("status") == "True" and seen == resource["metadata"].get("generation")


def trained_models(api: httpx.Client, namespace: str) -> list[dict[str, Any]]:
    """All TrainedModels of a namespace."""
    answer = api.get(f"/apis/serving.kserve.io/v1alpha1/namespaces/{namespace}/trainedmodels")
    answer.raise_for_status()
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def wait(console: Console, api: httpx.Client, namespace: str, names: set[str], timeout: float) -> None:
    """Return once all of ``names`` are Ready. Raises DemoError that names the late ones and their reasons."""
    deadline = time.monotonic() + timeout
    with _bar(console, len(names)) as show:
        while True:
            models = {item["metadata"]["name"]: item for item in trained_models(api, namespace)}
            late = sorted(name for name in names if name not in models or not is_ready(models[name]))
            show(len(names) - len(late))
            if not late:
                return
            if time.monotonic() > deadline:
                raise DemoError(_lateness(late, models, timeout))
            time.sleep(_POLL_SECONDS)


def _lateness(late: list[str], models: dict[str, dict[str, Any]], timeout: float) -> str:
    lines = [f"{len(late)} TrainedModels are not Ready after {timeout:.0f} s:"]
    for name in late[:_SHOWN_WHEN_LATE]:
        ready = condition(models.get(name, {}))
        lines.append(f"  {name}: {ready.get('reason', 'no status')}: {ready.get('message', '')}")
    lines.append("`kubectl describe tm <name>` says more, and `kubectl logs -n shoal-system deploy/shoal-operator`")
    return "\n".join(lines)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    if console.is_terminal:
        columns = (TextColumn("  TrainedModels Ready"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("ready", total=total)
            yield lambda ready: progress.update(task, completed=ready)
        return
    last_said = [-_PLAIN_LINE_SECONDS, -1.0]

    def say(ready: int) -> None:
        now = time.monotonic()
        if ready == total or (ready != last_said[1] and now - last_said[0] >= _PLAIN_LINE_SECONDS):
            last_said[:] = [now, ready]
            console.print(f"  TrainedModels Ready: {ready}/{total}")

    yield say
