"""What tests with real parts need and takes long to make: once per machine, in the cache folder, for all checkouts.

What is made bears a digest of what it is made of; it appears whole or not at all, also where two runs make it at once.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def place(name: str, *inputs: Path) -> Path:
    """Where it is, once made: ``name`` may have a folder before it, ``inputs`` are the files that it is made of."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mark = hashlib.sha256(b"".join(file.read_bytes() for file in inputs)).hexdigest()[:12]
    return cache / "shoal" / f"{name}-{mark}"


def made_once(made: Path, make: Callable[[Path], None]) -> Path:
    """``made``; where it is missing, ``make`` makes another folder that becomes it. Raises what ``make`` raises."""
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        making = made.with_name(f"{made.name}.{os.getpid()}")
        make(making)
        try:
            making.rename(made)
        except OSError:  # another run was faster
            shutil.rmtree(making)
    return made


def install(requirements: Path, *where: str, python: Path = Path(sys.executable)) -> None:
    """Pinned and hashed packages, and no others; ``where``: pip's words for it."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, *where, "-r", str(requirements)], check=True)


def virtual_environment(name: str, requirements: Path) -> Path:
    """One with these packages."""
    made = place(f"venvs/{name}", requirements)

    def make(making: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(making)], check=True)
        install(requirements, python=making / "bin" / "python")
        # Scripts carry the path that they were made at.
        for script in (making / "bin").iterdir():
            with contextlib.suppress(UnicodeDecodeError):
                if script.is_file() and not script.is_symlink():
                    script.write_text(script.read_text().replace(str(making), str(made)))

    return made_once(made, make)
