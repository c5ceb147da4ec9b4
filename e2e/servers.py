"""Model servers beside MLServer, for tests that use one: the image on the local cluster, the runtime in a namespace."""

from typing import Final

from demo import install, samples, settings, upload
from e2e.installation import BUCKET
from e2e.space import Space

START_SECONDS: Final = 280.0
"""A server that imports much has to start within it and load its first models, on two busy cores."""


def provide(space: Space, server_type: str) -> None:
    """The chart's runtime of the type, as the namespace's ServingRuntime: the shared installation has MLServer's alone.

    Builds and imports the image first, once per machine; on a cluster that is not ours it is upstream's.
    """
    provide_image(server_type)
    space.apply(samples.runtime(server_type))


def provide_image(server_type: str) -> None:
    """Build and import what cluster/image_list.py calls by this name; nothing on a cluster that is not ours."""
    if settings.foreign_kubeconfig() is None:
        install.make(f"image-{server_type}")


def apply_sample(space: Space, name: str, service: str = samples.SERVICE) -> None:
    """A folder of docs/samples as its README says: artifacts into the bucket, then its manifests with it in them.
    ``service``: the file with the InferenceService.

    The storage account that the sample's InferenceService names is the namespace's.
    """
    files = {f"{space.name}/{key}": file for key, file in samples.artifacts(name).items()}
    upload.upload_files(space.installation.objects, BUCKET, files)
    space.apply(samples.manifests(name, f"s3://{BUCKET}/{space.name}/", service))
