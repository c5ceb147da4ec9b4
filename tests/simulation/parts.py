"""The simulated surroundings of the operator's core: agents with their servers, and Envoys.

They keep the same promises as the real ones (the agent's contract is tests/component/agent, Envoy's is
tests/component/gateway) and break down as the real ones do.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from shoal_api.messages import (
    ARTIFACT_NOT_FOUND,
    Action,
    CopyFailure,
    CopyIntent,
    CopyPhase,
    FailureStage,
    ModelUse,
    ServerReport,
    SlotReport,
    SyncRequest,
    SyncResponse,
)
from shoal_operator.state.world.effects import RouteChanged
from shoal_operator.state.world.values import ServiceKey

BROKEN = "bad"
"""How revisions end that no server loads."""


def _never_overwritten(_: str) -> str:
    return "0" * 16


@dataclass
class SimPod:
    """One model-server pod: its agent's memory, and what its server really holds."""

    name: str
    uid: str
    service: str
    capacity: int
    rng: random.Random
    broken: Callable[[CopyIntent], bool]
    on_unload: Callable[["SimPod", str, str], None]
    size: Callable[[str], int]  # bytes that a copy id really takes in memory; its artifact is half of that
    storage: Callable[[str], str] = _never_overwritten  # the revision that a storage URI names now
    session: str = "0000000001"
    epoch: int = 0
    server_ready: bool = True
    draining: bool = False
    mute_until: float = 0.0  # its agent is away until then
    frozen_until: float = 0.0  # its agent hears nothing of its server until then
    desired: dict[str, CopyIntent] = field(default_factory=dict)
    desired_version: int = 0
    newest: int = 0  # desired version that this process ever obeyed
    slots: dict[str, SlotReport] = field(default_factory=dict)
    loaded: dict[str, CopyIntent] = field(default_factory=dict)  # what the server really answers with
    busy: dict[str, tuple[float, CopyIntent | None]] = field(default_factory=dict)  # name -> (done at, intent)
    leaving: dict[str, CopyIntent] = field(default_factory=dict)  # being unloaded: still in memory
    loads_hang_until: float = 0.0  # what is begun before then does not end before
    unloads_hang_until: float = 0.0
    unloads_fail_until: float = 0.0  # the server refuses, and goes on holding it
    version: int = 0
    acknowledged: int = 0
    history: dict[int, dict[str, SlotReport]] = field(default_factory=dict)
    drained: bool = False
    loads: int = 0
    use_now: bool = False  # the operator has asked
    used: dict[str, tuple[int, float]] = field(default_factory=dict)  # name -> requests since loaded, the last one
    revisions: dict[str, str] = field(default_factory=dict)  # name -> of what is loaded, or is to be restored
    fetched: dict[str, str] = field(default_factory=dict)  # name -> of what is being loaded
    on_disk: set[str] = field(default_factory=set)  # revisions that were loaded here once
    restoring: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> copy id, revision: lost by its server
    looked: dict[str, int] = field(default_factory=dict)  # name -> the check that was made last

    def restart_agent(self) -> None:
        """The agent starts again: it knows only what the server lists."""
        self.session = f"{int(self.session) + 1:010d}"
        self.loaded |= self.leaving  # nobody waits for those unloads any more: the server has them listed
        self.leaving = {}
        self.desired, self.desired_version, self.newest, self.busy = {}, 0, 0, {}
        self.version = self.acknowledged = 0
        self.history = {}
        self.slots = {
            name: SlotReport(name=name, serving=held.copy_id, target=held.copy_id, phase=CopyPhase.LOADED)
            for name, held in self.loaded.items()
        }

    def restart_server(self) -> None:
        """The server process dies and comes back empty; the agent restores what is desired."""
        self.restoring |= {name: (held.copy_id, self.revisions[name]) for name, held in self.loaded.items()}
        self.loaded, self.busy, self.leaving = {}, {}, {}
        for name in list(self.slots):
            self._report(name, serving=None, phase=CopyPhase.WAITING)

    @property
    def troubled_until(self) -> float:
        """Until then its server does not do what it is told to, which nobody knows beforehand."""
        return max(
            self.loads_hang_until, self.unloads_hang_until, self.unloads_fail_until, self.mute_until, self.frozen_until
        )

    def answer(self, name: str, uid: str, now: float) -> bool:
        """One request; False: nothing of the model with that UID is loaded here."""
        if name not in self.loaded or not self.server_ready:
            return False
        if not self.loaded[name].copy_id.startswith(f"{uid}."):
            return False
        self.used[name] = (self.used.get(name, (0, 0.0))[0] + 1, now)
        return True

    def request(self, now: float) -> SyncRequest:
        slots = {
            n: slot.model_copy(update={"held_bytes": self.held_bytes(n), "revision": self.served_revision(n)})
            for n, slot in self.slots.items()
        }
        if self.acknowledged and self.acknowledged in self.history and self.rng.random() < 0.9:
            base: int | None = self.acknowledged
            old = self.history[self.acknowledged]
            observed = [slot for name, slot in slots.items() if old.get(name) != slot]
            gone = [name for name in old if name not in slots]
        else:
            base, observed, gone = None, list(slots.values()), []
        self.version += 1
        self.history[self.version] = slots
        while len(self.history) > 50:
            del self.history[min(self.history)]
        return SyncRequest(
            namespace="ns",
            pod=self.name,
            pod_uid=self.uid,
            session=self.session,
            epoch=self.epoch,
            server=ServerReport(
                type="mlserver",
                ready=self.server_ready and now >= self.frozen_until,
                frozen=self.server_ready and now < self.frozen_until,
            ),
            draining=self.draining,
            observed_version=self.version,
            observed_base=base,
            observed=observed,
            observed_gone=gone,
            desired_version=self.desired_version,
            use_now=self.use_now,
            use=[
                ModelUse(name=name, requests=count, idle_seconds=now - last)
                for name, (count, last) in self.used.items()
                if name in self.loaded
            ],
        )

    def served_revision(self, name: str) -> str | None:
        return self.revisions.get(name) if name in self.loaded else None

    def receive(self, response: SyncResponse, session: str) -> None:
        """Obey, unless the answer is of an older epoch, an older list, or was meant for an earlier process."""
        if session != self.session or response.epoch < self.epoch:
            return
        self.epoch = response.epoch
        self.use_now = response.use_now
        self.acknowledged = response.observed_acknowledged
        self.drained = response.drained
        if response.desired_version is None or response.desired_version < self.newest:
            return  # late
        if response.desired_version == self.desired_version:
            return
        if response.desired_base is None:
            self.desired = {intent.name: intent for intent in response.desired}
        elif response.desired_base == self.desired_version:
            self.desired |= {intent.name: intent for intent in response.desired}
            for name in response.desired_gone:
                self.desired.pop(name, None)
        else:
            self.desired_version = 0
            return
        self.desired_version = self.newest = response.desired_version

    def work(self, now: float) -> None:
        """Finish what is done, begin what is wanted. Only a process that knows its desired list unloads."""
        for name, (done, intent) in list(self.busy.items()):
            if now >= done:
                del self.busy[name]
                self._finish(name, intent, now)
        if not self.server_ready or not self.desired_version:
            return
        for name, intent in self.desired.items():
            held = self.loaded.get(name)
            slot = self.slots.get(name)
            if name not in self.busy and held is not None and held.copy_id == intent.copy_id:
                self.loaded[name] = intent  # no more than its declared memory can differ
                if slot is not None and slot.target != intent.copy_id:  # an update was taken back
                    told = {"action": intent.action, "phase": CopyPhase.LOADED, "failure": None}
                    self._report(name, target=intent.copy_id, **told)
                if intent.check not in (0, self.looked.get(name)):
                    self.looked[name] = intent.check
                    seen = self.storage(intent.storage_uri) if self.rng.random() < 0.9 else None
                    self._report(name, checked=intent.check, listed_revision=seen)
                continue
            if name in self.busy or (slot is not None and slot.target == intent.copy_id and _done(slot, intent)):
                continue
            if name in self.leaving:  # first things first
                self._unload(name, now)
                continue
            if (
                slot is not None
                and slot.target == intent.copy_id
                and slot.failure is not None
                and slot.action is intent.action
                and self.rng.random() < 0.8
            ):
                continue  # back-off
            self.busy[name] = (self._end(now, 2.0, self.loads_hang_until), intent)
            self.fetched[name] = self._revision(name, intent)
            phase = self.rng.choice([CopyPhase.PULLING, CopyPhase.LOADING])
            phase = phase if intent.action is Action.LOAD else CopyPhase.WAITING
            # What failed of another content says nothing about this one.
            same = slot is not None and slot.target == intent.copy_id
            failure = slot.failure if slot is not None and same else None
            found = slot.target_revision if slot is not None and same else None
            found = self.fetched[name] if phase is CopyPhase.LOADING else found
            told = {"action": intent.action, "phase": phase, "failure": failure, "target_revision": found}
            self._report(name, target=intent.copy_id, **told)
        for name in [n for n in self.slots if n not in self.desired and n not in self.busy]:
            self._unload(name, now)

    def _unload(self, name: str, now: float) -> None:
        """The agent asks the server now: from here on requests may fail."""
        self.busy[name] = (self._end(now, 0.5, self.unloads_hang_until), None)
        self._report(name, target=None, phase=CopyPhase.UNLOADING)
        if name in self.loaded:
            self.on_unload(self, name, self.loaded[name].copy_id)
            self.leaving[name] = self.loaded.pop(name)
            self.used.pop(name, None)

    def _end(self, now: float, longest: float, hangs_until: float) -> float:
        return max(now, hangs_until) + self.rng.uniform(0.01, longest)

    def held_bytes(self, name: str) -> int:
        """What the agent was told of the memory of all that it holds, is loading, or is to load under that name."""
        held = self.loaded.get(name) or self.leaving.get(name)
        intents = (held, self.busy.get(name, (0.0, None))[1], self.desired.get(name))
        told = {each.copy_id: each.memory_bytes for each in intents if each and each.action is Action.LOAD}
        return sum(told.values())

    def physical(self) -> dict[str, int]:
        """Bytes that are really in memory under each name: loaded, not yet unloaded, or being loaded beside that."""
        found = {name: self.size(held.copy_id) for name, held in (*self.loaded.items(), *self.leaving.items())}
        for name, (_, intent) in self.busy.items():
            if intent is not None and intent.action is Action.LOAD and not self._is_loaded(name, intent):
                found[name] = found.get(name, 0) + self.size(intent.copy_id)
        return found

    def _finish(self, name: str, intent: CopyIntent | None, now: float) -> None:
        if intent is None and name in self.leaving and now < self.unloads_fail_until:
            failure = CopyFailure(stage=FailureStage.LOAD, reason="UnloadFailed", message="busy")
            self._report(name, phase=CopyPhase.UNLOADING, failure=failure)
            return
        if intent is None:
            self.restoring.pop(name, None)
            self.leaving.pop(name, None)
            self.slots.pop(name, None)
            return
        if self.desired.get(name) != intent:
            return
        if "missing" in intent.storage_uri:
            failure = CopyFailure(stage=FailureStage.STORAGE, reason=ARTIFACT_NOT_FOUND, message="missing")
            self._report(name, target=intent.copy_id, phase=CopyPhase.WAITING, failure=failure)
            return
        revision = self.fetched[name]
        if intent.action is not Action.LOAD:
            told = {"phase": CopyPhase.SEEN, "listed_revision": revision}
            if intent.action is Action.PULL:
                told = {"phase": CopyPhase.PULLED, "target_revision": revision}
            size = self.size(intent.copy_id) // 2
            self._report(name, target=intent.copy_id, failure=None, artifact_bytes=size, **told)
            return
        if self.broken(intent) or revision.endswith(BROKEN):
            failure = CopyFailure(stage=FailureStage.LOAD, reason="LoadFailed", message="broken")
            told = {"phase": CopyPhase.WAITING, "failure": failure, "target_revision": revision}
            self._report(name, target=intent.copy_id, **told)
            return
        old = self.loaded.get(name)
        self.loads += not self._is_loaded(name, intent)
        self.revisions[name] = revision
        self.on_disk.add(revision)
        self.restoring.pop(name, None)
        if old is not None and old.copy_id.split(".")[0] != intent.copy_id.split(".")[0]:
            self.on_unload(self, name, old.copy_id)
        self.loaded[name] = intent
        self.used.pop(name, None)
        self._report(
            name,
            serving=intent.copy_id,
            target=intent.copy_id,
            phase=CopyPhase.LOADED,
            failure=None,
            target_revision=None,
            artifact_bytes=self.size(intent.copy_id) // 2,
        )

    def _is_loaded(self, name: str, intent: CopyIntent) -> bool:
        """Just that is loaded, by another copy id."""
        old = self.loaded.get(name)
        same = old is not None and old.storage_uri == intent.storage_uri
        same = same and old is not None and old.copy_id.split(".")[0] == intent.copy_id.split(".")[0]
        return same and self.revisions[name] == self.fetched[name]

    def _revision(self, name: str, intent: CopyIntent) -> str:
        """What it fetches: what the storage holds, but for what its server has lost, and what it is to keep."""
        lost = self.restoring.get(name)
        if lost is not None and lost[0] == intent.copy_id:
            return lost[1]
        return intent.revision if intent.revision in self.on_disk else self.storage(intent.storage_uri)

    def _report(self, name: str, **changes: object) -> None:
        held = self.slots.get(name) or SlotReport(name=name, phase=CopyPhase.WAITING)
        self.slots[name] = held.model_copy(update=changes)


def _done(slot: SlotReport, intent: CopyIntent) -> bool:
    """Looked up, or pulled, as far as the intent goes."""
    phases = {Action.STAT: (CopyPhase.SEEN, CopyPhase.PULLED), Action.PULL: (CopyPhase.PULLED,), Action.LOAD: ()}
    return slot.phase in phases[intent.action]


@dataclass
class SimEnvoy:
    """One Envoy: applies an operator's route changes in order, late; a new operator's first sync replaces the table."""

    table: dict[tuple[ServiceKey, str], RouteChanged] = field(default_factory=dict)
    pending: list[RouteChanged] = field(default_factory=list)
    fresh: bool = True  # the next changes are a first sync
    sequence: int = 0

    def reconnect(self) -> None:
        self.pending, self.fresh, self.sequence = [], True, 0

    def apply(self) -> int:
        """Apply what is pending; returns the sequence to acknowledge."""
        if self.fresh:
            self.table, self.fresh = {}, False
        for change in self.pending:
            assert change.sequence > self.sequence, "route changes out of order"
            self.sequence = change.sequence
            if change.pods or change.unavailable:
                self.table[change.service, change.model] = change
            else:
                self.table.pop((change.service, change.model), None)
        self.pending = []
        return self.sequence

    def routes_to(self, pod_uid: str, name: str) -> bool:
        return any(model == name and pod_uid in change.pods for (_, model), change in self.table.items())
