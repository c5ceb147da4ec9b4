"""What blocks, run in a thread and awaited to its end.

A thread cannot be stopped: whoever is cancelled waits for it, so that nobody cleans up beside it. For what takes
milliseconds; what may hang has time limits of its own.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(
    function: Callable[..., Result],
    *arguments: object,
    executor: Executor | None = None,
    undo: Callable[[Result], object] | None = None,
) -> Result:
    """The function's result, or what it raised. Cancelled meanwhile: ``undo`` gets the result that nobody takes."""
    work = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                continue  # asked a second time to end
        if undo is not None and not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise
