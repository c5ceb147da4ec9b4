"""Findings and how they become conditions: one small value for what is the case, why, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from . import reasons

Object = dict[str, Any]

FIELDS_IGNORED = "FieldsIgnored"
TUNING_NOT_SUPPORTED = "TuningNotSupported"
MAX_FIELDS_SHOWN = 12
MAX_MESSAGE_LENGTH = 1024
"""Every revision of a status stays in etcd until it is compacted, so messages are kept short."""


class Verdict(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """``reason``: a stable CamelCase word. ``message``: what is the case, and where. ``action``: what to do next;
    empty when there is nothing to do."""

    verdict: Verdict
    reason: str
    message: str = ""
    action: str = ""

    @property
    def text(self) -> str:
        """Message and action, cut to what a condition may hold."""
        text = " ".join(part for part in (self.message, self.action) if part)
        return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"

    @property
    def waits(self) -> bool:
        """It passes by itself."""
        return self.reason in reasons.WAITING

    @property
    def good(self) -> bool:
        return self.verdict is Verdict.TRUE


def true(reason: str, message: str = "", action: str = "") -> Finding:
    """It is the case."""
    return Finding(Verdict.TRUE, reason, message, action)


def false(reason: str, message: str, action: str = "") -> Finding:
    """It is not the case."""
    return Finding(Verdict.FALSE, reason, message, action)


def unknown(reason: str = reasons.PENDING, message: str = "") -> Finding:
    """Not decided yet."""
    return Finding(Verdict.UNKNOWN, reason, message)


def fields_ignored(paths: Sequence[str]) -> Finding:
    """What the user wrote and nothing here honours."""
    more = f" and {len(paths) - MAX_FIELDS_SHOWN} more" if len(paths) > MAX_FIELDS_SHOWN else ""
    return true(reasons.FIELDS_NOT_SUPPORTED, f"Without effect here: {', '.join(paths[:MAX_FIELDS_SHOWN])}{more}.")


def tuning_not_supported(sentences: Sequence[str]) -> Finding:
    """What the user asks of the model server that it cannot do: never dropped in silence."""
    return true(reasons.TUNING_NOT_SUPPORTED, "Without effect here: " + "; ".join(sentences) + ".")


def conditions(
    findings: Sequence[tuple[str, Finding]], previous: Mapping[str, Any] | None, now: datetime
) -> list[Object]:
    """The status's list of conditions. ``lastTransitionTime`` moves only when a condition's status does."""
    before = {c.get("type"): c for c in (previous or {}).get("conditions") or () if isinstance(c, Mapping)}
    result: list[Object] = []
    moment = timestamp(now)
    for kind, finding in findings:
        old = before.get(kind, {})
        same = old.get("status") == finding.verdict.value and old.get("lastTransitionTime")
        condition: Object = {
            "type": kind,
            "status": finding.verdict.value,
            "reason": finding.reason,
            "lastTransitionTime": old["lastTransitionTime"] if same else moment,
        }
        text = finding.text
        if text:
            condition["message"] = text
        result.append(condition)
    return result


def find(status: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The condition of that type in a status; empty when there is none."""
    for condition in (status or {}).get("conditions") or ():
        if isinstance(condition, Mapping) and condition.get("type") == kind:
            return condition
    return {}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes metav1.Time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
