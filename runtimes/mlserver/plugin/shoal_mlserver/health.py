"""The server's health, answered by a thread of its own: a model that computes for long is no frozen server.

A model whose ``predict`` stays on the event loop may hold it up for as long as it computes; then nothing else is
answered, but the process lives and will go on. So the kubelet and the agent ask here. Silence means that not even a
thread gets a turn. An event loop that had none for LONGEST_SECONDS, longer than any request may take, is 503.
"""

import asyncio
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = "SHOAL_HEALTH_PORT"
LONGEST_SECONDS = 3900.0
_BEAT_SECONDS = 1.0


class Health:
    """``begin`` on the event loop; from then on ``silent_seconds`` tells how long it had no turn."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        return max(0.0, time.monotonic() - self._beat_at - _BEAT_SECONDS)

    def beat(self) -> None:
        self._beat_at = time.monotonic()
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self.beat)


def begin(host: str, loop: asyncio.AbstractEventLoop) -> ThreadingHTTPServer | None:
    """Answer on the port that the environment names, if it names one; from a daemon thread."""
    port = os.environ.get(PORT, "")
    if not port:
        return None
    health = Health()
    loop.call_soon(health.beat)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            silent = health.silent_seconds
            body = json.dumps({"loop_silent_seconds": round(silent, 1)}).encode()
            self.send_response(200 if silent < LONGEST_SECONDS else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
