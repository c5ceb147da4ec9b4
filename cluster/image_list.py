"""The images: what each is built from, and the name it goes by."""

import hashlib
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cluster import base_image, binaries
from cluster.commands import output
from cluster.layout import CHECKOUT

_OURS = Path(__file__).resolve().parent / "images"
_PROJECT = CHECKOUT / "pyproject.toml"
_GENERATED = ("__pycache__", ".egg-info", ".pyc", ".pyo")


@dataclass(frozen=True)
class Image:
    """A Dockerfile, the folder it is built in, and the paths in there that decide what comes out."""

    name: str
    tag: Callable[[], str]
    dockerfile: Path
    context: Callable[[], Path]
    inputs: tuple[str, ...]
    bases: tuple["Image", ...] = ()
    holds_program: bool = False  # one of the Go programs

    def digest(self) -> str:
        """A hash of everything that decides what the image holds."""
        digest = hashlib.sha256(self.tag().encode() + self.dockerfile.read_bytes())
        for base in self.bases:
            digest.update(base.digest().encode())
        context = self.context()
        for name in self.inputs:
            for path in _files(context / name):
                digest.update(str(path.relative_to(context)).encode())
                digest.update(_content(path))
        return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        return
    if path.is_file():
        yield path
        return
    for entry in sorted(path.rglob("*")):
        if entry.is_file() and not any(part.endswith(_GENERATED) for part in entry.parts):
            yield entry


def _content(path: Path) -> bytes:
    stat = path.stat()
    return _content_at(path, stat.st_mtime_ns, stat.st_size)


@lru_cache
def _content_at(path: Path, _modified: int, _size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _project_tag(program: str) -> Callable[[], str]:
    def tag() -> str:
        version = tomllib.loads(_PROJECT.read_text())["project"]["version"]
        return f"ghcr.io/shoal-serving/{program}:{version}"

    return tag


def _fixed(text: str) -> Callable[[], str]:
    return lambda: text


def _project_image(part: str, *more: str) -> Image:
    return Image(
        name=part,
        tag=_project_tag(f"shoal-{part}"),
        dockerfile=CHECKOUT / f"Dockerfile.{part}",
        context=lambda: CHECKOUT,
        inputs=(
            "pyproject.toml",
            "constraints.txt",
            ".dockerignore",
            "cluster/images/locked.py",
            f"api/{_package('api')}",
            f"{part}/{_package(part)}",
            *more,
        ),
        bases=(PYTHON, UV),
    )


def _runtime_image(name: str, tag: str, *inputs: str, bases: tuple[Image, ...]) -> Image:
    """What runtimes/<name> describes; ``inputs``: files there, beside the Dockerfile."""
    folder = CHECKOUT / "runtimes" / name
    return Image(
        name=name,
        tag=_fixed(tag),
        dockerfile=folder / "Dockerfile",
        context=lambda: folder,
        inputs=inputs,
        bases=bases,
    )


def _package(part: str) -> str:
    return f"shoal_{part}"


DEBIAN = Image(
    name="debian",
    tag=_fixed("docker.io/library/debian:bookworm-slim"),
    dockerfile=_OURS / "debian" / "Dockerfile",
    context=base_image.ensure,
    inputs=("rootfs.tar",),
)
PYTHON = Image(
    name="python",
    tag=_fixed("docker.io/library/python:3.11-slim-bookworm"),
    dockerfile=_OURS / "python" / "Dockerfile",
    context=lambda: _OURS / "python",
    inputs=(),
    bases=(DEBIAN,),
)
UV = Image(
    name="uv",
    tag=_fixed("ghcr.io/astral-sh/uv:0.13.8"),
    dockerfile=_OURS / "uv" / "Dockerfile",
    context=lambda: Path(output(["bash", Path(__file__).resolve().parent / "uv.sh"])).parent,
    inputs=("uv",),
)
OPERATOR = _project_image("operator")
_PLUGINS = sorted(str(folder.relative_to(CHECKOUT)) for folder in (CHECKOUT / "runtimes").glob("*/plugin"))
AGENT = _project_image("agent", *_PLUGINS)
MLSERVER = _runtime_image("mlserver", "docker.io/seldonio/mlserver:1.7.1", "requirements.txt", bases=(PYTHON, UV))
ENVOY = _runtime_image("envoy", "docker.io/envoyproxy/envoy:v1.40.0", bases=(DEBIAN, PYTHON, UV))
VERSITYGW = Image(
    name="versitygw",
    tag=_fixed("docker.io/versity/versitygw:v1.8.0"),
    dockerfile=_OURS / "versitygw" / "Dockerfile",
    context=lambda: binaries.ensure(binaries.VERSITYGW),
    inputs=("versitygw",),
    holds_program=True,
)

TRITON = _runtime_image(
    "triton",
    "nvcr.io/nvidia/tritonserver:24.10-py3",
    "requirements.txt",
    "arrange.sh",
    bases=(DEBIAN, PYTHON, UV),
)
TORCHSERVE = _runtime_image(
    "torchserve",
    "docker.io/pytorch/torchserve:0.12.0-cpu",
    "requirements.txt",
    "torch.sh",
    bases=(DEBIAN, PYTHON, UV),
)
DJL = Image(
    name="djl",
    tag=_fixed("docker.io/deepjavalibrary/djl-serving:0.36.0-cpu-full"),
    dockerfile=CHECKOUT / "runtimes" / "djl" / "Dockerfile",
    context=lambda: Path(output(["bash", CHECKOUT / "runtimes" / "djl" / "collect.sh"])),
    inputs=("serving", "jars", "entry-point.sh"),
    bases=(DEBIAN, PYTHON),
)
MMS = _runtime_image(
    "mms",
    "docker.io/awsdeeplearningteam/multi-model-server:1.1.11-mxnet-cpu",
    "requirements.txt",
    bases=(DEBIAN, PYTHON, UV),
)
KSERVE = _runtime_image(
    "kserve", "ghcr.io/shoal-serving/kserve-sample:0.21.0", "requirements.txt", "server.py", bases=(PYTHON, UV)
)
MLSERVER_OPENVINO = Image(
    name="mlserver-openvino",
    tag=_fixed("ghcr.io/shoal-serving/mlserver-openvino:1.7.1"),
    dockerfile=CHECKOUT / "runtimes" / "mlserver" / "Dockerfile.openvino",
    context=lambda: CHECKOUT / "runtimes" / "mlserver",
    inputs=("requirements-openvino.txt",),
    bases=(MLSERVER, UV),
)

PROJECT = (OPERATOR, AGENT)
RUNTIMES = (ENVOY, MLSERVER, VERSITYGW)
SERVERS = (TRITON, TORCHSERVE, DJL, MMS, KSERVE, MLSERVER_OPENVINO)
"""Model servers that a cluster does without until somebody asks for them by name."""
BY_NAME = {image.name: image for image in (*PROJECT, *RUNTIMES, *SERVERS)}
