"""Holes in logs: what is proved, what fills them, and that no crash in between makes anything worse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from lograft.partitions.raft.messages import RepairRequest, Serving
from lograft.partitions.raft.points import ORIGIN, Item, Point, TermJournal
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.recovery import stray_items
from lograft.partitions.storage.repair import (
    Mending,
    NamesNotSynced,
    claims_beyond,
    common_with,
    first_point_at,
    judge_request,
)
from lograft.partitions.storage.scrub import scrub
from lograft.partitions.storage.segment import DamagedLog, read_head
from lograft.proto.record_batch import read_header

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    ONE_SEGMENT,
    PAGE_BYTES,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    FakeFile,
    PowerCut,
    a_log,
    items_of,
    points_of,
    recovered,
)

FIRST = f"{LOG_DIRECTORY}/{0:020d}"
PRODUCER_BYTE = 50
SHAPES = ("T1", 3, 2, VOTERS[:2], 4, "T2", 1, 5)


def journal_of(*points: Point) -> TermJournal:
    journal = TermJournal(ORIGIN)
    journal.extend_all(points)
    return journal


def points(*shapes: Any) -> list[Point]:
    return [item.point for item in items_of(ORIGIN, *shapes)]


async def no_breath() -> None:
    return


async def no_pace(size: int) -> None:
    return


def item_bounds(disk: FakeDisk, path: str) -> list[tuple[int, int]]:
    content = bytes(disk.names[path].cache)
    found, position = [], 0
    while position < len(content):
        size = read_header(content, position).size
        found.append((position, size))
        position += size
    return found


async def a_synced_log(disk: FakeDisk, config: Any = ONE_SEGMENT) -> tuple[Point, list[Item]]:
    """Its mark, and what is in it."""
    log = await a_log(FakeEnvironment(disk), *SHAPES, config=config)
    await log.sync()
    held = list(log.read_items(ORIGIN, log.end, 1 << 30))
    log.close()
    return log.end, held


async def filled(
    disk: FakeDisk, mark: Point, held: Sequence[Item], config: Any = ONE_SEGMENT, shapes: Sequence[Any] = SHAPES
) -> PartitionLog:
    """Fill hole after hole from a whole log."""
    for _ in range(10):
        log, _ = await PartitionLog.recover(
            FakeEnvironment(disk), DATA, PARTITION, mark=mark, same_boot=True, config=config, suspects=None
        )
        if log.hole is None:
            return log
        mending = Mending(disk, LOG_DIRECTORY, log.hole, rewritten_to=0, cleaned_to=0, breathe=no_breath)
        await mending.begin()
        if log.hole.segment < 0:
            whole = await a_log(FakeEnvironment(FakeDisk()), *shapes)
            mending.begin_at(whole.head_at(first_point_at(whole.journal, log.hole.bases[0] if log.hole.bases else 0)))
        if not mending.is_whole:
            mending.take([item for item in held if item.point > mending.after], 0)
        assert mending.is_whole
        log.close()
        await mending.finish()
        await mending.put_in_place()
    raise AssertionError("there is a hole yet")


# -- proof -------------------------------------------------------------------------------------------------------------


def test_logs_that_both_held_something_of_a_term_are_the_same_up_to_the_lesser_point() -> None:
    shorter = journal_of(*points("T1", 3, 4))
    common = common_with(shorter, (), Point(1, 3, 1), [Point(1, 50, 1)])
    assert common == (Point(1, 7, 1), False) or common.upto == Point(1, 7, 1)


def test_a_log_that_went_another_way_proves_nothing_beyond_what_terms_they_share() -> None:
    other = journal_of(*points("T1", 3, "T3", 4))
    common = common_with(other, (), Point(1, 2, 1), [Point(2, 9, 1)])
    assert common.conflicts
    assert common.upto == Point(1, 2, 1)


def test_a_log_that_does_not_hold_the_point_before_the_hole_proves_nothing() -> None:
    other = journal_of(*points("T1", 3, "T3", 4))
    assert common_with(other, (), Point(2, 3, 1), [Point(3, 7, 1)]) == (ORIGIN, True)


def test_what_a_damaged_log_once_held_proves_as_much_as_what_it_holds() -> None:
    damaged = journal_of(*points("T1", 3))
    common = common_with(damaged, [Point(2, 20, 1)], Point(1, 1, 1), [Point(2, 9, 1)])
    assert (common.upto, common.conflicts) == (Point(2, 9, 1), False)


def test_who_cleaned_past_the_hole_gives_nothing_unless_the_whole_log_is_copied() -> None:
    def request(base_offset: int) -> RepairRequest:
        return RepairRequest(VOTERS[0], VOTERS[1], 1, 1, Point(1, 3, 1), Point(1, 3, 1), (), base_offset)

    common = common_with(journal_of(*points("T1", 3, 9)), (), Point(1, 3, 1), [Point(1, 12, 1)])
    assert judge_request(request(-1), common, Point(1, 3, 1), ORIGIN, 3) is Serving.ITEMS
    assert judge_request(request(-1), common, Point(1, 3, 1), ORIGIN, 4) is Serving.CLEANED
    assert judge_request(request(0), common, ORIGIN, ORIGIN, 4) is Serving.ITEMS


def test_of_each_term_the_highest_point_beyond_the_hole_is_claimed() -> None:
    found = claims_beyond(Point(1, 5, 1), [Point(1, 3, 1), Point(1, 9, 1), Point(2, 9, 1), Point(1, 8, 2)])
    assert found == (Point(1, 9, 1), Point(2, 9, 1))


# -- evidence beyond a hole --------------------------------------------------------------------------------------------


def content_of(*shapes: Any) -> tuple[bytearray, list[int]]:
    content, positions = bytearray(), []
    for item in items_of(ORIGIN, *shapes):
        positions.append(len(content))
        content += item.data
    return content, positions


@pytest.mark.parametrize("byte", [1, 14])
def test_an_item_whose_place_its_neighbours_contradict_is_believed_to_stand_between_them(byte: int) -> None:
    content, positions = content_of("T1", 3, 4, 2)
    content[positions[2] + byte] ^= 0x40  # a bit of its base offset, or of its term, which its CRC does not cover
    found = stray_items(bytes(content[positions[1] :]), after=Point(1, 0, 1), term_max=1 << 30)
    assert [(stray.term, stray.next_offset) for stray in found] == [(1, 3), (1, 7), (1, 9)]


def test_an_item_of_a_term_that_never_was_is_not_believed() -> None:
    content, positions = content_of("T1", 3, 4)
    content[positions[2] + 13] ^= 1
    assert not stray_items(bytes(content[positions[2] :]), after=Point(1, 0, 1), term_max=5, follows=False)


# -- filling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ONE_SEGMENT, CONFIG], ids=["one segment", "several segments"])
def test_whichever_byte_of_a_log_or_of_a_head_flips_the_log_becomes_what_it_was(config: Any) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        mark, held = await a_synced_log(disk, config)
        before = {path: bytes(inode.cache) for path, inode in disk.names.items() if path.endswith(".log")}
        places = [
            (path, at)
            for path, inode in disk.names.items()
            if path.endswith((".log", ".head"))
            for at in range(0, len(inode.cache), 7)
        ]
        for path, at in places:
            disk.flip(path, at)
            log = await filled(disk, mark, held, config)
            assert points_of(log) == [item.point for item in held], (path, at)
            assert log.voters == VOTERS[:2]
            log.close()
            after = {path: bytes(inode.cache) for path, inode in disk.names.items() if path.endswith(".log")}
            assert after == before, (path, at)

    asyncio.run(scenario())


def test_a_lost_item_without_width_is_not_skipped_though_the_next_one_would_fit() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        mark, held = await a_synced_log(disk)
        position, size = item_bounds(disk, FIRST + ".log")[3]
        assert held[3].voters
        disk.flip(FIRST + ".log", position + size - 1)
        log = await filled(disk, mark, held)
        assert points_of(log) == [item.point for item in held]

    asyncio.run(scenario())


def test_a_log_of_which_nothing_is_left_is_copied() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        mark, held = await a_synced_log(disk)
        for path in [path for path in disk.names if path.startswith(LOG_DIRECTORY)]:
            disk.remove(path)
        log = await filled(disk, mark, held)
        assert (points_of(log), log.voters) == ([item.point for item in held], VOTERS[:2])

    asyncio.run(scenario())


def test_a_log_that_lost_its_first_segments_begins_where_another_one_begins_whatever_later_heads_say() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        mark, held = await a_synced_log(disk, CONFIG)
        disk.remove(FIRST + ".log")
        disk.remove(FIRST + ".head")
        log = await filled(disk, mark, held, CONFIG)
        heads = [path for path in disk.names if path.endswith(".head")]
        assert len(heads) > 1, "no later head says that the log starts at 0"
        assert log.start_offset == log.base.offset > 0
        assert points_of(log) == [item.point for item in held if item.point > log.base]

    asyncio.run(scenario())


@pytest.mark.parametrize("suffix", [".log", ".head"])
def test_a_crash_at_any_moment_of_a_repair_leaves_what_can_be_repaired_again(suffix: str) -> None:
    async def scenario() -> None:
        for crash_after in range(1, 200):
            disk = FakeDisk()
            mark, held = await a_synced_log(disk, CONFIG)
            disk.flip(FIRST + suffix, 30)
            disk.cut_power_at = disk.operations + crash_after
            try:
                await filled(disk, mark, held, CONFIG)
            except PowerCut:
                disk.lose_power(lambda path, page, odd=crash_after % 2: (len(path) + page) % 2 == odd)
            else:
                assert crash_after > 5
                return
            log = await filled(disk, mark, held, CONFIG)
            assert points_of(log) == [item.point for item in held], crash_after

    asyncio.run(scenario())


@pytest.mark.parametrize("first_of_second_segment", [3, 4, None], ids=["earlier", "later", "of one segment"])
@pytest.mark.parametrize("given_from", [3, 4])
@pytest.mark.parametrize("behind", [(), (3,), (3, "T2", 1)], ids=["nothing", "records", "another term"])
def test_a_crash_while_another_beginning_is_put_in_place_joins_it_to_nothing_that_it_does_not_follow(
    first_of_second_segment: int | None, given_from: int, behind: tuple[Any, ...]
) -> None:
    """Two logs have a segment at one offset, each behind another item without width."""
    shapes = ("T1", 3, VOTERS[:2], VOTERS, VOTERS[1:], *behind)

    async def lose_the_beginning(disk: FakeDisk) -> Point:
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
        for at, item in enumerate(held):
            log.set_segment_limits(1 if at == first_of_second_segment else 1 << 20, 1 << 40)
            log.append([item], 5)
        await log.sync()
        log.close()
        disk.flip(FIRST + ".head", 20)
        return log.end

    async def begin_anew(disk: FakeDisk, mark: Point) -> None:
        log, _ = await recovered(FakeEnvironment(disk), mark, same_boot=True)
        assert log.hole is not None and log.hole.segment == -1
        log.close()
        mending = Mending(disk, LOG_DIRECTORY, log.hole, rewritten_to=0, cleaned_to=0, breathe=no_breath)
        await mending.begin()
        mending.begin_at(whole.head_at(held[given_from - 1].point))
        if not mending.is_whole:
            mending.take(held[given_from:], 0)
        await mending.finish()
        await mending.put_in_place()

    async def scenario() -> None:
        for crash_after in range(1, 200):
            disk = FakeDisk()
            mark = await lose_the_beginning(disk)
            disk.cut_power_at = disk.operations + crash_after
            is_over = True
            try:
                await begin_anew(disk, mark)
            except PowerCut:
                is_over = False
            disk.lose_power(lambda path, page, odd=crash_after % 2: (len(path) + page) % 2 == odd)
            log = await filled(disk, mark, held, shapes=shapes)
            assert points_of(log) == [item.point for item in held if item.point > log.base], crash_after
            if is_over:
                assert crash_after > 5
                return

    held = items_of(ORIGIN, *shapes)
    whole = asyncio.run(a_log(FakeEnvironment(FakeDisk()), *shapes))
    asyncio.run(scenario())


def test_a_crash_while_a_segment_becomes_the_first_one_lets_nothing_before_it_start_where_it_starts() -> None:
    """Simulation, seed 823120: the first head was unreadable only for a while."""
    shapes = ("T1", 3, "T2", 2)
    held = items_of(ORIGIN, *shapes)

    async def scenario() -> None:
        whole = await a_log(FakeEnvironment(FakeDisk()), *shapes)
        for crash_after in range(1, 200):
            disk = FakeDisk()
            log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
            for at, item in enumerate(held):
                log.set_segment_limits(1 if at == 2 else 1 << 20, 1 << 40)
                log.append([item], 5)
            await log.sync()
            mark = log.end
            disk.flip(FIRST + ".head", 20)
            log, _ = await recovered(FakeEnvironment(disk), mark, same_boot=True)
            assert log.hole is not None and log.hole.segment == -1
            log.close()
            disk.flip(FIRST + ".head", 20)
            mending = Mending(disk, LOG_DIRECTORY, log.hole, rewritten_to=0, cleaned_to=0, breathe=no_breath)
            await mending.begin()
            mending.begin_at(msgspec.structs.replace(whole.head_at(held[1].point), start_offset=3))
            assert mending.is_whole
            disk.cut_power_at = disk.operations + crash_after
            is_over = True
            try:
                await mending.finish()
                await mending.put_in_place()
            except PowerCut:
                is_over = False
            disk.lose_power(lambda path, page, odd=crash_after % 2: (len(path) + page) % 2 == odd)
            log, _ = await recovered(FakeEnvironment(disk), mark, same_boot=True)
            if log.hole is None:
                assert (log.base.offset, log.start_offset) in ((0, 0), (3, 3)), crash_after
                assert points_of(log) == [item.point for item in held if item.point > log.base]
            if is_over:
                assert crash_after > 2 and log.hole is None and log.base == held[1].point
                return

    asyncio.run(scenario())


def test_a_segment_that_becomes_the_first_one_keeps_the_voters_that_its_head_names() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, ONE_SEGMENT)
        for at, item in enumerate(items_of(ORIGIN, "T1", 3, 2)):
            log.set_segment_limits(1 if at == 2 else 1 << 20, 1 << 40)
            log.append([item], 5)
        await log.sync()
        disk.flip(FIRST + ".head", 20)
        damaged, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert damaged.hole is not None
        mending = Mending(disk, LOG_DIRECTORY, damaged.hole, rewritten_to=0, cleaned_to=0, breathe=no_breath)
        await mending.begin()
        of_a_learner = msgspec.structs.replace(log.head_at(Point(1, 3, 1)), voters=())
        mending.begin_at(of_a_learner)
        assert mending.is_whole
        await mending.finish()
        await mending.put_in_place()
        mended, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True)
        assert (mended.hole, mended.base, mended.voters) == (None, Point(1, 3, 1), VOTERS)

    asyncio.run(scenario())


# -- finding -----------------------------------------------------------------------------------------------------------


def test_a_scrub_finds_whichever_byte_flipped_or_makes_it_again() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env, *SHAPES, config=CONFIG)
        await log.sync()
        assert await scrub(disk, log, no_pace) == log.size_bytes
        for path in sorted(path for path in disk.names if path.endswith((".log", ".head"))):
            good = bytes(disk.names[path].cache)
            for at in range(0, len(good), 11):
                disk.flip(path, at)
                if path.endswith(".log"):
                    with pytest.raises(DamagedLog):
                        await scrub(disk, log, no_pace)
                    disk.put(path, good)
                else:
                    await scrub(disk, log, no_pace)
            whole, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
            assert verdict.damage is None
            assert points_of(whole) == points_of(log)
            whole.close()

    asyncio.run(scenario())


def test_a_scrub_that_cannot_write_a_head_leaves_it_for_the_next_one() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *SHAPES, config=CONFIG)
        await log.sync()
        head = max(path for path in disk.names if path.endswith(".head"))
        good = bytes(disk.names[head].cache)
        disk.flip(head, 20)
        disk.free = 0
        assert await scrub(disk, log, no_pace) == log.size_bytes
        disk.free = 1 << 40
        disk.syncs_that_fail = lambda path: path.endswith(".mended")
        assert await scrub(disk, log, no_pace) == log.size_bytes
        assert disk.names[head].cache != good
        disk.syncs_that_fail = lambda path: False
        await scrub(disk, log, no_pace)
        assert disk.names[head].cache == good

    asyncio.run(scenario())


def test_a_scrub_passes_over_an_index_of_which_the_disk_does_not_say_whether_it_is_there() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *SHAPES, config=CONFIG)
        await log.sync()
        disk.lookups_that_fail = {path for path in disk.names if path.endswith("index")}
        assert disk.lookups_that_fail
        assert await scrub(disk, log, no_pace) == log.size_bytes

    asyncio.run(scenario())


def test_a_scrub_says_if_the_name_of_a_mended_head_may_not_be_on_disk() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *SHAPES, config=CONFIG)
        await log.sync()
        disk.flip(max(path for path in disk.names if path.endswith(".head")), 20)
        disk.syncs_that_fail = lambda path: path == log.directory
        with pytest.raises(NamesNotSynced):
            await scrub(disk, log, no_pace)

    asyncio.run(scenario())


@pytest.mark.parametrize("byte", [7, 15])
def test_a_reader_is_not_led_past_a_record_by_a_header_that_says_another_place_or_term(byte: int) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 3, 2, 4)
        position, _ = item_bounds(disk, FIRST + ".log")[2]
        disk.names[FIRST + ".log"].cache[position + byte] ^= 2  # of its base offset or its term, which no CRC covers
        assert len(log.read_records(0, 9, 1 << 20)) == 1
        with pytest.raises(DamagedLog):
            log.read_records(3, 9, 1 << 20)

    asyncio.run(scenario())


def test_a_head_for_another_replica_is_not_made_of_bytes_that_are_not_what_was_written() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *SHAPES)
        await log.sync()
        at = [item.point for item in items_of(ORIGIN, *SHAPES)].index(Point(1, 3, 1))
        begin, _ = item_bounds(disk, FIRST + ".log")[at]
        disk.flip(FIRST + ".log", begin + PRODUCER_BYTE)
        with pytest.raises(DamagedLog):
            log.head_at(Point(1, 5, 1))
        log.close()

    asyncio.run(scenario())


def test_a_head_made_again_does_not_take_the_place_of_one_that_was_begun_there_meanwhile() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env, *SHAPES, config=CONFIG)
        await log.sync()
        second = log.stored_segments()[1]
        head = second.path.removesuffix(".log") + ".head"
        disk.flip(head, len(disk.names[head].cache) // 2)
        right, reached = FakeFile.fdatasync, asyncio.Event()
        gate = asyncio.Event()

        async def slowly(file: FakeFile) -> None:
            if file.path.endswith(".mended"):
                reached.set()
                await gate.wait()
            await right(file)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeFile, "fdatasync", slowly)
            scrubbing = asyncio.create_task(scrub(disk, log, no_pace))
            await reached.wait()
            await log.cut(log.stored_segments()[0].base)
            for item in items_of(log.end, "T7", 3, 2, 4, 1, 5, 6, 7):
                log.append([item], 5)
            await log.sync()
            gate.set()
            await scrubbing
        whole, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert verdict.damage is None
        assert points_of(whole) == points_of(log)
        whole.close()

    asyncio.run(scenario())


def of_a_learners_beginning(*shapes: Any) -> PartitionLog:
    """A log that lost its first head, and got one that names nobody."""

    async def scenario() -> PartitionLog:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *shapes, config=CONFIG)
        await log.sync()
        mark, held = log.end, list(log.read_items(ORIGIN, log.end, 1 << 30))
        log.close()
        disk.put(f"{FIRST}.head", b"decayed")
        log, _ = await PartitionLog.recover(
            FakeEnvironment(disk), DATA, PARTITION, mark=mark, same_boot=True, config=CONFIG
        )
        assert log.hole is not None and log.hole.segment < 0 and len(log.hole.bases) > 2
        learner = await PartitionLog.create(FakeEnvironment(FakeDisk()), DATA, PARTITION, (), CONFIG)
        mending = Mending(disk, LOG_DIRECTORY, log.hole, rewritten_to=0, cleaned_to=0, breathe=no_breath)
        mending.begin_at(learner.head_at(ORIGIN))
        if not mending.is_whole:
            mending.take(held, 0)
        log.close()
        await mending.finish()
        await mending.put_in_place()
        whole, _ = await PartitionLog.recover(
            FakeEnvironment(disk), DATA, PARTITION, mark=mark, same_boot=True, config=CONFIG
        )
        assert whole.hole is None and whole.end == mark
        return whole

    return asyncio.run(scenario())


def test_a_beginning_that_names_no_voters_gets_those_that_the_own_second_head_names() -> None:
    log = of_a_learners_beginning("T1", *([3] * 30))
    assert log.voter_sets.at(ORIGIN) == log.voters == VOTERS


def test_voters_whom_an_item_names_are_not_taken_for_those_at_the_beginning() -> None:
    """The item may yet be cut."""
    log = of_a_learners_beginning("T1", VOTERS[:2], *([3] * 30))
    assert log.voter_sets.at(ORIGIN) == () and log.voters == VOTERS[:2]


def test_heads_that_name_voters_are_believed_where_the_beginning_of_a_log_names_none() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, CONFIG)
        for item in items_of(log.end, "T1", *([3] * 30)):
            log.append([item], 5)
        await log.sync()
        mark, bases = log.end, [segment.base for segment in log.stored_segments()]
        log.close()
        first = read_head(disk, LOG_DIRECTORY, 0)
        disk.put(f"{FIRST}.head", msgspec.structs.replace(first, voters=()).to_bytes())
        again, _ = await PartitionLog.recover(
            FakeEnvironment(disk), DATA, PARTITION, mark=mark, same_boot=True, config=CONFIG
        )
        assert again.voters == VOTERS and again.voter_sets.at(bases[1]) == VOTERS
        await again.cut(bases[2])
        assert again.voters == VOTERS

    asyncio.run(scenario())


def test_a_place_that_cannot_be_read_costs_nothing_of_what_stands_before_it() -> None:
    """Reads are of many items at once: the one that fails is tried again one item at a time."""

    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", *([1] * 200))
        await log.sync()
        mark = log.end
        log.close()
        path = f"{FIRST}.log"
        bounds = item_bounds(disk, path)
        before = [at for at, (position, size) in enumerate(bounds) if position + size <= PAGE_BYTES]
        disk.blocks_that_fail = {(path, 1)}
        hurt, _ = await PartitionLog.recover(
            FakeEnvironment(disk), DATA, PARTITION, mark=mark, same_boot=True, config=ONE_SEGMENT, suspects=None
        )
        assert hurt.hole is not None and hurt.hole.position == bounds[len(before)][0] > 0
        assert len(hurt.read_items(ORIGIN, hurt.end, 1 << 30)) == len(before)

    asyncio.run(scenario())
