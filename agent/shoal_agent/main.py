"""Entry of the ``shoal-agent`` script: settings, logs, one event loop, and an orderly end on SIGTERM."""

import asyncio
import contextlib
import os
import signal
import sys

from . import logs
from .agent import Agent
from .settings import SettingsError, read_settings


async def _run(agent_settings_error: list[str]) -> None:
    try:
        settings = read_settings()
        logs.set_up(settings.log_level)
        agent = Agent(settings)
    except SettingsError as error:
        agent_settings_error.append(str(error))
        return
    task = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Run the agent until it is told to end; exits with 2 when a setting is missing or wrong."""
    os.umask(0o022)  # the model server reads what we write, as another user
    logs.set_up()
    errors: list[str] = []
    asyncio.run(_run(errors))
    if errors:
        logs.warning("cannot start", error=errors[0])
        sys.exit(2)


if __name__ == "__main__":
    main()
