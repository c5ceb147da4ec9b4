"""Which archives are unpacked, by the ends of their names. Pure."""

from typing import Final

BY_CONTENT: Final = "by content"
"""A tar, whose compression its first bytes tell."""
MODELS: Final = "models"
"""The folder of an image that a model is in, as KServe's modelcars have it."""
_MAGIC: Final = ((b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"BZh", "bz2"), (b"\xfd7zXZ", "xz"))

FORMATS: Final = {
    ".zip": "zip",
    ".mar": "zip",
    ".tar": "tar",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.zst": "zst",
    ".tzst": "zst",
}
_SERVERS_OWN: Final = frozenset({".mar"})
"""A model archive is its server's business: it is fetched as it is."""


def is_archive(path: str) -> bool:
    """An artifact that is this one file is what is in it."""
    return any(path.lower().endswith(end) for end in FORMATS if end not in _SERVERS_OWN)


def of_content(first: bytes) -> str:
    """The format of a tar by its first bytes."""
    return next((kind for magic, kind in _MAGIC if first.startswith(magic)), "tar")


def of(name: str) -> str:
    """The format of an archive by its name. Raises ValueError."""
    for end, kind in FORMATS.items():
        if name.lower().endswith(end):
            return kind
    raise ValueError(f"{name!r} is no archive")
