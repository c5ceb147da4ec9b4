"""Loads keys into TLS contexts without leaving them on a disk."""

import os
import ssl
import tempfile
from pathlib import Path

from .plan import KeyPair


def server_context() -> ssl.SSLContext:
    """For the agents API: agents prove themselves with tokens, so no client certificate is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Use ``pair`` for connections from now on. Python only loads from files, so it gets one that is in memory."""
    content = pair.certificate + b"\n" + pair.key
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("shoal-tls", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:  # readable by this user only
        path = Path(folder) / "tls.pem"
        path.write_bytes(content)
        context.load_cert_chain(path)
