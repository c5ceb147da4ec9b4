"""Layers of an image, whatever they hold and in whatever order, make what the specification says of them."""

import random
import tempfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shoal_agent.storage import StorageError
from shoal_agent.storage.paths import check_tree
from shoal_agent.storage.unpack import child
from shoal_agent.storage.unpack.child import Unpacker
from shoal_agent.storage.unpack.formats import BY_CONTENT, MODELS

from .test_unpack import FILE, tar_of

NAMES: Final = ["models/a", "models/b", "models/a/a", "models/a/b", "models/b/a/a", "models/b/a/b", "etc/a"]
GONE: Final = [*NAMES, "models", "etc"]
OPAQUE: Final = ["", "models", "models/a", "models/b", "models/b/a", "etc"]


@st.composite
def layers(draw: st.DrawFn) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Files, what is removed, and folders of which everything below is hidden."""
    return (
        draw(st.frozensets(st.sampled_from(NAMES), max_size=4).filter(_is_tree)),
        draw(st.frozensets(st.sampled_from(GONE), max_size=2)),
        draw(st.frozensets(st.sampled_from(OPAQUE), max_size=1)),
    )


def _is_tree(paths: frozenset[str]) -> bool:
    try:
        check_tree(sorted(paths), "a layer")
    except StorageError:
        return False
    return True


def expected(all_of_them: list[tuple[frozenset[str], frozenset[str], frozenset[str]]]) -> dict[str, bytes]:
    """As one would do it by hand, layer by layer."""
    there: dict[str, bytes] = {}
    for number, (files, gone, opaque) in enumerate(all_of_them):
        hidden = [(path, path) for path in gone] + [(None, folder) for folder in opaque]
        hidden += [(path, path) for path in files]  # also what was a folder
        for itself, folder in hidden:
            below = f"{folder}/" if folder else ""
            there = {path: of for path, of in there.items() if path != itself and not path.startswith(below)}
        for path in files:  # what was a file, and is a folder now
            there = {each: of for each, of in there.items() if not path.startswith(f"{each}/")}
        there |= {path: str(number).encode() for path in files}
    return {path.removeprefix("models/"): of for path, of in there.items() if path.startswith("models/")}


def order_of(archives: list[Path], target: Path) -> dict[str, object]:
    return {
        "archives": list(map(str, archives)),
        "format": BY_CONTENT,
        "below": MODELS,
        "what": "The image",
        "target": str(target),
        "max_bytes": 1000,
        "max_files": 100,
        "raise_bytes": "",
        "raise_files": "",
        "flatten": False,
        "granted": [1 << 30, 1 << 30],
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_layers(
    all_of_them: list[tuple[frozenset[str], frozenset[str], frozenset[str]]], chance: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "target").mkdir()
        archives = []
        for number, (files, gone, opaque) in enumerate(all_of_them):
            whiteouts = [f"{path.rpartition('/')[0]}/.wh.{path.rpartition('/')[2]}" for path in sorted(gone)]
            whiteouts += [f"{path}/.wh..wh..opq" for path in sorted(opaque)]
            entries = [(path, str(number).encode(), FILE) for path in sorted(files)]
            entries += [(name.lstrip("/"), b"", FILE) for name in whiteouts]
            chance.shuffle(entries)
            archives.append(folder / str(number))
            archives[-1].write_bytes(tar_of(*entries))
        order = order_of(archives, folder / "target")
        wanted = expected(all_of_them)
        try:
            sizes = Unpacker(order).run()
        except StorageError as error:
            if "holds no file" not in error.message:
                raise
            sizes = {}
        files = {path: (folder / "target" / path).read_bytes() for path in sizes}
        assert files == wanted
        there = [each for each in (folder / "target").rglob("*") if each.is_file()]
        assert len(there) == len(wanted)


@pytest.mark.parametrize("name", ["models/.wh.a", "models/.wh..wh..opq", "etc/a"])
def test_entries_that_bring_nothing_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They compress to nothing, and one of the two that unpack would read them for a quarter of an hour."""
    monkeypatch.setattr(child, "MAX_SKIPPED", 10)
    (tmp_path / "layer").write_bytes(tar_of(("models/m", b"x", FILE), *[(name, b"", FILE)] * 11))
    (tmp_path / "target").mkdir()
    with pytest.raises(StorageError, match="more than 10 entries that bring nothing"):
        Unpacker(order_of([tmp_path / "layer"], tmp_path / "target")).run()
