"""KServe's environment variable PREDICT_PROBA, as its scikit-learn server has it.

With ``true``, a classifier that knows probabilities answers with them where the request names no output. The request's
own ``outputs`` and a ``predict_fn`` in the model's settings come first.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from mlserver.types import RequestOutput

VARIABLE = "PREDICT_PROBA"
_OUTPUT = "predict_proba"


def asked_for() -> bool:
    """By this server's environment."""
    return os.environ.get(VARIABLE, "").strip().lower() == "true"


def install(runtime: Any) -> None:
    """Into MLServer's scikit-learn runtime, its class. Does nothing the second time."""
    if not getattr(runtime._check_request, "shoal", False):
        runtime._check_request = _checking(runtime._check_request)


def _checking(check: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(check)
    def checking(self: Any, payload: Any) -> Any:
        parameters = self.settings.parameters
        chosen = payload.outputs or ((parameters.extra or {}).get("predict_fn") if parameters is not None else None)
        if not chosen and hasattr(self._model, _OUTPUT):
            payload.outputs = [RequestOutput(name=_OUTPUT)]
        return check(self, payload)

    checking.shoal = True  # type: ignore[attr-defined]
    return checking
