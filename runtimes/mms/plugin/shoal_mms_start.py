"""Starts multi-model-server in the place of this process, instead of beside it: so signals reach it, and its end is the
container's. Arguments are multi-model-server's own."""

import os
import subprocess
import tempfile
from typing import Any


def replace_this(command: Any, *_: Any, **__: Any) -> None:
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    # Written by an earlier process of the same number, it would be taken for a server that runs.
    remembered = os.path.join(tempfile.gettempdir(), ".model_server.pid")
    if os.path.exists(remembered):
        os.remove(remembered)
    from mms import model_server  # there only inside the server

    subprocess.Popen = replace_this
    model_server.start()
