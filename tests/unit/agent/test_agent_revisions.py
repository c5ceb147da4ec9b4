"""Revisions: which content a storage URI named, told of what serves and of what is next; looks that change nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from shoal_agent import slots, sync
from shoal_agent.retries import Backoff
from shoal_agent.slots import Doing, Slot, Staged
from shoal_api.messages import Action, CopyIntent, CopyPhase, SlotReport

from .worker_world import World, until

A, B = "a" * 32, "b" * 32
OLD, NEW = Staged("uid.c", "folder-a", A, 10), Staged("uid.c2", "folder-b", B, 10)


def intent(copy_id: str = "uid.c", check: int = 0, action: Action = Action.LOAD) -> CopyIntent:
    return CopyIntent(
        name="m",
        copy_id=copy_id,
        storage_uri="s3://b/m",
        framework="sklearn",
        memory_bytes=1,
        check=check,
        action=action,
    )


SERVING = Slot("m", intent(), current=OLD, live=True)
NEXT = replace(SERVING, intent=intent("uid.c2"))


@pytest.mark.parametrize(
    ("slot", "serving", "target"),
    [
        pytest.param(SERVING, A[:16], None, id="settled"),
        pytest.param(replace(SERVING, live=False), None, None, id="to be restored"),
        pytest.param(NEXT, A[:16], None, id="the next is not here yet"),
        pytest.param(replace(NEXT, upcoming=NEW), A[:16], B[:16], id="on disk"),
        pytest.param(
            replace(NEXT, upcoming=NEW, checked=True, doing=Doing.LOADING, loading=NEW), A[:16], B[:16], id="loading"
        ),
        pytest.param(replace(NEXT, upcoming=OLD, checked=True), A[:16], None, id="another's"),
        pytest.param(Slot("m", intent(), upcoming=replace(OLD, artifact="?"), checked=True), None, None, id="no key"),
    ],
)
def test_what_is_told_of_it(slot: Slot, serving: str | None, target: str | None) -> None:
    told = slots.report(slot)
    assert (told.revision, told.target_revision) == (serving, target)


def test_a_look_is_made_once_for_each_number_and_what_serves_stays_settled() -> None:
    slot = replace(SERVING, intent=intent(check=7))
    assert sync.next_step(slot, True, 0) == sync.Check(slot.intent)
    looking = slots.begin(slot, Doing.LOOKING)
    assert slots.report(looking).phase is CopyPhase.LOADED
    done = slots.looked(looking, 7, B[:16])
    told = slots.report(done)
    assert (told.phase, told.checked, told.listed_revision, told.revision) == (CopyPhase.LOADED, 7, B[:16], A[:16])
    assert sync.next_step(done, True, 1e9) == sync.REST
    assert sync.next_step(replace(done, intent=intent(check=0)), True, 1e9) == sync.REST
    again = replace(done, intent=intent(check=3))
    assert sync.next_step(again, True, 1e9) == sync.Check(again.intent)
    # What is not there yet is looked up by its pull.
    assert sync.next_step(Slot("m", intent(check=7)), True, 0) == sync.Pull(intent(check=7))


def test_a_look_that_fails_is_said_to_be_over_and_disturbs_nothing() -> None:
    slot = slots.looked(slots.begin(replace(SERVING, intent=intent(check=7)), Doing.LOOKING), 7, None)
    told = slots.report(slot)
    assert (told.phase, told.checked, told.listed_revision, told.failure) == (CopyPhase.LOADED, 7, None, None)


def test_what_was_listed_of_another_content_is_forgotten() -> None:
    slot = slots.found(slots.begin(Slot("m", intent(action=Action.STAT)), Doing.LOOKING), 5, A[:16])
    assert slots.report(slot).listed_revision == A[:16]
    other = slots.want(slot, intent("uid.other"), 0)
    assert slots.report(other).listed_revision is None


# The same with real files.


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[World]:
    world = World(folder, 1)
    world.storage.objects["k"] = b"first"
    await world.look()
    world.want("m", "k", "u")
    world.tell()
    await world.settle()
    try:
        yield world
    finally:
        await world.worker.close()


def told(world: World) -> SlotReport:
    (report,) = world.observed.everything()
    return report


def order(world: World, **changes: object) -> None:
    world.wanted["m"] = world.wanted["m"].model_copy(update=changes)
    world.tell()


async def test_an_artifact_overwritten_in_place_is_seen_by_a_look_and_served_until_another_copy_is_asked_for(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as world:
        first = told(world).revision
        world.storage.objects["k"] = b"second"
        order(world, check=5)
        await until(lambda: told(world).checked == 5)
        seen = told(world)
        assert seen.listed_revision not in (None, first)
        assert (seen.revision, seen.phase, world.server.models["m"][1]) == (first, CopyPhase.LOADED, b"first")
        listed = world.storage.listed
        order(world, check=0)
        await asyncio.sleep(0.05)
        assert world.storage.listed == listed
        order(world, copy_id="u.next")
        await world.settle()
        assert (told(world).revision, world.server.models["m"][1]) == (seen.listed_revision, b"second")


async def test_a_name_for_what_is_loaded_already_loads_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        revision, loads = told(world).revision, world.server.loads
        order(world, copy_id="u.next")
        await world.settle()
        assert (told(world).serving, told(world).revision, world.server.loads) == ("u.next", revision, loads)


async def _gone(world: World) -> None:
    del world.storage.objects["k"]


async def _broken(world: World) -> None:
    world.storage.objects["k"] = b"bad"


async def _away(world: World) -> None:
    world.storage.broken = 1.0


@pytest.mark.parametrize("trouble", [_gone, _broken, _away])
async def test_what_worked_last_is_loaded_from_the_disk_where_its_storage_holds_it_no_more(
    tmp_path: Path, trouble: Callable[[World], Awaitable[None]]
) -> None:
    async with serving(tmp_path) as world:
        first, wanted = told(world).revision, world.wanted["m"]
        world.wanted.clear()
        world.tell()
        await until(lambda: not world.worker.slots)
        await trouble(world)
        world.wanted["m"] = wanted.model_copy(update={"revision": first})
        world.tell()
        await world.settle()
        assert (told(world).revision, world.server.models["m"][1]) == (first, b"first")


async def test_what_is_on_no_disk_is_whatever_its_storage_holds(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        world.wanted.clear()
        world.tell()
        await until(lambda: not world.worker.slots)
        world.storage.objects["k"] = b"second"
        world.want("m", "k", "u")
        order(world, revision="0" * 16)
        await world.settle()
        assert world.server.models["m"][1] == b"second"


async def test_a_broken_newer_content_takes_nothing_away_and_a_restart_of_the_agent_neither(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        first = told(world).revision
        world.storage.objects["k"] = b"bad"
        order(world, copy_id="u.next")
        await until(lambda: told(world).failure is not None)
        assert (told(world).revision, world.server.models["m"][1]) == (first, b"first")
        await world.restart_agent()
        await until(lambda: told(world).failure is not None)
        assert (told(world).revision, world.server.models["m"][1]) == (first, b"first")
        world.storage.objects["k"] = b"mended"
        await world.settle()
        assert world.server.models["m"][1] == b"mended"


async def test_equal_artifacts_are_on_disk_once_and_go_with_the_last(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        world.storage.objects["k2"] = b"first"
        # Their validator is of content, as S3's is.
        world.storage.objects["k3"] = world.storage.objects["k4"] = b"0123456789abcdef0123456789abcdef"
        world.want("a", "k3", "ua")
        world.want("b", "k4", "ub")
        fetched = world.storage.fetched
        world.tell()
        await world.settle()
        counts = world.cache.counts
        assert (world.storage.fetched - fetched, counts.artifacts, counts.bytes) == (1, 2, len(b"first") + 32)
        one, other = (folder for folder in (tmp_path / "slots").iterdir() if folder.name in ("a", "b"))
        assert (one / "model.joblib").stat().st_ino == (other / "model.joblib").stat().st_ino
        del world.wanted["a"]
        world.tell()
        await world.settle()
        counts = world.cache.counts
        assert (counts.artifacts, counts.kept, world.server.models["b"][1]) == (2, 0, world.storage.objects["k4"])
        del world.wanted["b"]
        world.tell()
        await world.settle()
        await until(lambda: world.cache.counts.kept == 1)


def test_backoff_is_not_touched_by_looks() -> None:
    backoff = Backoff(initial=5, maximum=300, jitter=0)
    failed = slots.failed(NEXT, slots.FailureStage.LOAD, "Broken", "why", now=0, backoff=backoff, chance=0)
    assert sync.next_step(replace(failed, intent=intent("uid.c2", check=3)), True, 1) == sync.WaitUntil(5)
