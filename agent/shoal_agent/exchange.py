"""The agent's side of the sync protocol: versions, deltas, the epoch fence. Pure; ``control_plane`` does the talking.

Observed goes up as deltas from the version that the operator acknowledged, whole when it asks so (acknowledges 0, or a
version that is not ours). Desired comes down as a delta on exactly the version held, or whole; anything else makes the
agent ask for everything again. A response of an older epoch than one obeyed before is refused whole.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from shoal_api.messages import (
    PROTOCOL_VERSION,
    CopyIntent,
    CopyPhase,
    ModelMetadata,
    ModelUse,
    ServerReport,
    SlotReport,
    SyncRequest,
    SyncResponse,
)

MAX_GONE = 10_000


class News(IntEnum):
    """How soon the operator should hear of a change."""

    NONE = 0
    LATER = 1  # how far a copy is on its way: of interest, waited for by nobody
    NOW = 2


_ON_THE_WAY = frozenset({CopyPhase.WAITING, CopyPhase.PULLING, CopyPhase.LOADING, CopyPhase.UNLOADING})


def _news(before: SlotReport | None, report: SlotReport) -> News:
    if before == report:
        return News.NONE
    served, failure = (before.serving, before.failure) if before is not None else (None, None)
    same = report.serving == served and report.failure == failure
    return News.LATER if same and report.phase in _ON_THE_WAY else News.NOW


class Observed:
    """Reports by slot, each with the version at which it changed. A delta costs what changed."""

    def __init__(self) -> None:
        self.version = 1
        self._floor = 0
        self._reports: OrderedDict[str, tuple[int, SlotReport]] = OrderedDict()
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put(self, report: SlotReport) -> News:
        """Note a report."""
        held = self._reports.get(report.name)
        news = _news(held[1] if held is not None else None, report)
        if news is News.NONE:
            return news
        self.version += 1
        self._gone.pop(report.name, None)
        self._reports[report.name] = (self.version, report)
        self._reports.move_to_end(report.name)
        return news

    def drop(self, name: str) -> News:
        """Note that a slot is gone."""
        if self._reports.pop(name, None) is None:
            return News.NONE
        self.version += 1
        self._gone[name] = self.version
        if len(self._gone) > MAX_GONE:
            _, self._floor = self._gone.popitem(last=False)
        return News.NOW

    def has(self, version: int) -> bool:
        """Whether a delta can start from that version."""
        return self._floor < version <= self.version

    def since(self, version: int) -> tuple[list[SlotReport], list[str]]:
        """Reports and names gone after ``version``."""
        reports: list[SlotReport] = []
        for changed, report in reversed(self._reports.values()):
            if changed <= version:
                break
            reports.append(report)
        gone: list[str] = []
        for name, changed in reversed(self._gone.items()):
            if changed <= version:
                break
            gone.append(name)
        return reports[::-1], gone[::-1]

    def everything(self) -> list[SlotReport]:
        return [report for _, report in self._reports.values()]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks. ``session`` names this agent process; a later one sorts higher."""

    namespace: str
    pod: str
    pod_uid: str
    session: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a response asks for. ``whole``: ``wanted`` is everything. None of both: keep what there is."""

    wanted: tuple[CopyIntent, ...] = ()
    unwanted: tuple[str, ...] = ()
    whole: bool = False
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A response that must not be obeyed, and why."""

    reason: str


class Exchange:
    """Versions held on both sides, and the highest epoch obeyed."""

    def __init__(self, identity: Identity, epoch: int = 0) -> None:
        self.identity = identity
        self.epoch = epoch
        self.observed = Observed()
        self.desired_version = 0
        self._newest = 0  # desired version that was ever obeyed: what is older is late, whatever is held now
        self.protocol = PROTOCOL_VERSION
        self._acknowledged: int | None = None

    @property
    def pending(self) -> bool:
        """Something was observed that the operator has not acknowledged."""
        return self._acknowledged != self.observed.version

    def request(
        self,
        server: ServerReport,
        draining: bool,
        wait_seconds: float,
        use: Sequence[ModelUse] = (),
        *,
        use_now: bool = False,
        metadata: Sequence[ModelMetadata] = (),
    ) -> SyncRequest:
        """The next request; a delta where the operator can take one."""
        base = self._acknowledged
        if base is not None and self.observed.has(base):
            observed, gone = self.observed.since(base)
        else:
            base, observed, gone = None, self.observed.everything(), []
        return SyncRequest(
            protocol=self.protocol,
            namespace=self.identity.namespace,
            pod=self.identity.pod,
            pod_uid=self.identity.pod_uid,
            session=self.identity.session,
            epoch=self.epoch,
            server=server,
            draining=draining,
            observed_version=self.observed.version,
            observed_base=base,
            observed=observed,
            observed_gone=gone,
            use=list(use),
            use_now=use_now,
            metadata=list(metadata),
            desired_version=self.desired_version,
            wait_seconds=wait_seconds,
        )

    def response(self, request: SyncRequest, response: SyncResponse) -> Accepted | Refused:
        """Take a response to ``request`` in."""
        if response.epoch < self.epoch:
            return Refused(f"epoch {response.epoch} is older than {self.epoch}, which this agent obeyed")
        self.epoch = response.epoch
        self.protocol = max(PROTOCOL_VERSION - 1, min(PROTOCOL_VERSION, response.protocol))
        acknowledged = response.observed_acknowledged
        # Anything but a version that we sent is another session's, or "send everything".
        self._acknowledged = acknowledged if 0 < acknowledged <= request.observed_version else None
        drained = request.draining and response.drained
        if response.desired_version is None or response.desired_version < self._newest:
            return Accepted(drained=drained)
        if response.desired_base is None:
            self.desired_version = self._newest = response.desired_version
            return Accepted(wanted=tuple(response.desired), whole=True, drained=drained)
        if response.desired_base != self.desired_version:
            held, self.desired_version = self.desired_version, 0
            return Refused(f"desired delta starts at {response.desired_base}, but {held} is held")
        self.desired_version = self._newest = response.desired_version
        return Accepted(tuple(response.desired), tuple(response.desired_gone), drained=drained)

    def protocol_refused(self) -> None:
        """The operator does not speak this protocol: try the neighbour's, and ours again after that."""
        self.protocol = PROTOCOL_VERSION - 1 if self.protocol == PROTOCOL_VERSION else PROTOCOL_VERSION

    def forget_operator(self) -> None:
        """Ask for everything, and send everything, next time."""
        self._acknowledged = None
        self.desired_version = 0
