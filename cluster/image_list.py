"""The images: what each is built from, and the name it goes by."""

import hashlib
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cluster import base_image, binaries
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
    into_cluster: bool = True

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
        bases=(PYTHON,),
    )


def _package(part: str) -> str:
    return f"shoal_{part}"


DEBIAN = Image(
    name="debian",
    tag=_fixed("docker.io/library/debian:bookworm-slim"),
    dockerfile=_OURS / "debian" / "Dockerfile",
    context=base_image.ensure,
    inputs=("rootfs.tar",),
    into_cluster=False,
)
PYTHON = Image(
    name="python",
    tag=_fixed("docker.io/library/python:3.11-slim-bookworm"),
    dockerfile=_OURS / "python" / "Dockerfile",
    context=lambda: _OURS / "python",
    inputs=(),
    bases=(DEBIAN,),
    into_cluster=False,
)
OPERATOR = _project_image("operator")
AGENT = _project_image("agent", "runtimes/mlserver/plugin")
MLSERVER = Image(
    name="mlserver",
    tag=_fixed("docker.io/seldonio/mlserver:1.7.1"),
    dockerfile=CHECKOUT / "runtimes" / "mlserver" / "Dockerfile",
    context=lambda: CHECKOUT / "runtimes" / "mlserver",
    inputs=("requirements.txt",),
    bases=(PYTHON,),
)
ENVOY = Image(
    name="envoy",
    tag=_fixed("docker.io/envoyproxy/envoy:v1.40.0"),
    dockerfile=CHECKOUT / "runtimes" / "envoy" / "Dockerfile",
    context=lambda: CHECKOUT / "runtimes" / "envoy",
    inputs=(),
    bases=(DEBIAN, PYTHON),
)
VERSITYGW = Image(
    name="versitygw",
    tag=_fixed("docker.io/versity/versitygw:v1.8.0"),
    dockerfile=_OURS / "versitygw" / "Dockerfile",
    context=lambda: binaries.ensure(binaries.VERSITYGW),
    inputs=("versitygw",),
)

PROJECT = (OPERATOR, AGENT)
RUNTIMES = (ENVOY, MLSERVER, VERSITYGW)
BY_NAME = {image.name: image for image in (*PROJECT, *RUNTIMES)}
