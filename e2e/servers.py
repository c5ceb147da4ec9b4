"""Model servers beside MLServer, for tests that use one: the image on the local cluster, the runtime in a namespace."""

import json
from typing import Any, Final

import yaml

from demo import install, kubernetes, settings
from e2e.installation import BUCKET
from e2e.space import Space

SAMPLES: Final = settings.CHECKOUT / "docs" / "samples"
_CHART: Final = settings.CHECKOUT / "charts" / "shoal"
SAMPLES_URI: Final = "s3://your-bucket/"
START_SECONDS: Final = 280.0
"""A server that imports much has to start within it and load its first models, on two busy cores."""


def provide(space: Space, server_type: str) -> None:
    """The chart's runtime of the type, as the namespace's ServingRuntime: the shared installation has MLServer's alone.

    Builds and imports the image first, once per machine; on a cluster that is not ours it is upstream's.
    """
    provide_image(server_type)
    space.apply(runtime(server_type))


def provide_image(server_type: str) -> None:
    """Build and import what cluster/image_list.py calls by this name; nothing on a cluster that is not ours."""
    if settings.foreign_kubeconfig() is None:
        install.make(f"image-{server_type}")


def runtime(server_type: str) -> dict[str, Any]:
    """What the chart makes when the type is turned on, without belonging to the whole cluster."""
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


def apply_sample(space: Space, name: str, service: str = "inferenceservice.yaml") -> None:
    """A folder of docs/samples as its README says: artifacts into the bucket, then its manifests with it in them.
    ``service``: the file with the InferenceService.

    The storage account that the sample's InferenceService names is the namespace's.
    """
    folder = SAMPLES / name
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_file() and len(inside.parts) > 1:
            key = f"{space.name}/{name}/{inside}"
            space.installation.objects.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    for manifest in (service, "trainedmodels.yaml"):
        text = (folder / manifest).read_text()
        space.apply(text.replace(SAMPLES_URI, f"s3://{BUCKET}/{space.name}/"))
