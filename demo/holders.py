"""Which pod holds which models, from the operator's /explain."""

from collections import defaultdict
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from demo import settings
from demo.failure import DemoError


def explain(api: httpx.Client, namespace: str, model: str) -> dict[str, Any]:
    """The operator's explanation of one model, through the API server. Raises DemoError when it has none."""
    service = f"{settings.RELEASE}-operator:http"
    path = f"/api/v1/namespaces/{settings.SYSTEM_NAMESPACE}/services/{service}/proxy/explain/{namespace}/{model}"
    answer = api.get(path)
    if answer.status_code != httpx.codes.OK:
        raise DemoError(f"/explain/{namespace}/{model}: {answer.status_code} {answer.text[:300]}")
    body: dict[str, Any] = answer.json()
    return body


def by_pod(api: httpx.Client, namespace: str, names: list[str]) -> dict[str, list[str]]:
    """Names of the models that each pod serves."""
    held: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for copy in explain(api, namespace, name)["copies"]:
            if copy["serving"]:
                held[copy["pod"]].append(name)
    return dict(held)


def check(held: dict[str, list[str]], names: set[str]) -> None:
    """Raise DemoError unless every model is held, and more than one pod has a share.

    Not that the shares are equal: they are not after pods were deleted, since models that serve are not moved.
    """
    missing = sorted(names - {name for on_pod in held.values() for name in on_pod})
    if missing:
        raise DemoError(f"no pod serves {', '.join(missing)}")
    if len(held) == 1:
        raise DemoError(f"{len(names)} models are all on one pod")


def show(console: Console, held: dict[str, list[str]]) -> None:
    """A table of pods with the count and the first names of what they hold."""
    table = Table(title="Which pod holds what")
    table.add_column("pod", no_wrap=True)
    table.add_column("models", justify="right")
    table.add_column("of them", overflow="fold")
    for pod, names in sorted(held.items()):
        shown = ", ".join(sorted(names))
        table.add_row(pod, str(len(names)), shown)
    console.print(table)
