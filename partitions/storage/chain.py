"""What may follow what in a log: the rule that makes stored bytes *readable*, apart from their CRC.

Invariants
    an item begins at the log end before it, and its point is greater than its predecessor's
    a new term begins with its term start, and with nothing else; its payload, within the CRC, says the same term
"""

from __future__ import annotations

from typing import NamedTuple

from ...proto.errors import CorruptBatch
from ...proto.record_batch import BatchHeader, Buffer, read_zero_width
from ..raft.points import ItemKind, Point
from .zero_width import encode_term_start


class Placed(NamedTuple):
    """An item, where it stands in its log."""

    point: Point
    """Right after it."""
    kind: ItemKind
    payload: bytes
    """Of a zero-width item."""


def place(after: Point, header: BatchHeader, batch: Buffer) -> Placed:
    """The item in `batch` as the successor of the one that ends at `after`.

    Raises
        CorruptBatch  it cannot follow; the fact `what` is "place" or "zero-width"
    """
    if header.base_offset != after.offset:
        raise _misplaced(after, f"it begins at offset {header.base_offset}")
    if header.last_offset_delta >= 0:
        if header.term != after.term:
            raise _misplaced(after, f"records of term {header.term} without its term start")
        if header.is_control:
            raise _misplaced(after, "a control batch that takes offsets")
        return Placed(Point(after.term, header.next_offset, after.rank), ItemKind.RECORDS, b"")
    code, payload = read_zero_width(batch)
    try:
        kind = ItemKind(code)
    except ValueError as error:
        raise _misplaced(after, f"a zero-width item of unknown kind {code}") from error
    if kind is ItemKind.TERM_START:
        if header.term <= after.term:
            raise _misplaced(after, f"term {header.term} begins there")
        if payload != encode_term_start(header.term):
            raise _misplaced(after, f"term {header.term} begins there, but its start is that of another term")
        return Placed(Point(header.term, after.offset, 1), kind, payload)
    if header.term != after.term or kind is ItemKind.RECORDS:
        raise _misplaced(after, f"{kind.name.lower()} of term {header.term}")
    return Placed(Point(after.term, after.offset, after.rank + 1), kind, payload)


def is_thinned(placed: Placed, header: BatchHeader) -> bool:
    """Has compaction dropped records of this item? As it was produced, each of its offsets has one."""
    return placed.kind is ItemKind.RECORDS and header.record_count != header.width


def _misplaced(after: Point, why: str) -> CorruptBatch:
    return CorruptBatch(f"an item cannot follow {after}: {why}", what="place", position=0)


def links(after: Point, point: Point) -> bool:
    """Could `point` be the end of one item, or of several batches of records, right after `after`?"""
    if point.term > after.term:
        return point.offset == after.offset and point.rank == 1
    if point.rank > after.rank:
        return point == (after.term, after.offset, after.rank + 1)
    return point.term == after.term and point.rank == after.rank and point.offset > after.offset
