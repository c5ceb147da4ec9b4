"""Checks that constraints.txt is whole: every requirement of pyproject.toml pinned, hashed, and no index named."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def complaints() -> Iterator[str]:
    """What is wrong, a line each."""
    text = (_ROOT / "constraints.txt").read_text()
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    pins: dict[str, list[str]] = {}
    for name, version in _PIN.findall(text):
        pins.setdefault(canonicalize_name(name), []).append(version)
    for line in wanted:
        requirement = Requirement(line)
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"{line}: pinned at {versions or 'nothing'}; run `make constraints`"
    for entry in re.split(r"(?<!\\)\n", text):
        if _PIN.match(entry) and "--hash=" not in entry:
            yield f"{entry.split()[0]}: has no hash"
    if "://" in text or "index" in text:
        yield "constraints.txt names an index"


if __name__ == "__main__":
    found = list(complaints())
    print("\n".join(found))
    sys.exit(1 if found else 0)
