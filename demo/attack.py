"""A Vegeta attack over all models through the gateway, every answer checked."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import kubernetes
from demo.failure import DemoError
from demo.predictions import Target, v2_answer, v2_body, v2_path
from demo.training import DemoModel

_GRACE_SECONDS = 60


def attack(target: Target, models: list[DemoModel], rate: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Send ``rate`` requests a second for ``seconds``, over all models in turn; Vegeta's JSON report.

    Raises DemoError when a request failed or a model answered for another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets, results = folder / "attack-targets.jsonl", folder / "attack-results.bin"
    targets.write_text("".join(f"{json.dumps(line)}\n" for line in _targets(target, models)))
    vegeta = kubernetes.program("vegeta")
    command = [vegeta, "attack", "-format=json", f"-targets={targets}", f"-rate={rate}", f"-duration={seconds}s"]
    subprocess.run([*command, f"-output={results}"], check=True, timeout=seconds + _GRACE_SECONDS)
    report = subprocess.run([vegeta, "report", "-type=json", str(results)], check=True, capture_output=True, text=True)
    parsed: dict[str, Any] = json.loads(report.stdout)
    _check(parsed, _answers(vegeta, results), {model.name: model for model in models}, rate * seconds)
    return parsed


def show(console: Console, report: dict[str, Any]) -> None:
    """The latency table."""
    table = Table(title="Vegeta attack through the gateway")
    for column in ("requests", "rate /s", "mean ms", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "max ms", "success"):
        table.add_column(column, justify="right")
    latencies = report["latencies"]
    names = ("mean", "50th", "90th", "95th", "99th", "max")
    cells = [f"{latencies[name] / 1e6:.2f}" for name in names]
    table.add_row(str(report["requests"]), f"{report['rate']:.1f}", *cells, f"{report['success']:.2%}")
    console.print(table)


def _targets(target: Target, models: list[DemoModel]) -> Iterator[dict[str, Any]]:
    for model in models:
        body = json.dumps(v2_body(model.probe)).encode()
        yield {
            "method": "POST",
            "url": target.url + v2_path(model.name),
            "header": {"Host": [target.host], "Content-Type": ["application/json"]},
            "body": base64.b64encode(body).decode(),
        }


def _answers(vegeta: str, results: Path) -> Iterator[dict[str, Any]]:
    encoded = subprocess.run([vegeta, "encode", "-to=json", str(results)], check=True, capture_output=True, text=True)
    return (json.loads(line) for line in encoded.stdout.splitlines())


def _check(report: dict[str, Any], answers: Iterator[dict[str, Any]], models: dict[str, DemoModel], sent: int) -> None:
    if report["errors"] or report["status_codes"] != {"200": sent}:
        raise DemoError(f"the attack had failures: {report['status_codes']} {report['errors'][:5]}")
    for answer in answers:
        asked = answer["url"].rsplit("/", 2)[1]
        value = v2_answer(json.loads(base64.b64decode(answer["body"])))
        if not models[asked].answers_with(value):
            raise DemoError(f"{asked} was answered {value} during the attack, not {models[asked].answer}")
