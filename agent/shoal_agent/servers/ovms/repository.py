"""The folders that the server takes models from, and the config.json that tells it of them.

``slots/<name>/<number>`` leads to ``copies/<identity>/model``. A number is one copy for as long as it is there, so the
version that the server lists says which copy it has. A copy that takes another's place gets a higher number: the server
loads it first, then retires the other, and stays with that one if it cannot.

The server starts with an empty config.json and finds the full one only while it is told to read it: a model that ends
its process does not do so again at its next start, and the agent decides what is loaded then.
"""

import json
import os
import shutil
import threading
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from shoal_agent.model_server.layout import TEMPORARY
from shoal_agent.model_server.shared import EXECUTE, READ, allow

from .model_config import Entry, config

ENTRY_FILE: Final = "model_config.json"
"""In a copy's folder: its entry."""
MODEL: Final = "model"
"""In a copy's folder: what its version folder leads to."""
_FIRST: Final = 1
_LAST_DIGIT: Final = 9
_MANY: Final = 9_000_000
"""What comes after 9. The server sorts the numbers of a model's folders as text where it must have them sorted as
numbers; with 9 and 10 side by side it would retire the copy that serves because the other one fails."""


class Repository:
    """A ``Layout``. Its methods block; any thread may call them."""

    def __init__(self, models_dir: Path) -> None:
        self._slots, self._copies = models_dir / "slots", models_dir / "copies"
        self._config = models_dir / "ovms" / "config.json"
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._asked: set[str] = set()
        self._former: dict[str, dict[int, str]] = {}

    def lay_out(self) -> None:
        """The server does not start without a configuration."""
        self._config.parent.mkdir(parents=True, exist_ok=True)
        allow(self._config.parent, EXECUTE)
        self.hide()

    def open(self) -> Mapping[str, str]:
        self._slots.mkdir(parents=True, exist_ok=True)
        shown = {}
        with self._lock:
            for folder in list(self._slots.iterdir()):
                links = self._links(folder.name)
                try:
                    identity = links[max(links)]
                    self._entries[folder.name] = self._entry(identity)
                except (OSError, ValueError):
                    shutil.rmtree(folder)
                    continue
                shown[folder.name] = identity
        return shown

    def show(self, name: str, identity: str | None) -> None:
        """The copy that was shown before stays in the server's sight until ``commit``: it is what it falls back to."""
        with self._lock:
            links = self._links(name)
            if identity is None:
                self._remove(name, links)
                return
            self._entries[name] = self._entry(identity)
            number = next((number for number, known in links.items() if known == identity), None)
            if number is None:
                number = _after(max(links, default=0))
                self._link(name, number, identity)
            lower = max((other for other in links if other < number), default=None)
            self._unlink(name, {other: links[other] for other in links if other not in (number, lower)})

    def ask(self, name: str, identity: str) -> int | None:
        """Have the server be told of this model from now on. The copy's number, where it is shown."""
        with self._lock:
            self._asked.add(name)
            return next((number for number, known in self._links(name).items() if known == identity), None)

    def only(self, names: Collection[str]) -> None:
        """A server has these, and is to be told of no other: what is shown besides waits until it is asked for."""
        with self._lock:
            self._asked = self._entries.keys() & set(names)

    def commit(self, name: str, number: int) -> None:
        """This one serves: what it took the place of goes out of sight."""
        with self._lock:
            links = self._links(name)
            self._unlink(name, {other: links[other] for other in links if other != number})

    def withdraw(self, name: str, number: int) -> bool:
        """This one could not be loaded: out of sight. Whether there is one before it, which is shown again."""
        with self._lock:
            links = self._links(name)
            self._unlink(name, {other: links[other] for other in links if other >= number})
            lower = max((other for other in links if other < number), default=None)
            if lower is None:
                self._remove(name, {})
                return False
            self._entries[name] = self._entry(links[lower])
            return True

    def copy(self, name: str, number: int) -> str:
        """The identity of a version that the server lists, shown now or before; ``unknown`` for any other."""
        with self._lock:
            return self._links(name).get(number) or self._former.get(name, {}).get(number, "unknown")

    def listed(self, names: Collection[str]) -> None:
        """The server has something of these only: what others were is forgotten."""
        with self._lock:
            for name in [name for name in self._former if name not in names]:
                del self._former[name]

    def asked(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._asked)

    def reveal(self) -> None:
        """Have the server find all that it is to be told of, until ``hide``."""
        with self._lock:
            entries = {name: entry for name, entry in self._entries.items() if name in self._asked}
            self._write(config(entries, str(self._slots)))

    def hide(self) -> None:
        """Have a server that starts find nothing."""
        self._write(config({}, str(self._slots)))

    def _write(self, text: str) -> None:
        temporary = self._config.with_name(f".{uuid.uuid4().hex}")
        temporary.write_text(text)
        allow(temporary, READ)
        os.replace(temporary, self._config)

    def _entry(self, identity: str) -> Entry:
        found: Entry = json.loads((self._copies / identity / ENTRY_FILE).read_text())
        return found

    def _links(self, name: str) -> dict[int, str]:
        folder = self._slots / name
        if not folder.is_dir():
            return {}
        return {
            int(link.name): Path(os.readlink(link)).parent.name
            for link in folder.iterdir()
            if link.is_symlink() and not link.name.startswith(TEMPORARY)
        }

    def _link(self, name: str, number: int, identity: str) -> None:
        folder = self._slots / name
        folder.mkdir(exist_ok=True)
        os.symlink(Path("..") / ".." / "copies" / identity / MODEL, folder / str(number))

    def _unlink(self, name: str, links: Mapping[int, str]) -> None:
        for number, identity in links.items():
            (self._slots / name / str(number)).unlink(missing_ok=True)
            self._former.setdefault(name, {})[number] = identity

    def _remove(self, name: str, links: Mapping[int, str]) -> None:
        self._entries.pop(name, None)
        self._asked.discard(name)
        self._unlink(name, links)
        shutil.rmtree(self._slots / name, ignore_errors=True)


def _after(number: int) -> int:
    return _MANY if number == _LAST_DIGIT else number + _FIRST
