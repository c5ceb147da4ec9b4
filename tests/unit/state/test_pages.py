"""A namespace's models, a page at a time: each once, in order, of the InferenceService asked for."""

from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.state.owners.pages import page
from shoal_operator.state.world.entities import Model, World
from shoal_operator.state.world.values import ModelKey

from .world_in_hand import model_spec


@given(
    owners=st.dictionaries(st.text("abc-", min_size=1, max_size=4), st.sampled_from(["s1", "s2"]), max_size=30),
    limit=st.integers(1, 7),
    service=st.sampled_from([None, "s1", "s2", "none"]),
)
def test_pages_give_every_model_once_and_in_order(owners: dict[str, str], limit: int, service: str | None) -> None:
    world = World()
    for name, owner in owners.items():
        for namespace in ("ns", "other"):
            world.models[ModelKey(namespace, name)] = Model(model_spec(name, namespace=namespace, service=owner))
    found: list[str] = []
    more = True
    while more:
        keys, more = page(world, "ns", service, found[-1] if found else "", limit)
        assert all(key.namespace == "ns" for key in keys)
        assert len(keys) == limit or not more
        found += [key.name for key in keys]
    assert found == sorted(name for name, owner in owners.items() if service in (None, owner))


def test_a_page_that_holds_all_that_there_are_is_the_last() -> None:
    world = World()
    for name in ("a", "b"):
        world.models[ModelKey("ns", name)] = Model(model_spec(name))
    assert [page(world, "ns", None, "", limit)[1] for limit in (1, 2, 3)] == [True, False, False]
