"""All TrainedModels: by key, and by InferenceService in the order of their names.

What concerns all models of an InferenceService goes through them by pages (``Whole``), each of which begins after the
last name of the one before: nothing is copied for it, and whoever comes or goes meanwhile does no harm. And all of them
are lifted out of the world, or put into it, together, without a look at each.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sortedcontainers import SortedDict

from shoal_operator.state.world.values import ModelKey, ServiceKey

if TYPE_CHECKING:
    from shoal_operator.state.world.entities import Model


class Members:
    """The models of one InferenceService by name, in order. O(log n) to put and drop, and a move in a short list."""

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: Any = SortedDict()

    def get(self, name: str) -> "Model | None":
        found: Model | None = self._models.get(name)
        return found

    def put(self, name: str, model: "Model") -> None:
        self._models[name] = model

    def drop(self, name: str) -> "Model":
        """KeyError where there is none."""
        dropped: Model = self._models.pop(name)
        return dropped

    def popitem(self) -> tuple[str, "Model"]:
        """Take out the last."""
        found: tuple[str, Model] = self._models.popitem()
        return found

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are not there."""
        there = self._models
        return [name for name in names if name not in there]

    def page(self, after: str, count: int) -> list[str]:
        """The next names; "" for the first."""
        return list(islice(self._models.irange(after, inclusive=(False, False)), count))

    def lift(self) -> "Members":
        """All of them, of which none is left here."""
        lifted = Members()
        lifted._models, self._models = self._models, lifted._models
        return lifted

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


class Models(Mapping[ModelKey, "Model"]):
    """Written like a dict; a model belongs to the InferenceService that its spec names when it is put."""

    __slots__ = ("_home", "_of")

    def __init__(self) -> None:
        self._of: dict[ServiceKey, Members] = {}
        # Where a model is, if it is there: of what was lifted out entries stay until `forget`.
        self._home: dict[ModelKey, Members] = {}

    def get(self, key: ModelKey, default: Any = None) -> Any:
        home = self._home.get(key)
        found = home.get(key.name) if home is not None else None
        return found if found is not None else default

    def __getitem__(self, key: ModelKey) -> "Model":
        found: Model | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, ModelKey) and self.get(key) is not None

    def __iter__(self) -> Iterator[ModelKey]:
        return (ModelKey(service.namespace, name) for service, home in self._of.items() for name in home)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def __setitem__(self, key: ModelKey, model: "Model") -> None:
        self._put(key, model, model.spec.service_key)

    def __delitem__(self, key: ModelKey) -> None:
        home = self._home.get(key)
        if home is None:
            raise KeyError(key)
        home.drop(key.name)
        del self._home[key]

    def move(self, key: ModelKey, service: ServiceKey) -> None:
        """The model is that InferenceService's from now on."""
        self._put(key, self[key], service)

    def _put(self, key: ModelKey, model: "Model", service: ServiceKey) -> None:
        former, home = self._home.get(key), self._of.setdefault(service, Members())
        if former is not None and former is not home and key.name in former:
            former.drop(key.name)
        home.put(key.name, model)
        self._home[key] = home

    def of(self, service: ServiceKey) -> "Whole":
        """All that are the InferenceService's, at whatever time that is asked; whether or not it exists."""
        return Whole(self, service)

    def services(self) -> list[ServiceKey]:
        """Whose models there are."""
        return [service for service, home in self._of.items() if len(home)]

    def lift(self, service: ServiceKey) -> Members:
        """Take out all that are the InferenceService's; O(1)."""
        home = self._of.pop(service, None)
        return home.lift() if home is not None else Members()

    def forget(self, keys: Iterable[ModelKey]) -> None:
        """Nothing is left of those of them that are not there."""
        for key in keys:
            if key not in self:
                self._home.pop(key, None)

    def take_over(self, other: "Models") -> None:
        """All of another world's are here from now on; O(1) but for where they are, which is a copy of a dict."""
        self._home.update(other._home)
        for service, home in other._of.items():
            here = self._of.get(service)
            if here is None or not len(here):
                self._of[service] = home
            else:
                for name in home:
                    self._put(ModelKey(service.namespace, name), other[ModelKey(service.namespace, name)], service)


@dataclass(frozen=True, slots=True)
class Whole(Set[ModelKey]):
    """The models of one InferenceService, as they are when they are looked at."""

    models: Models
    service: ServiceKey

    def page(self, after: str, count: int) -> list[ModelKey]:
        """So many that come after that name, in order; "" for the first."""
        home = self.models._of.get(self.service)
        names = home.page(after, count) if home is not None else ()
        return [ModelKey(self.service.namespace, name) for name in names]

    def __contains__(self, key: object) -> bool:
        home = self.models._of.get(self.service)
        return (
            isinstance(key, ModelKey)
            and home is not None
            and key.namespace == self.service.namespace
            and (key.name in home)
        )

    def __iter__(self) -> Iterator[ModelKey]:
        return (ModelKey(self.service.namespace, name) for name in self.models._of.get(self.service, ()))

    def __len__(self) -> int:
        home = self.models._of.get(self.service)
        return len(home) if home is not None else 0
