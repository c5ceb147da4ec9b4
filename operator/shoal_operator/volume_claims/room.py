"""Brings together which models lie on which claims, how these are, and what pods mount. For the event loop.

The work that one model's change makes does not grow with the number of models: who lies on a claim is counted by
InferenceService and claim, and told in pages when the claim's matter changes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from shoal_api.claim_uri import CLAIM_NOT_MOUNTED
from shoal_api.storage_uri import claim_of

from shoal_operator.kube import KubeApi
from shoal_operator.manifests.volume_claims import Declared, Mounting, Noted
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.events import Event, Kind, Listed, ModelGone, ModelSeen, Reachable
from shoal_operator.state.world.values import ModelKey, Problem, ServiceKey
from shoal_operator.state.world.views import ModelView

from .admission import Wishes
from .claim import Claim
from .reader import ClaimReader, Place

log = logging.getLogger(__name__)

PAGE = 100


@dataclass(frozen=True, slots=True)
class _Said:
    """What whoever makes the pods was told of last."""

    admitted: tuple[str, ...] = ()
    leave: bool = False
    proven: frozenset[str] = frozenset()
    undecided: bool = False
    complaint: Problem | None = None


class VolumeClaims:
    """``world``: takes events in. ``model``: one that is in it. ``told``: of a model whose status may say something
    else of its claim by now."""

    def __init__(
        self,
        api: KubeApi,
        world: Callable[[Event], None] = lambda event: None,
        model: Callable[[ModelKey], Model | None] = lambda key: None,
        told: Callable[[ModelKey], None] = lambda key: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world, self._model, self._told, self._clock = world, model, told, clock
        self._on_change: Callable[[ServiceKey], None] = lambda service: None
        self._reader = ClaimReader(api, self._interest, self._claim_changed, clock)
        self._wishes: dict[ServiceKey, Wishes] = {}
        self._of: dict[ModelKey, tuple[ServiceKey, frozenset[str]]] = {}
        self._words: dict[ServiceKey, dict[str, Problem | None]] = {}
        self._said: dict[ServiceKey, _Said] = {}
        self._timers: dict[ServiceKey, asyncio.TimerHandle] = {}
        self._to_list = {Kind.MODEL, Kind.SERVICE}  # whose objects are models

    def connect(self, on_change: Callable[[ServiceKey], None]) -> "VolumeClaims":
        """``on_change``: told of an InferenceService whose pods are to mount other claims, or that has another
        complaint."""
        self._on_change = on_change
        return self

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._reader.run()
        finally:
            for timer in self._timers.values():
                timer.cancel()

    # What is heard.

    def handle(self, event: Event) -> None:
        """An event for the world, of which this room hears afterwards."""
        self._world(event)
        match event:
            case ModelSeen(spec):
                self._model_changed(spec.key, event)
            case ModelGone(key):
                self._model_changed(key, None)
            case Listed(kind) if kind in self._to_list:
                self._to_list.discard(kind)
                if not self._to_list:
                    for service in list(self._wishes):
                        self._review(service)

    def service_seen(self, service: ServiceKey, declared: Declared, noted: Noted) -> Problem | None:
        """What an InferenceService says itself, and what its Deployment does. Why a claim that it declares is not
        mounted."""
        wishes = self._wishes.setdefault(service, Wishes())
        if (wishes.exists, wishes.declared, wishes.noted) != (True, declared, noted):
            wishes.exists, wishes.declared, wishes.noted = True, declared, noted
            self._review(service)
        return wishes.complaint(self._known(service))

    def service_gone(self, service: ServiceKey) -> None:
        """Its pods go. Models that name it stay."""
        wishes = self._wishes.pop(service, None)
        self._words.pop(service, None)
        self._said.pop(service, None)
        if (timer := self._timers.pop(service, None)) is not None:
            timer.cancel()
        if wishes is not None and wishes.named:
            self._wishes[service] = Wishes(named=wishes.named)

    # What is said.

    def mounting(self, service: ServiceKey, noted: Noted) -> Mounting:
        """What its pods are to mount, where its Deployment says ``noted``."""
        wishes = self._wishes.setdefault(service, Wishes())
        self.service_seen(service, wishes.declared, noted)
        return self._wishes[service].mounting(noted)

    def undecided(self, service: ServiceKey) -> bool:
        """What the InferenceService declares is being looked up, and its pods are to be made once that is known, which
        whoever makes them is told soon."""
        wishes = self._wishes.get(service)
        return wishes is not None and wishes.undecided

    def refused(self, service: ServiceKey, claims: Collection[str], said: str) -> None:
        """The API server takes no pods that mount these claims, and takes them without. ``said``: its words."""
        wishes = self._wishes.get(service)
        if wishes is not None:
            extra = {"event": "ClaimsRefused", "service": "/".join(service), "claims": sorted(claims), "answer": said}
            log.warning("pods that mount claims of models are refused, and made without them", extra=extra)
            wishes.refused(claims, said, self._known(service), self._clock())
            self._review(service)

    def explained(self, view: ModelView) -> ModelView:
        """A model whose agent says that its claim is not mounted: why not."""
        failure = view.failure
        if failure is None or failure.reason != CLAIM_NOT_MOUNTED:
            return view
        service, claim = view.spec.service_key, claim_of(view.spec.storage_uri)
        wishes = self._wishes.get(service)
        word = wishes.word(claim, self._known(service), self._clock()) if wishes is not None and claim else None
        if word is None:
            return view
        return replace(view, failure=failure.model_copy(update={"reason": word.reason, "message": word.message}))

    # Inside.

    def _model_changed(self, key: ModelKey, seen: ModelSeen | None) -> None:
        """Which claims it needs: for what it is to be, and for what it was when it last worked. ``seen``: what counts
        while its InferenceService is out of the world."""
        known = self._model(key) or seen
        now: tuple[ServiceKey, frozenset[str]] | None = None
        if known is not None:
            good = (known.last_good.storage_uri,) if known.last_good is not None else ()
            claims = frozenset(filter(None, map(claim_of, (known.spec.storage_uri, *good))))
            now = (known.spec.service_key, claims) if claims else None
        before = self._of.get(key)
        if before == now:
            return
        if before is not None:
            del self._of[key]
            self._unname(key, *before)
        if now is not None:
            self._of[key] = now
            named = self._wishes.setdefault(now[0], Wishes()).named
            new = now[1] - named.keys()
            for claim in sorted(now[1]):
                named.setdefault(claim, {})[key] = None
            if new:
                self._review(now[0])

    def _unname(self, key: ModelKey, service: ServiceKey, claims: Iterable[str]) -> None:
        wishes = self._wishes[service]
        for claim in claims:
            wishes.named[claim].pop(key, None)
        gone = [claim for claim in claims if not wishes.named[claim]]
        for claim in gone:
            del wishes.named[claim]
            self._words.get(service, {}).pop(claim, None)
        if gone and wishes.exists:
            self._review(service)
        elif not wishes.exists and not wishes.named:
            del self._wishes[service]

    def _review(self, service: ServiceKey) -> None:
        wishes, known = self._wishes.get(service), self._known(service)
        if wishes is None or not wishes.exists:
            return
        if (timer := self._timers.pop(service, None)) is not None:
            timer.cancel()
        now = self._clock()
        again = wishes.review(known, now, listed=not self._to_list)
        if again is not None:
            delay = max(0.0, again - now)
            self._timers[service] = asyncio.get_running_loop().call_later(delay, self._review, service)
        if unknown := [(service.namespace, claim) for claim in wishes.looked_at() if claim not in known]:
            self._reader.look(unknown)
        self._say(service, wishes, known, now)
        said = _Said(wishes.admitted, wishes.leave, wishes.proven, wishes.undecided, wishes.complaint(known))
        if (before := self._said.setdefault(service, _Said())) != said:
            self._said[service] = said
            if (before.admitted, before.leave) != (said.admitted, said.leave):
                extra = {"event": "ClaimsToMount", "service": "/".join(service), "claims": list(wishes.admitted)}
                log.info("the claims that an InferenceService's pods are to mount for models", extra=extra)
            asyncio.get_running_loop().call_soon(self._on_change, service)

    def _say(self, service: ServiceKey, wishes: Wishes, known: dict[str, Claim], now: float) -> None:
        """Tell the models of each claim of which there is something else to say."""
        said = self._words.setdefault(service, {})
        words = {claim: wishes.word(claim, known, now) for claim in wishes.looked_at() if claim in wishes.named}
        news = [claim for claim, word in words.items() if claim in said and said[claim] != word]
        said.update(words)
        for claim in news:
            self._page(list(wishes.named[claim]), mounted=words[claim] is None)

    def _page(self, keys: list[ModelKey], *, mounted: bool) -> None:
        """Some of them, and the others once everybody else had their turn."""
        page, rest = keys[:PAGE], keys[PAGE:]
        for key in page:
            self._told(key)
        if mounted:
            self._world(Reachable(tuple(page)))
        if rest:
            asyncio.get_running_loop().call_soon(lambda: self._page(rest, mounted=mounted))

    def _known(self, service: ServiceKey) -> dict[str, Claim]:
        wishes = self._wishes.get(service)
        if wishes is None:
            return {}
        places = ((claim, (service.namespace, claim)) for claim in wishes.looked_at())
        return {claim: self._reader.known[place] for claim, place in places if place in self._reader.known}

    def _interest(self) -> Iterable[Place]:
        for service, wishes in self._wishes.items():
            for claim in wishes.looked_at() if wishes.exists else ():
                yield service.namespace, claim

    def _claim_changed(self, place: Place) -> None:
        namespace, claim = place
        for service, wishes in list(self._wishes.items()):
            if service.namespace == namespace and wishes.concerned(claim):
                self._review(service)
