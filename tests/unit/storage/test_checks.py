"""Checking what lies on a disk: every flaw is found, told for what it is, and nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage.checks.findings import Finding, Level
from lograft.partitions.storage.checks.replica import ReplicaCheck, check_replica
from lograft.partitions.storage.checks.walk import BadPlace, walk
from lograft.partitions.storage.checks.word import check_word
from lograft.partitions.storage.promise_frames import (
    BLOCK_BYTES,
    BootFrame,
    CreatedFrame,
    DirectoryFrame,
    MarkFrame,
    VoteFrame,
    encode_round,
)
from lograft.partitions.storage.promised import ReplicaPromises
from lograft.partitions.storage.reset import note_reset
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.record_batch import read_header

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    ONE_SEGMENT,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    a_log,
)

SHAPES = ("T1", 3, 2, VOTERS[:2], 4, "T2", 1, 5, 2, 2, 6, "T5", 1)
"""With `CONFIG` five segments or so."""


def write(disk: FakeDisk, *shapes: Any, config: Any = CONFIG) -> Point:
    """A log that is wholly on the disk; its end."""

    async def write_log() -> Point:
        log = await a_log(FakeEnvironment(disk), *shapes, config=config)
        await log.sync()
        log.close()
        return log.end

    return asyncio.run(write_log())


def check(disk: FakeDisk, mark: Point, *, same_boot: bool = True, **promised: Any) -> ReplicaCheck:
    promises = ReplicaPromises(1, term=promised.pop("term", max(mark.term, 5)), mark=mark, **promised)
    before = disk.operations
    found = check_replica(disk, DATA, PARTITION, promises, directory_id="d1", same_boot=same_boot)
    assert disk.operations == before, "something was written"
    return found


def segments(disk: FakeDisk, suffix: str = ".log") -> list[str]:
    return sorted(path for path in disk.names if path.endswith(suffix))


def told(found: ReplicaCheck) -> list[tuple[Level, str]]:
    return [(finding.level, finding.path.rpartition("/")[2]) for finding in found.findings]


def only(found: ReplicaCheck) -> Finding:
    (finding,) = found.findings
    return finding


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


# -- what is whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, ONE_SEGMENT])
@pytest.mark.parametrize("same_boot", [True, False])
def test_of_a_whole_log_nothing_is_found_and_all_of_it_was_read(disk: FakeDisk, config: Any, same_boot: bool) -> None:
    end = write(disk, *SHAPES, config=config)
    found = check(disk, end, same_boot=same_boot)
    assert found.findings == []
    assert (found.base, found.end, found.start_offset) == (ORIGIN, end, 0)
    assert (found.item_count, found.record_count) == (len(SHAPES), end.offset)
    assert found.size_bytes == sum(len(disk.names[path].cache) for path in segments(disk))


def test_what_stands_past_the_mark_is_read_as_well_and_is_no_flaw(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    assert check(disk, ORIGIN).findings == []
    assert check(disk, ORIGIN).end == end


# -- flips -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, ONE_SEGMENT])
def test_each_flipped_byte_of_an_item_before_the_mark_is_found_and_told_with_file_and_position(config: Any) -> None:
    disk = FakeDisk()
    end = write(disk, *SHAPES, config=config)
    for path in segments(disk):
        starts, position = [], 0
        content = bytes(disk.names[path].cache)
        while position < len(content):
            starts.append(position)
            position += read_header(content, position).size
        for at in range(len(content)):
            disk.flip(path, at)
            found = check(disk, end)
            disk.flip(path, at)
            item = max(start for start in starts if start <= at)
            flaws = [finding for finding in found.findings if finding.level is Level.DAMAGE]
            assert [(flaw.path, flaw.position) for flaw in flaws] == [(path, item)], (path, at, found.findings)
            assert flaws[0].from_offset == read_header(content, item).base_offset


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_any_item_below_the_end_of_any_log_is_found(data: st.DataObject) -> None:
    shapes: list[Any] = ["T1"]
    term = 1
    for kind in data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=20)):
        if kind == 8:
            term += data.draw(st.integers(1, 3))
            shapes.append(f"T{term}")
        else:
            shapes.append(VOTERS[: 1 + kind % 2] if kind == 9 else 1 + kind)
    disk = FakeDisk()
    end = write(disk, *shapes, config=data.draw(st.sampled_from([CONFIG, ONE_SEGMENT])))
    assert check(disk, end, term=term).findings == []
    path = data.draw(st.sampled_from([path for path in segments(disk) if disk.names[path].cache]))
    content = disk.names[path].cache
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert any(finding.level is Level.DAMAGE for finding in check(disk, end, term=term).findings)
    assert not check(disk, ORIGIN, term=term).is_clean or path == segments(disk)[-1]


def test_each_flipped_byte_of_a_head_is_found(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    for path in segments(disk, ".head"):
        for at in range(len(disk.names[path].cache)):
            disk.flip(path, at)
            assert (Level.DAMAGE, path.rpartition("/")[2]) in told(check(disk, end)), (path, at)
            disk.flip(path, at)


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_each_flipped_byte_of_an_index_is_noted_as_it_is_made_again(disk: FakeDisk, suffix: str) -> None:
    end = write(disk, *SHAPES)
    path = segments(disk, suffix)[1]
    for at in range(len(disk.names[path].cache)):
        disk.names[path].cache[at] ^= 0x40
        finding = only(check(disk, end))
        assert (finding.level, finding.path) == (Level.NOTE, segments(disk, ".index")[1])
        disk.names[path].cache[at] ^= 0x40


def test_holes_in_several_segments_are_all_told_with_the_offsets_that_are_lost(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    for path in (segments(disk)[1], segments(disk)[3]):
        disk.flip(path, 70)
    found = check(disk, end)
    flaws = [finding for finding in found.findings if finding.level is Level.DAMAGE]
    assert [flaw.path for flaw in flaws] == [segments(disk)[1], segments(disk)[3]]
    assert all(flaw.from_offset is not None and "repairs itself" in flaw.remedy for flaw in flaws)
    assert found.end.offset == flaws[0].from_offset


def test_a_segment_is_read_on_behind_bytes_that_are_no_items(disk: FakeDisk) -> None:
    write(disk, "T1", 1, 1, 1, 1, 1, config=ONE_SEGMENT)
    (path,) = segments(disk)
    content = bytes(disk.names[path].cache)
    starts = [0]
    while starts[-1] < len(content):
        starts.append(starts[-1] + read_header(content, starts[-1]).size)
    disk.put(path, content[: starts[2]] + b"\xff" * (starts[4] - starts[2]) + content[starts[4] :])
    steps = list(walk(disk.open(path), ORIGIN))
    (bad,) = [step for step in steps if isinstance(step, BadPlace)]
    assert (bad.after, bad.position, bad.end_position, bad.next_offset) == (Point(1, 1, 1), starts[2], starts[4], 3)
    items = [step for step in steps if not isinstance(step, BadPlace)]
    assert [item.is_exact for item in items] == [True, True, False, False]
    assert items[-1].placed.point[:2] == (1, 5)


# -- what is cut, gone or mixed up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_boot", [True, False])
def test_an_end_that_is_cut_short_past_the_mark_is_a_note_that_the_broker_cuts_it(
    disk: FakeDisk, same_boot: bool
) -> None:
    write(disk, *SHAPES)
    path = segments(disk)[-1]
    disk.put(path, bytes(disk.names[path].cache)[:-5])
    found = check(disk, ORIGIN, same_boot=same_boot)
    finding = only(found)
    assert (finding.level, finding.path, finding.is_past_mark) == (Level.NOTE, path, True)
    assert "never acknowledged" in finding.remedy


def test_an_end_that_is_cut_short_before_the_mark_is_damage(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    path = segments(disk)[-1]
    disk.put(path, bytes(disk.names[path].cache)[:-5])
    assert (Level.DAMAGE, path.rpartition("/")[2]) in told(check(disk, end))


def test_a_flip_past_the_mark_leaves_the_replica_in_doubt(disk: FakeDisk) -> None:
    write(disk, *SHAPES)
    path = segments(disk)[-1]
    disk.flip(path, len(disk.names[path].cache) - 1)
    found = check(disk, ORIGIN)
    assert [finding.level for finding in found.findings] == [Level.DOUBT]
    assert found.is_doubtful and "until a leader has helped it" in only(found).remedy


def test_a_log_that_ends_at_an_item_before_its_mark_is_damaged(disk: FakeDisk) -> None:
    end = write(disk, "T1", 1, 1, 1, config=ONE_SEGMENT)
    (path,) = segments(disk)
    content = bytes(disk.names[path].cache)
    disk.put(path, content[: read_header(content).size * 2])
    found = check(disk, end)
    assert any(finding.level is Level.DAMAGE for finding in found.findings)


def test_a_mark_beyond_the_end_is_damage_and_so_is_one_that_is_no_point_of_the_log(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    assert not check(disk, end._replace(offset=end.offset + 1)).is_clean
    assert not check(disk, Point(1, 2, 1)).is_clean
    assert not check(disk, end, term=end.term - 1).is_clean


def test_segments_that_are_swapped_are_found(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    first, second = segments(disk)[1:3]
    contents = bytes(disk.names[first].cache), bytes(disk.names[second].cache)
    disk.put(first, contents[1])
    disk.put(second, contents[0])
    flaws = {finding.path for finding in check(disk, end).findings if finding.level is Level.DAMAGE}
    assert flaws == {first, second}


@pytest.mark.parametrize("at", [0, 1, 2, -1])
def test_a_segment_that_is_gone_is_found(disk: FakeDisk, at: int) -> None:
    end = write(disk, *SHAPES)
    path = segments(disk)[at]
    disk.remove(path)
    found = check(disk, end)
    assert any(finding.level is Level.DAMAGE for finding in found.findings), found.findings


def test_a_log_of_which_nothing_is_left_is_found(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    for path in list(disk.names):
        disk.remove(path)
    assert not check(disk, end).is_clean
    disk.directories.discard(LOG_DIRECTORY)
    assert "directory is missing" in only(check(disk, end)).what


def test_the_head_of_another_partition_is_found(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    path = segments(disk, ".head")[1]
    head = SegmentHead.from_bytes(bytes(disk.names[path].cache), path)
    other = PartitionId("0" * 31 + "b", 3)
    fields = {name: getattr(head, name) for name in head.__struct_fields__}
    disk.put(path, SegmentHead(**{**fields, "partition": other}).to_bytes())
    assert told(check(disk, end)) == [(Level.DAMAGE, path.rpartition("/")[2])]
    disk.put(path, SegmentHead(**{**fields, "voters": VOTERS[:1]}).to_bytes())
    assert told(check(disk, end)) == [(Level.DAMAGE, path.rpartition("/")[2])]


def test_a_stale_index_and_a_missing_one_are_noted(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    first, second = segments(disk, ".index")[:2]
    disk.put(first, bytes(disk.names[second].cache))
    disk.remove(segments(disk, ".timeindex")[2])
    found = check(disk, end)
    assert [finding.level for finding in found.findings] == [Level.NOTE, Level.NOTE]
    assert found.is_clean


def test_a_head_of_a_later_format_is_not_taken_for_damage(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    path = segments(disk, ".head")[1]
    content = bytearray(disk.names[path].cache)
    import struct

    import crc32c

    struct.pack_into(">H", content, 4, 77)
    payload = bytes(content[16:])
    struct.pack_into(">I", content, 12, crc32c.crc32c(payload, crc32c.crc32c(bytes(content[:12]))))
    disk.put(path, bytes(content))
    found = check(disk, end)
    assert (only(found).level, only(found).path) == (Level.UNJUDGED, path)
    assert not found.is_judged


# -- leftovers ---------------------------------------------------------------------------------------------------------


def test_leftovers_and_foreign_files_are_noted(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    for name in ("0" * 20 + ".log.new", "0" * 20 + ".log.mended", "9" * 20 + ".index", "notes.txt"):
        disk.open(f"{LOG_DIRECTORY}/{name}", create=True)
    found = check(disk, end)
    assert {finding.level for finding in found.findings} == {Level.NOTE} and len(found.findings) == 4


def test_a_replacement_on_its_way_is_read_in_the_place_of_what_it_replaces(disk: FakeDisk) -> None:
    end = write(disk, *SHAPES)
    bases = [int(path.rpartition("/")[2][:20]) for path in segments(disk)]
    whole = b"".join(bytes(disk.names[path].cache) for path in segments(disk)[:2])
    path = f"{LOG_DIRECTORY}/{bases[0]:020d}-{bases[2]:020d}.replacement"
    disk.open(path, create=True).write(0, [whole])
    disk.flip(segments(disk)[1], 70)  # nobody reads it any more
    found = check(disk, end)
    assert found.is_clean and found.end == end
    assert (Level.NOTE, path.rpartition("/")[2]) in told(found)
    disk.names[path].cache[70] ^= 1
    assert [finding.path for finding in check(disk, end).findings if not finding.is_clean] == [path]


def test_a_log_that_is_about_to_begin_anew_is_not_judged(disk: FakeDisk) -> None:
    write(disk, *SHAPES)
    path = segments(disk, ".head")[1]
    head = SegmentHead.from_bytes(bytes(disk.names[path].cache), path).as_first()
    asyncio.run(note_reset(disk, LOG_DIRECTORY, head))
    disk.flip(segments(disk)[0], 70)
    found = check(disk, ORIGIN, word=Point(1, 5, 1))
    assert found.is_clean and not found.is_judged and found.end == head.base


# -- promises ----------------------------------------------------------------------------------------------------------


def promises_of(*frames: Any) -> bytes:
    rounds = [
        [DirectoryFrame("d1"), CreatedFrame(PARTITION, 1)],
        [BootFrame("boot 1"), VoteFrame(PARTITION, 3, None)],
        [*frames],
    ]
    return b"".join(piece for number, frames_ in enumerate(rounds) for piece in encode_round(number, frames_))


@pytest.fixture
def promised(disk: FakeDisk) -> str:
    path = f"{DATA}/promises.log"
    disk.open(path, create=True).write(0, [promises_of(MarkFrame(PARTITION, Point(1, 2, 1)))])
    return path


def test_whole_promises_are_recalled_without_a_finding(disk: FakeDisk, promised: str) -> None:
    word = check_word(disk, DATA)
    assert word.findings == [] and word.promised is not None
    assert word.promised.recall(PARTITION) == ReplicaPromises(1, term=3, mark=Point(1, 2, 1))


def test_each_flipped_byte_of_promises_is_found_and_never_costs_the_word(disk: FakeDisk, promised: str) -> None:
    for at in range(0, len(disk.names[promised].cache), 7):
        disk.names[promised].cache[at] ^= 0x40
        word = check_word(disk, DATA)
        disk.names[promised].cache[at] ^= 0x40
        (finding,) = word.findings
        assert word.promised is not None and finding.path == promised
        is_used = at % BLOCK_BYTES < 28
        if is_used:
            is_last = at >= 4 * BLOCK_BYTES
            assert finding.level is (Level.NOTE if is_last else Level.DAMAGE)


def test_promises_of_which_both_copies_are_unreadable_are_a_lost_word(disk: FakeDisk, promised: str) -> None:
    disk.names[promised].cache[2 * BLOCK_BYTES + 40] ^= 1
    disk.names[promised].cache[3 * BLOCK_BYTES + 40] ^= 1
    word = check_word(disk, DATA)
    assert word.promised is None and "word is lost" in word.findings[0].what


def test_promises_that_are_missing_beside_partitions_are_a_lost_word(disk: FakeDisk) -> None:
    write(disk, *SHAPES)
    word = check_word(disk, DATA)
    assert word.promised is None and word.findings[0].level is Level.DAMAGE


def test_a_write_to_promises_that_was_cut_short_is_a_note(disk: FakeDisk, promised: str) -> None:
    content = bytes(disk.names[promised].cache)
    disk.put(promised, content + encode_round(3, [VoteFrame(PARTITION, 4, None)])[0][:20])
    (finding,) = check_word(disk, DATA).findings
    assert (finding.level, finding.position) == (Level.NOTE, len(content))


def test_promises_of_a_later_format_are_not_taken_for_lost(disk: FakeDisk, promised: str) -> None:
    import struct

    import crc32c

    content = bytearray(disk.names[promised].cache)
    content[4] = 99
    struct.pack_into(">I", content, 24, crc32c.crc32c(bytes(content[:24])))
    disk.put(promised, bytes(content))
    word = check_word(disk, DATA)
    assert word.promised is None and word.findings[0].level is Level.UNJUDGED
