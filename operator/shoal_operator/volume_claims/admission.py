"""Which claims an InferenceService's pods are to mount, and from when on. Pure but for what is kept here of each.

Times in seconds, by the caller's clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from shoal_operator.manifests.volume_claims import MAX_CLAIMS, NOTHING, Declared, Mounting, Noted
from shoal_operator.state.world.values import ModelKey, Problem

from .claim import Claim, trouble

BATCH_SECONDS: Final = 2.0
"""How long a claim waits for others, so that pods are replaced once for all of them."""
INTERVAL_SECONDS: Final = 60.0
"""From one replacing of pods because of claims to the next."""
TRIAL_SECONDS: Final = 600.0
"""Within which a pod has to be ready that mounts a claim by a model's word."""
WITHDRAWN_SECONDS: Final = 600.0
LONGEST_WITHDRAWN_SECONDS: Final = 4 * 3600.0
"""For how long it is left out then: twice as long each time."""
MAX_LOOKED_AT: Final = 64
"""Claims that models of one InferenceService name, of which more are not looked at at a time."""
TURN_SECONDS: Final = 30.0
"""After which those of them that cannot be mounted make way for others."""
LOOK_UP_SECONDS: Final = 5.0
"""For how long pods wait until it is known whether what their InferenceService declares is there."""
MOUNTING: Final = "MountingClaim"
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """No pod started with it. ``version``: of the claim's object then, which may be mended. ``said``: the API server's
    words, where it was the one to refuse such pods."""

    until: float
    times: int
    version: str
    said: str = ""


@dataclass(slots=True)
class Wishes:
    """Of one InferenceService. ``exists`` False: models name one that is not there. ``named``: claims, and the models
    that lie on each, in the order in which they are looked at.

    ``admitted``: that its pods are to mount. ``leave``: what they mount and must not, so that they are replaced.
    ``proven``: with which a pod has started. ``undecided``: what it declares is being looked up, and its pods are not
    to be made anew before.
    """

    exists: bool = False
    named: dict[str, dict[ModelKey, None]] = field(default_factory=dict)
    declared: Declared = field(default_factory=Declared)
    noted: Noted = NOTHING
    admitted: tuple[str, ...] = ()
    leave: bool = False
    proven: frozenset[str] = frozenset()
    undecided: bool = False
    _waiting_since: float | None = None
    _replaced_at: float = _NEVER
    _trying_since: float | None = None
    _everywhere: frozenset[str] = frozenset()  # all pods have
    _withdrawn: dict[str, _Withdrawn] = field(default_factory=dict)
    _unknown_since: float | None = None  # what it declares
    _turned_at: float = _NEVER
    _out_of_sight: dict[str, Problem] = field(default_factory=dict)  # what was wrong with them when last looked at

    def looked_at(self) -> Iterator[str]:
        """Claims that have to be known of."""
        yield from dict.fromkeys((*self._wanted(), *self.noted.claims))

    def concerned(self, claim: str) -> bool:
        """Whether the claim may matter."""
        return claim in self.named or claim in self.declared.claims or claim in self.noted.claims

    def mounting(self, noted: Noted) -> Mounting:
        """For its pods' template, where the Deployment says ``noted``."""
        return Mounting(self.admitted, None if self.leave else noted, self.proven)

    def review(self, known: Mapping[str, Claim], now: float, *, listed: bool) -> float | None:
        """Decide anew. Returns when that has to be done again, if nothing else happens. ``known``: claims as they were
        seen last. ``listed``: all models have been told of; until then pods keep what they mount."""
        noted = self.noted
        self._everywhere = frozenset(c for c in noted.claims if noted.rolled_out or c in self._everywhere)
        again = [self._try_out(known, now), self._turn(known, now), self._look_up(known, now)]
        if not listed:
            declared = (claim for claim in self._good(known, now) if claim in self.declared.claims)
            self.admitted = noted.claims if noted.there else tuple(declared)
            return min((at for at in again if at is not None), default=None)
        good = self._good(known, now)
        waiting = [claim for claim in good if claim not in self.admitted and claim not in noted.claims]
        bad = [claim for claim in noted.claims if self._must_go(claim, known, now) or self._in_vain(claim)]
        if not noted.there or not noted.pods:
            # The first pod comes with what is sure to be mounted: with anything else it may not start, and no other
            # would answer meanwhile. The rest follows, beside it.
            waiting = [claim for claim in good if not self._is_sure(claim)]
            self._waiting_since, self.leave = None, bool(bad) or any(claim in noted.claims for claim in waiting)
        else:
            if not waiting and not bad:
                self._waiting_since = None
            elif self._waiting_since is None:
                self._waiting_since = now
            self.leave = self.leave and bool(bad)
            if waiting or (bad and not self.leave):
                since = self._waiting_since if self._waiting_since is not None else now
                at = max(since + BATCH_SECONDS, self._replaced_at + INTERVAL_SECONDS)
                if now >= at:
                    self._waiting_since, self._replaced_at, self.leave, waiting = None, now, bool(bad), []
                else:
                    again.append(at)
        self.admitted = tuple(claim for claim in good if claim not in waiting)
        again += [each.until for each in self._withdrawn.values() if each.until > now]
        return min((at for at in again if at is not None), default=None)

    def refused(self, claims: Iterable[str], said: str, known: Mapping[str, Claim], now: float) -> None:
        """The API server takes no pods that mount these, and takes them without: nobody else has to wait for that."""
        for claim in claims:
            if claim not in self.declared.claims:
                self._withdraw(claim, known, now, said)

    def word(self, claim: str, known: Mapping[str, Claim], now: float) -> Problem | None:
        """Why models on the claim are not loaded from it; None: nothing on the operator's side."""
        if claim in dict(self.declared.volumes):
            return None
        seen, there = known.get(claim), claim in self.noted.claims
        if there and not self._must_go(claim, known, now):
            return None if claim in self._everywhere else _mounting(claim)
        if claim not in self._wanted():
            full = len(self._good(known, now)) >= MAX_CLAIMS
            return _too_many(claim) if full else self._out_of_sight.get(claim) or self._yet_to_be_looked_at(claim)
        if seen is None:
            return Problem(MOUNTING, f"PersistentVolumeClaim {claim} is being looked up.")
        if (wrong := trouble(claim, seen, declared=claim in self.declared.claims)) is not None:
            return wrong
        if self._is_withdrawn(claim, known, now):
            return _left_out(claim, self._withdrawn[claim].said)
        if claim in self._good(known, now):
            return _mounting(claim)
        return _waits_its_turn(claim) if claim in self._withdrawn else _too_many(claim)

    def complaint(self, known: Mapping[str, Claim]) -> Problem | None:
        """What is wrong with a claim that the InferenceService itself declares."""
        seen = ((claim, known[claim]) for claim in self.declared.claims if claim in known)
        return next((wrong for claim, of in seen if (wrong := trouble(claim, of, declared=True)) is not None), None)

    def _wanted(self) -> dict[str, None]:
        """Those that may be mounted, the more important ones first."""
        theirs = dict(self.declared.volumes)
        named = (claim for claim in self.named if claim not in theirs)
        mounted = (claim for claim in self.noted.claims if claim in self.named and claim not in theirs)
        return dict.fromkeys((*self.declared.claims, *mounted, *islice(named, MAX_LOOKED_AT)))

    def _good(self, known: Mapping[str, Claim], now: float) -> list[str]:
        good = []
        for claim in self._wanted():
            seen = known.get(claim)
            if seen is None:
                fine = claim in self.noted.claims
            else:
                fine = trouble(claim, seen, declared=claim in self.declared.claims) is None
            if fine and not self._is_withdrawn(claim, known, now):
                good.append(claim)
        # Those with which no pod became ready are tried one by one: whoever is to blame takes no other along.
        suspects = [claim for claim in good if claim in self._withdrawn and claim not in self.proven]
        mounted = next((claim for claim in suspects if claim in self.noted.claims), None)
        trying = mounted or min(suspects, key=lambda claim: self._withdrawn[claim].until, default=None)
        return [claim for claim in good if claim not in suspects or claim == trying][:MAX_CLAIMS]

    def _must_go(self, claim: str, known: Mapping[str, Claim], now: float) -> bool:
        """While it is in the template, no new pod starts."""
        seen = known.get(claim)
        return (seen is not None and seen.readable and not seen.usable) or self._is_withdrawn(claim, known, now)

    def _in_vain(self, claim: str) -> bool:
        """No pod has started with it yet, and nobody needs it any more."""
        return not self.noted.works and claim not in self.proven and claim not in self._wanted()

    def _is_sure(self, claim: str) -> bool:
        """It keeps no pod from starting, or the InferenceService itself says that its pods are to have it."""
        return claim in self.proven or claim in self.declared.claims

    def _turn(self, known: Mapping[str, Claim], now: float) -> float | None:
        """Where models name more claims than are looked at, those that cannot be mounted make way for the others."""
        if len(self.named) <= MAX_LOOKED_AT:
            self._out_of_sight.clear()
            return None
        if now >= self._turned_at + TURN_SECONDS:
            self._turned_at = now
            for claim in list(islice(self.named, MAX_LOOKED_AT)):
                if claim not in known or claim in self.noted.claims or claim in self.declared.claims:
                    continue
                withdrawn = self._is_withdrawn(claim, known, now)
                wrong = self.word(claim, known, now) if withdrawn else trouble(claim, known[claim], declared=False)
                if wrong is not None:
                    self.named[claim] = self.named.pop(claim)
                    self._out_of_sight[claim] = wrong
            for claim in self._out_of_sight.keys() - self.named.keys():
                del self._out_of_sight[claim]
        return self._turned_at + TURN_SECONDS

    def _look_up(self, known: Mapping[str, Claim], now: float) -> float | None:
        """Whether pods are to wait for a look at what is declared; until when at most."""
        theirs = (*self.noted.claims, *dict(self.declared.volumes))
        if all(claim in known or claim in theirs for claim in self.declared.claims):
            self._unknown_since, self.undecided = None, False
            return None
        if self._unknown_since is None:
            self._unknown_since = now
        until = self._unknown_since + LOOK_UP_SECONDS
        self.undecided = now < until
        return until if self.undecided else None

    def _yet_to_be_looked_at(self, claim: str) -> Problem:
        return Problem(
            MOUNTING,
            f"PersistentVolumeClaim {claim} is yet to be looked up: models of the InferenceService name "
            f"{len(self.named)}, of which {MAX_LOOKED_AT} are looked at at a time. Put models together on fewer ones.",
        )

    def _is_withdrawn(self, claim: str, known: Mapping[str, Claim], now: float) -> bool:
        withdrawn, seen = self._withdrawn.get(claim), known.get(claim)
        if withdrawn is None or claim in self.declared.claims:
            return False
        return now < withdrawn.until and (seen is None or seen.version == withdrawn.version)

    def _try_out(self, known: Mapping[str, Claim], now: float) -> float | None:
        """Whether pods start with what they are to mount; when that is known."""
        for claim in self._withdrawn.keys() - self.named.keys() - {*self.noted.claims}:
            if self._withdrawn[claim].until <= now:  # to name it anew is no way round the pause
                del self._withdrawn[claim]
        noted = self.noted
        if noted.works:
            self.proven, self._trying_since = frozenset(noted.claims), None
            for claim in self.proven:
                self._withdrawn.pop(claim, None)
        else:  # what an operator before this one has seen counts
            self.proven = (self.proven | {*noted.proven}) & {*noted.claims}
        doubtful = [c for c in noted.claims if c not in self.proven and c not in self.declared.claims]
        doubtful = [claim for claim in doubtful if not self._is_withdrawn(claim, known, now)]
        if not doubtful or not noted.pods:
            self._trying_since = None
            return None
        if self._trying_since is None:
            self._trying_since = now
        if now < self._trying_since + TRIAL_SECONDS:
            return self._trying_since + TRIAL_SECONDS
        self._trying_since = None
        for claim in doubtful:
            self._withdraw(claim, known, now)
        return None

    def _withdraw(self, claim: str, known: Mapping[str, Claim], now: float, said: str = "") -> None:
        times = self._withdrawn[claim].times + 1 if claim in self._withdrawn else 1
        pause = min(WITHDRAWN_SECONDS * 2.0 ** (times - 1), LONGEST_WITHDRAWN_SECONDS)
        version = known[claim].version if claim in known else ""
        self._withdrawn[claim] = _Withdrawn(now + pause, times, version, said)


def _mounting(claim: str) -> Problem:
    return Problem(
        MOUNTING,
        f"Pods are replaced, one by one, by ones that mount PersistentVolumeClaim {claim}. If it lasts: kubectl "
        "describe isvc, and the events of the pods.",
    )


def _left_out(claim: str, refused: str) -> Problem:
    """``refused``: the API server's words, where it was the one."""
    why = (
        f"The API server refuses pods that mount PersistentVolumeClaim {claim}: {refused}. Others go on without it. "
        "Change the policy, or have the model lie elsewhere."
        if refused
        else f"Within {TRIAL_SECONDS / 60:.0f} min no pod became ready that mounts PersistentVolumeClaim {claim}, so "
        "pods are replaced by ones without it. See the events of the claim, of its volume and of the pods."
    )
    return Problem("ClaimNotMountable", f"{why} It is tried again later, and when the claim changes.")


def _waits_its_turn(claim: str) -> Problem:
    return Problem(
        "ClaimNotMountable",
        f"No pod became ready that was to mount PersistentVolumeClaim {claim}, perhaps for another claim's fault. Such "
        "claims are tried again one at a time, and this one waits for its turn.",
    )


def _too_many(claim: str) -> Problem:
    return Problem(
        "ClaimNotMountable",
        f"The InferenceService's pods mount {MAX_CLAIMS} PersistentVolumeClaims for models, and {claim} is one more. "
        "Put models together on fewer claims, or on other InferenceServices.",
    )
