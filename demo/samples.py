"""docs/samples as their READMEs say to apply them: artifacts into a bucket, and the bucket into the manifests.

Shared by the demo and the end-to-end tests, so that what users copy is what was tried.
"""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from demo import kubernetes, settings

FOLDER: Final = settings.CHECKOUT / "docs" / "samples"
SERVICE: Final = "inferenceservice.yaml"
MODELS: Final = "trainedmodels.yaml"
BUCKET_URI: Final = "s3://your-bucket/"
"""What users are told to replace."""
_CHART: Final = settings.CHECKOUT / "charts" / "shoal"


def artifacts(sample: str) -> dict[str, Path]:
    """What lies below the sample's bucket, by key: the files of its folders, each folder a model."""
    folder = FOLDER / sample
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.parent != folder)
    return {f"{sample}/{file.relative_to(folder)}": file for file in files}


def manifests(sample: str, bucket_uri: str = BUCKET_URI, service: str = SERVICE) -> str:
    """The sample's YAML with another bucket in it, such as ``s3://models/samples/``.

    ``service``: the file with the InferenceService.
    """
    texts = [(FOLDER / sample / file).read_text() for file in (service, MODELS)]
    return "---\n".join(texts).replace(BUCKET_URI, bucket_uri)


def runtime(server_type: str) -> dict[str, Any]:
    """What the chart makes when the type is turned on, as the ServingRuntime of one namespace."""
    values = ("--set=runtimes.mlserver.enabled=false", f"--set=runtimes.{server_type}.enabled=true")
    text = kubernetes.run(kubernetes.program("helm"), "template", "shoal", str(_CHART), *values)
    for manifest in yaml.safe_load_all(text):
        if manifest and manifest["kind"] == "ConfigMap" and "runtimes.json" in (manifest.get("data") or {}):
            (made,) = json.loads(manifest["data"]["runtimes.json"])["apply"]
            return {
                "apiVersion": made["apiVersion"],
                "kind": "ServingRuntime",
                "metadata": {"name": made["metadata"]["name"]},
                "spec": made["spec"],
            }
    raise AssertionError(f"the chart has no runtime of {server_type}")
