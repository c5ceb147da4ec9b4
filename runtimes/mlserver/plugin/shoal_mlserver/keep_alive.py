"""MLServer never is the one who closes an idle connection.

A request that is sent while the server closes the connection under it is lost, and whoever sent it cannot tell whether
it was read. uvicorn gives up a connection that was idle for 5 s, which no setting of MLServer's changes; the gateway
gives its own up after 1 s, but on a machine that stands still for some seconds the two meet. So the server waits for
longer than any machine stands still; who has died is noticed by the kernel.
"""

import functools
from typing import Any

from mlserver.rest.server import RESTServer

SECONDS = 3600


def install(server: Any = RESTServer) -> None:
    """Have MLServer's HTTP server keep connections. Once per process: this changes the class."""
    configure = server._get_config

    @functools.wraps(configure)
    def keeping(self: Any) -> Any:
        config = configure(self)
        config.timeout_keep_alive = max(config.timeout_keep_alive, SECONDS)
        return config

    server._get_config = keeping
