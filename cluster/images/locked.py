"""Prints the exact, hashed requirements of some of the project's extras, for `uv pip install --require-hashes`.

    python3 locked.py EXTRA… > locked.txt            (beside pyproject.toml and constraints.txt)
    python3 locked.py build-system > build.txt       what building the project itself takes

constraints.txt pins and hashes every package of every extra, but hashes are accepted only in a list that
names all packages that it installs. So uv resolves the wanted extras under the pins alone, and each
package of the answer gets its hashes from constraints.txt. A package that is not in there is an error.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?P<marker>\s*;[^\\]*?)?\s*$")


def main(extras: list[str]) -> int:
    pins: list[str] = []
    hashed: dict[tuple[str, str], list[str]] = {}
    for line in Path("constraints.txt").read_text().replace("\\\n", " ").splitlines():
        words, *hashes = (part.strip() for part in line.split("--hash="))
        found = _PIN.match(words)
        if found:
            pins.append(words)
            hashed[_normal(found["name"]), found["version"]] = hashes
    for name, version in _resolve(_requirements(extras), pins):
        if (name, version) not in hashed:
            print(f"{name} {version} is not in constraints.txt: run 'make constraints'", file=sys.stderr)
            return 1
        print(" ".join([f"{name}=={version}", *(f"--hash={value}" for value in hashed[name, version])]))
    return 0


def _requirements(extras: list[str]) -> list[str]:
    settings = tomllib.loads(Path("pyproject.toml").read_text())
    if extras == ["build-system"]:
        return list(settings["build-system"]["requires"])
    project = settings["project"]
    wanted = list(project.get("dependencies", []))
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


def _resolve(requirements: list[str], pins: list[str]) -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins) + "\n")
        command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-strip-markers"]
        command += ["--python", sys.executable, "--constraint", str(constraints), "-"]
        asked = "\n".join(requirements)
        resolved = subprocess.run(command, check=True, input=asked, stdout=subprocess.PIPE, text=True).stdout
    found = [_PIN.match(line) for line in resolved.splitlines() if line and not line.startswith("#")]
    return sorted((_normal(pin["name"]), pin["version"]) for pin in found if pin)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
