"""Who has a model's name, where a TrainedModel and an InferenceService with a model of its own both want it.

A name in a namespace is one model's: it is its slot on pods, and a part of its URL. The older object has it (by
creationTimestamp; made in the same second, the InferenceService), so that what comes later takes nothing away, and an
operator that starts finds what the one before it found. Only names of InferenceServices' models are kept here.
"""

from collections.abc import Callable
from dataclasses import replace

from shoal_operator.state.world.events import Event, ModelGone, ModelSeen
from shoal_operator.state.world.values import ModelKey, ModelSpec, Problem, Source

NAME_TAKEN = "NameTaken"


class Claims:
    """``handle`` gets ModelSeen and ModelGone; ``holder`` is the world's model of a name. ``lost``: told when what is
    to be said of an object that does not have its name may have changed."""

    def __init__(
        self,
        handle: Callable[[Event], None],
        holder: Callable[[ModelKey], ModelSpec | None],
        lost: Callable[[Source, ModelKey], None],
    ) -> None:
        self._handle = handle
        self._holder = holder
        self._lost = lost
        self._claims: dict[ModelKey, dict[Source, ModelSeen]] = {}

    def seen(self, event: ModelSeen) -> None:
        """A model as it is now."""
        spec = event.spec
        if spec.source is Source.TRAINED_MODEL and spec.key not in self._claims:
            self._handle(event)
            return
        claims = self._claims.setdefault(spec.key, {})
        holder = self._holder(spec.key)
        others = (spec.source, Source.PREFIX)  # one that nobody registered makes way
        if holder is not None and holder.source not in others and holder.source not in claims:
            claims[holder.source] = ModelSeen(holder)
        claims[spec.source] = event
        self._decide(spec.key, claims, event)

    def gone(self, source: Source, key: ModelKey, uid: str) -> None:
        """The object is no more, or has no model any more."""
        claims = self._claims.get(key)
        if claims is None:
            if source is Source.TRAINED_MODEL:
                self._handle(ModelGone(key, uid))
            return
        claimed = claims.get(source)
        if claimed is None or claimed.spec.uid != uid:
            return
        del claims[source]
        self._handle(ModelGone(key, uid))
        if Source.INFERENCE_SERVICE not in claims:
            del self._claims[key]
        for waiting in list(claims.values()):
            self._handle(waiting)

    def own(self, key: ModelKey) -> ModelSpec | None:
        """What the InferenceService of that name claims."""
        claimed = self._claims.get(key, {}).get(Source.INFERENCE_SERVICE)
        return claimed.spec if claimed is not None else None

    def refused(self, source: Source, key: ModelKey) -> ModelSpec | None:
        """The model of an object that does not have its name, and why; None where it has it, or there is none."""
        claims = self._claims.get(key, {})
        claimed = claims.get(source)
        if claimed is None or (winner := _winner(claims)) is claimed:
            return None
        other = winner.spec.source
        message = (
            f"The name is taken: {other} {key.name} in namespace {key.namespace} is older, and has a model of that "
            f"name. Rename this {source}, or delete that {other}; this is noticed."
        )
        return replace(claimed.spec, problem=Problem(NAME_TAKEN, message))

    def _decide(self, key: ModelKey, claims: dict[Source, ModelSeen], event: ModelSeen) -> None:
        winner, holder = _winner(claims), self._holder(key)
        if holder is not None and holder.uid != winner.spec.uid:
            self._handle(ModelGone(key, holder.uid))
            holder = None
        if winner is event or holder is None:
            self._handle(winner)
        for source, claimed in claims.items():
            if claimed is not winner:
                self._lost(source, key)


def _winner(claims: dict[Source, ModelSeen]) -> ModelSeen:
    return min(claims.values(), key=lambda claimed: (claimed.spec.created, claimed.spec.source))
