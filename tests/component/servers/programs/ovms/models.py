"""The models of the double of OpenVINO Model Server 2026.3: how it reads config.json, loads, reloads and retires.

Written from its source (modelmanager.cpp, model.cpp, modelinstance.cpp, status.cpp), with what surprises kept: a file
with one unknown field changes nothing, an unknown plugin key retires all models behind it, a version that fails is
LOADING with an error, one that is gone stays listed for ever, versions are sorted as text where numbers are searched.
"""

import asyncio
import bisect
import hashlib
import json
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIELDS = {
    *("name", "base_path", "batch_size", "graph_path", "subconfig", "model_version_policy", "shape", "layout", "nireq"),
    *("target_device", "allow_cache", "plugin_config", "custom_loader_options"),
}
PLUGIN_KEYS = {
    *("NUM_STREAMS", "INFERENCE_NUM_THREADS", "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "ENABLE_MMAP"),
    *("EXECUTION_MODE_HINT", "INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING", "ENABLE_HYPER_THREADING"),
    *("SCHEDULING_CORE_TYPE", "CPU_DENORMALS_OPTIMIZATION", "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"),
}
RELOADING = ("base_path", "target_device", "batch_size", "nireq", "plugin_config", "shape", "layout", "allow_cache")
HELD_SECONDS = 10.0
MAX_NIREQ = 100_000


class Refused(Exception):
    """A status of the server: what it says, and HTTP's and gRPC's codes for it."""

    def __init__(self, message: str, status: int, code: int = 13) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


NOT_LOADED_YET = ("Model with requested version is not loaded yet", 404, 14)
RETIRED = ("Model with requested version is retired", 404, 5)
NO_VERSION = ("Model with requested version is not found", 404, 5)
NO_NAME = ("Model with requested name is not found", 404, 5)
NO_GRAPH = ("Mediapipe graph definition with requested name is not found", 404, 5)


@dataclass
class Instance:
    """A version of a model, which is never forgotten."""

    name: str
    version: int
    state: str = "START"
    error: str = "OK"
    config: dict[str, Any] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)
    running: int = 0
    infer_requests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def nireq(self) -> int:
        return int(self.config.get("nireq") or self.streams)

    @property
    def streams(self) -> int:
        return int((self.config.get("plugin_config") or {}).get("NUM_STREAMS", 1))

    async def load(self, config: dict[str, Any]) -> None:
        self.state, self.error, self.config = "LOADING", "OK", config
        try:
            self.said = _read(Path(config["base_path"]) / str(self.version))
            if self.said.get("end"):
                os._exit(70)
            await asyncio.sleep(self.said.get("load_seconds", 0.0))
            for key, value in (config.get("plugin_config") or {}).items():
                print(f"OVMS set plugin settings key: {key}; value: {value};", flush=True)
            if self.nireq > MAX_NIREQ:
                raise Refused("Invalid nireq", 500)
        except Refused:
            self.error = "UNKNOWN"
            raise
        self.infer_requests = asyncio.Semaphore(self.nireq)
        self.state = "AVAILABLE"

    async def reload(self, config: dict[str, Any]) -> None:
        self.state, self.error = "LOADING", "OK"
        await self.idle()
        await self.load(config)

    async def retire(self) -> None:
        self.state = "UNLOADING"
        await self.idle()
        self.state = "END"

    async def idle(self) -> None:
        while self.running:  # noqa: ASYNC110  # as the server does
            await asyncio.sleep(0.01)


def _read(folder: Path) -> dict[str, float]:
    """Stands for OpenVINO: an .xml whose <rt_info> says what the model answers, with a .bin; or JSON as .onnx."""
    if not folder.is_dir():
        raise Refused("The provided base path is invalid or doesn't exists", 400)
    files = {file.suffix: file for file in sorted(folder.iterdir()) if not file.is_dir()}
    try:
        if ".xml" in files and ".bin" in files:
            told = ET.fromstring(files[".xml"].read_text()).find("rt_info")  # noqa: S314  # of a test
            return {key: float(value) for key, value in told.attrib.items()} if told is not None else {}
        if ".onnx" in files:
            return {key: float(value) for key, value in json.loads(files[".onnx"].read_text()).items()}
    except (ET.ParseError, ValueError) as error:
        print(f"Cannot read the model: {error}", flush=True)
        raise Refused("Internal server error", 500) from error
    raise Refused("File not found or cannot open", 500)


class Models:
    """The manager. One reload at a time."""

    def __init__(self, config_path: Path) -> None:
        self._path = config_path
        self._lock = asyncio.Lock()
        self._md5 = ""
        self._last: Refused | None = None
        self._served: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[int, Instance]] = {}
        self.defaults: dict[str, int] = {}
        self.metrics: set[str] | None = None

    async def start(self) -> None:
        """Raises Refused only where the file itself is wrong: then the server does not start."""
        self.metrics = _metrics(_parsed(self._path.read_bytes()))
        try:
            await self._load_config()
        except Refused as error:
            if error.status == 412:
                raise

    async def reload(self) -> int:
        """HTTP's status; raises Refused."""
        print("config reload", flush=True)
        async with self._lock:
            if not self._path.exists():
                raise Refused("Config file not found or cannot open.", 500)
            changed = hashlib.md5(self._path.read_bytes(), usedforsecurity=False).hexdigest() != self._md5
            again = changed or self._last is not None
            if again:
                await self._load_config()
            for config in list(self._served.values()):
                again = await self._versions(config) or again
            return 201 if again else 200

    async def _load_config(self) -> None:
        try:
            content = self._path.read_bytes()
            self._md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            entries = _entries(_parsed(content))
            await self._apply(entries)
        except Refused as error:
            self._last = error
            raise
        self._last = None

    async def _apply(self, entries: list[dict[str, Any]]) -> None:
        first: Refused | None = None
        served: dict[str, dict[str, Any]] = {}
        for config in entries:
            if set(config.get("plugin_config") or {}) - PLUGIN_KEYS:
                first = first or Refused("Model config is invalid", 500)
                break  # those behind it are as if they were not in the file
            if config["name"] in served:
                first = first or Refused("Given model name is already occupied", 500)
                continue
            served[config["name"]] = config
            try:
                await self._versions(config)
            except Refused as error:
                first = first or error
        self._served = served
        for name in list(self.models):
            if name not in served:
                for instance in self.models[name].values():
                    if instance.state != "END":
                        await instance.retire()
                    self._choose(name)
        if first is not None:
            raise first

    async def _versions(self, config: dict[str, Any]) -> bool:
        """Have a model's versions be those of its folders: new ones first, then the others go. Whether any changed."""
        name = config["name"]
        known = self.models.setdefault(name, {})
        present = _folders(Path(config["base_path"]))
        error: Refused | None = None
        failed: list[int] = []
        start, again, leave = self._changes(config, present)
        changed = bool(start or again or leave)
        while start:
            failed = []
            for version in start:
                known[version] = Instance(name, version)
                try:
                    await known[version].load(config)
                    self._choose(name)
                except Refused as refused:
                    error = refused
                    failed.append(version)
            if not failed:
                break
            present = _without(present, failed)
            start, again, leave = self._changes(config, present)
        for version in again:
            try:
                await known[version].reload(config)
                self._choose(name)
            except Refused as refused:
                error = refused
                failed.append(version)
        present = _without(present, failed)
        _, _, leave = self._changes(config, present)
        for version in leave:
            if version in failed:
                known[version].state, known[version].error = "LOADING", "UNKNOWN"
                self._choose(name)
            else:
                self._choose(name, without=version)
                await known[version].retire()
        self._choose(name)
        if error is not None:
            raise error
        return changed

    def _changes(self, config: dict[str, Any], present: list[int]) -> tuple[list[int], list[int], list[int]]:
        """To start, to reload, to retire."""
        policy = config.get("model_version_policy") or {"latest": {}}
        wanted = sorted(present)
        if "latest" in policy:
            count = int(policy["latest"].get("num_versions", 1))
            wanted = sorted(present, reverse=True)[:count]
        elif "specific" in policy:
            wanted = [version for version in wanted if version in policy["specific"]["versions"]]
        known = self.models[config["name"]]
        again = [
            version
            for version in wanted
            if version in known
            and (
                known[version].state in ("UNLOADING", "END")
                or (known[version].state == "LOADING" and known[version].error != "OK")
                or any(known[version].config.get(key) != config.get(key) for key in RELOADING)
            )
        ]
        leave = [v for v in sorted(known) if v not in wanted and known[v].state not in ("UNLOADING", "END")]
        return [version for version in wanted if version not in known], again, leave

    def _choose(self, name: str, without: int = 0) -> None:
        known = self.models[name]
        self.defaults[name] = max(
            (version for version in known if version != without and known[version].state == "AVAILABLE"), default=0
        )

    def of(self, name: str, version: int, missing: tuple[str, int, int] = NO_NAME) -> Instance:
        """Raises Refused."""
        if name not in self.models:
            raise Refused(*missing)
        found = self.models[name].get(version or self.defaults.get(name, 0))
        if found is None:
            raise Refused(*NO_VERSION)
        return found

    async def infer(self, name: str, version: int, interface: str) -> float:
        """What the model answers. Raises Refused."""
        instance = self.of(name, version, NO_GRAPH)
        waited = 0.0
        while instance.state != "AVAILABLE":
            if instance.state in ("UNLOADING", "END"):
                raise Refused(*RETIRED)
            if waited >= HELD_SECONDS:
                raise Refused(*NOT_LOADED_YET)
            await asyncio.sleep(0.1)
            waited += 0.1
        instance.running += 1
        try:
            async with instance.infer_requests:
                await asyncio.sleep(instance.said.get("predict_seconds", 0.0))
            key = (interface, "ModelInfer")
            instance.counts[key] = instance.counts.get(key, 0) + 1
            return instance.said["answer"]
        finally:
            instance.running -= 1


def _folders(base: Path) -> list[int]:
    """Numbers of the versions that are there, sorted as text, which is how the folders' names come."""
    if ".." in base.parts or not base.is_dir():
        raise Refused("The provided base path is invalid or doesn't exists", 400)
    present = [int(each) for each in sorted(entry.name for entry in base.iterdir() if entry.is_dir())]
    return [version for version in present if version > 0]


def _without(present: list[int], failed: list[int]) -> list[int]:
    """Versions that failed are looked for by halving, in a list that need not be in order: some are not found."""
    for version in failed:
        at = bisect.bisect_left(present, version)
        if at < len(present) and present[at] == version:
            present = [each for each in present if each != version]
    return present


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Refused("The file is not valid json", 412) from error
    if (
        not isinstance(found, dict)
        or set(found) - {"model_config_list", "monitoring"}
        or "model_config_list" not in found
    ):
        raise Refused("The file is not valid json", 412)
    return found


def _entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Against the schema: nothing is applied of a file with one field too many."""
    entries = []
    for each in content["model_config_list"]:
        config = each.get("config") if isinstance(each, dict) and set(each) == {"config"} else None
        valid = isinstance(config, dict) and isinstance(config.get("name"), str) and not set(config) - FIELDS
        nireq = config.get("nireq", 0) if isinstance(config, dict) else 0
        plugin = config.get("plugin_config", {}) if isinstance(config, dict) else {}
        valid = valid and isinstance(nireq, int) and nireq >= 0 and isinstance(plugin, dict)
        if not valid or not all(isinstance(value, str | bool | int | float) for value in plugin.values()):
            raise Refused("The file is not valid json", 412)
        assert isinstance(config, dict)
        entries.append(config)
    return entries


def _metrics(content: dict[str, Any]) -> set[str] | None:
    """Those that are told; None: there are none. Read at the server's start only."""
    said = (content.get("monitoring") or {}).get("metrics") or {}
    if not said.get("enable"):
        return None
    return set(said.get("metrics_list") or ("ovms_requests_success", "ovms_requests_fail", "ovms_streams"))
