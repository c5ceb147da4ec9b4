"""Names each stage as it starts and says how long it took, at its end and in a table at the very end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


class Stages:
    """The clock of the demo's stages."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._took: list[tuple[str, float]] = []
        self._begin = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """One stage; its time counts even when it fails."""
        self._console.print(f"[bold]{title}[/bold]")
        begin = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - begin
            self._took.append((title, took))
        self._console.print(f"  done in {took:.1f} s")

    def show(self) -> None:
        """The table of times."""
        table = Table(title="Time per stage")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        for title, took in self._took:
            table.add_row(title, f"{took:.1f}")
        table.add_row("all", f"{time.monotonic() - self._begin:.1f}")
        self._console.print(table)
