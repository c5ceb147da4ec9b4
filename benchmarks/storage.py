"""How fast artifacts come from a store 20 ms away: ``python -m benchmarks.storage`` (make bench-storage).

versitygw behind a proxy that holds each answer back; the agent's pipeline beside obstore alone and boto3, which are
told what to fetch, turn by turn. Shapes: one artifact of 500 files, 400 artifacts of one small file, one large object.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from tests.component.ports import free_port

from . import common

HOST: Final = "127.0.52.1"
BUCKET: Final = "models"
KEYS: Final = ("shoal-bench-key", "shoal-bench-secret")
DELAY: Final = "20ms"
WAYS: Final = ("shoal", "obstore", "boto3")
AIM_TIME: Final = 1.5
AIM_RATE: Final = 0.8
AIM_CPU: Final = 4.0
MEBIBYTE: Final = 1 << 20
Artifacts = dict[str, dict[str, int]]


def shapes(large: int) -> dict[str, Artifacts]:
    """What is fetched, by name: sizes by key, by artifact. ``large`` in MiB."""
    return {
        "500 files of 256 KiB": {"files": {f"files/{number:03}": MEBIBYTE // 4 for number in range(500)}},
        "400 artifacts of 1 KiB": {f"small/{number:03}": {f"small/{number:03}/m": 1024} for number in range(400)},
        f"one object of {large} MiB": {"large": {"large/m": large * MEBIBYTE}},
    }


@contextlib.contextmanager
def _process(*command: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {HOST}:{port}")


def _upload(endpoint: str, all_shapes: dict[str, Artifacts]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="warm/m", Body=b"x")
    for artifacts in all_shapes.values():
        for files in artifacts.values():
            for key, size in files.items():
                if size > 64 * MEBIBYTE:
                    with tempfile.TemporaryFile() as content:
                        for _ in range(size // MEBIBYTE):
                            content.write(os.urandom(MEBIBYTE))
                        content.seek(0)
                        client.upload_fileobj(content, BUCKET, key)
                else:
                    client.put_object(Bucket=BUCKET, Key=key, Body=os.urandom(size))


def measure(rounds: int, large: int) -> common.Json:
    """Seconds and CPU of every way, shape and round."""
    all_shapes = shapes(large)
    with tempfile.TemporaryDirectory(prefix="shoal-bench-s3-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        delay = folder / "delay"
        subprocess.run(
            ["go", "build", "-o", str(delay), str(common.REPOSITORY / "benchmarks" / "delay" / "main.go")], check=True
        )
        gateway, proxy = free_port(HOST), free_port(HOST)
        for each in ("s3", "meta"):
            (folder / each).mkdir()
        stack.enter_context(
            _process(
                str(common.REPOSITORY / ".local" / "bin" / "versitygw"),
                *("--port", f"{HOST}:{gateway}", "posix", "--sidecar", str(folder / "meta"), str(folder / "s3")),
                environment={"ROOT_ACCESS_KEY": KEYS[0], "ROOT_SECRET_KEY": KEYS[1]},
            )
        )
        stack.enter_context(_process(str(delay), f"{HOST}:{proxy}", f"http://{HOST}:{gateway}", DELAY))
        for port in (gateway, proxy):
            _listens(port)
        _upload(f"http://{HOST}:{gateway}", all_shapes)
        results: dict[str, dict[str, dict[str, list[float]]]] = {
            shape: {way: {"seconds": [], "cpu": []} for way in WAYS} for shape in all_shapes
        }
        for turn in range(rounds):
            for shape, artifacts in all_shapes.items():
                for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                    order = {
                        "way": way,
                        "endpoint": f"http://{HOST}:{proxy}",
                        "bucket": BUCKET,
                        "keys": KEYS,
                        "artifacts": artifacts,
                        "warm": "warm/m",
                    }
                    (folder / "order.json").write_text(json.dumps(order))
                    done = subprocess.run(
                        [sys.executable, "-m", "benchmarks.storage_pull", str(folder / "order.json")],
                        cwd=common.REPOSITORY,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    for what, value in json.loads(done.stdout).items():
                        results[shape][way][what].append(value)
        return results


def result(rounds: int, large: int) -> common.Json:
    """The run's figures with their context."""
    about = common.context(
        obstore=metadata.version("obstore"),
        boto3=metadata.version("boto3"),
        versitygw=common.module_version(r"github\.com/versity/versitygw"),
    )
    measured = measure(rounds, large)
    rows: dict[str, Any] = {}
    for shape, artifacts in shapes(large).items():
        best = min(WAYS[1:], key=lambda way: common.spread(measured[shape][way]["seconds"])["median"])
        rows[shape] = {
            "ways": {
                way: {
                    "seconds": common.spread(measured[shape][way]["seconds"]),
                    "cpu_ms_an_artifact": common.spread(
                        [cpu * 1000 / len(artifacts) for cpu in measured[shape][way]["cpu"]]
                    ),
                }
                for way in WAYS
            },
            "best": best,
            "ratio": common.spread(
                [
                    ours / theirs
                    for ours, theirs in zip(
                        measured[shape]["shoal"]["seconds"], measured[shape][best]["seconds"], strict=True
                    )
                ]
            ),
        }
    return {"context": about, "rounds": rounds, "delay": DELAY, "shapes": rows}


def text(found: common.Json) -> str:
    """The report."""
    lines = [
        common.heading("Artifacts from a store 20 ms away", found["context"]),
        f"versitygw behind a proxy that holds each answer back for {found['delay']}; {found['rounds']} rounds, the "
        "ways in turn. obstore alone and boto3 are told what to fetch, and write it; Shoal's pipeline lists each "
        "artifact, fetches, checks and commits it. Up to 64 connections each. s5cmd is not in the registries that this "
        "was made with.\n",
        "| shape | way | seconds (min to max) | CPU ms an artifact |",
        "|---|---|---|---|",
    ]
    for shape, row in found["shapes"].items():
        for way, values in row["ways"].items():
            seconds, cpu = values["seconds"], values["cpu_ms_an_artifact"]
            lines.append(
                f"| {shape} | {way} | {seconds['median']:.2f} ({seconds['min']:.2f} to {seconds['max']:.2f}) |"
                f" {cpu['median']:.1f} |"
            )
    lines.append("")
    for shape, row in found["shapes"].items():
        ratio = row["ratio"]
        lines.append(
            f"- {shape}: {ratio['median']:.2f} times what {row['best']} takes "
            f"({ratio['min']:.2f} to {ratio['max']:.2f})."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=2048, help="MiB of the large object")
    parser.add_argument("--dry", action="store_true", help="print, and write no results")
    options = parser.parse_args()
    found = result(options.rounds, options.large)
    report = text(found)
    print(report)
    if not options.dry:
        common.write("storage", found, report)


if __name__ == "__main__":
    main()
