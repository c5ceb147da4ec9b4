"""One way to fetch artifacts, in a process of its own: ``python -m benchmarks.storage_pull ORDER`` (JSON).

Prints seconds of wall time and of CPU. What is imported and connected before the first request is not counted.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONNECTIONS: Final = 64
PART: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """Artifacts by prefix, and the keys below them with their sizes; ``warm``: a key that is fetched before."""

    way: str
    endpoint: str
    bucket: str
    keys: tuple[str, str]
    artifacts: dict[str, dict[str, int]]
    warm: str


async def shoal(order: Order, folder: Path) -> Callable[[], Awaitable[object]]:
    """The agent's cache, as it pulls for its slots: each artifact is listed, fetched, checked and committed."""
    from shoal_agent.cache import Cache  # noqa: PLC0415 - each way imports its own
    from shoal_agent.storage import Limits  # noqa: PLC0415
    from shoal_agent.storage.s3 import S3Source  # noqa: PLC0415

    secret = folder / "secrets" / "storage"
    secret.mkdir(parents=True)
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), order.keys, strict=True):
        (secret / name).write_text(value)
    annotations = {"serving.kserve.io/s3-endpoint": order.endpoint}
    document = {"version": 1, "secrets": [{"name": "storage", "annotations": annotations}]}
    (folder / "storage.json").write_text(json.dumps(document))
    source = S3Source(folder / "storage.json", folder / "secrets", CONNECTIONS, environment={})
    cache = Cache(folder / "cache", {"s3": source}, Limits(1 << 40, 10_000), connections=CONNECTIONS)
    cache.open()
    await cache.pull(f"s3://{order.bucket}/{order.warm}")
    turns = asyncio.Semaphore(CONNECTIONS)

    async def pull(prefix: str) -> None:
        async with turns:
            await cache.pull(f"s3://{order.bucket}/{prefix}")

    return lambda: asyncio.gather(*(pull(prefix) for prefix in order.artifacts))


async def obstore(order: Order, folder: Path) -> Callable[[], Awaitable[object]]:
    """The library alone, told all keys and sizes: no listing, no check, each file written as it comes."""
    import obstore as library  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

    store = S3Store(
        order.bucket,
        endpoint=order.endpoint,
        region="us-east-1",
        access_key_id=order.keys[0],
        secret_access_key=order.keys[1],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "pool_max_idle_per_host": str(CONNECTIONS), "timeout": "1h"},
    )
    await library.get_async(store, order.warm)
    turns = asyncio.Semaphore(CONNECTIONS)

    async def part(key: str, out: int, start: int, end: int) -> None:
        async with turns:
            found = await library.get_async(store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=1 << 20):
                view = memoryview(chunk)
                await asyncio.to_thread(os.pwrite, out, view, start)
                start += len(view)

    async def file(key: str, size: int) -> None:
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        if size > PART:
            out = os.open(target, os.O_WRONLY | os.O_CREAT)
            await asyncio.gather(*(part(key, out, at, min(at + PART, size)) for at in range(0, size, PART)))
            os.close(out)
            return
        async with turns:
            target.write_bytes(memoryview(await (await library.get_async(store, key)).bytes_async()))

    every = [item for files in order.artifacts.values() for item in files.items()]
    return lambda: asyncio.gather(*(file(key, size) for key, size in every))


async def boto(order: Order, folder: Path) -> Callable[[], Awaitable[object]]:
    """boto3 with as many threads, told all keys."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=order.endpoint,
        region_name="us-east-1",
        aws_access_key_id=order.keys[0],
        aws_secret_access_key=order.keys[1],
        config=Config(max_pool_connections=CONNECTIONS, s3={"addressing_style": "path"}),
    )
    client.head_object(Bucket=order.bucket, Key=order.warm)

    def file(key: str) -> None:
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(order.bucket, key, str(target))

    every = [key for files in order.artifacts.values() for key in files]
    pool = ThreadPoolExecutor(CONNECTIONS)
    return lambda: asyncio.to_thread(lambda: list(pool.map(file, every)))


WAYS: Final = {"shoal": shoal, "obstore": obstore, "boto3": boto}


async def _measure(order: Order) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="shoal-bench-storage-"))
    try:
        run = await WAYS[order.way](order, folder)
        started, cpu = time.monotonic(), time.process_time()
        await run()
        return {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    said = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(asyncio.run(_measure(Order(**said)))))
