"""What one read of a replica gives.

Invariants
    all of it is committed, and is as it is stored
"""

from __future__ import annotations

from typing import NamedTuple

from ..proto.errors import OffsetOutOfRange
from ..proto.record_batch import read_header
from .storage.log import PartitionLog


class Chunk(NamedTuple):
    """Committed batches, as stored."""

    batches: list[memoryview]
    """The first may begin before the offset that was asked for."""
    next_offset: int
    committed_offset: int
    start_offset: int
    term: int


def read_chunk(
    log: PartitionLog, offset: int, start: int, end: int, bytes_max: int, term: int, *, only_cached: bool
) -> Chunk:
    """Of what is committed, which the log holds from `start` to `end`.

    Raises OffsetOutOfRange, DamagedLog, with `only_cached` NotInMemory.
    """
    if not start <= offset <= end:
        raise OffsetOutOfRange(
            f"offset {offset} of {log.partition} is not there: it holds {start} up to {end}",
            offset=offset,
            start=start,
            end=end,
        )
    batches: list[memoryview] = []
    if offset < end:
        batches = log.read_records(offset, end, bytes_max, only_cached=only_cached)
    next_offset = read_header(batches[-1]).next_offset if batches else offset
    return Chunk(batches, next_offset, end, start, term)
