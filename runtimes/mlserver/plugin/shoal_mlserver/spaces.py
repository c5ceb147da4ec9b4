"""Module namespaces: one for each staged copy, so that every model runs its own code, whatever its files are called.

Python keeps one module of a name per process. Two models that each bring a ``runtime.py`` or ``features.py`` would get
whichever was imported first. Here a copy's modules are imported below a package of its own, ``shoal_model_<n>``, whose
path is the copy's folder; what its code imports is looked for there first:

- an ``import`` in a module of the copy, at any time and in any thread, finds the copy's own files first, then what the
  server has, as if the folder stood first on ``sys.path``; so does ``importlib.import_module`` in its code;
- a pickle that is read while the copy is loaded or asked finds classes of the copy's own modules first;
- a library that imports by name while the copy is loaded or asked finds the copy's modules after everything else;
- what code puts on ``sys.path`` from inside a copy's folder becomes that copy's alone;
- ``close`` takes all of its modules out of the process; Python's collector frees them, as they refer to each other.

Nothing here needs MLServer; ``isolation`` ties it to models.
"""

import builtins
import functools
import importlib
import importlib.util
import io
import itertools
import linecache
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_PREFIX = "shoal_model_"
_numbers = itertools.count(1)
_spaces: dict[str, "ModelSpace"] = {}
"""By the name of the space's package."""
_folders: dict[str, "ModelSpace"] = {}
_current: ContextVar["ModelSpace | None"] = ContextVar("shoal_space", default=None)
_seen_path: list[str] = []
"""``sys.path`` when it was last looked through for entries of copies."""
_import = builtins.__import__
_import_module = importlib.import_module


class ModelSpace:
    """The modules of the copy in ``folder`` (an absolute path without symbolic links)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.package = f"{_PREFIX}{next(_numbers)}"
        self.path = [folder]
        self._owned: dict[str, bool] = {}
        module = ModuleType(self.package)
        module.__path__ = self.path
        sys.modules[self.package] = module
        _spaces[self.package] = self

    def owns(self, name: str) -> bool:
        """Whether the copy has the top-level module of this dotted name."""
        top = name.partition(".")[0]
        _adopt_paths()
        owned = self._owned.get(top)
        if owned is None:
            owned = self._owned[top] = self._find(top)
        return owned

    def _find(self, top: str) -> bool:
        if top in sys.builtin_module_names:
            return False
        spec = PathFinder.find_spec(top, self.path)
        if spec is None:
            return False
        # A folder without __init__.py gives way to whatever the server has, as on sys.path.
        return (spec.loader is not None and spec.origin is not None) or not _known(top)

    def see(self, path: str) -> None:
        """Look for modules in this folder too, before the others."""
        if path not in self.path:
            self.path.insert(0, path)
            self._owned.clear()

    def load(self, name: str) -> ModuleType:
        """The copy's own module of this dotted name. Raises what importing it raises."""
        with use(self):
            try:
                return _import_module(f"{self.package}.{name}")
            except ModuleNotFoundError as error:
                if not (error.name or "").startswith(self.package):
                    raise
                missing = readable(error.name or "")
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing) from error

    def object(self, name: str) -> Any:
        """What ``package.module.Name`` or ``package.module:Name`` stands for, the copy's own first."""
        path, _, attribute = name.replace(":", ".").rpartition(".")
        if not path:
            raise ImportError(f"{name!r} is not of the form module.Class")
        with use(self):
            module = self.load(path) if self.owns(path) else _import_module(path)
        try:
            return getattr(module, attribute)
        except AttributeError as error:
            raise ImportError(f"module {path!r} has no {attribute!r}") from error

    def close(self) -> None:
        """Take the modules out of the process; what still runs of them runs on."""
        _folders.pop(self.folder, None)
        _spaces.pop(self.package, None)
        below = f"{self.package}."
        for name in [name for name in list(sys.modules) if name == self.package or name.startswith(below)]:
            del sys.modules[name]
        loggers = logging.root.manager.loggerDict
        for name in [name for name in list(loggers) if name == self.package or name.startswith(below)]:
            del loggers[name]
        for cache in (sys.path_importer_cache, linecache.cache):
            for entry in [entry for entry in list(cache) if _inside(entry, self.folder)]:
                cache.pop(entry, None)


def space_of(folder: str) -> ModelSpace:
    """The space of a copy; made when there is none."""
    folder = os.path.realpath(folder)
    space = _folders.get(folder)
    if space is None:
        space = _folders[folder] = ModelSpace(folder)
    return space


def close(folder: str) -> None:
    """Let go of a copy's modules, if there are any."""
    space = _folders.get(os.path.realpath(folder))
    if space is not None:
        space.close()


def is_own(module: str) -> bool:
    """Whether a module of this name is some copy's."""
    return module.startswith(_PREFIX)


def readable(text: str) -> str:
    """A text about modules with the names that their authors gave them."""
    return re.sub(rf"\b{_PREFIX}\d+\.", "", text)


@contextmanager
def use(space: ModelSpace | None) -> Iterator[None]:
    """Within this context pickles and libraries find the space's modules."""
    token = _current.set(space)
    try:
        yield
    finally:
        _current.reset(token)


def _adopt_paths() -> None:
    """What lies in a copy's folder is no other model's business: from ``sys.path`` to the copy's own."""
    if sys.path == _seen_path:
        return
    for entry in list(sys.path):
        owner = _owner(entry)
        if owner is not None:
            sys.path.remove(entry)
            owner.see(entry)
    _seen_path[:] = sys.path


def _owner(path: object) -> ModelSpace | None:
    """The space in whose folder a path lies."""
    if not isinstance(path, str) or not os.path.isabs(path):
        return None
    real = os.path.realpath(path)
    while real != os.path.dirname(real):
        if real in _folders:
            return _folders[real]
        real = os.path.dirname(real)
    return None


def _inside(path: object, folder: str) -> bool:
    return isinstance(path, str) and (path == folder or path.startswith(folder + os.sep))


def _known(top: str) -> bool:
    """Whether the server itself can import this."""
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _space_of_code(namespace: Any) -> ModelSpace | None:
    name = namespace.get("__name__") if namespace else None
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        return None
    return _spaces.get(name.partition(".")[0])


def _imported(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> Any:
    if level == 0 and _spaces:
        space = _space_of_code(sys._getframe(1).f_globals if globals is None else globals)
        if space is not None:
            if space.owns(name):
                return _from_space(space, name, fromlist)
            return _import(name, globals, locals, fromlist, level)
        space = _current.get()
        if space is not None:
            try:
                return _import(name, globals, locals, fromlist, level)
            except ModuleNotFoundError as error:
                if error.name != name.partition(".")[0] or not space.owns(name):
                    raise
            return _from_space(space, name, fromlist)
    return _import(name, globals, locals, fromlist, level)


def _from_space(space: ModelSpace, name: str, fromlist: Sequence[str] | None) -> Any:
    module = space.load(name)
    if not fromlist:
        return sys.modules[f"{space.package}.{name.partition('.')[0]}"]
    # What is named may be a submodule that is not imported yet: import's own way to do that.
    return _import(module.__name__, None, None, fromlist, 0)


def _imported_module(name: str, package: str | None = None) -> ModuleType:
    if _spaces and not name.startswith("."):
        space = _space_of_code(sys._getframe(1).f_globals)
        if space is not None and space.owns(name):
            return space.load(name)
        space = _current.get()
        if space is not None and not _known(name.partition(".")[0]) and space.owns(name):
            return space.load(name)
    return _import_module(name, package)


class _Source(SourceFileLoader):
    """Always from the source: a copy may come with compiled files of another one, and leaves none behind."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder:
    """On ``sys.meta_path``: modules below a space's package."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(name, spec.loader.path)
        return spec


def _class_of(module: str, name: str) -> Any:
    """What a pickle means, if the current space has it; else None."""
    space = _current.get()
    if space is None or not space.owns(module):
        return None
    return functools.reduce(getattr, name.split("."), space.load(module))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        found = _class_of(module, name)
        return super().find_class(module, name) if found is None else found


def _finding(find_class: Callable[[Any, str, str], Any]) -> Callable[[Any, str, str], Any]:
    @functools.wraps(find_class)
    def finding(self: Any, module: str, name: str) -> Any:
        found = _class_of(module, name)
        return find_class(self, module, name) if found is None else found

    return finding


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _loads(data: Any, /, **options: Any) -> Any:
    return _Unpickler(io.BytesIO(data), **options).load()


def install() -> None:
    """Into this process: ``import``, ``importlib`` and ``pickle``. Does nothing the second time."""
    if any(isinstance(each, type) and each.__name__ == _Finder.__name__ for each in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder)
    builtins.__import__ = _imported
    importlib.import_module = _imported_module
    pickle.Unpickler, pickle.load, pickle.loads = _Unpickler, _load, _loads  # type: ignore[misc]
    # joblib's is made of the one in Python, whose method can be changed in place.
    pickle._Unpickler.find_class = _finding(pickle._Unpickler.find_class)  # type: ignore[attr-defined]
