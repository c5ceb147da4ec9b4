"""What has to be done for a cluster with all images, and what of it waits for what.

Compiling takes both cores for most of the time; what waits for the network or the disk (Debian packages, the base
image, wheels, imports) runs beside it. The programs of the cluster come first: it starts while the others compile.
"""

from collections.abc import Sequence
from functools import partial

from cluster import binaries, image_list, lifecycle, packages
from cluster.image_list import Image
from cluster.images import build, import_into_cluster
from cluster.jobs import Job
from cluster.nodes import lifecycle as nodes

_PACKAGES = Job("Debian packages", packages.ensure)
_CLUSTER_PROGRAMS = Job("programs of the cluster", lambda: binaries.ensure_all(binaries.FOR_THE_CLUSTER))
# After, not beside, the others: two calls of the compiler would both compile what both need.
_OTHER_PROGRAMS = Job(
    "other programs", lambda: binaries.ensure_all(binaries.FOR_THE_USER), after=(_CLUSTER_PROGRAMS.name,)
)
_SEVERAL_NODES_PROGRAMS = Job(
    "programs of several nodes",
    lambda: binaries.ensure_all(binaries.FOR_SEVERAL_NODES),
    after=(_OTHER_PROGRAMS.name,),
)
_START = "start"


def whole_cluster(takeover: bool, count: int = 1) -> list[Job]:
    """Programs, the running cluster of so many nodes, and every image in it."""
    start = Job(_START, lambda: lifecycle.up(takeover), after=(_PACKAGES.name, _CLUSTER_PROGRAMS.name))
    wanted = (*image_list.RUNTIMES, *image_list.PROJECT)
    built: dict[Image, str] = {}
    imports = [_import(image, built, (_START,)) for image in wanted]
    several = [_SEVERAL_NODES_PROGRAMS] if count > 1 else []
    # After the imports: the first node's images are the others' too.
    needed = (*(job.name for job in imports), *(job.name for job in several))
    return [
        _PACKAGES,
        _CLUSTER_PROGRAMS,
        start,
        _OTHER_PROGRAMS,
        *several,
        *_builds(wanted, built, (_OTHER_PROGRAMS.name,)),
        *imports,
        Job("nodes", lambda: nodes.converge(count), after=needed),
    ]


def images(wanted: Sequence[Image], *, imported: bool) -> list[Job]:
    """The images and their bases; ``imported``: into the cluster that runs."""
    built: dict[Image, str] = {}
    imports = [_import(image, built, ()) for image in wanted] if imported else []
    return [_PACKAGES, *_builds(wanted, built, ()), *imports]


def _builds(wanted: Sequence[Image], built: dict[Image, str], programs: tuple[str, ...]) -> list[Job]:
    """The builds of images and of their bases, which note in ``built`` the hash of what went into each.

    ``programs``: the jobs that images of programs wait for.
    """
    all_of_them = dict.fromkeys(each for image in wanted for each in (*_bases(image), image))
    return [
        Job(
            _image(image),
            partial(_build, image, built),
            after=(_PACKAGES.name, *map(_image, image.bases), *(programs if image.holds_program else ())),
        )
        for image in all_of_them
    ]


def _build(image: Image, built: dict[Image, str]) -> None:
    built[image] = build(image)


def _bases(image: Image) -> list[Image]:
    return [each for base in image.bases for each in (*_bases(base), base)]


def _import(image: Image, built: dict[Image, str], after: tuple[str, ...]) -> Job:
    """The import of what was built, also when an input of the image was edited since."""
    needed = (_image(image), *after)
    return Job(f"import {image.name}", lambda: import_into_cluster(image, built[image]), after=needed)


def _image(image: Image) -> str:
    return f"image {image.name}"
