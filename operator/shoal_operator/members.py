"""InferenceServices of deploymentMode ModelMesh with a model of their own: models on their runtime's pods.

A ServingRuntime's pods in a namespace are a group (``manifests.groups``), which is there while a model needs it. Which
runtime a model gets is decided for all that ask for the same at once, so that a runtime's edit costs what changes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from .manifests.groups import GroupSettings, group_key, group_object
from .manifests.runtimes import Asked, Runtime, choose
from .state.world.events import ModelSeen
from .state.world.values import ModelKey, Problem, ServiceKey, Source
from .watch.claims import Claims
from .workloads import WorkloadController

GRACE_SECONDS = 60.0
"""How long a group's pods stay once no model needs them, as ModelMesh's."""
AT_ONCE = 100
"""Models that are told anew before others get the event loop."""


@dataclass(slots=True)
class _Member:
    uid: str
    asked: Asked
    event: ModelSeen  # without its service
    group: ServiceKey | None = None  # the last that it had


@dataclass(slots=True)
class _Choice:
    """What all get that ask for the same."""

    chosen: tuple[str, str] | Problem  # namespace (empty: the cluster's) and name of a runtime, or why there is none
    members: dict[ModelKey, None]


class Members:
    """Handlers return at once; ``workloads`` makes the pods, ``claims`` hands the models on."""

    def __init__(
        self,
        workloads: WorkloadController,
        claims: Claims,
        settings: GroupSettings,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._workloads = workloads
        self._claims = claims
        self._settings = settings
        self._call_later = call_later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._members: dict[ModelKey, _Member] = {}
        self._choices: dict[Asked, _Choice] = {}
        self._needed: dict[ServiceKey, int] = {}  # by how many models
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        self._runtime_of: dict[ServiceKey, tuple[str, str]] = {}
        self._again: deque[ModelKey] = deque()
        self._open = False

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._members

    def seen(self, event: ModelSeen, asked: Asked) -> None:
        """An InferenceService of that kind, as it is now."""
        key = event.spec.key
        member = self._members.get(key)
        if member is not None and member.uid != event.spec.uid:
            self.gone(key, member.uid)
            member = None
        if member is None:
            member = self._members[key] = _Member(event.spec.uid, asked, event)
        elif member.asked != asked:
            self._leave_choice(key, member)
        member.asked, member.event = asked, event
        if self._open:
            self._choice(asked).members[key] = None
            self._tell(key, member)

    def gone(self, key: ModelKey, uid: str) -> None:
        """It is no more, or of that kind no more."""
        member = self._members.get(key)
        if member is None or member.uid != uid:
            return
        del self._members[key]
        self._leave_choice(key, member)
        self._claims.gone(Source.INFERENCE_SERVICE, key, uid)
        self._need(member.group, -1)

    def runtime_changed(self, namespace: str, name: str, runtime: Runtime | None) -> None:
        """A ServingRuntime, or with an empty namespace a ClusterServingRuntime, as it is now; None: it is gone."""
        if runtime is None:
            self._runtimes.pop((namespace, name), None)
        else:
            self._runtimes[namespace, name] = runtime
        if not self._open:
            return
        for group, of in list(self._runtime_of.items()):
            if of == (namespace, name):
                self._make(group)
        for asked, choice in list(self._choices.items()):
            if namespace in ("", asked.namespace):
                chosen = self._choose(asked)
                if chosen != choice.chosen:
                    choice.chosen = chosen
                    self._again.extend(choice.members)
        self._go_on()

    def runtimes_listed(self) -> None:
        """All runtimes that there are have been seen: until then nothing is chosen."""
        if self._open:
            return
        self._open = True
        for key, member in list(self._members.items()):
            self._choice(member.asked).members[key] = None
            self._tell(key, member)

    def _go_on(self) -> None:
        for _ in range(min(AT_ONCE, len(self._again))):
            key = self._again.popleft()
            member = self._members.get(key)
            if member is not None:
                self._tell(key, member)
        if self._again:
            self._call_later(0.0, self._go_on)

    def _tell(self, key: ModelKey, member: _Member) -> None:
        """Let the state know of the model, on the pods that it gets."""
        chosen, spec, former = self._choice(member.asked).chosen, member.event.spec, member.group
        if isinstance(chosen, Problem):
            # Where it has been, it stays: an edit that cannot be changes what is said, and nothing else.
            spec = replace(spec, service=former.name if former is not None else "", problem=spec.problem or chosen)
        else:
            member.group = group_key(key.namespace, chosen[1])
            spec = replace(spec, service=member.group.name)
            if member.group != former:
                self._runtime_of[member.group] = chosen
                self._need(member.group, +1)
            elif self._runtime_of[member.group] != chosen:
                self._runtime_of[member.group] = chosen  # the namespace's own has come, or gone
                self._make(member.group)
        self._claims.seen(replace(member.event, spec=spec))
        if member.group != former:
            self._need(former, -1)

    def _choice(self, asked: Asked) -> _Choice:
        choice = self._choices.get(asked)
        if choice is None:
            choice = self._choices[asked] = _Choice(self._choose(asked), {})
        return choice

    def _choose(self, asked: Asked) -> tuple[str, str] | Problem:
        chosen = choose(asked, self._runtimes.values(), many=True)
        return chosen if isinstance(chosen, Problem) else (chosen[0].namespace, chosen[0].name)

    def _leave_choice(self, key: ModelKey, member: _Member) -> None:
        choice = self._choices.get(member.asked)
        if choice is not None:
            choice.members.pop(key, None)
            if not choice.members:
                del self._choices[member.asked]

    def _need(self, group: ServiceKey | None, by: int) -> None:
        if group is None:
            return
        before = self._needed.get(group, 0)
        self._needed[group] = before + by
        if not before:
            self._make(group)
        elif not self._needed[group]:
            self._call_later(GRACE_SECONDS, lambda: self._release(group))

    def _make(self, group: ServiceKey) -> None:
        runtime = self._runtimes.get(self._runtime_of[group])
        if runtime is not None and not runtime.problem:
            self._workloads.inference_service_seen(group_object(group.namespace, runtime, self._settings))

    def _release(self, group: ServiceKey) -> None:
        if self._needed.get(group) == 0:
            del self._needed[group]
            del self._runtime_of[group]
            self._workloads.released(group)
