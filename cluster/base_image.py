"""Makes the root file system of the Debian base image, once per machine.

The mirror is the one that this host's apt uses, read when it is needed.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from cluster.commands import need, output, run
from cluster.layout import CACHE
from cluster.progress import step

_SUITE = "bookworm"
_PACKAGES = "ca-certificates"
_EPOCH = "1735689600"  # files of an image carry this time, so that the same build gives the same image
# Parts of Debian's own slim images' diet: what no program in a container reads.
_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)


def ensure() -> Path:
    """The folder that holds rootfs.tar, the build context of the base image."""
    folder = CACHE / "base" / f"{_SUITE}-{_digest()}"
    if (folder / "rootfs.tar").exists():
        return folder
    scratch = CACHE / "base" / f"{_SUITE}.{os.getpid()}"
    try:
        with step("Debian base image (debootstrap; once per machine)"):
            _debootstrap(scratch / "root")
            _pack(scratch / "root", scratch / "rootfs.tar")
        folder.mkdir(parents=True, exist_ok=True)
        (scratch / "rootfs.tar").rename(folder / "rootfs.tar")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _digest() -> str:
    return hashlib.sha256(repr((_PACKAGES, _NOT_NEEDED)).encode()).hexdigest()[:8]


def _debootstrap(root: Path) -> None:
    root.mkdir(parents=True)
    program = need("debootstrap", "apt-get install debootstrap")
    run([program, "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root, *_mirror()])


def _mirror() -> list[str]:
    """The mirror that apt on this host uses for the suite; debootstrap's default where it has none."""
    listed = output(["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)"])
    for line in listed.splitlines():
        site, _, codename = line.partition(" ")
        if codename == _SUITE:
            return [site]
    return []


def _pack(root: Path, target: Path) -> None:
    for name in _NOT_NEEDED:
        for entry in sorted((root / name).glob("*")):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    for entry in (root / "dev").iterdir():
        if not entry.is_dir():
            entry.unlink()
    tar = ["tar", "--numeric-owner", "--sort=name", f"--mtime=@{_EPOCH}", "--xattrs", "-C", str(root), "-cf"]
    subprocess.run([*tar, str(target), "."], check=True)
