"""What each worker does, in a small file of its own that the agent reads: multi-model-server tells of requests in its
log only, and of those that run nowhere.

``$SHOAL_MMS_USE/<model>/<random>``, little-endian: 8 bytes magic, then u64 requests begun, succeeded, failed, f64
seconds spent on finished ones, f64 last use (seconds since 1970). The file is locked (flock) as long as the worker
lives, whatever its end. Nothing here is newer than Python 3.6, which its images have.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import time
import uuid
from typing import Any

LAYOUT = struct.Struct("<8sQQQdd")
MAGIC = b"SHOALMM1"
ANYBODY = 0o777


class Counters:
    """Of one worker, which runs one batch at a time."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(OSError):  # another worker of the model made it
            os.chmod(folder, ANYBODY)  # the agent, another user, deletes it
        self.process = os.getpid()
        name = uuid.uuid4().hex
        hidden = os.path.join(folder, "." + name)
        # Seen under its name only once it is locked: an unlocked one is taken for a dead worker's.
        self._file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.ftruncate(self._file, LAYOUT.size)
        self._map = mmap.mmap(self._file, LAYOUT.size)
        self._begun = self._succeeded = self._failed = 0
        self._busy = 0.0
        self._write()
        os.rename(hidden, os.path.join(folder, name))

    def begin(self, requests: int) -> None:
        self._begun += requests
        self._write()

    def end(self, requests: int, succeeded: bool, seconds: float) -> None:
        if succeeded:
            self._succeeded += requests
        else:
            self._failed += requests
        self._busy += seconds * requests
        self._write()

    def _write(self) -> None:
        values = (MAGIC, self._begun, self._succeeded, self._failed, self._busy, time.time())
        LAYOUT.pack_into(self._map, 0, *values)


def count() -> None:
    """Have every prediction of this process counted."""
    from mms import service  # noqa: PLC0415  # there only inside the server

    folder = os.environ.get("SHOAL_MMS_USE")
    if not folder:
        return
    predict, respond = service.Service.predict, service.create_predict_response
    said = {}  # type: dict[str, Any]

    def counted_response(answers: Any, requests: Any, message: Any, code: Any, *args: Any, **named: Any) -> Any:
        said["code"] = code
        return respond(answers, requests, message, code, *args, **named)

    def counted_predict(self: Any, batch: Any) -> Any:
        counters = said.get("counters")
        if counters is None or counters.process != os.getpid():
            # A worker is a fork of the process that imported this.
            counters = said["counters"] = Counters(os.path.join(str(folder), self.context.model_name))
        counters.begin(len(batch))
        said["code"], began = 500, time.time()
        try:
            return predict(self, batch)
        finally:
            counters.end(len(batch), said["code"] == 200, time.time() - began)

    service.create_predict_response = counted_response
    service.Service.predict = counted_predict
