"""Which archives are unpacked, by the ends of their names. Pure."""

from typing import Final

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


def of(name: str) -> str:
    """The format of an archive by its name. Raises ValueError."""
    for end, kind in FORMATS.items():
        if name.lower().endswith(end):
            return kind
    raise ValueError(f"{name!r} is no archive")
