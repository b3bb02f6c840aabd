"""Where in a segment to begin looking: `.index` (points and positions) and `.timeindex` (timestamps).

Invariants
    entries rise, in point and in position; the first stands at the segment's base, position 0
    an entry's timestamp is the greatest of all items before its position, so timestamps never fall
    both files are built from the segment and never trusted: a wrong one, or one of a later format, costs a scan, not a
        wrong answer
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import crc32c
import msgspec

from ...proto.errors import UNDECODABLE
from ..raft.points import Point

FORMAT_VERSION = 1
NO_TIMESTAMP = -1

_MAGIC = b"LGIX"
_PREFIX = struct.Struct(">4sHH")  # magic, format version, zero
_CRC = struct.Struct(">I")  # of the prefix and the payload
_PAYLOAD_POSITION = _PREFIX.size + _CRC.size


class Place(NamedTuple):
    """A point of the log, and the position in the segment right after its item."""

    point: Point
    position: int


class _IndexFile(msgspec.Struct, frozen=True, array_like=True):
    segment_bytes: int
    """Size of the segment that it was made of."""
    columns: tuple[bytes, ...]
    """64-bit little-endian numbers."""
    max_timestamp_ms: int


class SparseIndex:
    """The index of one segment, in memory."""

    def __init__(self, base: Point, interval_bytes: int) -> None:
        self._interval_bytes = interval_bytes
        self._terms = array("q", [base.term])
        self._offsets = array("q", [base.offset])
        self._ranks = array("q", [base.rank])
        self._positions = array("q", [0])
        self._timestamps = array("q", [NO_TIMESTAMP])
        self._next_position = interval_bytes
        self.max_timestamp_ms = NO_TIMESTAMP
        """Of all items noted; NO_TIMESTAMP before the first."""

    def __len__(self) -> int:
        return len(self._positions)

    def note(self, before: Point, position: int, max_timestamp_ms: int) -> None:
        """The item that follows `before` stands at `position`."""
        if position >= self._next_position:
            self._next_position = position + self._interval_bytes
            self._terms.append(before.term)
            self._offsets.append(before.offset)
            self._ranks.append(before.rank)
            self._positions.append(position)
            self._timestamps.append(self.max_timestamp_ms)
        if max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = max_timestamp_ms

    def entries(self) -> Iterator[tuple[Place, int]]:
        """All of them in order, each with the greatest timestamp before it."""
        return ((self._place(at), self._timestamps[at]) for at in range(len(self)))

    def before_point(self, point: Point) -> Place:
        """The last entry at or before `point`."""
        at = bisect_right(range(len(self)), point, key=self._point) - 1
        return self._place(max(at, 0))

    def before_offset(self, offset: int) -> Place:
        """The last entry from which the batch that holds `offset` is still ahead."""
        return self._place(max(bisect_right(self._offsets, offset) - 1, 0))

    def before_timestamp(self, timestamp_ms: int) -> Place:
        """The last entry from which the first item with a timestamp of `timestamp_ms` or later is still ahead."""
        return self._place(max(bisect_left(self._timestamps, timestamp_ms) - 1, 0))

    def _place(self, at: int) -> Place:
        return Place(self._point(at), self._positions[at])

    def _point(self, at: int) -> Point:
        return Point(self._terms[at], self._offsets[at], self._ranks[at])

    def to_files(self, segment_bytes: int) -> tuple[bytes, bytes]:
        """Contents of `.index` and `.timeindex`."""
        places = (self._terms, self._offsets, self._ranks, self._positions)
        return (
            _sealed(_IndexFile(segment_bytes, tuple(map(_little_endian, places)), self.max_timestamp_ms)),
            _sealed(_IndexFile(segment_bytes, (_little_endian(self._timestamps),), self.max_timestamp_ms)),
        )

    @classmethod
    def from_files(
        cls, places: bytes, timestamps: bytes, base: Point, segment_bytes: int, interval_bytes: int
    ) -> SparseIndex:
        """ValueError if these are no index of a segment of that base and size."""
        index = cls(base, interval_bytes)
        first, second = _opened(places), _opened(timestamps)
        if len(first.columns) != 4 or len(second.columns) != 1:
            raise ValueError("wrong number of columns")
        index._terms, index._offsets, index._ranks, index._positions = map(_from_little_endian, first.columns)
        (index._timestamps,) = map(_from_little_endian, second.columns)
        if {first.segment_bytes, second.segment_bytes} != {segment_bytes}:
            raise ValueError("made of another segment")
        if len({len(index._terms), len(index._offsets), len(index._ranks), len(index), len(index._timestamps)}) != 1:
            raise ValueError("columns of different lengths")
        if not len(index) or index._place(0) != Place(base, 0) or index._positions[-1] > segment_bytes:
            raise ValueError("made of another segment")
        index.max_timestamp_ms = first.max_timestamp_ms
        return index


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "little":
        return column.tobytes()
    column = array("q", column)
    column.byteswap()
    return column.tobytes()


def _from_little_endian(content: bytes) -> array[int]:
    column = array("q")
    column.frombytes(content)  # ValueError if these are no whole numbers
    if sys.byteorder != "little":
        column.byteswap()
    return column


def _sealed(file: _IndexFile) -> bytes:
    payload = _encode(file)
    prefix = _PREFIX.pack(_MAGIC, FORMAT_VERSION, 0)
    return prefix + _CRC.pack(crc32c.crc32c(payload, crc32c.crc32c(prefix))) + payload


def _opened(content: bytes) -> _IndexFile:
    if len(content) < _PAYLOAD_POSITION:
        raise ValueError(f"{len(content)} bytes are too few")
    magic, version, _ = _PREFIX.unpack_from(content)
    if magic != _MAGIC or version > FORMAT_VERSION:
        raise ValueError("not of a format that is known here")
    payload = content[_PAYLOAD_POSITION:]
    if crc32c.crc32c(payload, crc32c.crc32c(content[: _PREFIX.size])) != _CRC.unpack_from(content, _PREFIX.size)[0]:
        raise ValueError("CRC does not match")
    try:
        return _decode(payload)
    except UNDECODABLE as error:
        raise ValueError(str(error)) from None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_IndexFile).decode
