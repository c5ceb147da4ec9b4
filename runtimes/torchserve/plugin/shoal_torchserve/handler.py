"""What TorchServe takes for every model's handler: counts, keeps to the model's threads, and calls the model's own.

The agent writes ``shoal.json`` into a copy's folder: the archive's own handler and version, and the threads that
``spec.serving`` asks for. The folder's name is the copy's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ts.model_loader import TsModelLoader

from . import protocols
from .counters import FOLDER, Counters, tell_failure

SETTINGS = "shoal.json"


class Handler:
    """One for each worker, which is a process."""

    def initialize(self, context: Any) -> None:
        folder = Path(context.system_properties["model_dir"]).resolve()
        use = Path(os.environ["SHOAL_SHARED_DIR"]) / FOLDER
        try:
            self._load(json.loads((folder / SETTINGS).read_text()), context)
        except BaseException as error:
            tell_failure(use, context.model_name, folder.name, error)
            raise
        self._counters = Counters(use, context.model_name, folder.name)

    def handle(self, data: Any, context: Any) -> Any:
        with self._counters.running(len(data)):
            results, wrong = self._run(data, context)
            self._counters.failed(wrong)
            return results

    def _load(self, settings: dict[str, Any], context: Any) -> None:
        threads = settings.get("threads")
        if threads:
            _use_threads(int(threads))
        model = context.manifest["model"]
        model["modelVersion"] = settings["version"]  # the server's is the copy's
        own = settings["handler"]
        model["handler"] = own
        if own:
            entry, initialize = _own(own)
            initialize(context)
            self._run = lambda data, context: protocols.handle(entry, data, context)
        else:
            from .tensors import Tensors  # noqa: PLC0415  # imports torch, which not every handler does

            tensors = Tensors()
            tensors.initialize(context)
            self._run = tensors.handle


def _own(name: str) -> Any:
    """The archive's handler as TorchServe finds it: what to call, and what to call first."""
    loader = TsModelLoader()
    try:
        module, function = loader._load_handler_file(name)
    except ImportError as error:
        try:
            module, function = loader._load_default_handler(name), None
        except ImportError:
            raise error from None
    function = function or "handle"
    if hasattr(module, function):
        return loader._get_function_entry_point(module, function)
    return loader._get_class_entry_point(module)


def _use_threads(count: int) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)  # for what the handler imports
    import torch  # noqa: PLC0415  # after its environment

    torch.set_num_threads(count)
