"""When pods are replaced for claims, and when not; by a clock of our own."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from shoal_operator.manifests.volume_claims import MAX_CLAIMS, Declared, Mounting, Noted
from shoal_operator.state.world.values import ModelKey
from shoal_operator.volume_claims.admission import (
    BATCH_SECONDS,
    INTERVAL_SECONDS,
    LOOK_UP_SECONDS,
    MAX_LOOKED_AT,
    TRIAL_SECONDS,
    TURN_SECONDS,
    WITHDRAWN_SECONDS,
    Wishes,
)
from shoal_operator.volume_claims.claim import MISSING, UNREADABLE, Claim

SHARED = Claim(modes=frozenset({"ReadWriteMany"}), version="1")
ONE_NODE = Claim(modes=frozenset({"ReadWriteOnce"}), version="1")
RUNNING = Noted(there=True, template="t", pods=2, works=True, rolled_out=True)


class Service:
    """An InferenceService, whose Deployment does at once what it is told, and whose pods start at ``roll``."""

    def __init__(self, noted: Noted = RUNNING, *, listed: bool = True) -> None:
        self.wishes, self.known, self.now, self.listed = (
            Wishes(exists=True, noted=noted),
            dict[str, Claim](),
            100.0,
            listed,
        )
        self.replaced = 0
        self.again: float | None = None

    def name(self, *claims: str, seen: Claim | None = SHARED) -> "Service":
        for claim in claims:
            self.wishes.named.setdefault(claim, {})[ModelKey("ns", f"on-{claim}")] = None
            if seen is not None:
                self.known[claim] = seen
        return self.look()

    def unname(self, claim: str) -> "Service":
        del self.wishes.named[claim]
        return self.look()

    def see(self, claim: str, seen: Claim) -> "Service":
        self.known[claim] = seen
        return self.look()

    def look(self) -> "Service":
        self.again = self.wishes.review(self.known, self.now, listed=self.listed)
        noted = self.wishes.noted
        claims = self.wishes.mounting(noted).claims(noted.template)
        if noted.there and claims != noted.claims:
            self.replaced += 1
            proven = tuple(claim for claim in claims if claim in self.wishes.proven)
            self.wishes.noted = replace(noted, claims=claims, works=False, rolled_out=not noted.pods, proven=proven)
            self.again = self.wishes.review(self.known, self.now, listed=self.listed)
        return self

    def roll(self) -> "Service":
        self.wishes.noted = replace(self.wishes.noted, works=True, rolled_out=True)
        self.look()
        self.wishes.noted = replace(self.wishes.noted, proven=tuple(sorted(self.wishes.proven)))
        return self.look()

    def scale(self, pods: int) -> "Service":
        self.wishes.noted = replace(self.wishes.noted, pods=pods, works=False, rolled_out=not pods)
        return self.look()

    def restart(self) -> "Service":
        """Another operator takes over, which knows what is noted, and looks everything up."""
        again = Service(self.wishes.noted)
        again.now, again.known = self.now, self.known
        again.wishes.named, again.wishes.declared = self.wishes.named, self.wishes.declared
        return again.look()

    def wait(self, seconds: float) -> "Service":
        """As the timer that was asked for would have it."""
        end = self.now + seconds
        while self.again is not None and self.again <= end:
            self.now = max(self.now, self.again)
            self.look()
        self.now = end
        return self

    @property
    def mounted(self) -> Sequence[str]:
        return self.wishes.noted.claims

    def reason(self, claim: str) -> str:
        found = self.wishes.word(claim, self.known, self.now)
        return found.reason if found is not None else ""


def test_many_named_together_replace_pods_once() -> None:
    service = Service()
    for number in range(10):
        service.name(f"c{number}").wait(BATCH_SECONDS / 20)
    assert (service.mounted, service.reason("c0")) == ((), "MountingClaim")
    service.wait(BATCH_SECONDS)
    assert (len(service.mounted), service.replaced) == (10, 1)
    assert service.reason("c0") == "MountingClaim", "while pods are being replaced"
    assert service.roll().reason("c0") == ""


def test_pods_that_come_and_go_are_no_news() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll()
    service.wishes.noted = replace(service.wishes.noted, works=False, rolled_out=False)
    assert service.look().reason("a") == "", "they mount it as soon as they are there"


def test_pods_are_replaced_at_a_bounded_rate() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll()
    for number in range(30):
        service.name(f"c{number % 10}").wait(1).roll()
    assert service.replaced == 1
    service.wait(INTERVAL_SECONDS).roll().wait(10 * INTERVAL_SECONDS)
    assert (service.replaced, len(service.mounted)) == (2, 11)


def test_the_first_pod_waits_for_no_claim_that_might_keep_it_from_starting() -> None:
    service = Service(Noted()).name("a").wait(600)
    assert (service.wishes.admitted, service.reason("a")) == ((), "MountingClaim")
    service = Service(replace(RUNNING, pods=0, works=False)).name("a").wait(600)
    assert (service.mounted, service.reason("a")) == ((), "MountingClaim")
    service.scale(1).wait(BATCH_SECONDS)
    assert service.mounted == ("a",), "by a pod beside it"


def test_what_pods_have_started_with_is_there_from_the_first_pod() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll().scale(0).wait(600)
    assert (service.mounted, service.replaced) == (("a",), 1)
    assert service.restart().scale(1).wait(600).mounted == ("a",)


def test_a_claim_that_was_being_tried_when_the_pods_went_is_tried_beside_the_next_ones() -> None:
    service = Service().name("good").wait(BATCH_SECONDS).roll().wait(600).name("bad").wait(BATCH_SECONDS)
    assert service.mounted == ("bad", "good")
    assert service.scale(0).mounted == ("good",), "the first pod comes with what is known to work"
    assert service.scale(1).mounted == ("good",)
    assert service.wait(INTERVAL_SECONDS).mounted == ("bad", "good")


def test_an_operator_that_starts_in_the_middle_of_a_trial_takes_no_good_claim_out() -> None:
    service = Service().name("good").wait(BATCH_SECONDS).roll().wait(600).name("bad").wait(BATCH_SECONDS)
    again = service.restart().wait(TRIAL_SECONDS + INTERVAL_SECONDS)
    assert again.mounted == ("good",)
    assert (again.reason("good"), again.reason("bad")) == ("MountingClaim", "ClaimNotMountable")
    assert again.roll().reason("good") == ""


def test_what_was_proven_and_is_another_claim_by_now_is_not() -> None:
    service = Service().name("a", "b").wait(BATCH_SECONDS).roll().wait(600)
    service.see("a", replace(SHARED, deleting=True)).wait(BATCH_SECONDS)
    service.see("a", replace(SHARED, version="2")).wait(INTERVAL_SECONDS + BATCH_SECONDS)
    assert service.mounted == ("a", "b")
    assert service.wait(TRIAL_SECONDS + INTERVAL_SECONDS).mounted == ("b",)


def test_what_the_api_server_refuses_is_left_out_at_once_and_tried_again_later() -> None:
    service = Service().name("good").wait(BATCH_SECONDS).roll().wait(600)
    mounted = service.wishes.noted
    service.name("bad").wait(BATCH_SECONDS)
    service.wishes.noted = mounted  # and the Deployment is as it was
    service.wishes.refused({"bad"}, "policy says no", service.known, service.now)
    service.look().wait(WITHDRAWN_SECONDS - 1)
    found = service.wishes.word("bad", service.known, service.now)
    assert found is not None
    assert (found.reason, "policy says no" in found.message) == ("ClaimNotMountable", True)
    assert service.mounted == ("good",)
    service.wait(INTERVAL_SECONDS)
    assert service.mounted == ("bad", "good")


def test_pods_wait_for_a_look_at_what_is_declared_and_not_for_ever() -> None:
    service = Service(Noted())
    service.wishes.declared = Declared(("a",), (("theirs", "volume"),))
    assert service.look().wishes.undecided
    assert not service.see("a", MISSING).wishes.undecided
    service = Service(Noted())
    service.wishes.declared = Declared(("a",))
    assert service.look().wait(LOOK_UP_SECONDS - 0.1).wishes.undecided
    assert not service.wait(1).wishes.undecided
    assert not service.wait(600).wishes.undecided
    service = Service(replace(RUNNING, claims=("a",)))
    service.wishes.declared = Declared(("a",))
    assert not service.look().wishes.undecided, "pods mount it already"


def test_what_nobody_names_any_more_replaces_no_pods() -> None:
    service = Service().name("a", "b").wait(BATCH_SECONDS).roll()
    service.unname("a").wait(10 * INTERVAL_SECONDS)
    assert (service.mounted, service.replaced) == (("a", "b"), 1)
    service.name("c").wait(10 * INTERVAL_SECONDS)
    assert (service.mounted, service.replaced) == (("b", "c"), 2)


def test_what_was_mounted_and_is_named_again_is_mounted_still() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll().unname("a").wait(600)
    assert service.name("a").reason("a") == ""
    assert service.wait(600).replaced == 1


@pytest.mark.parametrize("seen", [MISSING, UNREADABLE, ONE_NODE, replace(SHARED, phase="Pending"), None])
def test_a_claim_that_is_not_as_it_should_be_replaces_no_pods_until_it_is(seen: Claim | None) -> None:
    service = Service().name("a", seen=seen).wait(600)
    assert (service.mounted, service.replaced) == ((), 0)
    assert service.reason("a").startswith("Claim" if seen is not None else "Mounting")
    service.see("a", SHARED).wait(BATCH_SECONDS)
    assert service.mounted == ("a",)


def test_what_the_inference_service_declares_counts_for_more() -> None:
    service = Service()
    service.wishes.declared = Declared(("a", "b", "c"))
    service.known = {"a": ONE_NODE, "b": replace(SHARED, phase="Pending"), "c": MISSING}
    service.look().wait(BATCH_SECONDS)
    assert service.mounted == ("a", "b")
    complaint = service.wishes.complaint(service.known)
    assert complaint is not None
    assert complaint.reason == "ClaimNotFound"


def test_what_pods_mount_by_their_own_specification_is_not_mounted_twice() -> None:
    service = Service()
    service.wishes.declared = Declared((), (("a", "volume"),))
    assert service.name("a", seen=MISSING).wait(600).mounted == ()
    assert service.reason("a") == ""


def test_a_claim_that_is_being_deleted_leaves_at_once_and_comes_back_when_it_is_there_again() -> None:
    service = Service().name("a", "b").wait(BATCH_SECONDS).roll().wait(600)
    service.see("a", replace(SHARED, deleting=True)).wait(BATCH_SECONDS)
    assert (service.mounted, service.reason("a"), service.replaced) == (("b",), "ClaimNotMountable", 2)
    service.roll().see("a", MISSING).wait(600)
    assert (service.reason("a"), service.replaced) == ("ClaimNotFound", 2)
    service.see("a", replace(SHARED, version="2")).wait(600)
    assert service.mounted == ("a", "b")


def test_one_that_nobody_names_and_that_is_gone_leaves_too_or_no_new_pod_could_start() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll().unname("a").wait(600)
    assert service.see("a", MISSING).wait(600).mounted == ()


def test_a_look_that_fails_takes_nothing_away() -> None:
    service = Service().name("a").wait(BATCH_SECONDS).roll().wait(600)
    service.see("a", UNREADABLE).wait(600)
    assert (service.mounted, service.replaced) == (("a",), 1)
    assert service.reason("a") == ""


def test_a_claim_with_which_no_pod_starts_is_taken_out_again_and_tried_ever_less_often() -> None:
    service = Service().name("good").wait(BATCH_SECONDS).roll().wait(600)
    service.name("bad").wait(BATCH_SECONDS)
    assert service.mounted == ("bad", "good")
    service.wait(TRIAL_SECONDS + BATCH_SECONDS)
    assert (service.mounted, service.reason("bad")) == (("good",), "ClaimNotMountable")
    service.roll().wait(WITHDRAWN_SECONDS + BATCH_SECONDS)
    assert service.mounted == ("bad", "good"), "tried again"
    service.wait(TRIAL_SECONDS + BATCH_SECONDS).roll().wait(WITHDRAWN_SECONDS + BATCH_SECONDS)
    assert service.mounted == ("good",), "for longer"
    service.wait(WITHDRAWN_SECONDS)
    assert service.mounted == ("bad", "good")
    assert service.roll().wait(10 * TRIAL_SECONDS).mounted == ("bad", "good"), "it starts by now"


def test_a_claim_with_which_no_pod_has_started_leaves_with_the_last_model_that_named_it() -> None:
    service = Service().name("good").wait(BATCH_SECONDS).roll().wait(600)
    service.name("bad").wait(BATCH_SECONDS).unname("bad").wait(INTERVAL_SECONDS + BATCH_SECONDS)
    assert service.mounted == ("good",)
    service.roll().name("bad").wait(INTERVAL_SECONDS).roll().unname("bad").wait(600)
    assert service.mounted == ("bad", "good"), "with this one pods have started, and it does no harm"


def test_a_withdrawn_claim_that_changes_is_tried_at_once() -> None:
    service = Service().name("bad").wait(BATCH_SECONDS + TRIAL_SECONDS + BATCH_SECONDS).roll()
    assert service.mounted == ()
    service.see("bad", replace(SHARED, version="2")).wait(INTERVAL_SECONDS)
    assert service.mounted == ("bad",)


def test_what_is_declared_or_proven_is_never_taken_out_because_pods_do_not_start() -> None:
    service = Service().name("proven").wait(BATCH_SECONDS).roll().wait(600)
    service.wishes.noted = replace(service.wishes.noted, works=False, rolled_out=False)
    assert service.look().wait(10 * TRIAL_SECONDS).mounted == ("proven",)
    service = Service(Noted(True, ("mine",), "t", 2))
    service.wishes.declared = Declared(("mine",))
    service.known["mine"] = SHARED
    assert service.look().wait(10 * TRIAL_SECONDS).mounted == ("mine",)


def test_before_all_models_were_told_of_pods_keep_what_they_mount() -> None:
    service = Service(replace(RUNNING, claims=("a", "b")), listed=False)
    assert service.name("c").wait(600).wishes.admitted == ("a", "b")
    assert service.wishes.mounting(service.wishes.noted) == Mounting(
        ("a", "b"), service.wishes.noted, frozenset({"a", "b"})
    )
    service.listed = True
    service.known |= {"a": SHARED, "b": SHARED}
    service.name("a").look().wait(BATCH_SECONDS)
    assert service.mounted == ("a", "c")


def test_what_is_mounted_and_was_not_looked_up_yet_stays() -> None:
    service = Service(replace(RUNNING, claims=("a",))).name("a", seen=None)
    assert service.wait(600).wishes.admitted == ("a",)


def test_there_is_a_bound_on_what_is_mounted_and_on_what_is_looked_at() -> None:
    service = Service()
    service.wishes.declared = Declared(("mine",))
    service.known["mine"] = SHARED
    service.name(*(f"c{number}" for number in range(100))).wait(BATCH_SECONDS)
    assert service.mounted == tuple(sorted(("mine", *(f"c{number}" for number in range(MAX_CLAIMS - 1)))))
    assert len(list(service.wishes.looked_at())) <= MAX_LOOKED_AT + MAX_CLAIMS
    service.roll()
    for claim in ("c16", "c70"):
        found = service.wishes.word(claim, service.known, service.now)
        assert found is not None
        assert (found.reason, f"mount {MAX_CLAIMS}" in found.message) == ("ClaimNotMountable", True)


def test_who_comes_after_many_that_are_not_there_is_looked_at_in_turn_and_never_told_a_lie() -> None:
    service = Service()
    typos = [f"typo{number}" for number in range(3 * MAX_LOOKED_AT)]
    service.name(*typos, seen=MISSING).name("good")
    found = service.wishes.word("good", service.known, service.now)
    assert found is not None
    assert (found.reason, "yet to be looked up" in found.message) == ("MountingClaim", True)
    for _ in range(4):
        service.wait(TURN_SECONDS)
        assert len(list(service.wishes.looked_at())) <= MAX_LOOKED_AT + MAX_CLAIMS
    service.wait(INTERVAL_SECONDS).roll()
    assert (service.mounted, service.reason("good")) == (("good",), "")
    assert {service.reason(typo) for typo in typos} == {"ClaimNotFound"}, "as it was when it was last looked at"
    service.see(typos[0], SHARED).wait(5 * TURN_SECONDS + INTERVAL_SECONDS)
    assert service.mounted == ("good", typos[0])


def test_names_of_what_is_not_there_keep_nobody_out() -> None:
    service = Service().name(*(f"typo{number}" for number in range(40)), seen=MISSING).name("good")
    assert service.wait(BATCH_SECONDS).mounted == ("good",)


def test_a_claim_that_no_pod_starts_with_keeps_no_good_one_out_for_ever() -> None:
    """Pods start with anything but "bad"."""
    service = Service().name("good", "bad")
    for _ in range(400):
        service.wait(60)
        if service.mounted and "bad" not in service.mounted:
            service.roll()
    assert "good" in service.mounted
    assert service.reason("good") == ""
    assert service.reason("bad") == "ClaimNotMountable"


def test_to_name_it_anew_is_no_way_round_the_pause() -> None:
    service = Service().name("bad")
    service.wait(BATCH_SECONDS + TRIAL_SECONDS + 2 * INTERVAL_SECONDS).roll()
    assert service.mounted == ()
    replaced = service.replaced
    for _ in range(5):
        service.unname("bad").wait(10)
        service.name("bad").wait(BATCH_SECONDS + 10)
    assert (service.mounted, service.replaced) == ((), replaced)
    service.wait(WITHDRAWN_SECONDS + 2 * INTERVAL_SECONDS)
    assert service.mounted == ("bad",)


def test_what_is_declared_is_there_from_the_first_pod_also_while_an_operator_starts() -> None:
    service = Service(Noted(), listed=False)
    service.wishes.declared = Declared(("a",))
    service.known["a"] = SHARED
    assert service.look().wishes.admitted == ("a",)
