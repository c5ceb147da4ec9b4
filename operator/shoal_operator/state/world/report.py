"""What an agent says of its pod, as a fact: checked at the border (agents/border.py), where nothing else comes from."""

from dataclasses import dataclass

from shoal_api.messages import ModelUse, ServerReport, SlotReport


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One sync of an agent whose pod's UID was verified; the fields are those of ``SyncRequest``.

    Each slot is named once, in ``observed`` or in ``observed_gone``; each model once in ``use``.
    """

    pod_uid: str
    session: str
    epoch: int
    server: ServerReport
    draining: bool
    observed_version: int
    observed_base: int | None
    observed: tuple[SlotReport, ...]
    observed_gone: tuple[str, ...]
    use: tuple[ModelUse, ...]
    use_now: bool
    desired_version: int
