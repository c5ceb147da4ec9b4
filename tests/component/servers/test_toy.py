"""A server type that this repository knows nothing of, added by the page "How to add a model server" of
docs/architecture.md alone, in a package of its own: it passes the whole conformance suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
REPOSITORY = Path(__file__).parents[3]
MOST_LINES = 150

pytestmark = pytest.mark.component


def test_adding_a_server_takes_little() -> None:
    files = [TOY / "toy_adapter.py", TOY / "toy_profile.py"]
    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) < MOST_LINES


@pytest.mark.timeout(900)
def test_the_toy_server_passes_the_conformance_suite() -> None:
    path = os.pathsep.join([str(TOY), *sys.path])
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "toy",
        "tests/component/servers/test_conformance.py",
    ]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
