"""A user who finds an update broken goes back to what was there: the model never left, and says so again."""

from shoal_api.messages import CopyPhase, content_digest, copy_id
from shoal_operator.state.owners.project import model_view
from shoal_operator.state.world import events

from .world_in_hand import KEY, MI, Hand, failure, model_spec, slot


def test_a_broken_update_that_is_taken_back_is_not_tried_any_more() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    good = copy_id("uid-m", model_spec().content)
    broken = model_spec(storage_uri="s3://models/broken", generation=2)
    hand.do(events.ModelSeen(broken))
    other = copy_id("uid-m", content_digest("s3://models/broken", "sklearn"))
    assert hand.desired() == {"m": other}
    hand.report("pod-1", slot("m", good, target=other, phase=CopyPhase.WAITING, failure=failure()))
    assert hand.route() == {"pod-1"}

    hand.do(events.ModelSeen(model_spec(generation=3)))
    assert hand.desired() == {"m": good}
    hand.loaded("pod-1")
    view = model_view(hand.world, KEY, hand.now, url="http://svc")
    assert view is not None
    assert not view.update_blocked
    assert view.refusal is None
    assert [copy.failure for copy in view.copies] == [None]
    assert hand.route() == {"pod-1"}
    assert hand.world.pods["pod-1"].committed == 10 * MI, "one content is in memory, and counted once"


def test_it_stays_on_its_pod_when_there_are_others() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
    home = hand.pod_of()
    (other,) = {"pod-1", "pod-2"} - {home}
    hand.do(events.ModelSeen(model_spec(storage_uri="s3://models/broken", generation=2)))
    hand.do(events.ModelSeen(model_spec(generation=3)))
    assert hand.desired(home) == {"m": copy_id("uid-m", model_spec().content)}
    assert hand.desired(other) == {}, "nothing is loaded a second time"


def test_what_is_wanted_again_while_it_is_being_restored_may_make_way_later() -> None:
    """It was no longer counted among what answers, so nobody could have had its place, for good."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    good = copy_id("uid-m", model_spec().content)
    hand.report("pod-1", slot("m", None, target=good, phase=CopyPhase.WAITING))  # its server has restarted
    hand.do(events.ModelSeen(model_spec(storage_uri="s3://models/other", generation=2)))
    hand.report("pod-1", slot("m", good))  # its agent had not heard of the update yet
    hand.do(events.ModelSeen(model_spec(generation=3)))
    assert list(hand.world.pods["pod-1"].lru) == ["m"]


def test_an_agent_that_knows_nothing_of_it_yet_frees_nothing() -> None:
    """It was told of the update, and of its being taken back; what it said before it knew of either comes late. By then
    it may load what was wanted between, so that is charged until it says what it holds, knowing what is wanted."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    pod, old = hand.world.pods["pod-1"], hand.desired()["m"]
    known = pod.desired.version
    hand.do(events.ModelSeen(model_spec(generation=2, storage_uri="s3://models/new", content="new")))
    assert hand.desired()["m"] != old
    hand.do(events.ModelSeen(model_spec(generation=3)))
    assert hand.desired()["m"] == old
    late = slot("m", old, held_bytes=10 * MI)
    hand.report("pod-1", late, desired_version=known)
    assert pod.committed == 20 * MI
    hand.report("pod-1", late)
    assert pod.committed == 10 * MI
