"""The border: bytes that an agent sent become facts here, once, or are refused. Pure.

What a report may cost is bounded before it is looked at: its bytes by how many models the pod's InferenceService has,
its lists and objects (which cost many times what their bytes do) by its bytes, its slots by what was wanted of the pod
and a number of others. Values are bounded by ``shoal_api.messages``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from shoal_api.messages import (
    MAX_REQUEST_BYTES,
    PROTOCOL_UNSUPPORTED,
    PROTOCOL_VERSION,
    SyncRequest,
    understood,
)

from shoal_operator.state.pods.limits import MAX_STRAYS, MAX_UNKNOWN, Known
from shoal_operator.state.world.report import AgentReport

from .identity import Refused

FREE_BYTES = 2 * 1024 * 1024
"""What any pod may report: 10,000 slots of models that were deleted while no operator ran."""
BYTES_PER_MODEL = 1536
"""The longest report of one slot: names, copy ids, a failure with a message of 1 KiB."""

FREE_BRACKETS = 20_000
"""Lists and objects, and brackets in texts, that any message may have: metadata of models, messages of failures."""
BYTES_PER_BRACKET = 48
"""The shortest report of a slot, or of its use, is one object of 40 bytes; most are longer."""


@dataclass(frozen=True, slots=True)
class Read:
    """A message read. ``dropped``: slots of it that were not its pod's, beyond those that are noted."""

    message: SyncRequest
    report: AgentReport
    dropped: int


def body_limit(known: Known | None) -> int:
    """Bytes that the pod's agent may send in one message."""
    if known is None:
        return FREE_BYTES
    if known.models is None:
        return MAX_REQUEST_BYTES
    return min(MAX_REQUEST_BYTES, FREE_BYTES + known.models * BYTES_PER_MODEL)


def read(body: bytes, known: Known | None) -> Read:
    """A SyncRequest and the facts in it. Raises Refused (400)."""
    if body.count(b"[") + body.count(b"{") > FREE_BRACKETS + len(body) // BYTES_PER_BRACKET:
        raise _invalid("body", "more lists and objects than slots can have in so many bytes")
    try:
        content = from_json(body, allow_inf_nan=True)
    except ValueError as error:
        raise _invalid("body", str(error)) from None
    if not isinstance(content, dict):
        raise _invalid("body", "not a JSON object")
    protocol = content.get("protocol", 1)
    if not isinstance(protocol, int) or not understood(protocol):
        raise Refused(
            400,
            PROTOCOL_UNSUPPORTED,
            f"the agent speaks protocol {protocol!r:.20}, this operator {PROTOCOL_VERSION} and its neighbours: "
            "let the operator roll the pods to its own agent",
        )
    expects = known.expects if known is not None else _nothing
    strays = MAX_UNKNOWN if known is not None and known.models is None else MAX_STRAYS
    observed, dropped = _own(content, "observed", expects, strays)
    gone = [name for name in _listed(content, "observed_gone") if isinstance(name, str) and expects(name)]
    use, _ = _own(content, "use", expects, strays=0)
    try:
        message = SyncRequest.model_validate({**content, "observed": observed, "observed_gone": gone, "use": use})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _invalid(".".join(str(part) for part in first["loc"]), first["msg"]) from None
    return Read(message, facts(message), dropped)


def facts(message: SyncRequest) -> AgentReport:
    """What the message says, each thing once: of two words about one slot the later counts."""
    observed = {slot.name: slot for slot in message.observed}
    return AgentReport(
        pod_uid=message.pod_uid,
        session=message.session,
        epoch=message.epoch,
        server=message.server,
        draining=message.draining,
        observed_version=message.observed_version,
        observed_base=message.observed_base,
        observed=tuple(observed.values()),
        observed_gone=tuple(name for name in dict.fromkeys(message.observed_gone) if name not in observed),
        use=tuple({use.name: use for use in message.use}.values()),
        use_now=message.use_now,
        desired_version=message.desired_version,
    )


def _own(
    content: dict[str, Any], field: str, expects: Callable[[str], bool], strays: int
) -> tuple[list[dict[str, Any]], int]:
    """Entries whose names are expected, the first ``strays`` others, and how many were left out."""
    kept: list[dict[str, Any]] = []
    others = 0
    for entry in _listed(content, field):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise _invalid(field, "an entry without a name")
        if not expects(name):
            others += 1
            if others > strays:
                continue
        kept.append(entry)
    return kept, max(0, others - strays)


def _listed(content: dict[str, Any], field: str) -> list[Any]:
    entries = content.get(field, [])
    if not isinstance(entries, list):
        raise _invalid(field, "not a list")
    return entries


def _nothing(_: str) -> bool:
    return False


def _invalid(where: str, what: str) -> Refused:
    return Refused(400, "RequestInvalid", f"the request is not a SyncRequest: {where[:200]}: {what[:200]}")
