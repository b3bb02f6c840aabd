"""The `.head` of a segment: all that its items need of what stands before them.

Invariants
    a head and the segments from its own on are a log that can be understood without older ones
    a head is written whole when its segment is made, and synced before any of the segment's items counts

It also says what the segment before holds (bytes and landmarks), so that a closed segment that surely is on disk need
not be read again at each start. Producers, voters and landmarks are as of the base.
"""

from __future__ import annotations

import struct

import crc32c
import msgspec

from ...proto.errors import UNDECODABLE
from ..environment import PartitionId
from ..raft.messages import Voter
from ..raft.points import Point
from ..raft.voter_sets import VoterChange
from .formats import refuse_newer

FORMAT_VERSION = 1
"""Of the head and of all items of its segment (see `formats`)."""

_MAGIC = b"LGHD"
_PREFIX = struct.Struct(">4sHHI")  # magic, format version, zero, bytes of the payload
_CRC = struct.Struct(">I")  # of the prefix and the payload
_PAYLOAD_POSITION = _PREFIX.size + _CRC.size


class SegmentHead(msgspec.Struct, frozen=True, array_like=True):
    partition: PartitionId
    base: Point
    """The log's last point before the segment's first item."""
    voters: tuple[Voter, ...]
    start_offset: int
    """Where the log starts, as far as the items before know."""
    producers: bytes
    """A ProducerTable."""
    append_time_ms: int
    """Wall clock of the leader that appended the last item before; 0 if there is none."""
    bytes_before: int | None = None
    """Size of the segment before; None if there is none."""
    landmarks_before: tuple[Point, ...] = ()
    """Points from which the journal of the segment before is built: zero-width items, and records' ends between."""
    voter_changes_before: tuple[VoterChange, ...] = ()
    """Those in the segment before."""
    rewritten_to: int = 0
    """Of a first head that was offered: how far the log it comes from was compacted."""
    cleaned_to: int = 0
    base_offset_before: int | None = None
    """Of the segment before, to which its size and its points belong; None if there is none."""

    def dated(self, append_time_ms: int) -> SegmentHead:
        return msgspec.structs.replace(self, append_time_ms=append_time_ms)

    def as_first(self) -> SegmentHead:
        """The same for a log of which nothing before the base is left: it starts there, whatever was said before."""
        start_offset = max(self.start_offset, self.base.offset)
        return msgspec.structs.replace(
            self,
            start_offset=start_offset,
            bytes_before=None,
            landmarks_before=(),
            voter_changes_before=(),
            base_offset_before=None,
        )

    def compacted(self, rewritten_to: int, cleaned_to: int) -> SegmentHead:
        """The same for a copy of a log that is compacted so far: it lacks what that lacks."""
        return msgspec.structs.replace(self, rewritten_to=rewritten_to, cleaned_to=cleaned_to)

    def following(
        self,
        base_offset_before: int,
        bytes_before: int,
        landmarks_before: tuple[Point, ...],
        voter_changes_before: tuple[VoterChange, ...],
    ) -> SegmentHead:
        """The same after another segment, which holds the items of those that stood before it."""
        return msgspec.structs.replace(
            self,
            base_offset_before=base_offset_before,
            bytes_before=bytes_before,
            landmarks_before=landmarks_before,
            voter_changes_before=voter_changes_before,
        )

    def to_bytes(self) -> bytes:
        payload = _encode(self)
        prefix = _PREFIX.pack(_MAGIC, FORMAT_VERSION, 0, len(payload))
        return prefix + _CRC.pack(crc32c.crc32c(payload, crc32c.crc32c(prefix))) + payload

    @classmethod
    def from_bytes(cls, content: bytes, path: str) -> SegmentHead:
        """Read a `.head`.

        Raises
            ValueError   it is damaged; says how
            NewerFormat  a later version wrote it
        """
        if len(content) < _PAYLOAD_POSITION:
            raise ValueError(f"{len(content)} bytes are too few")
        magic, version, _, size = _PREFIX.unpack_from(content)
        (crc,) = _CRC.unpack_from(content, _PREFIX.size)
        payload = content[_PAYLOAD_POSITION:]
        if magic != _MAGIC or size != len(payload):
            raise ValueError("its first bytes are not those of a head of this size")
        if crc32c.crc32c(payload, crc32c.crc32c(content[: _PREFIX.size])) != crc:
            raise ValueError("its CRC does not match")
        refuse_newer(path, version, FORMAT_VERSION)
        try:
            return _decode(payload)
        except UNDECODABLE as error:
            raise ValueError(str(error)) from None


def head_size(content: bytes) -> int:
    """How many bytes the head is meant to have, as far as its first ones tell; at least what is needed to tell."""
    return _PAYLOAD_POSITION + _PREFIX.unpack_from(content)[3] if len(content) >= _PREFIX.size else _PAYLOAD_POSITION


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SegmentHead).decode
