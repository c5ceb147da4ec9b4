"""docs/samples as a user copies them, on a pod of the suite."""

from pathlib import Path
from typing import Any

import yaml
from shoal_api.messages import CopyIntent, content_digest, copy_id
from shoal_api.tuning import UNTUNED, Tuning

from tests.component.agent.parts import BUCKET, REPOSITORY

from .life import Life

SAMPLES = REPOSITORY / "docs" / "samples"


def models(sample: str) -> dict[str, dict[str, Any]]:
    """Their specs, by name."""
    text = (SAMPLES / sample / "trainedmodels.yaml").read_text()
    return {manifest["metadata"]["name"]: manifest["spec"] for manifest in yaml.safe_load_all(text)}


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def intent(name: str, framework: str, key: str, tuning: Tuning = UNTUNED) -> CopyIntent:
    uri = f"s3://{BUCKET}/{key}"
    return CopyIntent(
        name=name,
        copy_id=copy_id("uid-1", content_digest(uri, framework, tuning)),
        storage_uri=uri,
        framework=framework,
        memory_bytes=64 << 20,
        tuning=tuning,
    )


async def load(pod: Life, sample: str, tunings: dict[str, Tuning]) -> None:
    """All models of a sample, tuned as its manifest says, which ``tunings`` repeats."""
    for name, spec in models(sample).items():
        key = spec["model"]["storageUri"].removeprefix("s3://your-bucket/")
        pod.put_files(key, files(SAMPLES / key))
        await pod.operator.want(intent(name, spec["model"]["framework"], key, tunings.get(name, UNTUNED)))
    await pod.loaded(*models(sample), seconds=120)


async def post(pod: Life, path: str, body: Any) -> tuple[int, Any]:
    async with pod.session.post(f"{pod.ground.base}{path}", json=body) as response:
        return response.status, await response.json(content_type=None)
