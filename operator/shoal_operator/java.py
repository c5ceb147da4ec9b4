"""How a server in Java is started that leaves the models' memory to their workers: DJL Serving, multi-model-server."""

from typing import Final

_LEAST_HEAP: Final = 128
_MEBIBYTE: Final = 1 << 20


def options(buffer_bytes: int) -> str:
    """Half of what is on top of the models' memory; Python workers and native engines are no part of the heap."""
    heap = max(_LEAST_HEAP, buffer_bytes // 2 // _MEBIBYTE)
    return f"-Xmx{heap}m -XX:+ExitOnOutOfMemoryError"
