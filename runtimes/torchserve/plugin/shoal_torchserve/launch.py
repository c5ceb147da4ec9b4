"""``python3 -m shoal_torchserve.launch ARGUMENTS``: what ``torchserve ARGUMENTS`` does, in this process.

``torchserve`` starts the server as a child and waits; as the first process of a container it hands no signal on, and
every pod would take its whole grace period to end. Here the server takes its place.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ts import model_server


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606  # no shell, a command of its own launcher


if __name__ == "__main__":
    model_server.subprocess.Popen = _become
    model_server.start()
