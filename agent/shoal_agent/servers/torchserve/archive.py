"""A model's folder as TorchServe reads it, from what users store: which file is what. Pure.

TorchServe takes an archive (.mar), or a folder with MAR-INF/MANIFEST.json. Artifacts are such an archive, alone or as
KServe lays it out (config/config.properties and model-store/<name>.mar), such a folder, or a TorchScript file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

MANIFEST: Final = "MAR-INF/MANIFEST.json"
ARCHIVE: Final = ".mar"
TORCHSCRIPT: Final = (".pt", ".pth", ".ts")
HANDLER: Final = "handler.py"
OUR_HANDLER: Final = "shoal_torchserve.handler"
SETTINGS: Final = "shoal.json"
CONFIG: Final = "shoal-model-config.yaml"
_SNAPSHOT: Final = "model_snapshot"
_FROM_SNAPSHOT: Final = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``archive``: the one that is to be unpacked first, with nothing else kept. ``root``: the folder of the model in
    the artifact, with a slash, or empty. ``script``: a TorchScript file that comes without a manifest, and
    ``handler`` its handler, empty where it is ours. ``properties``: KServe's config.properties."""

    archive: str = ""
    root: str = ""
    script: str = ""
    handler: str = ""
    properties: str = ""


def arranged(files: list[str]) -> Arrangement:
    """For an artifact of these files (paths relative to it). Raises StorageError (ArtifactInvalid)."""
    manifests = [file for file in files if file == MANIFEST or file.endswith(f"/{MANIFEST}")]
    if len(manifests) == 1 and manifests[0].count("/") <= MANIFEST.count("/") + 1:
        return Arrangement(root=manifests[0].removesuffix(MANIFEST))
    archives = [file for file in files if file.endswith(ARCHIVE)]
    if len(archives) > 1 or len(manifests) > 1:
        raise _invalid(
            f"it holds several models ({_some(archives or manifests)})",
            "Make a TrainedModel of each, with that archive's or folder's own storageUri",
        )
    if archives:
        found = [file for file in files if file.rsplit("/", 1)[-1] == "config.properties"]
        return Arrangement(archive=archives[0], properties=found[0] if len(found) == 1 else "")
    scripts = [file for file in files if file.endswith(TORCHSCRIPT)]
    if len(scripts) != 1:
        raise _invalid(
            f"expected one archive ({ARCHIVE}), or {MANIFEST}, or one TorchScript file "
            f"({', '.join(TORCHSCRIPT)}); found {_some(files)}",
            "Pack the model with torch-model-archiver, or save it with torch.jit.save",
        )
    root = scripts[0].rpartition("/")[0]
    root = f"{root}/" if root else ""
    return Arrangement(root=root, script=scripts[0], handler=HANDLER if f"{root}{HANDLER}" in files else "")


def manifest_of(script: str, handler: str) -> dict[str, Any]:
    """What torch-model-archiver would write for a TorchScript file."""
    model = {"serializedFile": script, "handler": handler, "modelVersion": "1.0"}
    return {"runtime": "python", "model": model, "archiverVersion": "shoal"}


def parsed(text: str, where: str) -> dict[str, Any]:
    """A manifest. Raises StorageError (ArtifactInvalid)."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{where} is not JSON: {error}", "Pack it again with torch-model-archiver") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise _invalid(f"{where} has no model", "Pack it again with torch-model-archiver")
    for name in ("handler", "serializedFile", "modelFile", "configFile"):
        if not isinstance(content["model"].get(name, ""), str):
            raise _invalid(f"model.{name} of {where} is no text", "Pack it again with torch-model-archiver")
    return content


def ours(manifest: Mapping[str, Any], identity: str, threads: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest that the server reads, and what our handler reads: whose handler it calls, and how.

    The version is the copy's: TorchServe holds several of one name side by side, but none twice.
    """
    model = dict(manifest["model"])
    settings = {
        "handler": str(model.get("handler") or ""),
        "version": str(model.get("modelVersion") or "1.0"),
        "threads": threads,
    }
    model |= {"handler": OUR_HANDLER, "modelVersion": identity, "configFile": CONFIG}
    # Nothing is installed for a model: it would need a network, and an environment for each.
    model.pop("requirementsFile", None)
    return {**manifest, "model": model}, settings


def from_snapshot(properties: str, archive: str) -> dict[str, int]:
    """What KServe's config.properties says of this archive, by the names of a model's own config. Whatever is wrong
    with the file counts as nothing said: the server does not read it."""
    for line in properties.splitlines():
        name, _, value = line.partition("=")
        if name.strip() != _SNAPSHOT:
            continue
        try:
            models = json.loads(value)["models"].values()
            found = [row for versions in models for row in versions.values() if row.get("marName") == archive]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
        if len(found) == 1:
            values = ((key, found[0].get(key)) for key in _FROM_SNAPSHOT)
            return {key: value for key, value in values if type(value) is int and value > 0}
    return {}


def _some(files: list[str]) -> str:
    shown = ", ".join(file[:80] for file in files[:8])
    return (f"{shown} and {len(files) - 8} more" if len(files) > 8 else shown) or "nothing"


def _invalid(what: str, advice: str) -> StorageError:
    return StorageError(ARTIFACT_INVALID, f"The artifact is no model for TorchServe: {what}. {advice}.")
