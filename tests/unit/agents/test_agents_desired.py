"""Whatever an agent missed, the deltas that it is sent end in the operator's own list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shoal_api.messages import CopyIntent
from shoal_operator.state.world.desired import DesiredChange, DesiredList, Versions

NAMES = ("a", "b", "c", "d")


def intent(name: str, content: int = 0) -> CopyIntent:
    return CopyIntent(
        name=name,
        copy_id=f"uid-{name}.{content}",
        storage_uri=f"s3://bucket/{name}",
        framework="sklearn",
        memory_bytes=1,
    )


class Agent:
    """The receiving half of the protocol, as messages.py describes it."""

    def __init__(self) -> None:
        self.version = 0
        self.held: dict[str, CopyIntent] = {}

    def obey(self, change: DesiredChange | None) -> None:
        if change is None:
            return
        if change.base is None:
            self.held.clear()
        else:
            assert change.base == self.version
        self.held.update({i.name: i for i in change.intents})
        for name in change.gone:
            self.held.pop(name, None)  # a slot wanted and removed again between two syncs was never held
        self.version = change.version


# Changes and syncs are the rule, faults the exception.
KINDS = ["set", "remove", "sync"] * 6 + ["lose", "restart", "rebuild"]
steps_of_a_life = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, 2)), min_size=5, max_size=60
)


@settings(max_examples=400)
@given(steps=steps_of_a_life, tombstones=st.sampled_from([0, 1, 3, 100]))
def test_any_interleaving_gives_every_agent_the_same_list(steps: list[tuple[str, str, int]], tombstones: int) -> None:
    versions = Versions(epoch=3)
    desired = DesiredList(versions, max_tombstones=tombstones)
    agents: list[Agent] = [Agent() for _ in range(3)]
    last = desired.version
    for kind, name, number in steps:
        match kind:
            case "set":
                desired.set(name, intent(name, number))
            case "remove":
                desired.remove(name)
            case "sync":
                agents[number].obey(desired.since(agents[number].version))
                assert agents[number].held == {i.name: i for i in desired}
            case "lose":
                desired.since(agents[number].version)  # answered, and the answer never arrived
            case "restart":
                agents[number] = Agent()
            case "rebuild":  # a new operator, or a pod that was forgotten and seen again
                rebuilt = DesiredList(versions, max_tombstones=tombstones)
                for held in list(desired)[::2]:
                    rebuilt.set(held.name, held)
                desired = rebuilt
        assert desired.version >= last
        last = desired.version
    for agent in agents:
        agent.obey(desired.since(agent.version))
        assert agent.held == {i.name: i for i in desired}
        assert desired.since(agent.version) is None


def test_a_delta_carries_only_what_changed() -> None:
    desired = DesiredList(Versions(epoch=1))
    for number in range(1000):
        desired.set(f"m{number}", intent(f"m{number}"))
    held = desired.version
    desired.set("m7", intent("m7", 2))
    desired.remove("m8")
    change = desired.since(held)
    assert change is not None
    assert (change.base, [i.name for i in change.intents], change.gone) == (held, ["m7"], ("m8",))


def test_saying_the_same_again_is_no_change() -> None:
    desired = DesiredList(Versions())
    assert desired.set("a", intent("a"))
    version = desired.version
    assert not desired.set("a", intent("a"))
    assert not desired.remove("never-there")
    assert desired.version == version


def test_an_agent_without_a_list_is_told_that_it_is_empty() -> None:
    change = DesiredList(Versions()).since(0)
    assert change is not None
    assert change.base is None
    assert change.intents == ()


def test_forgotten_removals_cost_a_full_list() -> None:
    desired = DesiredList(Versions(), max_tombstones=1)
    for name in NAMES:
        desired.set(name, intent(name))
    held = desired.version
    desired.remove("a")
    assert desired.since(held) == DesiredChange(desired.version, held, (), ("a",))
    desired.remove("b")
    change = desired.since(held)
    assert change is not None
    assert change.base is None


def test_versions_of_an_older_operator_are_not_mistaken_for_ours() -> None:
    old = DesiredList(Versions(epoch=1))
    old.set("a", intent("a"))
    new = DesiredList(Versions(epoch=2))
    new.set("b", intent("b"))
    change = new.since(old.version)
    assert change is not None
    assert change.base is None
    assert old.since(new.version) == DesiredChange(old.version, None, (intent("a"),))


def test_a_claimed_epoch_lifts_the_versions_and_an_older_one_does_not_lower_them() -> None:
    versions = Versions(epoch=1)
    first = versions.take()
    versions.begin(5)
    second = versions.take()
    versions.begin(2)
    assert first < second < versions.take()
    assert second >> 32 == 5


def test_a_slot_takes_only_its_own_intent() -> None:
    with pytest.raises(ValueError, match="slot 'b'"):
        DesiredList(Versions()).set("b", intent("a"))
