"""Recovery tells what never reached the disk from what was lost, and cuts nothing that may have been acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
from typing import Any

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.partitions.producers import ProducerTable
from lograft.partitions.raft.points import ORIGIN, Item, Point
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.recovery import Evidence, Judgement, holds_zero_sector, judge
from lograft.partitions.storage.segment import DamagedLog
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.partitions.storage.zero_width import log_start_move
from lograft.proto.errors import NewerFormat

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    Halted,
    PowerCut,
    a_log,
    batch,
    items_of,
    points_of,
    records,
    recovered,
)

FIRST = f"{LOG_DIRECTORY}/{0:020d}.log"
P3 = Point(1, 3, 1)
P4 = Point(1, 4, 1)
BIG = 3000


async def synced_log(disk: FakeDisk, *shapes: Any, **more: Any) -> PartitionLog:
    log = await a_log(FakeEnvironment(disk), *shapes, **more)
    await log.sync()
    return log


def position_after(disk: FakeDisk, path: str, items: int) -> int:
    content = disk.names[path].cache
    position = 0
    for _ in range(items):
        position += 12 + int.from_bytes(content[position + 8 : position + 12], "big")
    return position


# -- the same boot -----------------------------------------------------------------------------------------------------


def test_after_a_mere_crash_everything_written_is_kept_and_written_again() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 1, 1, 1, config=CONFIG)
        log.append(items_of(log.end, 1, 1, 1, 1, 1, 1), 5)
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=True, config=CONFIG)
        assert again.end == log.end and not verdict.doubtful and not verdict.cut_bytes
        disk.lose_power()
        third, _ = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False, config=CONFIG)
        assert points_of(third) == points_of(log)

    asyncio.run(scenario())


def test_after_a_mere_crash_an_item_cut_short_by_the_end_of_the_file_was_never_finished() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1, 1)
        content = bytes(disk.names[FIRST].cache)
        for cut_short in range(1, len(batch(3, 1))):
            disk.put(FIRST, content + batch(3, 1)[:cut_short])
            again, verdict = await recovered(FakeEnvironment(disk), Point(1, 2, 1), same_boot=True)
            assert again.end == log.end and not verdict.doubtful and verdict.cut_bytes == cut_short
            assert bytes(disk.names[FIRST].synced) == content

    asyncio.run(scenario())


@pytest.mark.parametrize("flip", [10, 30, 63])
def test_after_a_mere_crash_any_other_flaw_is_a_doubt_that_is_durable_before_the_cut(flip: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", 1, 1, 1, 1)
        size = len(disk.names[FIRST].cache)
        disk.flip(FIRST, position_after(disk, FIRST, 3) + flip)
        sizes: list[int] = []

        async def on_doubt() -> None:
            sizes.append(len(disk.names[FIRST].cache))

        log, verdict = await PartitionLog.recover(
            FakeEnvironment(disk), "/data", PARTITION, mark=Point(1, 1, 1), same_boot=True, config=ONE_SEGMENT,
            on_doubt=on_doubt,
        )  # fmt: skip
        assert verdict.doubtful and verdict.where == log.end == Point(1, 2, 1) and sizes == [size]
        assert len(disk.names[FIRST].synced) == log.size_bytes == size - verdict.cut_bytes

    asyncio.run(scenario())


def test_zeros_are_a_doubt_while_the_page_cache_survives() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1)
        log.append([records(log.end, 1, size=BIG)], 5)
        content = disk.names[FIRST].cache
        content[1024:1536] = bytes(512)
        again, verdict = await recovered(FakeEnvironment(disk), log.journal.base, same_boot=True)
        assert verdict.doubtful and again.end == Point(1, 1, 1)

    asyncio.run(scenario())


# -- after a reboot ----------------------------------------------------------------------------------------------------


def test_after_a_reboot_what_was_not_synced_may_be_gone_without_a_doubt() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1)
        synced = log.end
        log.append(items_of(log.end, 1, 1), 5)
        disk.lose_power()
        again, verdict = await recovered(FakeEnvironment(disk), synced, same_boot=False)
        assert again.end == synced and not verdict.doubtful and verdict.damage is None

    asyncio.run(scenario())


@pytest.mark.parametrize("kept_pages", [(1, 2), (0, 2), (0, 1), (2,)])
def test_after_a_reboot_an_item_with_a_page_missing_never_reached_the_disk(kept_pages: tuple[int, ...]) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1)
        before = log.end
        log.append([records(log.end, 1, size=2 * 4096 + 2000), records(Point(1, 2, 1), 1)], 5)
        disk.lose_power(lambda path, page: page in kept_pages)
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False)
        assert again.end == before and not verdict.doubtful and verdict.damage is None
        assert bytes(disk.names[FIRST].synced) == bytes(disk.names[FIRST].cache)

    asyncio.run(scenario())


def test_after_a_reboot_another_flaw_past_the_mark_is_a_doubt() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", 1, 1, 1, 1)
        disk.flip(FIRST, position_after(disk, FIRST, 4) - 1)
        disk.lose_power()
        doubts: list[bool] = []
        again, verdict = await recovered(FakeEnvironment(disk), Point(1, 1, 1), same_boot=False, doubts=doubts)
        assert verdict.doubtful and doubts == [True] and again.end == Point(1, 2, 1)

    asyncio.run(scenario())


def test_after_a_reboot_a_closed_segment_that_lost_its_tail_ends_the_log_whatever_follows() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), config=CONFIG)
        await log.sync()
        log.append(items_of(ORIGIN, "T1", *[1] * 14), 5)
        newest = sorted(path for path in disk.names if path.endswith(".log") and "partitions" in path)[-1]
        disk.lose_power(lambda path, page: path != FIRST)
        assert newest in disk.names
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False, config=CONFIG)
        assert again.end == ORIGIN and not verdict.doubtful and verdict.cut_bytes
        assert [name for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")] == [f"{0:020d}.log"]
        again.append(items_of(ORIGIN, "T2", *[1] * 14), 5)
        assert len(points_of(again)) == 15

    asyncio.run(scenario())


# -- before the mark ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_boot", [True, False])
@pytest.mark.parametrize("item", [0, 1, 2, 3])
def test_before_the_mark_nothing_is_cut_and_the_replica_keeps_its_word(same_boot: bool, item: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", 1, 1, 1, 1, "T2", 1, VOTERS)
        size = len(disk.names[FIRST].cache)
        disk.flip(FIRST, position_after(disk, FIRST, item) + 62)
        again, verdict = await recovered(FakeEnvironment(disk), P3, same_boot=same_boot)
        where = [ORIGIN, Point(1, 0, 1), Point(1, 1, 1), Point(1, 2, 1)][item]
        assert verdict.damage is not None and not verdict.doubtful
        assert verdict.damage.where == again.end == where and verdict.damage.word == full.end
        assert len(disk.names[FIRST].cache) == size
        assert points_of(again) == [p for p in [Point(1, 0, 1), Point(1, 1, 1), Point(1, 2, 1)] if p <= where]

    asyncio.run(scenario())


def test_a_flaw_in_the_marks_own_last_item_leaves_the_mark_as_word_and_no_doubt() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1, 1, 1)
        disk.flip(FIRST, log.size_bytes - 1)
        _, verdict = await recovered(FakeEnvironment(disk), P4, same_boot=False)
        assert verdict.damage is not None and verdict.damage.word == P4 and not verdict.doubtful

    asyncio.run(scenario())


def test_a_hole_behind_which_more_is_unreadable_past_the_mark_is_damage_and_a_doubt() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1, 1, 1, 1, 1)
        disk.flip(FIRST, position_after(disk, FIRST, 1) + 62)
        disk.flip(FIRST, log.size_bytes - 1)
        doubts: list[bool] = []
        _, verdict = await recovered(FakeEnvironment(disk), P3, same_boot=False, doubts=doubts)
        assert verdict.damage is not None and verdict.damage.word == Point(1, 5, 1)
        assert verdict.doubtful and doubts == [True]

    asyncio.run(scenario())


def test_points_that_can_be_read_behind_a_place_that_gives_errors_are_claimed_too() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        shapes = items_of(ORIGIN, "T1", 1, 1)
        shapes += [records(shapes[-1].point, size=BIG), *items_of(Point(1, 3, 1), 1, 1)]
        shapes += [records(shapes[-1].point, size=BIG), *items_of(Point(1, 6, 1), 1, 1, "T3", 1, 1, "T4")]
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
        for item in shapes:
            log.append([item], 5)
        await log.sync()
        disk.blocks_that_fail.add((FIRST, 0))
        again, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert verdict.damage is not None and not verdict.doubtful
        assert again.hole is not None and again.hole.where == again.end == ORIGIN
        # Who holds no more than the first of term 3 can help as far as that goes.
        assert again.hole.claims == (Point(1, 8, 1), Point(3, 10, 1), log.end)

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["first head", "first file", "item", "file in the midst"])
def test_a_hole_that_an_error_of_the_disk_made_can_be_read_once_that_has_passed(what: str) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", *[1] * 20, config=ONE_SEGMENT if what == "item" else CONFIG)
        bases = [segment.base.offset for segment in log._segments]
        if what == "item":
            disk.blocks_that_fail.add((FIRST, 0))
        else:
            base, ending = {"first head": (0, "head"), "first file": (0, "log")}.get(what, (bases[1], "log"))
            disk.lookups_that_fail.add(f"{LOG_DIRECTORY}/{base:020d}.{ending}")
        damaged, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert damaged.hole is not None and damaged.hole.is_error and not damaged.hole_can_be_read
        disk.blocks_that_fail.clear()
        disk.lookups_that_fail.clear()
        assert damaged.hole_can_be_read
        whole, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert whole.hole is None and whole.end == log.end and not whole.hole_can_be_read

    asyncio.run(scenario())


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_first_file_that_cannot_be_opened_is_a_lost_beginning_and_a_doubt(is_marked: bool) -> None:
    """Cut as a log without segments, it would begin at the origin, and what was then acknowledged would be gone."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
        producers = ProducerTable().to_bytes()
        await log.reset(SegmentHead(PARTITION, Point(3, 100, 1), VOTERS, 100, producers, 5))
        for item in items_of(log.end, 1, 1):
            log.append([item], 5)
        await log.sync()
        disk.lookups_that_fail.add(f"{LOG_DIRECTORY}/{100:020d}.log")
        doubts: list[bool] = []
        mark = log.end if is_marked else ORIGIN
        damaged, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=True, doubts=doubts)
        assert damaged.hole is not None and damaged.hole.segment < 0 and damaged.end == ORIGIN
        assert verdict.doubtful and doubts == [True] and not damaged.hole_can_be_read
        disk.lookups_that_fail.clear()
        assert damaged.hole_can_be_read
        whole, _ = await recovered(FakeEnvironment(disk), mark, same_boot=True)
        assert whole.hole is None and (whole.base, whole.end) == (log.base, log.end)

    asyncio.run(scenario())


@pytest.mark.parametrize("segments_behind_mark", [1, 2])
def test_a_last_file_that_cannot_be_cut_is_a_hole_after_the_mark_and_no_lost_log(segments_behind_mark: int) -> None:
    """Segments that were taken unread lie before the mark all the same."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", *[1] * 20, config=CONFIG)
        mark = log._segments[-segments_behind_mark].base
        disk.lookups_that_fail.add(log._segments[-1].path)
        damaged, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=True, config=CONFIG)
        assert damaged.hole is not None and damaged.hole.segment >= 0
        assert (damaged.base, damaged.end) == (ORIGIN, mark)
        assert verdict.damage is not None and verdict.damage.word >= mark

    asyncio.run(scenario())


def test_a_doubt_that_is_promised_is_told_also_where_the_rest_cannot_be_cut() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", *[1] * 20, config=CONFIG)
        last = log._segments[-1].base
        disk.lookups_that_fail.add(f"{LOG_DIRECTORY}/{last.offset:020d}.log")
        doubts: list[bool] = []
        _, verdict = await recovered(FakeEnvironment(disk), last, same_boot=True, config=CONFIG, doubts=doubts)
        assert doubts == [True] and verdict.doubtful and verdict.damage is not None

    asyncio.run(scenario())


@pytest.mark.parametrize("items_behind", [1, 2])
def test_an_item_that_begins_in_what_the_disk_did_not_give_leaves_the_doubt(items_behind: int) -> None:
    """No CRC covers its base offset: with zeros in place of that it passes, and says less than was held."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
        for item in items_of(ORIGIN, "T1", 50, "T2"):
            log.append([item], 5)
        ends_at = 2 * 4096 - 8
        log.append([records(log.end, size=size_of_records(log, ends_at))], 5)
        assert log.size_bytes == ends_at
        for _ in range(items_behind):
            log.append([records(log.end, size=100)], 5)
        await log.sync()
        disk.blocks_that_fail |= {(FIRST, 0), (FIRST, 1)}
        _, verdict = await recovered(FakeEnvironment(disk), Point(1, 50, 1), same_boot=True)
        assert verdict.damage is not None and verdict.doubtful

    asyncio.run(scenario())


def size_of_records(log: PartitionLog, ends_at: int) -> int:
    """How large a value makes the log that many bytes long."""
    return next(size for size in range(ends_at) if log.size_bytes + len(batch(log.end.offset, 2, size=size)) == ends_at)


def test_a_head_of_a_newer_format_behind_an_error_that_has_passed_is_not_read_again() -> None:
    """The next start says so; in a living process it would be a mistake that ends it."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1)
        path = f"{LOG_DIRECTORY}/{0:020d}.head"
        disk.lookups_that_fail = {path}
        damaged, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        disk.lookups_that_fail = set()
        disk.put(path, of_format(9, bytes(disk.names[path].cache)))
        assert not damaged.hole_can_be_read

    asyncio.run(scenario())


def of_format(version: int, head: bytes) -> bytes:
    """The same head, as a later version might write it."""
    begin = head[:4] + version.to_bytes(2, "big") + head[6:12]
    return begin + struct.pack(">I", crc32c.crc32c(head[16:], crc32c.crc32c(begin))) + head[16:]


def test_a_hole_that_wrong_bytes_made_is_not_read_again() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1)
        disk.flip(FIRST, log.size_bytes - 1)
        damaged, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert damaged.hole is not None and not damaged.hole_can_be_read

    asyncio.run(scenario())


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_hole_behind_which_the_disk_gives_errors_past_the_mark_is_damage_and_a_doubt(same_boot: bool) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", *[1] * 20, config=CONFIG)
        last = max(path for path in disk.names if path.endswith(".log"))
        mark = Point(1, int(last[-24:-4]), 1)
        disk.remove(f"{LOG_DIRECTORY}/{0:020d}.head")
        disk.blocks_that_fail.add((last, 0))  # all of the last segment, which begins at the mark
        doubts: list[bool] = []
        environment = FakeEnvironment(disk)
        _, verdict = await recovered(environment, mark, same_boot=same_boot, config=CONFIG, doubts=doubts)
        assert verdict.damage is not None and verdict.damage.word == mark
        assert verdict.doubtful and doubts == [True]

    asyncio.run(scenario())


def test_what_seems_cut_short_is_a_doubt_if_the_disk_does_not_tell_what_stands_behind_it() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, 1)
        for item in [records(log.end, size=100_000), *items_of(Point(1, 3, 1), 1)]:
            log.append([item], 5)
        await log.sync()
        # Its length, of which the CRC says nothing: the item seems to run past the end.
        content = disk.names[FIRST].cache
        content[position_after(disk, FIRST, 3) + 8] = 0x40
        disk.blocks_that_fail.add((FIRST, 20))
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=True)
        assert again.end == Point(1, 2, 1) and verdict.doubtful

    asyncio.run(scenario())


def test_a_log_shorter_than_its_mark_is_damaged() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", 1, 1, 1, 1)
        disk.put(FIRST, bytes(disk.names[FIRST].cache[: position_after(disk, FIRST, 3)]))
        again, verdict = await recovered(FakeEnvironment(disk), P4, same_boot=False)
        assert verdict.damage is not None and verdict.damage.word == P4 and again.end == Point(1, 2, 1)

    asyncio.run(scenario())


def test_a_log_that_holds_something_else_at_its_mark_is_damaged() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", 2, "T3", 2)
        _, verdict = await recovered(FakeEnvironment(disk), Point(2, 2, 1), same_boot=False)
        assert verdict.damage is not None and verdict.damage.where == Point(1, 2, 1)

    asyncio.run(scenario())


def test_a_listed_log_that_is_missing_is_damaged_and_doubtful() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        for mark in (P3, ORIGIN):
            log, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=True)
            assert verdict.damage is not None and verdict.damage.word == mark and verdict.doubtful
            assert log.end == ORIGIN and log.voters == () and points_of(log) == []
        await log.cut(ORIGIN)
        log.append(items_of(ORIGIN, "T4", 3), 5)
        await log.sync()
        disk.lose_power()
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False)
        assert again.end == Point(4, 3, 1) and verdict.damage is None

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [".log", ".head"])
def test_a_first_segment_that_is_lost_is_damage_with_the_whole_log_as_word(lost: str) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 14, config=CONFIG)
        disk.remove(f"{LOG_DIRECTORY}/{0:020d}{lost}")
        log, verdict = await recovered(FakeEnvironment(disk), P3, same_boot=False, config=CONFIG)
        assert verdict.damage is not None and verdict.damage.word == full.end and log.end == ORIGIN

    asyncio.run(scenario())


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_torn_write_at_the_end_does_not_hide_that_the_first_segment_is_lost(same_boot: bool) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 40, config=CONFIG)
        names = [name for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]
        last = disk.names[f"{LOG_DIRECTORY}/{names[-1]}"]
        disk.put(f"{LOG_DIRECTORY}/{names[-1]}", bytes(last.cache) + bytes(last.cache[:40]))
        disk.remove(f"{LOG_DIRECTORY}/{names[0]}")
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=same_boot, config=CONFIG)
        assert verdict.damage is not None and verdict.damage.word == full.end
        assert log.hole is not None and log.hole.segment < 0

    asyncio.run(scenario())


@pytest.mark.parametrize("hidden_by", ["another hole", "an item that moves the start"])
def test_a_lost_first_segment_is_missed_once_what_hid_that_is_cut(hidden_by: str) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 40, config=CONFIG)
        names = [name for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]
        before = full.end
        if hidden_by == "another hole":
            disk.remove(f"{LOG_DIRECTORY}/{names[3]}")
        else:
            moved = Point(1, before.offset, before.rank + 1)
            full.append([log_start_move(moved, before.offset)], 5)
            await full.sync()
        disk.remove(f"{LOG_DIRECTORY}/{names[0]}")
        log, _ = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert log.may_lack_beginning == (hidden_by == "another hole")
        with pytest.raises(DamagedLog, match="no segment holds offset 0"):
            await log.cut(min(log.end, before))

    asyncio.run(scenario())


def test_a_segment_lost_in_the_middle_is_a_hole() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 20, config=CONFIG)
        bases = [int(name[:20]) for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]
        for suffix in (".log", ".head", ".index", ".timeindex"):
            disk.remove(f"{LOG_DIRECTORY}/{bases[1]:020d}{suffix}")
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert verdict.damage is not None and verdict.damage.where == log.end == Point(1, bases[1], 1)
        await log.cut(log.end)
        log.append(items_of(log.end, *[1] * 9), 5)
        assert log.damage is None and len(points_of(log)) == bases[1] + 10

    asyncio.run(scenario())


def test_a_segment_lost_in_the_middle_is_a_hole_though_the_one_before_it_is_as_large_and_its_head_is_left() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 40, config=CONFIG)
        bases = [int(name[:20]) for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]
        before, lost = (f"{LOG_DIRECTORY}/{base:020d}.log" for base in bases[1:3])
        assert len(disk.names[before].cache) == len(disk.names[lost].cache)
        disk.remove(lost)
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert verdict.damage is not None and verdict.damage.where == log.end == Point(1, bases[2], 1)
        assert verdict.damage.word == full.end

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_no_file_of_a_log_is_removed_because_its_directory_could_not_be_listed_for_a_moment(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", 3, 2, 4, 1, 5, 3, 3, 3, config=CONFIG)
        there, right, calls = {*disk.list(LOG_DIRECTORY)}, disk.list, 0

        def listed(directory: str) -> list[str]:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.EIO, "input/output error", directory)
            return right(directory)

        with monkeypatch.context() as patch:
            patch.setattr(disk, "list", listed)
            with pytest.raises(OSError, match="input/output"):
                await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert {*disk.list(LOG_DIRECTORY)} == there

    asyncio.run(scenario())


def test_a_segment_swapped_in_from_another_partition_is_seen() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", *[1] * 20, config=CONFIG)
        other = FakeDisk()
        await synced_log(other, "T7", *[1] * 20, config=CONFIG)
        bases = [int(name[:20]) for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]
        for suffix in (".log", ".head"):
            path = f"{LOG_DIRECTORY}/{bases[1]:020d}{suffix}"
            disk.put(path, bytes(other.names[path].cache))
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert verdict.damage is not None and log.end == Point(1, bases[1], 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_log_is_not_joined_over_a_lost_item_where_the_next_head_is_lost_too(is_flipped: bool) -> None:
    """A term start at the end of a segment and the head of the next were lost in one power cut. The offset was the same
    without the item, so the next segment was taken for what follows."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", "T2", 1, "T3", config=CONFIG)
        mark = log.end
        log.append(items_of(log.end, "T4"), 5)
        log.append(items_of(log.end, "T5"), 5)
        assert log.base != log._segments[-1].base == Point(4, 1, 1)
        head = f"{LOG_DIRECTORY}/{1:020d}.head"
        first = f"{LOG_DIRECTORY}/{0:020d}.log"
        disk.lose_power(lambda path, page: path != first and (is_flipped or path != head))
        if is_flipped:
            disk.flip(head, 30)
        again, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=False, config=CONFIG)
        assert again.end == mark and verdict.damage is None and verdict.doubtful == is_flipped
        disk.lose_power()
        assert (await recovered(FakeEnvironment(disk), mark, same_boot=False, config=CONFIG))[0].end == mark

    asyncio.run(scenario())


def test_a_head_past_the_mark_of_which_the_disk_does_not_say_whether_it_is_there_is_a_doubt() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await synced_log(disk, "T1", 1, config=CONFIG)
        mark = log.end
        for item in items_of(log.end, 1, 1, 1, 1, 1, 1):
            log.append([item], 5)
        await log.sync()
        disk.lookups_that_fail = {f"{LOG_DIRECTORY}/{log._segments[-1].base.offset:020d}.head"}
        doubts: list[bool] = []
        again, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=False, config=CONFIG, doubts=doubts)
        # Nor can its segment be removed, so what stands before it cannot be settled either.
        assert again.end == mark and verdict.damage is not None and doubts == [True]

    asyncio.run(scenario())


def test_a_lost_head_is_written_again_from_what_stands_before_it() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        full = await synced_log(disk, "T1", 1, VOTERS[:2], *[1] * 20, config=CONFIG)
        heads = [f"{LOG_DIRECTORY}/{name}" for name in disk.list(LOG_DIRECTORY) if name.endswith(".head")]
        before = SegmentHead.from_bytes(bytes(disk.names[heads[2]].cache), heads[2])
        disk.flip(heads[2], 20)
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert verdict.damage is None and log.voters == VOTERS[:2] and points_of(log) == points_of(full)
        # When the item before it was appended nothing says: now, lest retention drop the segment too soon.
        written = SegmentHead.from_bytes(bytes(disk.names[heads[2]].synced), heads[2])
        assert written == before.dated(FakeEnvironment(disk).wall_ms()) and before.append_time_ms == 5
        disk.lose_power()
        again, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=False, config=CONFIG)
        assert verdict.damage is None and again.journal.spans == full.journal.spans

    asyncio.run(scenario())


def test_a_later_format_is_refused() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await synced_log(disk, "T1", 1)
        path = f"{LOG_DIRECTORY}/{0:020d}.head"
        disk.put(path, of_format(9, bytes(disk.names[path].cache)))
        with pytest.raises(NewerFormat, match="format 9"):
            await recovered(FakeEnvironment(disk), ORIGIN, same_boot=True)

    asyncio.run(scenario())


# -- other rules -------------------------------------------------------------------------------------------------------


def test_closed_segments_before_the_mark_are_not_read_but_fully_known() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        shapes = ("T1", 1, 1, VOTERS[:2], 1, 1, 1, "T4", *[1] * 9, "T5", "T6", *[1] * 9, VOTERS[:1], 1)
        full = await synced_log(disk, *shapes, config=CONFIG)
        disk.flip(FIRST, 70)  # would be seen if it were read
        log, verdict = await recovered(FakeEnvironment(disk), full.end, same_boot=True, config=CONFIG)
        assert verdict.damage is None and log.end == full.end
        assert log.journal.spans == full.journal.spans and log.voters == full.voters
        assert log.voter_sets.changes_after(ORIGIN) == full.voter_sets.changes_after(ORIGIN) != ()
        assert log.size_bytes == full.size_bytes

    asyncio.run(scenario())


def test_a_sync_that_fails_in_recovery_damages_that_replica_alone_and_repair_writes_a_new_file() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        full = await synced_log(disk, "T1", 1, 1, 1, 1)
        bad = disk.names[FIRST]
        disk.syncs_that_fail = lambda path: disk.names.get(path) is bad
        log, verdict = await recovered(env, P3, same_boot=True)
        assert env.halted is None and verdict.damage is not None
        assert verdict.damage.word == full.end and log.end == P3
        await log.cut(P3)
        assert disk.names[FIRST] is not bad and points_of(log)[-1] == P3
        log.append(items_of(P3, 1), 5)
        await log.sync()

    asyncio.run(scenario())


def test_new_terms_begin_with_their_term_start_and_offsets_leave_no_hole() -> None:
    async def scenario() -> None:
        for wrong in (batch(2, 2), batch(3, 1), batch(1, 1)):
            disk = FakeDisk()
            await synced_log(disk, "T1", 1, 1)
            disk.put(FIRST, bytes(disk.names[FIRST].cache) + wrong)
            log, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False)
            assert log.end == Point(1, 2, 1) and verdict.doubtful

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(True, True, True, True, False), Judgement.DAMAGE),
        (Evidence(False, True, True, False, False), Judgement.UNFINISHED),
        (Evidence(False, True, True, False, True), Judgement.DOUBT),
        (Evidence(False, True, False, True, False), Judgement.DOUBT),
        (Evidence(False, False, True, False, True), Judgement.UNFINISHED),
        (Evidence(False, False, False, True, True), Judgement.UNFINISHED),
        (Evidence(False, False, False, False, False), Judgement.DOUBT),
    ],
)
def test_what_an_unreadable_place_means(evidence: Evidence, expected: Judgement) -> None:
    assert judge(evidence) is expected


def test_only_a_whole_aligned_sector_of_zeros_counts() -> None:
    whole = bytearray(batch(0, 1, size=3000))
    assert not holds_zero_sector(bytes(whole), 100)
    whole[412 : 412 + 512] = bytes(512)
    assert holds_zero_sector(bytes(whole), 100)
    assert not holds_zero_sector(bytes(whole), 101)
    small = batch(0, 1)
    assert not holds_zero_sector(small + bytes(2000), 0)  # the zeros lie past it
    assert holds_zero_sector(bytes(600), 100)  # not even a length


_SHAPES = st.lists(st.one_of(st.integers(1, 3), st.just("T"), st.just("V"), st.just("sync")), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(
    _SHAPES,
    st.integers(1, 150),
    st.booleans(),
    st.sampled_from([CONFIG, ONE_SEGMENT]),
    st.randoms(use_true_random=False),
)
def test_what_was_synced_is_there_after_any_crash_and_what_is_there_is_a_prefix(
    shapes: list[int | str], crash_at: int, is_power_cut: bool, config: Any, chance: Any
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), config=config)
        written: list[Item] = []
        synced = mark = ORIGIN
        disk.cut_power_at = disk.operations + crash_at
        try:
            for shape in ("T", *shapes):
                if shape == "sync":
                    mark, asked = synced, log.end  # a mark is one round late
                    await log.sync()
                    synced = asked
                else:
                    term = log.end.term
                    items = items_of(log.end, f"T{term + 1}" if shape == "T" else VOTERS[:2] if shape == "V" else shape)
                    written += items
                    log.append(items, 5)
        except (PowerCut, Halted):
            pass
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: chance.random() < 0.5)
        again, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=not is_power_cut, config=config)
        assert verdict.damage is None
        read = again.read_items(ORIGIN, again.end, 1 << 30)
        assert [bytes(item.data) for item in read] == [bytes(item.data) for item in written[: len(read)]]
        assert again.end >= synced
        if not is_power_cut:
            assert not verdict.doubtful
        # What recovery kept is on disk now.
        disk.lose_power()
        third, _ = await recovered(FakeEnvironment(disk), again.end, same_boot=False, config=config)
        assert third.end == again.end and third.journal.spans == again.journal.spans

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 19),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([CONFIG, ONE_SEGMENT]),
    st.randoms(use_true_random=False),
)
def test_a_crash_during_a_cut_leaves_the_log_somewhere_between_before_and_after(
    keep: int, crash_at: int, is_power_cut: bool, config: Any, chance: Any
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        shapes = ("T1", *[1] * 12, "T2", *[2] * 6)
        items = items_of(ORIGIN, *shapes)
        log = await a_log(FakeEnvironment(disk), *shapes, config=config)
        await log.sync()
        point = items[keep].point
        disk.cut_power_at = disk.operations + crash_at
        after: list[Item] = []
        with contextlib.suppress(PowerCut, Halted):
            await log.cut(point)
            after = items_of(point, "T9", 3, *[1] * 5)
            log.append(after, 9)
            await log.sync()
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: chance.random() < 0.5)
        again, verdict = await recovered(FakeEnvironment(disk), point, same_boot=not is_power_cut, config=config)
        assert verdict.damage is None and again.end >= point
        read = [bytes(item.data) for item in again.read_items(ORIGIN, again.end, 1 << 30)]
        old, new = ([bytes(item.data) for item in of] for of in (items, [*items[: keep + 1], *after]))
        assert read in (old[: len(read)], new[: len(read)])

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["T", "R", "V", "cut", "sync", "restart"]), st.integers(0, 60)), max_size=30),
    st.sampled_from([CONFIG, ONE_SEGMENT]),
)
def test_a_log_is_a_list_of_items_whatever_is_done_to_it(steps: list[tuple[str, int]], config: Any) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), config=config)
        model: list[Item] = []
        highest = 0
        for kind, number in (("T", 0), *steps):
            if kind == "cut":
                del model[number % (len(model) + 1) :]
                await log.cut(model[-1].point if model else ORIGIN)
            elif kind == "sync":
                await log.sync()
            elif kind == "restart":
                mark = model[number % len(model)].point if model else ORIGIN
                log, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=True, config=config)
                assert verdict.damage is None and not verdict.doubtful
            else:
                if kind == "T" or not model:
                    highest += 1
                    items = items_of(log.end, f"T{highest}")
                elif kind == "V":
                    items = items_of(log.end, VOTERS[: number % 3 + 1])
                else:
                    items = items_of(log.end, *[1 + number % 3] * (1 + number % 4))
                log.append(items, number)
                model += items
            assert log.end == (model[-1].point if model else ORIGIN)
            assert [bytes(item.data) for item in log.read_items(ORIGIN, log.end, 1 << 30)] == [
                bytes(item.data) for item in model
            ]
            if model:
                at = model[number % len(model)].point
                assert log.journal.holds(at)
                assert len(log.read_items(at, log.end, 1 << 30)) == len(model) - number % len(model) - 1

    asyncio.run(scenario())
