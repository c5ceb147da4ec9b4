"""A Lease, as much of it as matters here."""

from dataclasses import dataclass


class Conflict(Exception):
    """Another wrote first: read again."""


class LeasesUnavailable(Exception):
    """The API server did not answer, or refused; the text says which."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """``holder``: who leads. ``epoch``: see epoch.py. ``version``: the resourceVersion read, empty for none yet."""

    holder: str
    epoch: int
    version: str = ""
