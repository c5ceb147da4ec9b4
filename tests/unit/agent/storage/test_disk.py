"""The account of bytes and inodes."""

import shutil
from pathlib import Path

import pytest
from shoal_agent.storage.disk import Disk, FileSystem, Reservation, Room, look

HERE = Path("/")


def disk(free: int = 500, free_inodes: int = 500, max_bytes: int = 0, used: int = 0, inodes: int = 1000) -> Disk:
    return Disk(HERE, max_bytes, lambda: used, file_system=lambda _: FileSystem(1000, free, inodes, free_inodes))


def test_a_part_of_the_file_system_stays_free() -> None:
    assert disk().free() == Room(500 - 160, 500 - 60)
    assert disk(free=100).free() == Room(-60, 440)
    assert disk(inodes=0).free().holds(Room(0, 1 << 40)), "a file system that does not count them"


def test_a_bound_of_our_own_is_what_counts_where_it_is_set() -> None:
    assert disk(free=0, max_bytes=300, used=100).free().bytes == 200


def test_how_much_stays_free_is_said() -> None:
    made = Disk(HERE, 0, lambda: 0, keep_free=0.25, file_system=lambda _: FileSystem(1000, 270, 0, 0))
    assert (made.free().bytes, made.surplus().bytes) == (20, 20)


@pytest.mark.parametrize(
    ("free", "free_inodes", "surplus"),
    [(200, 100, Room(0, 0)), (190, 100, Room(10, 0)), (200, 90, Room(0, 10))],
)
def test_when_it_fills_up(free: int, free_inodes: int, surplus: Room) -> None:
    assert disk(free, free_inodes).surplus() == surplus


def test_what_lands_is_not_counted_twice() -> None:
    found = FileSystem(1000, 500, 1000, 500)
    made = Disk(HERE, 0, lambda: 0, file_system=lambda _: found)
    first, second = Reservation(made), Reservation(made)
    first.add(Room(300, 10))
    assert made.free() == Room(40, 430)
    found = FileSystem(1000, 300, 1000, 500)
    first.landed(Room(200, 0))
    assert made.free() == Room(40, 430)
    second.add(Room(40, 0))
    first.landed(Room(999, 0))
    assert made.reserved == Room(40, 10), "no more than was reserved"
    first.end()
    second.end()
    assert made.reserved == Room(0, 0)


def test_a_file_system_says_bytes_and_inodes_as_df_does(tmp_path: Path) -> None:
    found, told = look(tmp_path), shutil.disk_usage(tmp_path)
    assert found.bytes == told.total
    assert abs(found.free_bytes - told.free) < 0.1 * told.total, "others write there meanwhile"
    assert found.free_inodes <= found.inodes
