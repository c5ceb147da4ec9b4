"""Exceptions that nobody caught, in a callback of the event loop or a forgotten task.

asyncio writes a line and goes on, without whatever the callback was to do: a timer that is not set again, a plan that
is never made, behind a green /readyz. Where the exception passed through our own code the process ends instead; what
only concerns a library (a connection that broke while it was being closed) stays a line.
"""

import asyncio
from collections.abc import Callable
from typing import Any

Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]

_OURS = __name__.partition(".")[0]


def handler(fatal: Callable[[Exception], None]) -> Handler:
    """For ``loop.set_exception_handler``; ``fatal`` gets what our own code did not catch."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        loop.default_exception_handler(context)
        if isinstance(error, Exception) and _passed_ours(error):
            fatal(error)

    return handle


def _passed_ours(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == _OURS:
            return True
        trace = trace.tb_next
    return False
