"""A volume that a pod mounts: a folder of this machine, which is what the kubelet would have mounted there."""

import os
from pathlib import Path
from typing import ClassVar

from .pods import Pod

CLAIM = "models"


class Volume:
    """``Backend``, but that no server answers for it and nobody has keys."""

    scheme: ClassVar[str] = "pvc"
    missing_bucket: ClassVar[str] = "pvc://no-such-bucket/m"
    missing_reason: ClassVar[str] = "ClaimNotMounted"
    pinned: ClassVar[bool] = False
    verified: ClassVar[bool] = False
    many: ClassVar[int] = 2500

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._time = 1_700_000_000  # long ago, so that nobody waits for the clock; what is put later is newer

    async def start(self) -> None:
        """It is there."""

    async def stop(self) -> None:
        """Nothing runs."""

    def put(self, key: str, content: bytes) -> None:
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self._time += 1
        os.utime(file, (self._time, self._time))

    def mark(self, folder: str) -> None:
        (self.folder / folder).mkdir(parents=True, exist_ok=True)

    def uri(self, key: str) -> str:
        return f"pvc://{CLAIM}/{key}"

    def admit(
        self, pod: Pod, endpoint: str | None = None, *, name: str = "storage", wrong: str = "", authority: str = ""
    ) -> Pod:
        return pod.mount(CLAIM, self.folder)
