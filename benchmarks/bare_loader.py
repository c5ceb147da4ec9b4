"""A plain script beside one bare model server: pull with boto3, ask the server to load, nothing else.

``python bare_loader.py FILE``: a JSON file with ``endpoint``, ``access_key``, ``secret_key``, ``bucket``, ``keys``
(by model name), ``models`` (the folder that the server looks into), ``url``, ``pulls`` and ``loads`` (how many at once,
as Shoal's agent has it). Does what the agent does for a model (list the prefix, get each object, write the server's
settings, POST load) without its checks. Prints the seconds that it took.
"""

import http.client
import json
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

local = threading.local()


def pull(client: Any, bucket: str, name: str, prefix: str, models: Path) -> str:
    """Fetch the objects below ``prefix`` and put the model where the server looks for it; its name."""
    folder = models / "copies" / name
    folder.mkdir(parents=True)
    for entry in client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", []):
        file = folder / entry["Key"].removeprefix(f"{prefix}/")
        with client.get_object(Bucket=bucket, Key=entry["Key"])["Body"] as body:
            file.write_bytes(body.read())
    settings = {
        "name": name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    os.symlink(folder, models / "slots" / name)
    return name


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    client = boto3.client(
        "s3",
        endpoint_url=given["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=given["access_key"],
        aws_secret_access_key=given["secret_key"],
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=given["pulls"], proxies={}),
    )
    models = Path(given["models"])
    server = urlsplit(given["url"])

    def load(pulled: "Future[str]") -> None:
        name = pulled.result()
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(server.hostname or "", server.port)
        local.connection.request("POST", f"/v2/repository/models/{name}/load")
        answer = local.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{name}: {answer.status} {text[:300]!r}")

    started = time.perf_counter()
    with ThreadPoolExecutor(given["pulls"]) as pulls, ThreadPoolExecutor(given["loads"]) as loads:
        loading: list[Future[None]] = []
        for name, prefix in given["keys"].items():
            pulls.submit(pull, client, given["bucket"], name, prefix, models).add_done_callback(
                lambda done: loading.append(loads.submit(load, done))
            )
        pulls.shutdown(wait=True)
        loads.shutdown(wait=True)
    for each in loading:
        each.result()
    assert len(loading) == len(given["keys"])
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu_seconds": sum(os.times()[:2])}))


if __name__ == "__main__":
    main()
