"""A compacted segment in the place of several: what the head behind it says of them, also after a crash in between."""

from __future__ import annotations

import asyncio

import msgspec
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.points import Point
from lograft.partitions.raft.voter_sets import VoterChange
from lograft.partitions.storage.replacement import _joined, _voter_changes
from lograft.partitions.storage.segment import segment_path
from lograft.partitions.storage.segment_head import SegmentHead

from .fakes import PARTITION, VOTERS, FakeDisk, FakeEnvironment, a_log, recovered

SEGMENTS = ReplicaConfig(segment_bytes_max=200, index_interval_bytes=100)
CHANGED = VoterChange(Point(1, 4, 2), VOTERS[:2])


def a_head(base: Point, *landmarks: Point, changes: tuple[VoterChange, ...] = ()) -> SegmentHead:
    return SegmentHead(PARTITION, base, VOTERS, 0, b"", 5, 100, landmarks, changes)


def test_a_head_that_was_told_before_a_crash_says_the_same_when_it_is_told_again() -> None:
    older = a_head(Point(1, 4, 2), Point(1, 0, 1), Point(1, 4, 1), CHANGED.point, changes=(CHANGED,))
    following = a_head(Point(2, 9, 1), Point(1, 7, 2), Point(1, 9, 2), Point(2, 9, 1))
    once = following.following(0, 200, _joined([older, following]), _voter_changes([older, following]))
    assert once.voter_changes_before == (CHANGED,) and once.landmarks_before[0] == Point(1, 0, 1)
    again = once.following(0, 200, _joined([older, once]), _voter_changes([older, once]))
    assert again == once


def test_a_head_that_tells_of_a_change_of_voters_twice_is_not_believed_and_the_segment_read() -> None:
    """Such heads were written by a crash between telling them and removing what they were told of (seed 610906)."""

    async def scenario() -> None:
        disk = FakeDisk()
        environment = FakeEnvironment(disk)
        log = await a_log(environment, "T1", 3, 3, 3, config=SEGMENTS)
        await log.sync()
        end, bases = log.end, [segment.base.offset for segment in log.stored_segments()]
        log.close()
        assert len(bases) > 1
        path = segment_path(log.directory, bases[1]) + ".head"
        head = SegmentHead.from_bytes(bytes(disk.names[path].cache), path)
        twice = (VoterChange(Point(1, 0, 1), VOTERS),) * 2
        disk.put(path, msgspec.structs.replace(head, voter_changes_before=twice).to_bytes())
        again, verdict = await recovered(environment, end, same_boot=True, config=SEGMENTS)
        assert again.end == end and verdict.damage is None and again.voter_sets.newest == VOTERS

    asyncio.run(scenario())
