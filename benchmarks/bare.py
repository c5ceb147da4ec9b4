"""What Shoal is compared with: as many bare MLServers on this machine, loaded by a plain boto3 script each.

The servers have the same packages as the image (its own requirements) and the same repository plug-in, so that a load
call is the same: MLServer's stock repository reads every model's settings at each load (0.8 loads/s at 1,000 models).
"""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import aiohttp
import httpx

from demo.predictions import v2_body, v2_path
from demo.s3_server import S3Server
from tests.component.agent.parts import PLUGINS, Server

from . import artifacts, cluster, common, usage
from .bare_loader import pull
from .cluster import BUCKET
from .common import REPOSITORY, Json, Target
from .sweep import Endpoint, sweep

PULLS = 8  # at once
LOADS = 4  # as SHOAL_CONCURRENT_LOADS
START_SECONDS = 120.0


async def measure(
    s3: S3Server, folder: str, count: int, servers: int, work: Path, *, rates: Sequence[int], seconds: float
) -> Json:
    """Start the servers, load ``count`` artifacts spread over them, ask each model, then all of them at ``rates`` for
    ``seconds`` each without anything in between, end the servers."""
    running: list[Server] = []
    try:
        running += await asyncio.gather(*(start(work / f"server-{number}") for number in range(servers)))
        files = []
        shares = [
            {artifacts.name(n): artifacts.key(folder, n) for n in range(i, count, servers)} for i in range(servers)
        ]
        for number, (server, keys) in enumerate(zip(running, shares, strict=True)):
            given = {
                "endpoint": s3.endpoint,
                "access_key": s3.access_key,
                "secret_key": s3.secret_key,
                "bucket": BUCKET,
                "keys": keys,
                "models": str(work / f"server-{number}" / "models"),
                "url": server.url,
                "pulls": PULLS,
                "loads": LOADS,
            }
            files.append(work / f"server-{number}" / "loader.json")
            files[-1].touch(0o600)
            files[-1].write_text(json.dumps(given))
        before = [usage.of_process(server.process.pid) for server in running]
        machine, storage = usage.machine(), usage.of_pods(cluster.system_pods())
        started = time.perf_counter()
        loaders = await asyncio.gather(*(_load(file) for file in files))
        loading = time.perf_counter() - started
        machine = usage.machine() - machine
        stored = usage.since(usage.of_pods(cluster.system_pods()), storage)
        after = [usage.of_process(server.process.pid) for server in running]
        ends = [Endpoint(server.url, {}) for server in running]
        right = await sweep({artifacts.name(n): (ends[n % servers], float(n)) for n in range(count)})
        return {
            "seconds": round(loading, 2),
            "machine_cpu_seconds": round(machine, 1),
            "storage": stored["versitygw"],
            "loader_seconds": [round(each["seconds"], 2) for each in loaders],
            "loader_cpu_seconds": round(sum(each["cpu_seconds"] for each in loaders), 2),
            "server_cpu_seconds": round(sum(a.cpu - b.cpu for a, b in zip(after, before, strict=True)), 2),
            "server_memory_mib": round(sum(each.memory for each in after), 1),
            "server_memory_growth_mib": round(sum(a.memory - b.memory for a, b in zip(after, before, strict=True)), 1),
            "sweep": right,
            "attacks": [await _attack(running, count, work, rate, seconds) for rate in rates],
        }
    finally:
        await asyncio.gather(*(server.process.end() for server in running))
        shutil.rmtree(work, ignore_errors=True)


async def start(folder: Path) -> Server:
    """A bare server over ``folder``, ready. Raises RuntimeError when it ends at once, TimeoutError."""
    models, shared = folder / "models", folder / "shared"
    shutil.rmtree(folder, ignore_errors=True)
    (models / "slots").mkdir(parents=True)
    (models / "copies").mkdir()
    (shared / "plugins").mkdir(parents=True)
    (shared / "plugins" / "mlserver").symlink_to(PLUGINS / "mlserver" / "plugin")
    server = Server(folder, models, shared)
    server.start()
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
        while True:
            if not server.process.running:
                raise RuntimeError(f"MLServer ended: {server.process.log.read_text()[-1000:]}")
            try:
                async with session.get(f"{server.url}/v2/health/ready") as answer:
                    if answer.status == 200:
                        return server
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


async def _attack(running: list[Server], count: int, work: Path, rate: int, seconds: float) -> Json:
    """Over all models in turn, each at the server that has it."""
    body = work / "body.json"
    body.write_text(json.dumps(v2_body(list(artifacts.ROW))))
    urls = [running[n % len(running)].url + v2_path(artifacts.name(n)) for n in range(count)]
    found = asdict(await common.attack([Target(url, "bare", body) for url in urls], work, seconds=seconds, rate=rate))
    del found["results"]
    return {"offered": rate} | found


async def one_by_one(server: Server, s3: S3Server, keys: dict[str, str], folder: Path) -> list[float]:
    """Pull, load and ask each of ``keys`` (by model name) on its own: milliseconds until its first answer."""
    return await asyncio.to_thread(_one_by_one, server, s3, keys, folder / "models")


def _one_by_one(server: Server, s3: S3Server, keys: dict[str, str], models: Path) -> list[float]:
    objects = s3.client()
    took = []
    with httpx.Client(base_url=server.url, timeout=60.0, trust_env=False) as client:
        client.get("/v2/health/ready")
        objects.list_objects_v2(Bucket=BUCKET, MaxKeys=1)  # connections are there
        for name, prefix in keys.items():
            started = time.perf_counter()
            pull(objects, BUCKET, name, prefix, models)
            client.post(f"/v2/repository/models/{name}/load").raise_for_status()
            client.post(v2_path(name), json=v2_body(list(artifacts.ROW))).raise_for_status()
            took.append(1e3 * (time.perf_counter() - started))
    return took


async def _load(file: Path) -> Json:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(REPOSITORY / "benchmarks" / "bare_loader.py"),
        str(file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the loader failed: {errors.decode()[-1000:]}")
    found: Json = json.loads(output)
    return found
