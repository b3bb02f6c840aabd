"""A log starts later, drops what lies before, and begins anew where another log does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.points import ORIGIN, Item, Point
from lograft.partitions.storage import zero_width
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.log_starts import LogStarts
from lograft.partitions.storage.reset import FILE_NAME, note_reset
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import emptied, read_header

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    FakeFile,
    Halted,
    PowerCut,
    a_log,
    items_of,
    points_of,
    records,
    recovered,
)

MANY = ("T1", *([1] * 12), "T2", *([3] * 12), VOTERS[:2], *([1] * 6), "T5", 2)


def segments_on(disk: FakeDisk) -> list[int]:
    return [int(name[:20]) for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]


def move(log: PartitionLog, start_offset: int) -> Item:
    end = log.end
    return zero_width.log_start_move(end._replace(rank=end.rank + 1), start_offset)


async def a_moved_log(disk: FakeDisk, start_offset: int) -> PartitionLog:
    """Many small segments, and a start that was moved; all of it on disk."""
    log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
    log.append([move(log, start_offset)], 9)
    await log.sync()
    return log


# -- the start -------------------------------------------------------------------------------------------------------


def test_a_start_counts_as_of_the_item_that_moved_it() -> None:
    starts = LogStarts(ORIGIN, 0)
    starts.note(Point(1, 10, 2), 4)
    starts.note(Point(1, 20, 3), 9)
    points = (Point(1, 10, 1), Point(1, 10, 2), Point(1, 20, 2), Point(1, 20, 3), Point(7, 99, 1))
    assert [starts.at(point) for point in points] == [0, 4, 4, 9, 9] and starts.newest == 9
    assert [starts.moved_past(offset) for offset in (0, 1, 4, 5, 9)] == [
        ORIGIN,
        Point(1, 10, 2),
        Point(1, 10, 2),
        Point(1, 20, 3),
        Point(1, 20, 3),
    ]


def test_a_start_does_not_move_back_but_by_a_cut() -> None:
    starts = LogStarts(ORIGIN, 0)
    starts.note(Point(1, 10, 2), 9)
    starts.note(Point(1, 20, 3), 4)
    assert starts.newest == starts.at(Point(1, 20, 3)) == 9
    starts.cut(Point(1, 10, 1))
    assert starts.newest == 0


def test_a_start_is_never_before_the_base() -> None:
    starts = LogStarts(Point(3, 100, 1), 40)
    assert starts.newest == starts.at(ORIGIN) == 100
    starts.note(Point(3, 130, 2), 110)
    starts.note(Point(3, 150, 3), 140)
    starts.begin_at(Point(3, 135, 2))
    assert starts.at(Point(3, 135, 2)) == 135 and starts.newest == 140


def test_a_start_past_the_log_end_is_no_item() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", 5)
        for nonsense in (6, -1, 1 << 70):
            with pytest.raises((CorruptBatch, OverflowError)):
                log.append([move(log, nonsense)], 5)
        log.append([move(log, 5)], 5)
        assert log.start_offset == 5

    asyncio.run(scenario())


def test_a_move_back_in_the_log_says_nothing() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 5, 5)
        for start in (7, 3):
            log.append([move(log, start)], 5)
        assert log.start_offset == log.start_offset_at(log.end) == 7
        await log.sync()
        again, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert again.start_offset == 7

    asyncio.run(scenario())


def test_recovery_knows_each_start_as_of_its_point() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY[:14], config=CONFIG)
        for start in (3, 8):
            log.append([move(log, start)], 5)
            for item in items_of(log.end, *[1] * 9):
                log.append([item], 5)
        await log.sync()
        for mark in (ORIGIN, log.end):
            again, _ = await recovered(FakeEnvironment(disk), mark, same_boot=True, config=CONFIG)
            known = [again.start_offset_at(item.point) for item in log.read_items(ORIGIN, log.end, 1 << 30)]
            exact = [log.start_offset_at(item.point) for item in log.read_items(ORIGIN, log.end, 1 << 30)]
            # Of a segment that was not read again it may be a little late, but it is never early.
            assert all(start <= true for start, true in zip(known, exact, strict=True))
            assert known[-1] == exact[-1] == 8 and (mark == log.end or known == exact)

    asyncio.run(scenario())


# -- dropping --------------------------------------------------------------------------------------------------------


def test_segments_wholly_below_the_start_are_dropped_and_the_rest_is_a_log() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_moved_log(disk, 30)
        whole = points_of(log)
        voters, producers = log.voters, log.producers.to_bytes()
        base = log.first_needed(30, log.end)
        assert 20 < base.offset <= 30
        log.drop_before(base)
        await log.remove_dropped()
        assert log.base == log.journal.base == base and segments_on(disk)[0] == base.offset
        assert points_of(log) == [point for point in whole if point > base]
        assert [log.journal.holds(point) for point in whole] == [point >= base for point in whole]
        # Only the head and what follows from it say anything now, after a power loss too.
        disk.lose_power()
        for mark in (ORIGIN, Point(1, 5, 1), base, log.end):
            again, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=False, config=CONFIG)
            assert (verdict.damage, verdict.doubtful, verdict.cut_bytes) == (None, False, 0)
            assert points_of(again) == points_of(log) and again.journal.spans == log.journal.spans
            assert (again.base, again.voters, again.producers.to_bytes()) == (base, voters, producers)
            assert again.start_offset == 30 and again.start_offset_at(base) >= base.offset

    asyncio.run(scenario())


def test_what_is_not_committed_or_not_on_disk_is_not_dropped() -> None:
    async def scenario() -> None:
        log = await a_moved_log(FakeDisk(), 30)
        for upto in (ORIGIN, Point(1, 4, 1), Point(2, 18, 1), log.end):
            base = log.first_needed(30, upto)
            assert base <= upto and base.offset <= 30
            assert log.first_needed(0, upto) == log.base

    asyncio.run(scenario())


def test_a_segment_that_no_crash_would_leave_is_nothing_to_begin_with() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", 1, 1, config=ONE_SEGMENT)
        log.append([move(log, 2)], 5)
        await log.sync()
        assert log.roll_if_wholly_below(2) and not log.roll_if_wholly_below(2)
        assert log.first_needed(2, log.end) == ORIGIN
        await log.sync()
        assert log.first_needed(2, log.end) == log.end
        log.drop_before(log.end)
        await log.remove_dropped()
        assert log.size_bytes == 0 and log.base == log.end

    asyncio.run(scenario())


def test_reads_go_on_across_a_drop() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_moved_log(disk, 30)
        for offset in range(0, log.end.offset, 3):
            log.read_records(offset, log.end.offset, 100)  # fills the places that are remembered
        log.drop_before(log.first_needed(30, log.end))
        await log.remove_dropped()
        for offset in range(log.base.offset, log.end.offset):
            assert log.read_records(offset, log.end.offset, 1)
        log.append(items_of(log.end, 4, "T9", *[1] * 12), 10)
        await log.sync()
        await log.cut(Point(9, log.end.offset - 5, 1))
        assert points_of(log)[-1] == log.end
        again, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert points_of(again) == points_of(log) and verdict.damage is None

    asyncio.run(scenario())


@pytest.mark.parametrize("is_power_cut", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_write_of_a_drop_leaves_a_log_that_recovers(is_power_cut: bool, seed: int) -> None:
    async def crash_at(operation: int) -> bool:
        disk = FakeDisk()
        log = await a_moved_log(disk, 30)
        whole, spans = points_of(log), log.journal.spans
        base = log.first_needed(30, log.end)
        chance = Random(f"{seed} {operation}")
        disk.cut_power_at = disk.operations + operation
        crashed = True
        with contextlib.suppress(PowerCut, Halted):
            log.drop_before(base)
            await log.remove_dropped()
            crashed = False
        disk.cut_power_at = None
        if is_power_cut:
            disk.lose_power(lambda path, page: chance.random() < 0.5)
        again, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=not is_power_cut, config=CONFIG)
        assert (verdict.damage, verdict.doubtful) == (None, False), f"operation {operation}"
        assert again.base <= base and again.end == log.end and again.start_offset == 30
        assert points_of(again) == [point for point in whole if point > again.base]
        assert again.journal.last == log.end and again.journal.spans[-1].term == spans[-1].term
        names = disk.list(LOG_DIRECTORY)
        assert all(int(name[:20]) in segments_on(disk) for name in names), "a file of a dropped segment stayed"
        return crashed

    operation = 1
    while asyncio.run(crash_at(operation)):
        operation += 1
    assert operation > 10


# -- beginning anew --------------------------------------------------------------------------------------------------


def a_head() -> SegmentHead:
    base = Point(9, 500, 2)

    async def scenario() -> SegmentHead:
        log = await a_log(FakeEnvironment(FakeDisk()), "T9", 5)
        return log.first_head()

    head = asyncio.run(scenario())
    return SegmentHead(
        partition=PARTITION,
        base=base,
        voters=VOTERS[:2],
        start_offset=base.offset,
        producers=head.producers,
        append_time_ms=77,
    )


def test_a_log_that_is_reset_begins_at_the_head() -> None:
    head = a_head()

    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_moved_log(disk, 10)
        ticket = log.ticket()
        await log.reset(head)
        assert ticket.cuts != log.cuts and log.ticket().cuts == log.cuts
        assert (log.base, log.end, log.start_offset, log.voters) == (head.base, head.base, 500, VOTERS[:2])
        assert log.append_time_ms == 77 and log.size_bytes == 0 and FILE_NAME not in disk.list(LOG_DIRECTORY)
        assert log.first_head() == head
        items = items_of(log.end, 3, "T12", *[2] * 9)
        log.append(items, 80)
        await log.sync()
        disk.lose_power()
        for mark in (ORIGIN, head.base, log.end):
            again, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=False, config=CONFIG)
            assert (verdict.damage, verdict.doubtful) == (None, False)
            assert points_of(again) == [item.point for item in items] and again.start_offset == 500

    asyncio.run(scenario())


def test_a_reset_overtakes_a_sync_without_harm() -> None:
    head = a_head()

    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await a_log(env, *MANY, config=CONFIG)
        env.spawn(log.sync())
        await asyncio.sleep(0)
        resetting = log.reset(head)
        env.spawn(log.sync())
        await asyncio.sleep(0)
        await resetting
        await log.sync()
        assert env.halted is None and log.end == head.base

    asyncio.run(scenario())


@pytest.mark.parametrize("is_power_cut", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_write_of_a_reset_leaves_the_old_log_or_the_new_one(is_power_cut: bool, seed: int) -> None:
    head = a_head()

    async def crash_at(operation: int) -> bool:
        disk = FakeDisk()
        log = await a_moved_log(disk, 10)
        old = points_of(log)
        chance = Random(f"{seed} {operation}")
        crashed = True
        new: list[Item] = []
        disk.cut_power_at = disk.operations + operation
        with contextlib.suppress(PowerCut, Halted):
            await log.reset(head)
            crashed = False
        disk.cut_power_at = None
        if not crashed:
            new = items_of(log.end, 3)
            log.append(new, 80)
            await log.sync()
        if is_power_cut:
            disk.lose_power(lambda path, page: chance.random() < 0.5)
        # The mark was lowered first: nothing of the old log counts as surely there.
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=not is_power_cut, config=CONFIG)
        assert (verdict.damage, verdict.doubtful) == (None, False), f"operation {operation}"
        if again.base == ORIGIN:
            assert points_of(again) == old and crashed
        else:
            assert again.base == head.base and points_of(again) == [item.point for item in new]
            assert again.first_head() == head
        assert FILE_NAME not in disk.list(LOG_DIRECTORY) or again.base == ORIGIN
        return crashed

    operation = 1
    while asyncio.run(crash_at(operation)):
        operation += 1
    assert operation > 20


class Unreadable(FakeDisk):
    """Its heads can be written, and not read."""

    def open(self, path: str, *, create: bool = False) -> FakeFile:
        file = super().open(path, create=create)
        if path.endswith(".head") and FILE_NAME not in path:
            file.read = self._fail  # type: ignore[method-assign]
        return file

    def _fail(self, position: int, size: int) -> bytes:
        raise OSError(errno.EIO, "input/output error")


def test_a_reset_that_recovery_ends_on_a_disk_that_cannot_be_read_leaves_a_damaged_log_that_holds_nothing() -> None:
    head = a_head()

    async def scenario() -> None:
        disk = Unreadable()
        disk.make_directory(LOG_DIRECTORY)
        await note_reset(disk, LOG_DIRECTORY, head)
        log, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=True, config=CONFIG)
        assert verdict.damage is not None and log.hole is not None
        assert log.end == log.journal.last == log.ticket().end == ORIGIN

    asyncio.run(scenario())


def test_a_log_made_anew_knows_nothing_of_a_reset_that_its_forerunner_began() -> None:
    head = a_head()

    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_moved_log(disk, 10)
        disk.cut_power_at = disk.operations + 8
        with contextlib.suppress(PowerCut, Halted):
            await log.reset(head)
        assert FILE_NAME in disk.list(LOG_DIRECTORY)
        disk.cut_power_at = None
        made = await a_log(FakeEnvironment(disk), "T1", 1)
        await made.sync()
        again, _ = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=True)
        assert again.end == made.end and FILE_NAME not in disk.list(LOG_DIRECTORY)

    asyncio.run(scenario())


def test_a_log_that_is_reset_knows_nothing_of_what_was_thinned_in_the_one_before() -> None:
    head = a_head()

    async def scenario() -> None:
        log = await a_moved_log(FakeDisk(), 10)
        end = log.end
        superseded = records(end)
        log.append([replace(superseded, data=emptied(read_header(superseded.data)))], 9)
        assert log.thinned_to == end.offset + 1
        await log.reset(head)
        assert log.thinned_to == 0

    asyncio.run(scenario())


# -- append times ----------------------------------------------------------------------------------------------------


def test_a_segment_is_as_old_as_its_last_item_and_copies_of_it_are_no_younger() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), config=CONFIG)
        for at, item in enumerate(items_of(ORIGIN, "T1", *[1] * 20)):
            log.append([item], 100 + at)
        await log.sync()
        times = [segment.append_time_ms for segment in log.closed_segments()]
        assert times == sorted(times) and len(times) > 3 and times[0] > 100
        copy = await PartitionLog.create(FakeEnvironment(FakeDisk()), DATA, PARTITION, VOTERS, CONFIG)
        while copy.end < log.end:
            items, append_time_ms = log.read_to_replicate(copy.end, log.end, 150)
            copy.append(items, append_time_ms)
        assert copy.closed_segments() == log.closed_segments()
        again, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert again.closed_segments() == log.closed_segments()

    asyncio.run(scenario())


def test_after_a_restart_the_last_segment_counts_as_young_as_it_can_be() -> None:
    """It was once rolled under the time of the item before it, and dropped with records of today."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 1, 1)
        await log.sync()
        env = FakeEnvironment(disk)
        again, _ = await recovered(env, log.end, same_boot=True, config=ReplicaConfig(segment_bytes_max=1))
        again.append(items_of(again.end, 1), 5)
        assert [segment.append_time_ms for segment in again.closed_segments()] == [env.wall_ms()]

    asyncio.run(scenario())


def test_an_append_time_does_not_move_back() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", config=ReplicaConfig(segment_bytes_max=1))
        for time in (50, 20, 60):
            log.append(items_of(log.end, 1), time)
        assert [segment.append_time_ms for segment in log.closed_segments()] == [50, 50]

    asyncio.run(scenario())


def test_a_segment_whose_first_item_is_old_gets_no_more() -> None:
    async def scenario() -> None:
        config: Any = ReplicaConfig(segment_ms_max=1000)
        log = await a_log(FakeEnvironment(FakeDisk()), config=config)
        log.append(items_of(log.end, "T1", 1), 10)
        log.append(items_of(log.end, 1), 1009)
        assert not log.closed_segments() and not log.roll_if_old(1009, 5000)
        log.append(items_of(log.end, 1, 1), 1010)
        assert [segment.end.offset for segment in log.closed_segments()] == [2]
        assert not log.roll_if_old(2009, 5000) and log.roll_if_old(2010, 5000)
        assert not log.roll_if_old(99_999, 5000)
        assert [segment.end.offset for segment in log.closed_segments()] == [2, 4]

    asyncio.run(scenario())
