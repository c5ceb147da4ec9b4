"""A TrainedModel and an InferenceService's own model of one name."""

from dataclasses import replace
from itertools import permutations

import pytest
from shoal_operator.state.world.events import Event, ModelGone, ModelSeen
from shoal_operator.state.world.values import ModelKey, ModelSpec, Source
from shoal_operator.watch.claims import Claims

KEY = ModelKey("ns", "m")


def spec(source: Source, created: int) -> ModelSpec:
    service = "shop" if source is Source.TRAINED_MODEL else "m"
    uid = f"{source}-{created}"
    return ModelSpec("ns", "m", uid, 1, service, "s3://b/m", "sklearn", 1, "c", source=source, created=created)


class Names:
    """The claims, and the world as their events make it."""

    def __init__(self) -> None:
        self.holder: ModelSpec | None = None
        self.told: list[tuple[Source, ModelKey]] = []
        self.claims = Claims(self._handle, lambda key: self.holder, lambda *lost: self.told.append(lost))

    def _handle(self, event: Event) -> None:
        if isinstance(event, ModelSeen):
            assert self.holder is None or self.holder.uid == event.spec.uid, "two models of one name"
            self.holder = event.spec
        elif isinstance(event, ModelGone) and self.holder is not None and self.holder.uid == event.uid:
            self.holder = None

    def seen(self, *specs: ModelSpec) -> "Names":
        for each in specs:
            self.claims.seen(ModelSeen(each))
        return self


TRAINED, OWN = Source.TRAINED_MODEL, Source.INFERENCE_SERVICE


@pytest.mark.parametrize("order", list(permutations((0, 1))))
@pytest.mark.parametrize(("trained", "own", "winner"), [(1, 2, TRAINED), (2, 1, OWN), (1, 1, OWN)])
def test_the_older_has_it_in_whatever_order_they_are_seen(
    order: tuple[int, int], trained: int, own: int, winner: Source
) -> None:
    both = (spec(TRAINED, trained), spec(OWN, own))
    names = Names().seen(*(both[place] for place in order))
    assert names.holder is not None
    assert names.holder.source is winner
    loser = OWN if winner is TRAINED else TRAINED
    assert names.claims.refused(winner, KEY) is None
    refused = names.claims.refused(loser, KEY)
    assert refused is not None
    assert refused.problem is not None
    assert refused.problem.reason == "NameTaken"
    assert f"{winner} m in namespace ns is older" in refused.problem.message
    assert names.told[-1] == (loser, KEY)


@pytest.mark.parametrize("first", [TRAINED, OWN])
def test_who_waited_has_it_once_the_other_is_gone(first: Source) -> None:
    second = OWN if first is TRAINED else TRAINED
    names = Names().seen(spec(first, 1), spec(second, 2))
    names.claims.gone(first, KEY, f"{first}-1")
    assert names.holder is not None
    assert names.holder.source is second
    assert names.claims.refused(second, KEY) is None


def test_who_waits_may_go_and_come_back() -> None:
    names = Names().seen(spec(TRAINED, 1), spec(OWN, 2))
    names.claims.gone(OWN, KEY, "InferenceService-2")
    assert names.holder == spec(TRAINED, 1)
    names.seen(spec(OWN, 3))
    assert names.holder == spec(TRAINED, 1)
    assert names.claims.refused(OWN, KEY) is not None


def test_an_edit_of_who_waits_changes_nothing_but_its_own_status() -> None:
    names = Names().seen(spec(TRAINED, 1), spec(OWN, 2))
    names.seen(replace(spec(OWN, 2), storage_uri="s3://b/other"))
    assert names.holder == spec(TRAINED, 1)
    names.claims.gone(TRAINED, KEY, "TrainedModel-1")
    assert names.holder is not None
    assert names.holder.storage_uri == "s3://b/other"


def test_the_end_of_another_object_of_that_name_is_nobodys() -> None:
    names = Names().seen(spec(OWN, 2))
    names.claims.gone(OWN, KEY, "another")
    names.claims.gone(TRAINED, KEY, "another")
    assert names.holder == spec(OWN, 2)


def test_one_that_nobody_registered_makes_way_for_either() -> None:
    names = Names()
    names.holder = spec(Source.PREFIX, 0)
    names.seen(spec(OWN, 5))
    assert names.holder is not None
    assert names.holder.source is OWN
    assert names.claims.refused(OWN, KEY) is None
    names.claims.gone(OWN, KEY, f"{OWN}-5")
    assert names.holder is None, "and does not come back by itself"
