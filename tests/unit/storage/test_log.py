"""A log appends, reads, rolls and cuts."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage import zero_width
from lograft.partitions.storage.log import DamagedLog, PartitionLog
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import Compression, NewRecord, encode, read_header, stamp

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
    a_log,
    items_of,
    points_of,
    records,
    recovered,
    turns,
)

MANY = ("T1", *([1] * 12), "T2", *([3] * 12), VOTERS[:2], *([1] * 6), "T5", 2)


def segments_on(disk: FakeDisk) -> list[int]:
    return [int(name[:20]) for name in disk.list(LOG_DIRECTORY) if name.endswith(".log")]


def test_a_new_log_is_empty_and_durable() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk))
        assert (log.end, log.voters, log.start_offset, log.size_bytes) == (ORIGIN, VOTERS, 0, 0)
        disk.lose_power()
        again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False)
        assert (again.end, again.voters, verdict.damage, verdict.doubtful) == (ORIGIN, VOTERS, None, False)

    asyncio.run(scenario())


def test_creation_removes_what_an_unlisted_replica_left() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        assert len(segments_on(disk)) > 2
        log = await a_log(FakeEnvironment(disk))
        assert log.end == ORIGIN and segments_on(disk) == [0]

    asyncio.run(scenario())


def test_the_size_up_to_a_point_rises_to_that_of_the_whole_log_and_lags_by_an_index_interval_at_most() -> None:
    async def scenario() -> None:
        log = await PartitionLog.create(FakeEnvironment(FakeDisk()), DATA, PARTITION, VOTERS, CONFIG)
        assert log.size_to(ORIGIN) == 0
        items = items_of(ORIGIN, *MANY)
        log.append(items, 5)
        exact = 0
        for item in items:
            exact += len(item.data)
            assert exact - CONFIG.index_interval_bytes - len(item.data) <= log.size_to(item.point) <= exact
        assert log.size_to(log.end) == log.size_bytes == exact

    asyncio.run(scenario())


def test_items_are_read_back_as_they_were_written_across_segments() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await PartitionLog.create(FakeEnvironment(disk), DATA, PARTITION, VOTERS, CONFIG)
        items = items_of(ORIGIN, *MANY)
        for item in items[:10]:
            log.append([item], 5)
        ticket = log.append(items[10:], 6)
        assert ticket.end == log.end == items[-1].point and ticket == log.ticket()
        assert len(segments_on(disk)) > 3
        read = log.read_items(ORIGIN, log.end, 1 << 30)
        assert [(item.point, item.kind, bytes(item.data)) for item in read] == [
            (item.point, item.kind, bytes(item.data)) for item in items
        ]
        for before, item in zip([None, *items], items, strict=False):
            after = ORIGIN if before is None else before.point
            assert [one.point for one in log.read_items(after, log.end, 1)] == [item.point]
            assert log.read_items(after, after, 1 << 20) == ()
        assert log.journal.last == log.end and log.voters == VOTERS[:2]

    asyncio.run(scenario())


def test_a_term_start_without_bytes_is_encoded_by_the_log() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()))
        log.append([Item(Point(4, 0, 1), ItemKind.TERM_START, b"")], 5)
        (item,) = log.read_items(ORIGIN, log.end, 1)
        assert item.kind is ItemKind.TERM_START and item.point == Point(4, 0, 1)

    asyncio.run(scenario())


def test_records_are_read_from_the_batch_that_holds_the_offset_and_without_zero_width_items() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), *MANY, config=CONFIG)
        end = log.end.offset
        for offset in range(end):
            headers = [read_header(batch) for batch in log.read_records(offset, end, 1 << 20)]
            assert headers[0].base_offset <= offset < headers[0].next_offset
            assert all(a.next_offset == b.base_offset for a, b in pairwise(headers))
            assert headers[-1].next_offset == end and all(header.width for header in headers)
            assert len(log.read_records(offset, end, 1)) == 1
        assert log.read_records(end, end, 1 << 20) == []
        # The batch of three at 12 does not lie wholly below 14.
        assert log.read_records(12, 14, 1 << 20) == []
        assert len(log.read_records(12, 15, 1 << 20)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("reads_records", [True, False])
def test_who_reads_up_to_what_is_committed_reads_on_from_there(reads_records: bool, monkeypatch: Any) -> None:
    async def scenario() -> None:
        config = ReplicaConfig(segment_bytes_max=1 << 20, index_interval_bytes=1 << 20)
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", *([1] * 20), config=config)
        committed = Point(1, 15, 1)
        positions: list[int] = []
        read = FakeFile.read

        def noted(file: FakeFile, position: int, size: int) -> bytes:
            positions.append(position)
            return read(file, position, size)

        def read_up_to(before: Point, upto: Point) -> object:
            if reads_records:
                return log.read_records(before.offset, upto.offset, 1 << 20)
            return log.read_items(before, upto, 1 << 20)

        assert read_up_to(ORIGIN, committed)
        monkeypatch.setattr(FakeFile, "read", noted)
        assert read_up_to(committed, committed._replace(offset=16))
        size = log.size_bytes // 21
        assert min(positions) >= 14 * size, "what stands before was read again"

    asyncio.run(scenario())


def test_reading_respects_the_limit_but_for_the_first() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", *([1] * 20))
        size = len(log.read_records(0, 1, 1)[0])
        assert len(log.read_records(0, 20, 5 * size)) == 5
        assert len(log.read_records(0, 20, 5 * size + size - 1)) == 5
        assert len(log.read_items(Point(1, 0, 1), log.end, 5 * size)) == 5

    asyncio.run(scenario())


@pytest.mark.parametrize("bytes_max", [1, 80, 1 << 20])
def test_items_passed_over_on_the_way_take_nothing_of_the_limit(bytes_max: int) -> None:
    """The term start before the batch once used the limit up, and the log was called damaged."""

    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", 40, "T2", "T3", 40, 40)
        for offset in (0, 39, 40, 79, 80, 119):
            found = log.read_records(offset, log.end.offset, bytes_max)
            assert read_header(found[0]).base_offset == offset // 40 * 40

    asyncio.run(scenario())


def test_two_segments_never_share_a_base_offset() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        tiny = ReplicaConfig(segment_bytes_max=1, index_interval_bytes=1)
        log = await a_log(FakeEnvironment(disk), "T1", "T2", VOTERS[:1], 1, "T3", VOTERS, 2, 2, config=tiny)
        assert segments_on(disk) == [0, 1, 3]
        assert len(points_of(log)) == 8

    asyncio.run(scenario())


def test_the_first_batch_that_reaches_a_time_is_found_though_clocks_go_back() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", config=CONFIG)
        for timestamp_ms in (10, 50, 20, 60, 60, 30, 90):
            log.append([records(log.end, 2, timestamp_ms=timestamp_ms, size=100)], 5)
        assert [log.offset_for_time(t, 0, 14) for t in (0, 11, 50, 51, 61, 91)] == [
            (0, 10), (2, 50), (2, 50), (6, 60), (12, 90), None,
        ]  # fmt: skip
        assert log.offset_for_time(61, 0, 13) is None

    asyncio.run(scenario())


def test_a_wrong_or_missing_index_costs_a_scan_and_not_a_wrong_answer() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        right = [bytes(batch) for batch in log.read_records(0, log.end.offset, 1 << 20)]
        await log.sync()
        log.close()
        indexes = [name for name in disk.list(LOG_DIRECTORY) if name.endswith("index")]
        assert indexes
        for number, name in enumerate(indexes):
            path = f"{LOG_DIRECTORY}/{name}"
            if number % 3:
                disk.put(path, disk.names[f"{LOG_DIRECTORY}/{indexes[-1]}"].cache if number % 3 == 1 else b"no index")
            else:
                disk.remove(path)
        again, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert [bytes(batch) for batch in again.read_records(0, again.end.offset, 1 << 20)] == right
        assert points_of(again) == [item.point for item in items_of(ORIGIN, *MANY)]

    asyncio.run(scenario())


def test_a_wrong_index_of_which_the_disk_does_not_say_whether_it_is_there_costs_a_scan_too() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        await log.sync()
        segment, other = log._segments[0], log._segments[1]
        for name in (".index", ".timeindex"):
            disk.lookups_that_fail.add(f"{LOG_DIRECTORY}/{0:020d}{name}")
        segment.take_index(other.index)
        assert points_of(log) == [item.point for item in items_of(ORIGIN, *MANY)]
        segment.take_index(other.index)
        assert read_header(log.read_records(1, log.end.offset, 1)[0]).base_offset <= 1

    asyncio.run(scenario())


def test_an_item_that_is_not_what_its_point_says_is_refused_and_so_are_those_before_it() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", 1)
        good = records(log.end)
        flipped = bytearray(records(good.point).data)
        flipped[-1] ^= 1
        elsewhere = records(Point(1, 9, 1))
        for bad in (
            Item(Point(1, 3, 1), ItemKind.RECORDS, flipped),
            elsewhere,
            Item(Point(1, 4, 1), good.kind, good.data),
        ):
            with pytest.raises(CorruptBatch):
                log.append([good, bad], 5)
            assert log.end == Point(1, 1, 1) and len(points_of(log)) == 2

    asyncio.run(scenario())


def test_a_full_disk_leaves_the_log_as_it_was() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 1)
        before, size = log.end, log.size_bytes
        disk.free = 50
        with pytest.raises(OSError, match="no space"):
            log.append([records(log.end, 1)], 6)
        assert (log.end, log.size_bytes) == (before, size)
        assert len(disk.names[f"{LOG_DIRECTORY}/{0:020d}.log"].cache) == size
        disk.free = 1 << 30
        log.append([records(log.end, 1)], 6)
        assert len(points_of(log)) == 3

    asyncio.run(scenario())


def test_a_disk_too_full_for_a_new_segment_leaves_no_half_of_one() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        config = ReplicaConfig(segment_bytes_max=1)
        log = await a_log(FakeEnvironment(disk), "T1", 1, config=config)
        disk.free = 20
        with pytest.raises(OSError, match="no space"):
            log.append([records(log.end, 1)], 6)
        assert segments_on(disk) == [0]
        disk.free = 1 << 30
        log.append([records(log.end, 1)], 6)
        assert segments_on(disk) == [0, 1]

    asyncio.run(scenario())


def test_a_disk_that_gives_no_head_for_a_new_segment_leaves_no_half_of_one() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 1, config=ReplicaConfig(segment_bytes_max=1))
        disk.lookups_that_fail = {f"{LOG_DIRECTORY}/{1:020d}.head"}
        with pytest.raises(OSError, match="input/output error"):
            log.append([records(log.end, 1)], 6)
        assert segments_on(disk) == [0]
        disk.lookups_that_fail = set()
        log.append([records(log.end, 1)], 6)
        assert segments_on(disk) == [0, 1]

    asyncio.run(scenario())


@pytest.mark.parametrize("config", [CONFIG, ONE_SEGMENT])
def test_a_log_can_be_cut_to_each_of_its_points_and_goes_on_from_there(config: ReplicaConfig) -> None:
    async def scenario() -> None:
        items = items_of(ORIGIN, *MANY)
        for keep in range(len(items)):
            disk = FakeDisk()
            log = await a_log(FakeEnvironment(disk), *MANY, config=config)
            point = items[keep - 1].point if keep else ORIGIN
            await log.cut(point)
            assert log.end == point and log.journal.last == point
            assert points_of(log) == [item.point for item in items[:keep]]
            if keep < items.index(next(item for item in items if item.kind is ItemKind.VOTERS)) + 1:
                assert log.voters == VOTERS
            for item in items_of(point, "T9", 4, 4):
                log.append([item], 9)
            await log.sync()
            disk.lose_power()
            again, verdict = await recovered(FakeEnvironment(disk), ORIGIN, same_boot=False, config=config)
            assert points_of(again) == points_of(log) and verdict.damage is None and not verdict.doubtful
            assert again.journal.spans == log.journal.spans

    asyncio.run(scenario())


def test_a_cut_unlinks_newest_first_and_truncates_last_each_durably() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        await log.sync()
        bases = segments_on(disk)
        disk.history.clear()
        await log.cut(Point(1, 1, 1))
        unlinked = [int(what[7:27]) for what in disk.history if what.startswith("unlink") and what.endswith(".log")]
        assert unlinked == bases[:0:-1]
        kept = [what for what in disk.history if "index" not in what and ".head" not in what]
        assert kept[-2:] == [f"truncate {0:020d}.log", f"sync {0:020d}.log"]
        assert kept[: 2 * len(unlinked) : 2] == [f"unlink {base:020d}.log" for base in unlinked]
        assert set(kept[1 : 2 * len(unlinked) : 2]) == {"sync directory"}

    asyncio.run(scenario())


def test_a_ticket_from_before_a_cut_is_worthless_from_the_announcement_on() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", 1, 1)
        early = log.ticket()
        log.announce_cut()
        between = log.ticket()
        assert early.cuts != log.cuts
        cutting = log.cut(Point(1, 1, 1))
        during = log.ticket()
        await cutting
        assert {early.cuts, between.cuts, during.cuts}.isdisjoint({log.cuts})
        assert log.ticket().cuts == log.cuts

    asyncio.run(scenario())


def test_producers_are_rolled_back_with_a_cut() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", config=CONFIG)
        for sequence in range(8):
            made = encode(
                [NewRecord(1, None, b"x" * 90)],
                compression=Compression.NONE,
                producer_id=7,
                producer_epoch=0,
                base_sequence=sequence,
            )
            data = stamp(made, sequence, 1)
            log.append([Item(Point(1, sequence + 1, 1), ItemKind.RECORDS, data)], 5)
        before = log.producers.to_bytes()
        for keep in (6, 3, 0):
            await log.cut(Point(1, keep, 1))
            assert log.producers.to_bytes() != before
            header = read_header(
                encode(
                    [NewRecord(1, None, b"x")],
                    compression=Compression.NONE,
                    producer_id=7,
                    producer_epoch=0,
                    base_sequence=keep,
                )
            )
            assert type(log.producers.check(header, keep)).__name__ == "Fresh"

    asyncio.run(scenario())


def test_a_sync_does_closed_segments_first_and_each_head_before_its_items() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), config=ReplicaConfig(segment_bytes_max=1))
        disk.history.clear()
        log.append(items_of(ORIGIN, "T1", 1, 1), 5)
        await log.sync()
        assert [what for what in disk.history if "index" not in what] == [
            f"sync {0:020d}.log",
            f"sync {1:020d}.head",
            "sync directory",
            f"sync {1:020d}.log",
        ]
        disk.history.clear()
        await log.sync()
        assert disk.history == []

    asyncio.run(scenario())


def test_a_cut_that_fails_ends_the_process() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env, "T1", 1, 1)
        disk.syncs_that_fail = lambda path: True
        with pytest.raises(Halted):
            await log.cut(Point(1, 1, 1))

    asyncio.run(scenario())


def test_a_cut_overtakes_a_sync_without_harm() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env, *MANY, config=CONFIG)
        env.spawn(log.sync())
        await asyncio.sleep(0)
        await log.cut(Point(1, 2, 1))
        await turns()
        assert env.halted is None and log.end == Point(1, 2, 1)

    asyncio.run(scenario())


def test_the_size_up_to_a_point_is_told_though_its_segment_cannot_be_read() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        points = points_of(log)
        await log.sync()
        log.close()
        log, _ = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        path = f"{LOG_DIRECTORY}/{segments_on(disk)[1]:020d}.log"
        for suffix in (".index", ".timeindex"):
            disk.names.pop(path.removesuffix(".log") + suffix, None)
        disk.blocks_that_fail = {(path, 0)}
        sizes = [log.size_to(point) for point in points]
        assert sizes == sorted(sizes) and sizes[-1] > 0

    asyncio.run(scenario())


def test_a_read_that_meets_a_flaw_says_where() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 1, 1, 1)
        await log.sync()
        size = log.size_bytes
        disk.flip(f"{LOG_DIRECTORY}/{0:020d}.log", size - 3)
        assert len(log.read_records(0, 3, 1 << 20)) == 2
        with pytest.raises(DamagedLog) as caught:
            log.read_records(2, 3, 1 << 20)
        assert caught.value.position == size - (size - len(log.read_items(ORIGIN, Point(1, 0, 1), 1)[0].data)) // 3
        with pytest.raises(DamagedLog):
            log.read_items(Point(1, 2, 1), log.end, 1 << 20)

    asyncio.run(scenario())


def test_a_read_of_what_no_segment_holds_says_so_and_does_not_go_on_looking() -> None:
    async def scenario() -> None:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1", *[1] * 40, config=CONFIG)
        await log.sync()
        lost = log._segments[2]
        log._segments._line.remove(lost)
        with pytest.raises(DamagedLog, match=f"no batch holds offset {lost.base.offset}"):
            log.read_records(lost.base.offset, 40, 1000)
        with pytest.raises(DamagedLog, match="nothing follows"):
            log.read_items(lost.base, log.end, 1000)
        first = lost.base.offset - 1
        assert [read_header(batch).base_offset for batch in log.read_records(first, 40, 1000)] == [first]
        assert len(log.read_items(Point(1, first, 1), log.end, 1000)) == 1

    asyncio.run(scenario())


def test_the_log_start_is_what_the_newest_move_says() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 5, 5)
        log.append([zero_width.log_start_move(Point(1, 10, 2), 5)], 5)
        assert log.start_offset == 5
        await log.cut(Point(1, 10, 1))
        assert log.start_offset == 0

    asyncio.run(scenario())


def test_deletion_leaves_nothing() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
        await log.delete()
        disk.lose_power()
        assert not [path for path in disk.names if "partitions" in path] and not disk.exists(LOG_DIRECTORY)

    asyncio.run(scenario())


def test_a_real_disk_keeps_a_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        env = RealEnvironment(str(tmp_path))
        voters = (Voter(1, "d", 1),)
        log = await PartitionLog.create(env, str(tmp_path), PARTITION, voters, CONFIG)
        for item in items_of(ORIGIN, *MANY):
            log.append([item], 5)
        await log.sync()
        await log.cut(Point(2, 30, 1))
        log.append(items_of(log.end, "T7", 3), 8)
        await log.sync()
        expected = points_of(log)
        log.close()
        again, verdict = await PartitionLog.recover(
            env, str(tmp_path), PARTITION, mark=Point(2, 21, 1), same_boot=True, config=CONFIG
        )
        assert points_of(again) == expected and verdict.damage is None and not verdict.cut_bytes
        await again.delete()
        assert list((tmp_path / "partitions").iterdir()) == []
        env.stop()

    asyncio.run(scenario())
