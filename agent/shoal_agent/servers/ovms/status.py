"""What the server tells of its models: GET /v1/config and /metrics. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shoal_agent.model_server.usage import Tally

_AVAILABLE: Final = "AVAILABLE"
_GONE: Final = "END"
_LOADING: Final = "LOADING"
_WELL: Final = "OK"
_SAMPLE: Final = re.compile(
    r"^ovms_(?P<what>requests_success|requests_fail|current_requests)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.M
)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Versions:
    """Of one model. ``available``: numbers that answer. ``changing``: those that are being loaded or unloaded."""

    available: frozenset[int] = frozenset()
    changing: frozenset[int] = frozenset()

    @property
    def serving(self) -> int | None:
        """The number that requests are answered by: the server's default is the highest."""
        return max(self.available, default=None)


def versions(content: Mapping[str, Any]) -> dict[str, Versions]:
    """By name, of models of which there is something in the server. It lists what was removed for ever (END), and says
    of a version that could not be loaded that it is LOADING, with an error."""
    found = {}
    for name, model in content.items():
        rows = [
            (int(row["version"]), row["state"], row["status"]["error_code"]) for row in model["model_version_status"]
        ]
        available = frozenset(number for number, state, _ in rows if state == _AVAILABLE)
        changing = frozenset(
            number
            for number, state, code in rows
            if state not in (_AVAILABLE, _GONE) and not (state == _LOADING and code != _WELL)
        )
        if available or changing:
            found[name] = Versions(available, changing)
    return found


def tallies(metrics: str) -> dict[str, Tally]:
    """By name, all versions and interfaces together, since the server's start. Only inference counts as use."""
    found: dict[str, Tally] = {}
    for sample in _SAMPLE.finditer(metrics):
        labels = dict(_LABEL.findall(sample["labels"]))
        name, value = labels.get("name", ""), int(float(sample["value"]))
        so_far = found.get(name, Tally())
        if sample["what"] == "current_requests":
            found[name] = Tally(so_far.succeeded, so_far.failed, so_far.in_flight + value)
        elif labels.get("method") != "ModelInfer":
            continue
        elif sample["what"] == "requests_success":
            found[name] = Tally(so_far.succeeded + value, so_far.failed, so_far.in_flight)
        else:
            found[name] = Tally(so_far.succeeded, so_far.failed + value, so_far.in_flight)
    return found


def since(now: Tally, before: Tally) -> Tally:
    """What came on top of ``before``."""
    return Tally(max(0, now.succeeded - before.succeeded), max(0, now.failed - before.failed), now.in_flight)
