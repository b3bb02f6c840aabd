"""A log in pieces of some MiB, each with a digest, so that equal logs are seen to be equal without reading them twice.

Invariants
    where a piece ends depends on its last item alone, so equal items make equal pieces, however logs are segmented and
        wherever they begin
    a digest covers every byte of every item: the base offset, term and CRC of each, which covers the rest
    a piece in which something is unreadable is not exact, and says nothing
"""

from __future__ import annotations

from typing import NamedTuple

from crc32c import crc32c

from ...environment import Buffer
from ...raft.points import Point

CHUNK_BYTES = 4 << 20
"""On average."""

_OUTSIDE_CRC = 21
"""Bytes of an item up to and with its CRC."""
_PRIME = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Chunk(NamedTuple):
    """Consecutive items of a log."""

    begin: Point
    end: Point
    digest: int
    base_offset: int
    """Of the segment in which it begins, with the position there."""
    position: int
    is_exact: bool


class ChunkTable:
    """The pieces of one log, in order."""

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.chunks: list[Chunk] = []
        self._per_byte = (1 << 32) / chunk_bytes
        self._begin: Point | None = None
        self._end = Point(0, 0, 0)
        self._digest = 0
        self._base_offset = 0
        self._position = 0
        self._is_exact = True

    def note(self, before: Point, end: Point, batch: Buffer, size: int, base_offset: int, position: int) -> None:
        """The next item: of so many bytes, at a position of the segment that begins at `base_offset`."""
        if self._begin is None:
            self._begin, self._base_offset, self._position = before, base_offset, position
        own = crc32c(batch[:_OUTSIDE_CRC])
        self._digest = (self._digest * _PRIME + own + 1) & _MASK
        self._end = end
        if own < size * self._per_byte:
            self.close()

    def note_gap(self) -> None:
        """What follows does not stand right behind what came before, or its points are not known."""
        self._is_exact = False
        self.close()

    def close(self) -> None:
        if self._begin is not None:
            self.chunks.append(
                Chunk(self._begin, self._end, self._digest, self._base_offset, self._position, self._is_exact)
            )
        self._begin, self._digest, self._is_exact = None, 0, True
