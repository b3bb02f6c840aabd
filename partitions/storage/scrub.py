"""Reads a log slowly, all of it, to find what has decayed before somebody needs it.

Invariants
    nothing is believed that was not read from the file just now: every CRC, every place, every head
    a file that is no part of the log any more says nothing
    what can be made again from what is readable here is made again at once: heads behind another segment, the very
        first head, indexes; all else is the replica's to repair
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...proto.errors import CorruptBatch
from ...proto.record_batch import verify
from ..environment import Disk
from ..raft.points import ORIGIN
from .chain import place
from .contents import Contents
from .log import PartitionLog
from .repair import NamesNotSynced, readable_head, write_head
from .segment import DamagedLog, batches, segment_path
from .segments import StoredSegment

STEP_BYTES = 256 << 10

Pace = Callable[[int], Awaitable[None]]
"""Told of bytes that were read; returns when it is time to read on."""


async def scrub(disk: Disk, log: PartitionLog, pace: Pace) -> int:
    """Read all that the log held when this began. Returns the bytes read.

    DamagedLog: something is unreadable, and cannot be made again from what is here. NamesNotSynced: of the disk.
    """
    total = 0
    cuts = log.cuts
    for segment in log.stored_segments():
        await _mend_head(disk, log, segment, None)
        total += await _scrub_segment(disk, log, segment, pace, cuts)
        if log.cuts != cuts:
            break
    return total


async def _scrub_segment(disk: Disk, log: PartitionLog, segment: StoredSegment, pace: Pace, cuts: int) -> int:
    head = readable_head(disk, log.directory, segment.base.offset)
    contents = Contents(head) if head is not None else None
    end = segment.base
    position = due = 0

    def is_part() -> bool:
        return log.cuts == cuts and log.holds_segment(segment)

    try:
        file = disk.open(segment.path)
    except OSError as error:
        if is_part():
            raise DamagedLog(segment.path, 0, f"it cannot be opened: {error}") from error
        return 0
    try:
        for position, header, batch in batches(file, 0, segment.size):
            verify(batch)
            placed = place(end, header, batch)
            if contents is not None:
                contents.note(placed, header)
            end = placed.point
            due += header.size
            if due >= STEP_BYTES:
                await pace(due)
                due = 0
                if not is_part():
                    return position
        if end != segment.end:
            raise CorruptBatch(f"it ends at {end}, not at {segment.end}", what="place")
    except (CorruptBatch, OSError) as error:
        if is_part():
            raise DamagedLog(segment.path, position, str(error)) from error
    finally:
        file.close()
    await pace(due)
    if contents is not None and is_part():
        following = log.segment_after(segment)
        if following is not None:
            await _mend_head(disk, log, following, contents, segment.size)
        log.drop_wrong_index(segment)
    return segment.size


async def _mend_head(
    disk: Disk, log: PartitionLog, segment: StoredSegment, before: Contents | None, size_before: int = 0
) -> None:
    """Make an unreadable head again from what stands before it."""
    if not log.holds_segment(segment):
        return
    found = readable_head(disk, log.directory, segment.base.offset)
    if found is not None and found.base == segment.base:
        return
    if before is not None and before.end == segment.base:
        head = before.next_head(log.partition, size_before).dated(segment.append_time_before_ms)
    elif segment.base == ORIGIN:
        head = log.very_first_head()
    elif log.is_first(segment):
        raise DamagedLog(segment_path(log.directory, segment.base.offset) + ".head", 0, "its head is unreadable")
    else:
        return  # the segment before says it in a moment, or did not say it
    try:
        await write_head(disk, log.directory, head, lambda: log.holds_segment(segment))
    except NamesNotSynced:
        raise
    except OSError:
        pass  # as on a full disk: nothing is worse than it was, and the next scrub tries again
