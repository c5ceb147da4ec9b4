"""Predictions that block do so in a thread of their own, not on the event loop that answers everything else.

MLServer calls a model's ``async def predict`` on its event loop; scikit-learn's, XGBoost's, LightGBM's and most others
never await anything, so that one long prediction holds up every request of every model, and the health checks.

- A prediction that awaits nothing, as its code tells, runs in a thread. One that awaits, or that asks for the running
  loop, is its author's own business and stays on the loop; so does one whose settings say so
  (``parameters.extra.event_loop``: true).
- One prediction of a model at a time, in the order in which they came, as on the loop: code that was written for one
  thread stays right. A model that may do more at once says so (``parameters.extra.threads``: a number).
- At most THREADS predictions at once, of all models together; what is beyond waits.
- A built-in runtime's load runs in a thread too (two at a time): reading a large file blocks as well. A model's own
  ``load`` stays on the loop, where what it starts there goes on living.
"""

import asyncio
import contextvars
import dis
import functools
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import CodeType
from typing import Any

from . import spaces

THREADS = int(os.environ.get("SHOAL_PREDICT_THREADS", "") or 32)
LOADS = 2
_WAITING = frozenset({"GET_AWAITABLE", "GET_AITER", "GET_ANEXT", "BEFORE_ASYNC_WITH", "YIELD_VALUE"})
_OF_THE_LOOP = frozenset({"get_running_loop", "get_event_loop", "create_task", "ensure_future", "run_in_executor"})

_logger = logging.getLogger("shoal_mlserver")
_predictions = ThreadPoolExecutor(THREADS, "predict")
_loads = ThreadPoolExecutor(LOADS, "load")


def watch(registry: Any) -> None:
    """Have the models that ``registry`` makes from now on predict and load in threads, where they can."""
    initialise = registry._model_initialiser

    @functools.wraps(initialise)
    def initialised(settings: Any) -> Any:
        model = initialise(settings)
        extra = (settings.parameters.extra if settings.parameters else None) or {}
        for wrong in without_effect(extra):
            _logger.warning("Model %s: %s", settings.name, wrong)
        _offload(model, extra)
        return model

    registry._model_initialiser = initialised


def _offload(model: Any, extra: dict[str, Any]) -> None:
    if extra.get("event_loop") is True:
        return
    if is_synchronous(type(model).predict):
        at_once = extra.get("threads")
        model.predict = in_threads(model.predict, at_once if type(at_once) is int and at_once > 0 else 1)
    if not spaces.is_own(type(model).__module__):
        model.load = _in_a_thread(model.load)


def without_effect(extra: dict[str, Any]) -> list[str]:
    """What of a model's ``parameters.extra`` is meant for here and cannot be. It may be for the model's own code as
    well, so it is said, and no reason not to load."""
    loop, threads = extra.get("event_loop", False), extra.get("threads", 1)
    found = []
    if not isinstance(loop, bool):
        found.append(f"parameters.extra.event_loop is {loop!r:.40}, without effect here: write true or false")
    if type(threads) is not int or threads < 1:
        found.append(
            f"parameters.extra.threads is {threads!r:.40}: one prediction at a time; write a whole number from 1"
        )
    return found


def is_synchronous(method: Any) -> bool:
    """Whether this coroutine function never gives the event loop a turn, nor asks for it, as its own code tells."""
    if not inspect.iscoroutinefunction(method) or not hasattr(method, "__code__"):
        return False
    return _without_loop(method.__code__)


@functools.cache
def _without_loop(code: CodeType) -> bool:
    if _OF_THE_LOOP.intersection(code.co_names):
        return False
    return not any(each.opname in _WAITING for each in dis.get_instructions(code))


def in_threads(
    method: Callable[..., Coroutine[Any, Any, Any]], at_once: int
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The method, run to its end in a thread; so many of its calls at a time, in their order."""
    turns = asyncio.Semaphore(at_once)

    @functools.wraps(method)
    async def offloaded(*arguments: Any, **named: Any) -> Any:
        await turns.acquire()
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        try:
            done = loop.run_in_executor(_predictions, context.run, _to_its_end, method, arguments, named)
        except BaseException:
            turns.release()
            raise
        # Its turn lasts as long as the thread works, also when nobody waits for the answer any more.
        done.add_done_callback(functools.partial(_finished, turns))
        return await asyncio.shield(done)

    return offloaded


def _finished(turns: asyncio.Semaphore, done: "asyncio.Future[Any]") -> None:
    turns.release()
    if not done.cancelled():
        done.exception()  # whoever waited has been told; asyncio need not complain that nobody asked


def _to_its_end(method: Callable[..., Coroutine[Any, Any, Any]], arguments: Any, named: Any) -> Any:
    running = method(*arguments, **named)
    try:
        running.send(None)
    except StopIteration as ended:
        return ended.value
    running.close()
    raise RuntimeError(f"{method.__qualname__} waits for something, though its code awaits nothing")


def _in_a_thread(load: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    @functools.wraps(load)
    async def loading() -> Any:
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        return await loop.run_in_executor(_loads, context.run, asyncio.run, load())

    return loading
