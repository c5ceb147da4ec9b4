"""Stores as programs on this machine, made once: fake-gcs-server and a registry (Go), Azurite (Node.js).

``python -m tests.component.storage.emulators`` makes them.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.component.made_once import made_once, place

_HERE = Path(__file__).parent


def fake_gcs_server() -> Path:
    """The program. Compiled as the cluster's own are, and of the same versions where both use a module, so that this
    is compiled once."""
    made = place("emulators/fake-gcs-server", _HERE / "go.mod", _HERE / "go.sum")

    def make(making: Path) -> None:
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags=-s -w"]
        subprocess.run(
            ["go", "build", *flags, "-o", f"{making}/", "github.com/fsouza/fake-gcs-server"],
            cwd=_HERE,
            env={**os.environ, "CGO_ENABLED": "0", "GOGC": "400"},
            check=True,
        )

    return made_once(made, make) / "fake-gcs-server"


def registry() -> Path:
    """CNCF's distribution, with the stores and logins that tests use."""
    folder = _HERE.parent / "registry_program"
    made = place("emulators/registry", *(folder / name for name in ("main.go", "go.mod", "go.sum")))

    def make(making: Path) -> None:
        making.mkdir()
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags=-s -w"]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOGC": "400"}
        subprocess.run(
            ["go", "build", *flags, "-o", f"{making}/registry", "."], cwd=folder, env=environment, check=True
        )

    return made_once(made, make) / "registry"


def azurite() -> Path:
    """The script of its Blob service. Nothing of the packages runs while they are installed."""
    inputs = [_HERE / "package.json", _HERE / "package-lock.json"]
    made = place("emulators/azurite", *inputs)

    def make(making: Path) -> None:
        making.mkdir()
        for file in inputs:
            shutil.copy(file, making)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(npm, cwd=making, check=True)

    return made_once(made, make) / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
