"""Python imports this first in whatever runs with this folder on its path: multi-model-server's workers count from then
on what they do. Everything else that runs in the container is left alone."""

from pathlib import Path

if b"model_service_worker" in Path("/proc/self/cmdline").read_bytes():
    import shoal_mms

    shoal_mms.count()
