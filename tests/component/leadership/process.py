"""One operator's process of the test: the real one, on ports of its own, since two share this machine."""

import asyncio
import os
import sys
from dataclasses import replace

from shoal_operator import logs
from shoal_operator.main import serve
from shoal_operator.settings import from_environment

if __name__ == "__main__":
    agents, ads, http, readers = map(int, sys.argv[1:])
    settings = from_environment(os.environ)
    logs.setup(settings.log_level)
    asyncio.run(
        serve(
            replace(
                settings,
                host="127.0.0.1",
                agents_port=agents,
                ads_port=ads,
                http_port=http,
                readers_port=readers,
            )
        )
    )
