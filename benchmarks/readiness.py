"""When each TrainedModel was created and became Ready, from one watch: listing ten thousand again and again would take
the CPU that is being measured."""

import json
import threading
import time
from dataclasses import dataclass, field

import httpx

from demo.readiness import is_ready

from .cluster import Bench

_PATH = "/apis/serving.kserve.io/v1alpha1/namespaces/{}/trainedmodels"


@dataclass(slots=True)
class Times:
    """Monotonic seconds at which this process saw it, by model."""

    created: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    events: int = 0


class Watch:
    """Follows a namespace's TrainedModels in a thread from when it is entered until it is left."""

    def __init__(self, bench: Bench) -> None:
        self._url = str(bench.api.base_url) + _PATH.format(bench.namespace)
        self.times = Times()
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def wait(self, what: str, count: int, seconds: float, progress: float = 10.0) -> float:
        """Until ``count`` models are in ``times.<what>``: when the last of them was. Raises TimeoutError, which says
        how many there are."""
        deadline = time.monotonic() + seconds
        said = time.monotonic()
        seen: dict[str, float] = getattr(self.times, what)
        while len(seen) < count:
            now = time.monotonic()
            if now > deadline:
                raise TimeoutError(f"{len(seen)} of {count} models are {what} after {seconds:.0f} s")
            if now - said > progress:
                said = now
                print(f"  {len(seen)} of {count} {what}", flush=True)
            time.sleep(0.05)
        return max(seen.values())

    def _follow(self) -> None:
        version = ""
        while not self._ended.is_set():
            query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "3000"}
            if version:
                query["resourceVersion"] = version
            try:
                with (
                    httpx.Client(timeout=httpx.Timeout(30.0, read=3100.0), trust_env=False) as client,
                    client.stream("GET", self._url, params=query) as answer,
                ):
                    for line in answer.iter_lines():
                        version = self._event(json.loads(line)) or version
                        if self._ended.is_set():
                            return
            except httpx.HTTPError:
                time.sleep(0.2)

    def _event(self, event: dict[str, object]) -> str:
        item = event["object"]
        assert isinstance(item, dict)
        if event["type"] == "ERROR":
            return ""
        now, times = time.monotonic(), self.times
        if event["type"] != "BOOKMARK":
            name = item["metadata"]["name"]
            times.events += 1
            times.created.setdefault(name, now)
            if event["type"] == "DELETED":
                times.gone[name] = now
            elif is_ready(item):
                times.ready.setdefault(name, now)
        return str(item["metadata"]["resourceVersion"])
