"""What the Dockerfiles copy is let into the build: .dockerignore leaves out all that it does not name.

A source below which something is named is not enough: buildah refuses a folder that is left out itself.
"""

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ADMITTED = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def copied(dockerfile: Path) -> list[str]:
    """Sources of COPY from the build's context."""
    lines = dockerfile.read_text().replace("\\\n", " ").splitlines()
    copies = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


@pytest.mark.parametrize("name", ["Dockerfile.agent", "Dockerfile.operator"])
def test_what_is_copied_is_not_ignored(name: str) -> None:
    sources = copied(ROOT / name)
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, admitted) or source.startswith(f"{admitted}/") for admitted in ADMITTED), source
