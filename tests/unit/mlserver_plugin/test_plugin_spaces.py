"""Namespaces of staged copies: what each kind of import and pickle finds, and that nothing is left behind."""

import builtins
import gc
import importlib
import io
import logging
import pickle
import py_compile
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from shoal_mlserver import spaces

Copy = Callable[..., spaces.ModelSpace]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    """Makes a copy with these files; what is installed into Python is taken out again."""
    for place, name in [(builtins, "__import__"), (importlib, "import_module")]:
        monkeypatch.setattr(place, name, getattr(place, name))
    for name in ("Unpickler", "load", "loads"):
        monkeypatch.setattr(pickle, name, getattr(pickle, name))
    monkeypatch.setattr(pickle._Unpickler, "find_class", pickle._Unpickler.find_class)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    spaces.install()
    made: list[str] = []

    def make(files: dict[str, str]) -> spaces.ModelSpace:
        folder = tmp_path / f"copy-{len(made)}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text))
        made.append(str(folder))
        return spaces.space_of(str(folder))

    yield make
    for folder in made:
        spaces.close(folder)


def _answers(copy: Copy, files: Callable[[int], dict[str, str]], count: int = 2) -> list[Any]:
    """What ``runtime.answer()`` of each copy says, asked when all are loaded."""
    made = [copy(files(number)) for number in range(count)]
    functions = [each.object("runtime.answer") for each in made]
    return [function() for function in functions]


IMPORTS = {
    "a module": ("import features\ndef answer(): return features.N", {"features.py": "N = {n}"}),
    "a name": ("from features import N\ndef answer(): return N", {"features.py": "N = {n}"}),
    "a star": ("from features import *\ndef answer(): return N", {"features.py": "N = {n}"}),
    "later": ("def answer():\n  import features\n  return features.N", {"features.py": "N = {n}"}),
    "a submodule": ("import pkg.sub as s\ndef answer(): return s.N", {"pkg/__init__.py": "", "pkg/sub.py": "N = {n}"}),
    "a dotted name": (
        "import pkg.sub\ndef answer(): return pkg.sub.N",
        {"pkg/__init__.py": "", "pkg/sub.py": "N = {n}"},
    ),
    "a relative name": (
        "from pkg import N\ndef answer(): return N",
        {"pkg/__init__.py": "from .sub import N", "pkg/sub.py": "N = {n}"},
    ),
    "a package that asks for a neighbour": (
        "from pkg import N\ndef answer(): return N",
        {"pkg/__init__.py": "from features import N", "features.py": "N = {n}"},
    ),
    "a folder without __init__": ("from bare.sub import N\ndef answer(): return N", {"bare/sub.py": "N = {n}"}),
    "a submodule named in from": (
        "from pkg import sub\ndef answer(): return sub.N",
        {"pkg/__init__.py": "", "pkg/sub.py": "N = {n}"},
    ),
    "import_module": (
        "import importlib\ndef answer(): return importlib.import_module('features').N",
        {"features.py": "N = {n}"},
    ),
    "__import__": ("def answer(): return __import__('features').N", {"features.py": "N = {n}"}),
    "a name of the standard library": ("import colorsys\ndef answer(): return colorsys.N", {"colorsys.py": "N = {n}"}),
    "its own sys.path": (
        "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'src'))\nimport helper\n"
        "def answer(): return helper.N",
        {"src/helper.py": "N = {n}"},
    ),
    "a data file": (
        "from pathlib import Path\ndef answer(): return int(Path(__file__).with_name('n.txt').read_text())",
        {"n.txt": "{n}"},
    ),
    "a dataclass with forward types": (
        "from __future__ import annotations\nfrom dataclasses import dataclass, asdict\n@dataclass\nclass D:\n"
        "  n: int = {n}\ndef answer(): return asdict(D())['n']",
        {},
    ),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_each_copy_gets_its_own(copy: Copy, kind: str) -> None:
    runtime, others = IMPORTS[kind]

    def files(number: int) -> dict[str, str]:
        return {name: text.replace("{n}", str(number)) for name, text in {"runtime.py": runtime, **others}.items()}

    before = set(sys.modules)
    assert _answers(copy, files) == [0, 1]
    left = {name for name in set(sys.modules) - before if not name.startswith("shoal_model_")}
    assert not left & {"runtime", "features", "pkg", "helper", "bare"}
    assert not any("copy-" in entry for entry in sys.path)


def test_in_another_thread_it_is_still_its_own(copy: Copy) -> None:
    made = [
        copy({"runtime.py": "def answer():\n  import features\n  return features.N", "features.py": f"N = {number}"})
        for number in range(2)
    ]
    answers: list[int] = []
    for each in made:
        thread = threading.Thread(
            target=lambda function: answers.append(function()), args=[each.object("runtime.answer")]
        )
        thread.start()
        thread.join()
    assert answers == [0, 1]


CLASS = "class Thing:\n  def __init__(self): self.n = {n}\n  def answer(self): return (self.n, N)\nN = {n}\n"


@pytest.mark.parametrize("read", ["pickle.loads", "pickle.load", "joblib.load", "by another library"])
def test_a_pickle_finds_the_classes_of_its_own_copy(
    copy: Copy, read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written where the training code was: in a process that has one module ``features``."""
    answers = []
    for number in range(2):
        source = CLASS.replace("{n}", str(number))
        training = tmp_path / f"training-{number}"
        training.mkdir()
        (training / "features.py").write_text(source)
        with monkeypatch.context() as there:
            there.syspath_prepend(str(training))
            module = importlib.import_module("features")
            content, file = pickle.dumps(module.Thing()), tmp_path / f"{number}.joblib"
            joblib.dump(module.Thing(), file)
            del sys.modules["features"]
        with spaces.use(copy({"features.py": source, "runtime.py": ""})):
            if read == "pickle.loads":
                thing = pickle.loads(content)  # noqa: S301
            elif read == "joblib.load":
                thing = joblib.load(file)
            else:
                opened = io.BytesIO(content)
                thing = pickle.load(opened) if read == "pickle.load" else pickle.Unpickler(opened).load()  # noqa: S301
        answers.append(thing.answer())
    assert answers == [(0, 0), (1, 1)]


def test_a_library_finds_the_current_copys_modules_after_its_own(copy: Copy) -> None:
    space = copy({"features.py": "N = 7", "colorsys.py": "N = 7"})
    with spaces.use(space):
        assert importlib.import_module("features").N == 7
        assert not hasattr(importlib.import_module("colorsys"), "N")
        assert __import__("features").N == 7
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("features")


def test_what_is_missing_is_named_as_its_author_names_it(copy: Copy) -> None:
    space = copy(
        {"runtime.py": "import nowhere", "other.py": "from pkg import sub", "pkg/__init__.py": "import pkg.nope"}
    )
    for name, missing in [("runtime.X", "nowhere"), ("other.X", "pkg.nope"), ("absent.X", "absent")]:
        with pytest.raises(ModuleNotFoundError) as said:
            space.object(name)
        assert (said.value.name, str(said.value)) == (missing, f"No module named '{missing}'")
    with pytest.raises(ImportError, match="has no 'Y'"):
        copy({"runtime.py": ""}).object("runtime.Y")


def test_compiled_files_of_another_copy_are_not_read_nor_left(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("N = 'stale'")
    space = copy({"features.py": "N = 'fresh'"})
    pyc = Path(importlib.util.cache_from_source(str(Path(space.folder) / "features.py")))
    py_compile.compile(
        str(tmp_path / "features.py"), str(pyc), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert space.load("features").N == "fresh"


def test_close_leaves_nothing(copy: Copy) -> None:
    space = copy(
        {
            "runtime.py": "import logging\nfrom pkg import sub\nlog = logging.getLogger(__name__)\nclass Model: pass",
            "pkg/__init__.py": "",
            "pkg/sub.py": "",
        }
    )
    model, package = weakref.ref(space.object("runtime.Model")), space.package
    modules = [weakref.ref(sys.modules[name]) for name in sys.modules if name.startswith(f"{package}.")]
    assert len(modules) == 3
    spaces.close(space.folder)
    gc.collect()
    assert model() is None
    assert not any(each() for each in modules)
    assert not [name for name in sys.modules if name.startswith(package)]
    assert not [name for name in logging.root.manager.loggerDict if name.startswith(package)]
    assert not [path for path in sys.path_importer_cache if str(path).startswith(space.folder)]
    again = spaces.space_of(space.folder)
    assert again.object("runtime.Model")
    assert again.package != package
