"""The first record at or after a time, in a log that knows the times of batches only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..partitions.environment import Buffer
from ..partitions.storage.log import DamagedLog
from ..proto import record_batch
from ..proto.errors import BatchTooLarge, CorruptBatch, ReplicaDamaged, UnsupportedCompression

if TYPE_CHECKING:
    from ..partitions.replica import Replica
    from ..partitions.storage.log import PartitionLog

RECORDS_READ_MAX = 200_000
INFLATED_BYTES_READ_MAX = 16 << 20
"""Of one batch, to find a time in it. Of a larger one the offset of its first record is as near as one gets."""


@contextmanager
def noting_damage(replica: Replica) -> Iterator[None]:
    """For who searches the replica's log: bytes that decayed are to be repaired, as when a reader meets them.

    Raises ReplicaDamaged instead of DamagedLog.
    """
    try:
        yield
    except DamagedLog as damage:
        replica.note_unreadable(damage)
        raise ReplicaDamaged(
            f"stored bytes of {replica.partition} are unreadable here ({damage.path} at {damage.position}); try again: "
            "another replica may lead by then"
        ) from damage


def first_at(log: PartitionLog, timestamp_ms: int, start: int, end: int) -> tuple[int, int]:
    """Offset and time of the first record at or after `timestamp_ms`; (`end`, -1) if there is none in the log."""
    position = start
    while (found := log.offset_for_time(timestamp_ms, position, end)) is not None:
        # The log knows batches; which record of the batch it is, only its records tell.
        batch = log.read_records(found[0], end, 1)[0]
        times = _times(batch)
        for offset, recorded_ms in times or ():
            if recorded_ms >= timestamp_ms and offset >= start:
                return offset, recorded_ms
        if found[0] >= start or times is None:
            return max(found[0], start), found[1]
        # Of this batch all that is young enough lies before the start.
        position = record_batch.read_header(batch).next_offset
    return end, -1


def _times(batch: Buffer) -> Iterable[tuple[int, int]] | None:
    """Offset and time of each record; None of a batch that no reader can read, or that would take the loop's time.

    What a client puts into a batch nobody has looked at: its records may be none, or be a thousand times its size.
    """
    if record_batch.read_header(batch).record_count > RECORDS_READ_MAX:
        return None
    try:
        columns = record_batch.decode_columns(batch, inflated_bytes_max=INFLATED_BYTES_READ_MAX)
    except (BatchTooLarge, UnsupportedCompression):
        return None
    except CorruptBatch as error:
        if error.facts.get("what") == "crc":
            raise  # the disk's doing, not a client's
        return None
    return zip(columns.offsets, columns.timestamps_ms, strict=True)


def latest_of(log: PartitionLog, start: int, end: int) -> tuple[int, int]:
    """Offset and time of the first record of the latest time; (-1, -1) of an empty log.

    Times are the clients' own and in no order, but which batches reach a time the log can say: so it is halved down to.
    """
    reached = log.offset_for_time(-(1 << 63), start, end)
    if reached is None:
        return -1, -1
    low, high = reached[1], (1 << 63) - 1
    while low < high:
        middle = low + (high - low + 1) // 2
        found = log.offset_for_time(middle, start, end)
        if found is None:
            high = middle - 1
        else:
            low = found[1]
    offset, timestamp_ms = first_at(log, low, start, end)
    return (offset, timestamp_ms) if timestamp_ms >= 0 else (-1, -1)
