"""What the items of a log say, up to some point: voters, log start, producers, and where the zero-width items stand.

Invariants
    it is a function of a segment's head and of the items after it, so a cut is a second reading from the head
    the landmarks, and the voter changes, are those of the segment that holds the end
    the log start never moves back
"""

from __future__ import annotations

from ...proto.record_batch import BatchHeader
from ..environment import PartitionId
from ..producers import ProducerTable
from ..raft.points import ItemKind, Point
from ..raft.voter_sets import VoterChange
from .chain import Placed
from .segment_head import SegmentHead
from .zero_width import decode_log_start, decode_voters


class Contents:
    """What stands before `end`."""

    def __init__(self, head: SegmentHead) -> None:
        """ValueError: the head holds no producer table."""
        self.end = head.base
        self.voters = head.voters
        self.start_offset = head.start_offset
        self.producers = ProducerTable.from_bytes(head.producers)
        self.append_time_ms = head.append_time_ms
        self._landmarks: list[Point] = [head.base]
        self._voter_changes: list[VoterChange] = []

    def note(self, placed: Placed, header: BatchHeader) -> None:
        """Take the item that follows. CorruptBatch, and nothing taken, if its payload says nothing."""
        if placed.kind is ItemKind.RECORDS:
            if header.producer_id >= 0:
                self.producers.note(header, header.base_offset)
        else:
            if placed.kind is ItemKind.VOTERS:
                self.voters = decode_voters(placed.payload)
                self._voter_changes.append(VoterChange(placed.point, self.voters))
            elif placed.kind is ItemKind.LOG_START:
                self.start_offset = max(self.start_offset, decode_log_start(placed.payload, placed.point.offset))
            if self._landmarks[-1] != self.end:
                self._landmarks.append(self.end)
            self._landmarks.append(placed.point)
        self.end = placed.point

    def at_base(self, base: Point) -> Contents:
        """The same, seen from a segment that begins at the end. This object is used up."""
        assert base == self.end, f"a segment at {base}, but the log ends at {self.end}"
        self._landmarks = [base]
        self._voter_changes = []
        return self

    def next_head(self, partition: PartitionId, segment_bytes: int) -> SegmentHead:
        """The head of the segment that begins at the end; the one that ends there has so many bytes."""
        landmarks = self._landmarks[1:]
        if self._landmarks[-1] != self.end:
            landmarks.append(self.end)
        return SegmentHead(
            partition=partition,
            base=self.end,
            voters=self.voters,
            start_offset=self.start_offset,
            producers=self.producers.to_bytes(),
            append_time_ms=self.append_time_ms,
            bytes_before=segment_bytes,
            landmarks_before=tuple(landmarks),
            voter_changes_before=tuple(self._voter_changes),
            base_offset_before=self._landmarks[0].offset,
        )
