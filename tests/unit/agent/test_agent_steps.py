"""Which step a slot takes next, by what is so and what is wanted: one row each."""

from dataclasses import replace

import pytest
from shoal_agent import sync
from shoal_agent.slots import Doing, Slot, Staged
from shoal_agent.sync import REST, Check, Forget, Load, Look, Pull, Remove, Step, Unload, WaitUntil
from shoal_api.messages import Action, CopyIntent

HERE = Staged("uid.c", "folder", "artifact", 20)
OLD = Staged("uid.old", "folder-old", "artifact-old", 10)
NOW = 100.0


def intent(copy: Staged = HERE, name: str = "m", **given: object) -> CopyIntent:
    known = {"name": name, "copy_id": copy.copy_id, "storage_uri": "s3://b/m", "framework": "sklearn"}
    return CopyIntent.model_validate({**known, "memory_bytes": 1, **given})


WANT = intent()
STAT = intent(action=Action.STAT)
PULLED = Slot("m", WANT, upcoming=HERE, checked=True)
SERVING = Slot("m", WANT, current=HERE, live=True)
LOST = replace(SERVING, live=False)


@pytest.mark.parametrize(
    ("slot", "server_ready", "step"),
    [
        # While something is under way nothing else is begun.
        *((replace(PULLED, doing=doing), True, REST) for doing in Doing if doing is not Doing.NOTHING),
        # Nothing is wanted.
        (Slot("m"), True, Forget()),
        (Slot("m", linked=True), True, Remove()),
        (Slot("m", current=OLD), True, Remove()),
        (Slot("m", upcoming=HERE), False, Remove()),
        (Slot("m", current=OLD, live=True), True, Unload()),
        (Slot("m", current=OLD, live=True), False, REST),
        (Slot("m", foreign="x"), True, Unload()),
        (Slot("m", foreign="x"), False, REST),
        (Slot("m", current=OLD, live=True, not_before=NOW + 5), True, WaitUntil(NOW + 5)),
        (Slot("m", current=OLD, live=True, not_before=NOW), True, Unload()),
        # Something is, and is not there yet.
        (Slot("m", WANT), False, Pull(WANT)),
        (Slot("m", WANT, not_before=NOW + 5), True, WaitUntil(NOW + 5)),
        (Slot("m", WANT, not_before=NOW), True, Pull(WANT)),
        (Slot("m", STAT), False, Look(STAT)),
        (Slot("m", STAT, not_before=NOW + 5), True, WaitUntil(NOW + 5)),
        (replace(PULLED, checked=False), True, Pull(WANT)),
        (PULLED, True, Load(HERE, trial=False)),
        (PULLED, False, REST),
        (replace(PULLED, suspect=True), True, Load(HERE, trial=True)),
        (replace(PULLED, not_before=NOW + 5), True, WaitUntil(NOW + 5)),
        # It serves.
        (SERVING, True, REST),
        (replace(SERVING, not_before=NOW + 5), True, REST),
        (replace(SERVING, intent=intent(check=7)), True, Check(intent(check=7))),
        (replace(SERVING, intent=intent(check=7), check_done=7), True, REST),
        (replace(SERVING, intent=intent(check=8), check_done=7), True, Check(intent(check=8))),
        (replace(SERVING, check_done=7), True, REST),
        # The server has ended, and it is to serve again.
        (LOST, True, Load(HERE, trial=False)),
        (LOST, False, REST),
        (replace(LOST, suspect=True), True, Load(HERE, trial=True)),
        (replace(LOST, not_before=NOW + 5), True, WaitUntil(NOW + 5)),
        # Something else is wanted by now: first what served, and at once.
        (replace(LOST, current=OLD), True, Load(OLD, trial=False)),
        (replace(LOST, current=OLD, suspect=True), True, Load(OLD, trial=True)),
        (replace(LOST, current=OLD, not_before=NOW + 5), True, Load(OLD, trial=False)),
        (replace(LOST, current=OLD), False, Pull(WANT)),
        (replace(SERVING, current=OLD), True, Pull(WANT)),
    ],
)
def test_the_next_step(slot: Slot, server_ready: bool, step: Step) -> None:
    assert sync.next_step(slot, server_ready, NOW) == step


def test_a_whole_list_changes_only_what_differs() -> None:
    slots = {"m": SERVING, "edited": replace(SERVING, name="edited", intent=intent(OLD, "edited")), "gone": SERVING}
    edited, new = intent(name="edited"), intent(name="new")
    changes = sync.whole_list(slots, iter([WANT, edited, new]))
    assert (changes.wanted, changes.unwanted) == ((edited, new), ("gone",))
    assert sync.whole_list({}, ()) == sync.Changes((), ())
