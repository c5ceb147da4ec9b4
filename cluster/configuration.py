"""Writes what programs read, and puts together what they are called with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.processes import Program


def program(
    name: str, binary: Path, flags: Mapping[str, object], reads: tuple[Path, ...] = (), enter: tuple[str, ...] = ()
) -> Program:
    return Program(name, (str(binary), *(f"--{flag}={value}" for flag, value in flags.items())), reads, enter)


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    return write(path, json.dumps(content, indent=1) + "\n")


def write(path: Path, text: str) -> Path:
    """Write a file unless it says the same already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
