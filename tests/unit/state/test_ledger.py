"""The ledger of a pod: whatever is done to it, its sums are those of its accounts, and nothing is forgotten."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.state.ledger import Claim, Ledger

SLOTS = st.sampled_from("abcd")
CONTENTS = st.sampled_from(("x1", "x2", "x3"))
SIZES = st.integers(0, 60)


@st.composite
def acts(draw: st.DrawFn) -> Callable[[Ledger], None]:
    kind = draw(st.sampled_from(("open", "adopt", "stray", "aim", "observe", "grant", "leave", "close")))
    slot, content, size = draw(SLOTS), draw(CONTENTS), draw(SIZES)
    contents, held = draw(st.lists(CONTENTS, max_size=2, unique=True)), draw(st.none() | SIZES)

    def act(ledger: Ledger) -> None:
        match kind, slot in ledger.accounts:
            case "open", False:
                ledger.open(slot, content, size)
            case "adopt", False if size <= ledger.room:
                ledger.adopt(slot, {content: size})
            case "stray", False:
                ledger.adopt_stray(slot, held)
            case "aim", True if ledger.growth(slot, content, size) <= ledger.room:
                ledger.aim(slot, content, size)
            case "observe", True:
                ledger.observe(slot, contents, held)
            case "grant", True:
                ledger.grant(slot)
            case "leave", True:
                ledger.leave(slot)
            case "close", True:
                ledger.close(slot)
            case _:
                pass

    return act


@given(st.lists(acts(), max_size=40))
def test_sums_are_those_of_the_accounts(done: list[Callable[[Ledger], None]]) -> None:
    ledger = Ledger(100)
    for act in done:
        act(ledger)
        accounts = ledger.accounts.values()
        by = {claim: [each for each in accounts if each.claim is claim] for claim in Claim}
        assert ledger.committed == sum(each.charged for each in accounts)
        assert ledger.outgoing == sum(each.charged for each in by[Claim.OUTGOING])
        assert ledger.promised == sum(sum(each.sizes.values()) for each in by[Claim.PROMISED])
        assert not any(each.charged for each in by[Claim.PROMISED])
        assert all(each.charged == sum(each.sizes.values()) for each in by[Claim.COMMITTED])


def test_what_is_loaded_stays_charged_until_the_agent_says_otherwise() -> None:
    ledger = Ledger(100)
    account = ledger.open("m", "old", 40)
    ledger.aim("m", "new", 10)
    assert (account.charged, ledger.room) == (50, 50)
    ledger.observe("m", ["new", "old"], None)
    assert account.charged == 50
    ledger.observe("m", ["new"], None)
    assert account.charged == 10


def test_what_leaves_keeps_its_charge_whatever_is_wanted_or_seen() -> None:
    ledger = Ledger(100)
    account = ledger.open("m", "old", 40)
    ledger.leave("m")
    ledger.aim("m", "new", 10)
    ledger.observe("m", [], None)
    assert (account.charged, ledger.outgoing, ledger.unclaimed) == (40, 40, 40)
    ledger.close("m")
    assert (ledger.committed, ledger.outgoing) == (0, 0)


def test_a_promise_takes_what_is_going_and_is_kept_when_it_is_gone() -> None:
    ledger = Ledger(100)
    ledger.open("old", "x", 80)
    ledger.leave("old")
    assert ledger.open("new", "y", 90).claim is Claim.PROMISED
    assert (ledger.committed, ledger.room, ledger.overdrawn) == (80, 10, False)
    assert not ledger.grant("new")
    ledger.close("old")
    assert ledger.grant("new")
    assert (ledger.committed, ledger.promised) == (90, 0)


def test_a_stray_of_unknown_size_takes_all_that_is_left() -> None:
    ledger = Ledger(100)
    ledger.open("m", "x", 30)
    ledger.adopt_stray("s", None)
    assert ledger.room == 0
    ledger.close("s")
    assert ledger.room == 70


def test_a_content_that_was_not_known_takes_what_the_agent_was_told() -> None:
    ledger = Ledger(100)
    account = ledger.open("m", "new", 10)
    ledger.observe("m", ["new", "old"], 45)
    assert account.sizes == {"new": 10, "old": 35}


def test_a_slot_has_one_account() -> None:
    ledger = Ledger(100)
    ledger.open("m", "x", 1)
    with pytest.raises(ValueError, match="has an account"):
        ledger.open("m", "x", 1)


def test_what_is_there_and_found_no_room_in_the_books_is_charged_first_of_all() -> None:
    """Others were adopted with more than they take: what frees their bytes pays for what really is in memory."""
    ledger = Ledger(60)
    ledger.adopt_stray("unknown", None)
    ledger.adopt_tight("m", "m.a", 20)
    assert (ledger.committed, ledger.accounts["m"].charged) == (60, 0)
    ledger.leave("m")
    ledger.close("unknown")
    assert ledger.pay() == ["m"]
    assert (ledger.committed, ledger.outgoing, ledger.accounts["m"].charged, ledger.owed) == (20, 20, 20, {})
    ledger.close("m")
    assert (ledger.committed, ledger.outgoing) == (0, 0)


def test_what_is_owed_is_paid_in_parts_and_forgotten_with_its_content() -> None:
    ledger = Ledger(60)
    for slot in ("a", "b"):
        ledger.adopt(slot, {slot: 25})
    ledger.adopt_tight("m", "m.a", 45)
    assert ledger.accounts["m"].charged == 10
    ledger.close("a")
    assert ledger.pay() == ["m"]
    assert (ledger.accounts["m"].charged, ledger.owed) == (35, {"m": ("m.a", 10)})
    assert ledger.pay() == []
    ledger.observe("m", ["m.b"], 5)
    assert (ledger.accounts["m"].charged, ledger.owed) == (5, {})


def test_a_content_that_is_known_by_another_name_costs_the_same() -> None:
    ledger = Ledger(100)
    ledger.open("m", "old", 10)
    ledger.rename("m", "old", "new")
    assert (ledger.accounts["m"].sizes, ledger.committed) == ({"new": 10}, 10)
    ledger.aim("m", "next", 20)
    ledger.rename("m", "next", "new")  # they were one and the same
    assert (ledger.accounts["m"].sizes, ledger.committed) == ({"new": 20}, 20)
    ledger.rename("m", "unknown", "other")
    assert ledger.accounts["m"].sizes == {"new": 20}
    ledger.close("m")
    assert ledger.committed == 0


def test_what_is_owed_to_a_slot_that_is_gone_is_owed_to_nobody() -> None:
    ledger = Ledger(60)
    ledger.adopt("a", {"a": 60})
    ledger.adopt_tight("m", "m.a", 45)
    ledger.close("m")
    ledger.close("a")
    assert (ledger.pay(), ledger.committed) == ([], 0)
