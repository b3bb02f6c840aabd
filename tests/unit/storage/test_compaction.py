"""A log that is compacted keeps the newest of each key, its points, and its producers, whatever crashes when."""

from __future__ import annotations

import asyncio
import errno
from random import Random
from typing import Any

import pytest
from crc32c import crc32c
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.storage import rewriting
from lograft.partitions.storage.compaction import CompactionSettings, CompactionState, plan_compaction
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.rewriting import Rewritten, rewrite
from lograft.partitions.storage.scrub import scrub
from lograft.partitions.storage.segment import NEW, DamagedLog, read_head
from lograft.partitions.storage.segments import ClosedSegment
from lograft.partitions.storage.zero_width import log_start_move
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import Record, decode, read_header

from tests.unit.storage.fakes import (
    DATA,
    LOG_DIRECTORY,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    FakeFile,
    PowerCut,
    recovered,
)
from tests.unit.storage.histories import (
    NOW_MS,
    OLD,
    SMALL,
    YOUNG,
    History,
    compact,
    items_in,
    job_for,
    log_of,
    no_pace,
    random_history,
)


def records_in(log: PartitionLog) -> list[Record]:
    return [record for item in items_in(log) if item.kind is ItemKind.RECORDS for record in decode(item.data)]


def newest_in(log: PartitionLog) -> dict[bytes, Record]:
    return {record.key: record for record in records_in(log) if record.key is not None}


def without_tombstones(newest: dict[bytes, Record]) -> dict[bytes, Record]:
    return {key: record for key, record in newest.items() if record.value is not None}


def check_against(history: History, log: PartitionLog, *, tombstones_kept: bool) -> None:
    """The newest of each key is there, nothing is there that was not, and zero-width items are all in their places."""
    expected, found = history.newest(), newest_in(log)
    if tombstones_kept:
        assert found == expected
    else:
        assert without_tombstones(found) == without_tombstones(expected)
        assert all(record == expected[key] for key, record in found.items())
    assert set(records_in(log)) <= set(history.records)
    assert [record for record in records_in(log) if record.key is None] == [
        record for record in history.records if record.key is None
    ]
    zero_width = [item for item in history.items if item.kind is not ItemKind.RECORDS]
    assert [(item.point, bytes(item.data)) for item in items_in(log) if item.kind is not ItemKind.RECORDS] == [
        (item.point, bytes(item.data)) for item in zero_width
    ]
    points = {item.point for item in history.items}
    assert all(item.point in points for item in items_in(log))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("settings", [OLD, YOUNG], ids=["tombstones go", "tombstones stay"])
def test_the_newest_of_each_key_stays_where_it_was_and_a_second_compaction_drops_nothing(
    seed: int, settings: CompactionSettings
) -> None:
    async def scenario() -> None:
        history = random_history(seed)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        before = log.size_bytes
        outcome = await compact(env, log, settings)
        assert outcome.records_dropped > 0 and log.size_bytes < before
        check_against(history, log, tombstones_kept=settings is YOUNG)
        producers = log.producers.to_bytes()
        once = records_in(log)
        again = await compact(env, log, settings)
        assert again.records_dropped == 0 and records_in(log) == once
        items = [bytes(item.data) for item in items_in(log)]

        env.disk.lose_power()
        env = FakeEnvironment(env.disk)
        back, verdict = await recovered(env, log.end, same_boot=False, config=SMALL)
        assert verdict.damage is None and back.end == history.end
        assert [bytes(item.data) for item in items_in(back)] == items
        assert back.journal.spans == log.journal.spans
        assert (back.voters, back.producers.to_bytes()) == (log.voters, producers)

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_a_log_copied_from_a_compacted_one_has_the_same_producers_voters_and_journal(seed: int) -> None:
    async def scenario() -> None:
        history = random_history(seed)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        await compact(env, log)
        other = FakeEnvironment(FakeDisk())
        copy = await PartitionLog.create(other, DATA, PARTITION, VOTERS, SMALL)
        copy.append(items_in(log), 5)
        assert (copy.end, copy.voters, copy.journal.spans) == (log.end, log.voters, log.journal.spans)
        assert copy.producers.to_bytes() == log.producers.to_bytes()

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(4))
def test_a_fetch_at_any_offset_gives_the_batch_that_holds_it_and_moves_on(seed: int) -> None:
    async def scenario() -> None:
        history = random_history(seed)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        await compact(env, log)
        end = log.end.offset
        for offset in range(end):
            for bytes_max in (1, 300, 1 << 20):
                batches = log.read_records(offset, end, bytes_max)
                first = read_header(batches[0])
                assert first.base_offset <= offset < first.next_offset
        for timestamp in range(0, end + 1, 7):
            found = log.offset_for_time(timestamp, 0, end)
            later = [record for record in records_in(log) if record.timestamp_ms >= timestamp]
            assert (found is None) == (not later)
            if found is not None:
                assert found[0] <= later[0].offset <= found[1]

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kept", [lambda path, page: False, lambda path, page: True], ids=["none kept", "all kept"])
def test_a_power_loss_at_any_disk_operation_leaves_a_log_with_the_newest_of_each_key(seed: int, kept: Any) -> None:
    async def scenario() -> None:
        history = random_history(seed, batches=40)
        operation = 0
        while True:
            operation += 1
            env = FakeEnvironment(FakeDisk())
            log = await log_of(env, history)
            await env.disk.sync_directory(LOG_DIRECTORY)
            env.disk.cut_power_at = env.disk.operations + operation
            try:
                await compact(env, log)
            except PowerCut:
                pass
            else:
                break
            env.disk.lose_power(kept)
            env = FakeEnvironment(env.disk)
            back, verdict = await recovered(env, log.end, same_boot=False, config=SMALL)
            assert verdict.damage is None and not verdict.doubtful, f"at operation {operation}: {verdict}"
            check_against(history, back, tombstones_kept=False)
            await compact(env, back)
            check_against(history, back, tombstones_kept=False)
        assert operation > 30

    asyncio.run(scenario())


def test_a_segment_that_was_rewritten_is_taken_unread_at_the_next_start() -> None:
    async def scenario() -> None:
        history = random_history(1)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        count = len(log.closed_segments())
        await compact(env, log)
        await compact(env, log)
        assert len(log.closed_segments()) < count
        for path in sorted(path for path in env.disk.names if path.endswith(".log"))[:-1]:
            env.disk.flip(path, 30)  # nobody looks
        _, verdict = await recovered(FakeEnvironment(env.disk), log.end, same_boot=True, config=SMALL)
        assert verdict.damage is None

    asyncio.run(scenario())


def test_a_tombstone_stays_until_it_is_old_enough_and_then_goes_without_a_new_record() -> None:
    async def scenario() -> None:
        history = History()
        history.begin_term(1)
        history.put((b"a", b"1"), (b"b", b"1"))
        history.put((b"a", None))
        for _ in range(12):
            history.put((b"c", b"x" * 50))
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        state, settings = CompactionState(0), OLD._replace(tombstones_ms=NOW_MS)
        job = job_for(log, settings, state)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        assert outcome.has_leftovers
        for one in outcome.segments:
            await log.replace(one)
        state.note(job, outcome, NOW_MS, settings)
        assert newest_in(log)[b"a"].value is None
        later = [log.base, log.closed_segments(), log.end, state, settings]
        assert plan_compaction(LOG_DIRECTORY, *later, 2 * NOW_MS - 1) is None
        job = plan_compaction(LOG_DIRECTORY, *later, 2 * NOW_MS)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        for one in outcome.segments:
            await log.replace(one)
        assert b"a" not in newest_in(log) and newest_in(log)[b"b"].value == b"1"
        assert max(one.cleaned_to for one in outcome.segments) >= 3

    asyncio.run(scenario())


def test_no_tombstone_goes_behind_a_batch_whose_keys_cannot_be_read() -> None:
    async def scenario() -> None:
        history = History()
        history.begin_term(1)
        history.put((b"a", b"1"))
        packed = bytearray(history.items[-1].data)
        history.put((b"b", None))
        history.put((b"a", None))
        for _ in range(12):
            history.put((b"c", b"x" * 50))
        env = FakeEnvironment(FakeDisk())
        # As a client could have sent it: compressed by a codec that nobody here reads.
        opaque = reattributed(packed, attributes=2)
        history.items[1] = Item(history.items[1].point, ItemKind.RECORDS, opaque)
        log = await log_of(env, history)
        await compact(env, log)
        kept = [record for item in items_in(log)[2:] if item.kind is ItemKind.RECORDS for record in decode(item.data)]
        assert {record.key for record in kept if record.value is None} == {b"a", b"b"}
        assert items_in(log)[1].data == opaque

    asyncio.run(scenario())


def reattributed(batch: bytearray, attributes: int) -> bytes:
    batch[21:23] = attributes.to_bytes(2, "big")
    batch[17:21] = crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


@pytest.mark.parametrize(
    "position", [100, 7, 15], ids=["a record", "the base offset, which no CRC covers", "the term, which no CRC covers"]
)
def test_a_damaged_segment_is_not_compacted_and_nothing_is_left_of_the_try(position: int) -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, random_history(2))
        path = sorted(path for path in env.disk.names if path.endswith(".log"))[1]
        env.disk.flip(path, position)
        job = job_for(log, OLD)
        assert job is not None
        with pytest.raises(DamagedLog):
            await rewrite(job, env.disk, no_pace)

    asyncio.run(scenario())


def test_keys_that_find_no_room_are_found_by_reading_again() -> None:
    async def scenario() -> None:
        history = random_history(3, batches=100, keys=40)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        outcome = await compact(env, log, OLD._replace(table_bytes_max=1000))
        assert outcome.readings > 3
        check_against(history, log, tombstones_kept=False)

    asyncio.run(scenario())


def test_what_the_disk_does_not_find_for_a_moment_is_put_in_place_later() -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, random_history(4))
        job = job_for(log, OLD)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        env.disk.lookups_that_fail = {path for path in env.disk.names if path.endswith(".log" + NEW)}
        assert env.disk.lookups_that_fail and not await log.replace(outcome.segments[0])
        env.disk.lookups_that_fail = set()
        assert await log.replace(outcome.segments[0])

    asyncio.run(scenario())


def test_what_changed_since_the_plan_is_not_replaced() -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, random_history(4))
        job = job_for(log, OLD)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        log.drop_before(outcome.segments[0].end)
        await log.remove_dropped()
        assert not await log.replace(outcome.segments[0])
        assert await log.replace(outcome.segments[1])

    asyncio.run(scenario())


def test_a_start_inside_an_emptied_range_can_still_be_read_from() -> None:
    async def scenario() -> None:
        history = History()
        history.begin_term(1)
        for _ in range(30):
            history.put((b"c", b"x" * 50))
        history.take(log_start_move(history.end._replace(rank=2), 13))
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        await compact(env, log)
        assert log.start_offset == 13
        assert read_header(log.read_records(13, log.end.offset, 1 << 20)[0]).base_offset <= 13

    asyncio.run(scenario())


# -- planning ----------------------------------------------------------------------------------------------------------


def closed(*sizes_and_times: tuple[int, int]) -> list[ClosedSegment]:
    return [
        ClosedSegment(at * 10, Point(1, (at + 1) * 10, 1), size, time)
        for at, (size, time) in enumerate(sizes_and_times)
    ]


def planned(segments: list[ClosedSegment], settings: CompactionSettings, **facts: Any) -> list[list[int]] | None:
    through = facts.get("through", Point(1, 1 << 40, 1))
    state = CompactionState(facts.get("compacted_to", 0))
    job = plan_compaction("d", ORIGIN, segments, through, state, settings, facts.get("now_ms", NOW_MS))
    return None if job is None else [[source.base.offset for source in group.sources] for group in job.groups]


def test_neighbours_become_one_while_they_fit() -> None:
    assert planned(closed((300, 1), (300, 2), (300, 3), (700, 4), (10, 5)), OLD) == [[0, 10], [20], [30], [40]]


def test_segments_with_tombstones_that_must_stay_become_one_only_with_those_of_their_age() -> None:
    settings = OLD._replace(tombstones_ms=800)
    times = (NOW_MS - 900, NOW_MS - 850, NOW_MS - 700, NOW_MS - 690, NOW_MS - 300)
    assert planned(closed(*((1, time) for time in times)), settings) == [[0, 10], [20, 30], [40]]


def test_only_what_is_safe_is_compacted() -> None:
    segments = closed((300, 1), (300, 2), (300, 3))
    assert planned(segments, OLD, through=Point(1, 20, 1)) == [[0, 10]]
    assert planned(segments, OLD, through=Point(1, 9, 1)) is None


def test_it_is_time_once_more_is_dirty_than_clean_or_than_the_bound() -> None:
    segments = closed((300, 1), (300, 2), (300, 3))
    settings = OLD._replace(dirty_bytes_max=1000)
    assert planned(segments, settings, compacted_to=20) is None
    assert planned(segments, settings, compacted_to=10) is not None
    assert planned(segments, settings._replace(dirty_bytes_max=299), compacted_to=20) is not None
    assert planned(segments, settings, compacted_to=30) is None


def test_the_following_head_says_what_stands_before_it_once_neighbours_became_one() -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, random_history(5))
        outcome = await compact(env, log)
        for one in outcome.segments:
            head = read_head(env.disk, LOG_DIRECTORY, one.end.offset)
            assert head.bytes_before == one.size_bytes
            assert head.landmarks_before[-1] == one.end

    asyncio.run(scenario())


def test_a_log_can_be_read_at_every_moment_of_a_replacement() -> None:
    async def scenario() -> None:
        history = random_history(6)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        job = job_for(log, OLD)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        reads = 0
        for rewritten in outcome.segments:
            replacing = asyncio.ensure_future(log.replace(rewritten))
            while not replacing.done():
                for segment in log._segments:
                    segment.release()  # the descriptor; as another segment's reader may ask for
                check_against(history, log, tombstones_kept=False)
                reads += 1
                await asyncio.sleep(0)
            assert await replacing
        assert reads > 3 * len(outcome.segments)

    asyncio.run(scenario())


class _FullForHeads(FakeDisk):
    """No head can be written any more, as on a disk without room."""

    is_full = False

    def open(self, path: str, *, create: bool = False) -> FakeFile:
        if self.is_full and create and ".head" in path:
            raise OSError(errno.ENOSPC, "no space left on device", path)
        return super().open(path, create=create)


def test_a_segment_gets_its_place_though_the_disk_is_full_by_now() -> None:
    async def scenario() -> None:
        history = random_history(5)
        env = FakeEnvironment(disk := _FullForHeads())
        log = await log_of(env, history)
        disk.is_full = True
        await compact(env, log)
        check_against(history, log, tombstones_kept=False)
        back, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=SMALL)
        assert verdict.damage is None
        check_against(history, back, tombstones_kept=False)

    asyncio.run(scenario())


def test_a_batch_that_could_be_read_and_cannot_any_more_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records would be numbered as others, or kept while the tombstone that deleted them goes."""

    async def scenario() -> None:
        history = random_history(3, batches=100, keys=40)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        readings: dict[int, int] = {}
        unpack = rewriting.unpack

        def short_of_memory(batch: bytes) -> Any:
            offset = read_header(batch).base_offset
            readings[offset] = readings.get(offset, 0) + 1
            if offset == target and readings[offset] == 2:
                raise CorruptBatch("no memory", what="compression", position=0)
            return unpack(batch)

        target = read_header(history.items[1].data).base_offset
        monkeypatch.setattr(rewriting, "unpack", short_of_memory)
        job = job_for(log, OLD._replace(table_bytes_max=1000))
        assert job is not None
        with pytest.raises(OSError, match="could be read, and cannot any more"):
            await rewrite(job, env.disk, no_pace)

    asyncio.run(scenario())


def test_tombstones_that_must_stay_behind_an_unreadable_batch_do_not_ask_for_another_compaction() -> None:
    async def scenario() -> None:
        history = History()
        history.begin_term(1)
        history.put((b"a", b"1"))
        opaque = reattributed(bytearray(history.items[-1].data), attributes=2)
        history.items[-1] = Item(history.items[-1].point, ItemKind.RECORDS, opaque)
        history.put((b"a", None))
        for _ in range(12):
            history.put((b"c", b"x" * 50))
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        assert not (await compact(env, log)).has_leftovers
        assert not (await compact(env, log)).has_leftovers

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(4))
def test_each_segment_gets_its_place_as_soon_as_it_is_written(seed: int) -> None:
    async def scenario() -> None:
        history = random_history(seed)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        job = job_for(log, OLD)
        assert job is not None
        waiting = 0

        async def take(rewritten: Rewritten) -> None:
            nonlocal waiting
            waiting = max(waiting, sum(name.endswith(".log.new") for name in env.disk.names))
            assert await log.replace(rewritten)
            check_against(history, log, tombstones_kept=False)

        await rewrite(job, env.disk, no_pace, take)
        assert waiting == 1

    asyncio.run(scenario())


def test_without_a_clock_to_trust_tombstones_stay_however_old_they_seem() -> None:
    async def scenario() -> None:
        history = random_history(7)
        env = FakeEnvironment(FakeDisk())
        log = await log_of(env, history)
        settings = OLD._replace(is_clock_trusted=False)
        state = CompactionState(0)
        job = job_for(log, settings, state)
        assert job is not None
        outcome = await rewrite(job, env.disk, no_pace)
        for one in outcome.segments:
            assert await log.replace(one)
        check_against(history, log, tombstones_kept=True)
        state.note(job, outcome, NOW_MS, settings)
        assert outcome.has_leftovers and state.leftovers_due_ms is not None
        assert state.leftovers_due_ms >= NOW_MS + 3_600_000

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", [3, 12])
def test_a_scrub_does_not_take_what_was_merged_while_it_read_for_decay(seed: int) -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        history = random_history(seed, batches=120, keys=40)
        log = await log_of(env, history)
        await compact(env, log, YOUNG)
        before, random = len(history.items), Random(seed)
        for _ in range(40):
            history.put((b"k%d" % random.randrange(40), b"w%d" % random.randrange(1 << 40)))
        for item in history.items[before:]:
            log.append([item], NOW_MS)
        await log.sync()
        paces = 0

        async def pace(size: int) -> None:
            nonlocal paces
            paces += 1
            if paces == 1:
                assert (await compact(env, log, YOUNG)).segments

        await scrub(env.disk, log, pace)
        assert paces > 1

    asyncio.run(scenario())
