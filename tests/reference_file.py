"""The command line of generated references: write the file, or say that it is not current."""

import argparse
import sys
from pathlib import Path


def cell(text: str) -> str:
    """Text as it stands in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_or_check(text: str, module: str, what: str, arguments: list[str] | None = None) -> int:
    """Write ``text`` to the file that is named, or with ``--check`` compare. Gives the exit status."""
    parser = argparse.ArgumentParser(description=f"Write the reference of {what}.")
    parser.add_argument("file", type=Path, help="a file of docs/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is not current")
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(text)
    elif not options.file.exists() or options.file.read_text() != text:
        print(f"{options.file} is not current: run python -m {module} {options.file}", file=sys.stderr)
        return 1
    return 0
