"""A segment read from its beginning to its end, past what cannot be read: every item, and every unreadable place.

Invariants
    an item is given only if its CRC is good and it can stand where it stands, as recovery has it (`chain.place`)
    every byte of the file is in an item or in an unreadable place
    behind an unreadable place the rank of points is not known (`is_exact`), until the segment ends
    memory is bounded, whatever the size of the segment
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ....proto.errors import CorruptBatch
from ....proto.record_batch import HEADER_SIZE, BatchHeader, read_header, read_zero_width, verify
from ...environment import File
from ...raft.points import ItemKind, Point
from ..chain import Placed, place
from ..recovery import readable_batches
from ..repair import read_what_can_be
from ..segment import batches

SEARCH_BYTES = 32 << 20
"""Looked at, at a time, where an item is looked for behind unreadable bytes; no item is larger than half of it."""


class WalkedItem(NamedTuple):
    """A readable item where it belongs."""

    before: Point
    placed: Placed
    header: BatchHeader
    batch: memoryview
    position: int
    is_exact: bool


class BadPlace(NamedTuple):
    """Bytes that are no item of this log."""

    after: Point
    """The last point before it."""
    position: int
    end_position: int
    """Where the next readable item stands, or the end of the file."""
    why: str
    next_offset: int | None
    """Where that item begins; None: nothing readable follows in this segment."""
    is_exact: bool

    @property
    def ends_file(self) -> bool:
        return self.next_offset is None


def walk(file: File, begin: Point, position: int = 0, *, is_exact: bool = True) -> Iterator[WalkedItem | BadPlace]:
    """All of a segment from `position` on, where the log stands at `begin`."""
    size = file.size()
    end = begin
    bad: BadPlace | None = None
    while position < size:
        try:
            for at, header, batch in batches(file, position, size):
                position = at
                verify(batch)
                if bad is not None:
                    end = _begin_of(end, header, batch)
                placed = place(end, header, batch)
                if bad is not None:
                    yield bad._replace(end_position=at, next_offset=header.base_offset)
                    bad = None
                yield WalkedItem(end, placed, header, batch, at, is_exact)
                end = placed.point
                position = at + header.size
        except (CorruptBatch, OSError) as error:
            if bad is None:
                bad = BadPlace(end, position, size, _why(error), None, is_exact)
            is_exact = False
            position = _next_item(file, position, size, end.offset)
    if bad is not None:
        yield bad


def _why(error: Exception) -> str:
    return f"the disk does not give it: {error}" if isinstance(error, OSError) else str(error)


def _begin_of(last: Point, header: BatchHeader, batch: memoryview) -> Point:
    """Where the log stands before an item that is found behind unreadable bytes. The rank is the least it can be."""
    if header.base_offset < last.offset or header.term < last.term:
        raise CorruptBatch(f"{header.base_offset}@{header.term} stands behind {last}", what="place", position=0)
    rank = last.rank if header.term == last.term else 1
    if not header.width and read_zero_width(batch)[0] == ItemKind.TERM_START:
        return Point(min(last.term, header.term - 1), header.base_offset, 0)
    return Point(header.term, header.base_offset, rank)


def _next_item(file: File, position: int, size: int, offset: int) -> int:
    """Where reading can go on behind the item at `position`, which cannot be read or does not belong there."""
    begin = position
    while begin < size:
        content = read_what_can_be(file, begin, min(SEARCH_BYTES, size - begin))
        for at, header in readable_batches(content):
            if begin + at == position:
                return position + header.size  # it is whole, and stands at a wrong place
            # Records may hold bytes that look like an item: it must leave room for the next one, or be the last.
            end = at + header.size
            if header.base_offset >= offset and (begin + end == size or _is_header(content, end)):
                return begin + at
        begin += max(SEARCH_BYTES // 2, 1) if len(content) == SEARCH_BYTES else len(content)
    return size


def _is_header(content: bytes, position: int) -> bool:
    if len(content) < position + HEADER_SIZE:
        return True  # not looked at
    try:
        read_header(content, position)
    except CorruptBatch:
        return False
    return True
