"""Builds images from Dockerfiles with buildah and brings them into the cluster's containerd.

Every image carries a hash of its inputs as a label, in buildah's storage and in containerd: what is
unchanged is neither built nor imported again.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.commands import need, output, run
from cluster.image_list import Image
from cluster.layout import CACHE
from cluster.nodes import machine
from cluster.nodes.node import present
from cluster.place import FIRST
from cluster.progress import ClusterError, step

_LABEL = "dev.shoal.inputs"
_TIMESTAMP = "1735689600"
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def build(image: Image) -> str:
    """Build an image, whose bases are built, unless it is unchanged; the hash of its inputs."""
    with _alone(image):
        digest = image.digest()
        if _built(image.tag()) != digest:
            with step(f"image {image.tag()}"):
                _bud(image, digest)
    return digest


def archive(image: Image, digest: str) -> Path:
    """A built image as a docker-archive file, made when it is missing; the image's older files go."""
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{image.name}-{digest}.tar"
    with _alone(image):
        if not target.exists():
            if _built(image.tag()) != digest:
                raise ClusterError(f"another checkout built {image.tag()} meanwhile: run this again")
            part = folder / f".{image.name}-{digest}.part"
            part.unlink(missing_ok=True)
            run([_buildah(), "push", "--quiet", image.tag(), f"docker-archive:{part}:{image.tag()}"])
            part.rename(target)
        for older in folder.glob(f"{image.name}-*.tar"):
            if older != target:
                older.unlink(missing_ok=True)
    return target


def import_into_cluster(image: Image, digest: str) -> None:
    """Bring a built image into every node of the local cluster that runs and lacks it."""
    for where, ctr in _stores().items():
        if _imported(ctr, image.tag()) == digest:
            continue
        with step(f"import {image.tag()}{where}"):
            run([*ctr, "import", archive(image, digest)])
            run([*ctr, "label", image.tag(), f"{_LABEL}={digest}"])


@contextmanager
def _alone(image: Image) -> Iterator[None]:
    """Hold the machine-wide lock of one image: clones share buildah's storage and its names."""
    lock = CACHE / "locks" / f"image-{image.name}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _bud(image: Image, digest: str) -> None:
    command: list[str | Path] = [_buildah(), "bud", "--isolation", "chroot", "--pull=never", "--layers", "--force-rm"]
    command += ["--format", "docker", "--timestamp", _TIMESTAMP, "--label", f"{_LABEL}={digest}"]
    command += ["--tag", image.tag(), "--file", image.dockerfile]
    with tempfile.TemporaryDirectory(prefix="shoal-image-") as scratch:
        for source, target in _host_settings(Path(scratch)):
            command += ["--volume", f"{source}:{target}:ro"]
        command += ["--volume", f"{_uv_cache()}:/root/.cache/uv"]
        run([*command, image.context()])


def _host_settings(scratch: Path) -> Sequence[tuple[Path, str]]:
    """What makes this host's way to the package registries work inside a build, without a trace in the image."""
    found: list[tuple[Path, str]] = []
    uv = ["system-certs = true"]
    index = _pip_setting("index-url")
    if index:
        uv += ["[[index]]", f"url = {json.dumps(index)}", "default = true"]
    if _CA_BUNDLE.exists():
        found.append((_CA_BUNDLE, str(_CA_BUNDLE)))
    configuration = scratch / "uv.toml"
    configuration.write_text("\n".join(uv) + "\n")
    found.append((configuration, "/etc/uv/uv.toml"))
    return found


def _uv_cache() -> Path:
    """Downloads are those of the virtual environment too, and outlive a build: what is in it already costs nothing."""
    folder = CACHE.parent / "uv"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pip_setting(wanted: str) -> str:
    """One of the host's own pip settings, from its files and its environment; empty where it has none."""
    for line in output(["python3", "-m", "pip", "config", "list"]).splitlines():
        name, _, value = line.partition("=")
        if name.rpartition(".")[2] == wanted:
            return value.strip("'\"")
    return ""


def _built(tag: str) -> str:
    template = f'{{{{index .Docker.Config.Labels "{_LABEL}"}}}}'
    found = run([_buildah(), "inspect", "--type", "image", "--format", template, tag], check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _imported(ctr: list[str], tag: str) -> str:
    listed = output([*ctr, "list", f"name=={tag}"])
    for word in listed.replace(",", " ").split():
        if word.startswith(f"{_LABEL}="):
            return word.removeprefix(f"{_LABEL}=")
    return ""


def _buildah() -> Path:
    return need("buildah", "apt-get install buildah")


def _stores() -> dict[str, list[str]]:
    """How each node's containerd is asked about images; by the words that tell which node it is."""
    if shutil.which("ctr") is None:
        raise ClusterError("ctr was not found: apt-get install containerd")
    sockets = {"": FIRST.containerd_socket}
    for node in present():
        init = machine.init(node)
        if init is not None:
            sockets[f" into {node.name}"] = node.place(init).containerd_socket
    return {
        where: ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images"]
        for where, socket in sockets.items()
        if not where or socket.exists()
    }
