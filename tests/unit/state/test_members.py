"""Models by key and by InferenceService, and going through all of one's: whoever comes, moves and goes meanwhile."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.models import Models
from shoal_operator.state.world.pieces import Pieces, Task, Walk
from shoal_operator.state.world.remains import Remains
from shoal_operator.state.world.values import ModelKey, ServiceKey

from .world_in_hand import model_spec

NAMES = [f"m{number:02d}" for number in range(20)]
A, B = ServiceKey("ns", "a"), ServiceKey("ns", "b")


def key(name: str) -> ModelKey:
    return ModelKey("ns", name)


def with_models(*names: str, service: str = "a") -> Models:
    models = Models()
    for name in names:
        models[key(name)] = Model(model_spec(name, service=service))
    return models


@given(
    st.lists(st.tuples(st.sampled_from(["put", "drop", "move", "lift", "back"]), st.sampled_from(NAMES)), max_size=40)
)
def test_they_are_where_a_plain_dict_would_say(acts: list[tuple[str, str]]) -> None:
    models, plain = Models(), dict[ModelKey, ServiceKey]()
    aside = Models()  # as a rebuilt service's, before it is put back
    for index, (what, name) in enumerate(acts):
        owner = (A, B)[index % 2]
        match what:
            case "put":
                models[key(name)] = Model(model_spec(name, service=owner.name))
                plain[key(name)] = owner
            case "drop" if key(name) in plain:
                del models[key(name)]
                del plain[key(name)]
            case "move" if key(name) in plain:
                models.move(key(name), owner)
                plain[key(name)] = owner
            case "lift":
                gone = models.lift(owner)
                assert {key(each) for each in gone} == {each for each, of in plain.items() if of == owner}
                for each in list(gone):
                    found = gone.get(each)
                    assert found is not None
                    if found.spec.service_key == owner:  # else it had moved since
                        aside[key(each)] = found
                plain = {each: of for each, of in plain.items() if of != owner}
            case "back":
                here = [each for each in aside if each in plain]
                for each in here:
                    del aside[each]
                plain |= {each: aside[each].spec.service_key for each in aside}
                models.take_over(aside)
                aside = Models()
        assert set(models) == plain.keys()
        assert len(models) == len(plain)
        for owner in (A, B):
            assert list(models.of(owner)) == sorted(each for each, of in plain.items() if of == owner)
        for name_ in NAMES:
            assert (key(name_) in models) == (key(name_) in plain) == (models.get(key(name_)) is not None)


def test_what_was_lifted_is_not_there_and_leaves_nothing_once_it_is_forgotten() -> None:
    models = with_models(*NAMES)
    lifted = models.lift(A)
    assert len(lifted) == len(NAMES)
    assert key("m00") not in models
    with pytest.raises(KeyError):
        models[key("m00")]
    models[key("m01")] = Model(model_spec("m01", service="b"))
    models.forget(map(key, NAMES))
    assert models._home.keys() == {key("m01")}


class TestAWalk:
    def test_each_is_done_once_in_order(self) -> None:
        walk, done = Walk(with_models(*NAMES).of(A)), list[str]()
        while not walk.done:
            done += [each.name for each in walk.take(3)]
        assert done == NAMES

    @pytest.mark.parametrize("seed", range(30))
    def test_after_it_was_begun_again_all_are_done_once_more_and_nobody_waits_for_ever(self, seed: int) -> None:
        rng = random.Random(seed)
        models = with_models(*NAMES)
        walk = Walk(models.of(A))
        staying, since = set(NAMES), list[str]()
        for _ in range(60):
            match rng.choice(["take", "take", "take", "again", "come", "go"]):
                case "take" if not walk.done:
                    since += [each.name for each in walk.take(rng.randint(1, 6))]
                case "again" if not walk.done:
                    walk.again()
                    since = []
                case "come":
                    name = f"m{rng.randint(0, 99):02d}x"
                    models[key(name)] = Model(model_spec(name, service="a"))
                case "go":
                    name = rng.choice(sorted(staying))
                    if key(name) in models:
                        del models[key(name)]
                        staying.discard(name)
        while not walk.done:
            since += [each.name for each in walk.take(4)]
        assert staying <= set(since), "all that were there all the while"
        assert all(since.count(each) == 1 for each in staying), "and no more than once"

    def test_who_begins_it_again_all_the_time_does_not_keep_it_from_the_last(self) -> None:
        walk, done = Walk(with_models(*NAMES).of(A)), set[str]()
        for _ in range(len(NAMES)):
            done |= {each.name for each in walk.take(1)}
            walk.again()
        assert done == set(NAMES)


class Counted:
    """How many keys were asked for."""

    def __init__(self, models: Models) -> None:
        self.whole = models.of(A)
        self.most = 0

    def page(self, after: str, count: int) -> list[ModelKey]:
        found = self.whole.page(after, count)
        self.most = max(self.most, len(found))
        return found


def test_to_begin_with_all_of_them_looks_at_no_more_than_a_piece() -> None:
    pieces, whole = Pieces(size=4), Counted(with_models(*NAMES))
    pieces.new_step()
    done = pieces.begin_all(Task.ROUTES, A, whole)
    assert len(done) == 4
    assert pieces.pending(Task.ROUTES, A)
    while pieces:
        pieces.new_step()
        piece = pieces.next()
        assert piece is not None
        done += piece.items
    assert [each.name for each in done] == NAMES
    assert whole.most <= 5


def test_what_is_put_one_by_one_is_done_beside_all_of_them() -> None:
    pieces, models = Pieces(size=4), with_models(*NAMES)
    pieces.put_all(Task.ROUTES, A, models.of(A))
    pieces.put(Task.ROUTES, A, [key("zz")])
    pieces.put_all(Task.ROUTES, A, models.of(A))
    done = []
    while pieces:
        pieces.new_step()
        piece = pieces.next()
        assert piece is not None
        done += piece.items
    assert sorted(each.name for each in done) == [*NAMES, "zz"]


def test_nothing_is_pending_where_there_is_nobody() -> None:
    pieces = Pieces()
    pieces.put_all(Task.ROUTES, A, Models().of(A))
    assert not pieces


def test_remains_are_let_go_of_a_little_at_a_time() -> None:
    lifted, pods = with_models(*NAMES).lift(A), {"pod-1": object(), "pod-2": object()}
    pieces = Pieces(size=4)
    pieces.put_source(Task.REMAINS, A, Remains(lifted, pods))
    left = []
    while pieces:
        pieces.new_step()
        pieces.next()
        left.append((len(lifted), len(pods)))
    assert left == [(16, 2), (12, 2), (8, 2), (4, 2), (0, 2), (0, 1), (0, 0)]
