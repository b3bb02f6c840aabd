"""How promises are written: frames, gathered in rounds, each round twice in `promises.log`.

Invariants
    a round begins at a 4 KiB block, and its second copy in the block after the first copy's last: no block holds both
    a round is written only once the one before it is synced, so one that can be read proves that all before it were
    which rounds a file holds depends on its bytes alone

A round is a header and its frames, msgpack-encoded. The header has its own CRC, so that a round whose frames are
unreadable still says that it was there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import crc32c
import msgspec

from ...proto.errors import UNDECODABLE
from ..environment import PartitionId
from ..raft.messages import Voter
from ..raft.points import Point
from .formats import refuse_newer

BLOCK_BYTES = 4096
FORMAT_VERSION = 2

_MAGIC = b"LGPR"
_HEADER = struct.Struct(">4sBBHIQI")  # magic, format version, copy, zero, bytes of frames, round number, their CRC
_HEADER_CRC = struct.Struct(">I")
_HEADER_BYTES = _HEADER.size + _HEADER_CRC.size


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    pass


class DirectoryFrame(_Frame, frozen=True, array_like=True, tag=1):
    """Whose word this is: the first frame of every file."""

    directory_id: str
    departures_are_kept: bool = False
    """Of every partition that is not listed, it is known whether it ever was; versions before did not keep that."""


class BootFrame(_Frame, frozen=True, array_like=True, tag=2):
    """The logs of the directory were read under this boot id."""

    boot_id: str


class StartNumberFrame(_Frame, frozen=True, array_like=True, tag=3):
    start_number: int


class ClusterSetFrame(_Frame, frozen=True, array_like=True, tag=4):
    cluster_set: bytes


class CreatedFrame(_Frame, frozen=True, array_like=True, tag=5):
    """A replica is here, and nothing was promised for it yet."""

    partition: PartitionId
    replica_number: int


class DeletedFrame(_Frame, frozen=True, array_like=True, tag=6):
    """The replica that was here is not any more, and what was promised for it is forgotten."""

    partition: PartitionId


class VoteFrame(_Frame, frozen=True, array_like=True, tag=7):
    partition: PartitionId
    term: int
    voted_for: Voter | None


class MarkFrame(_Frame, frozen=True, array_like=True, tag=8):
    partition: PartitionId
    mark: Point


class WordFrame(_Frame, frozen=True, array_like=True, tag=9):
    partition: PartitionId
    word: Point | None


class DoubtFrame(_Frame, frozen=True, array_like=True, tag=10):
    partition: PartitionId
    doubtful: bool


class MemoryBootFrame(_Frame, frozen=True, array_like=True, tag=11):
    """The replica acknowledged, or is about to, bytes that only the page cache of this boot holds."""

    partition: PartitionId
    boot_id: str | None


class CompactedFrame(_Frame, frozen=True, array_like=True, tag=12):
    """Compaction rewrites the replica's log up to here, and cleans it up to there."""

    partition: PartitionId
    rewritten_to: int
    cleaned_to: int


Frame = (
    DirectoryFrame
    | BootFrame
    | StartNumberFrame
    | ClusterSetFrame
    | CreatedFrame
    | DeletedFrame
    | VoteFrame
    | MarkFrame
    | WordFrame
    | DoubtFrame
    | MemoryBootFrame
    | CompactedFrame
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Frame]).decode


class Round(NamedTuple):
    """One round as found in a file."""

    number: int
    frames: list[Frame]
    position: int
    end_position: int
    """After both copies."""
    whole: bool
    """Both copies are readable."""


class Reading(NamedTuple):
    """What a file's bytes say."""

    rounds: list[Round]
    end_position: int
    """After the last readable round; what follows was never answered, unless `lost`."""
    lost: str | None
    """Why the word of this file is lost; None if it is good."""
    is_mistake: bool = False
    """No disk does that: the rounds are as they were written, and should never have been."""


class _RoundHeader(NamedTuple):
    version: int
    copy: int
    frames_bytes: int
    number: int
    frames_crc: int

    @property
    def blocks(self) -> int:
        return -(-(_HEADER_BYTES + self.frames_bytes) // BLOCK_BYTES)


def encode_round(number: int, frames: Sequence[Frame]) -> list[bytes]:
    """Both copies, one after the other, each filled up to whole blocks."""
    body = _encode(frames)
    crc = crc32c.crc32c(body)
    pieces = []
    for copy in (0, 1):
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, copy, 0, len(body), number, crc)
        whole = header + _HEADER_CRC.pack(crc32c.crc32c(header)) + body
        pieces.append(whole + bytes(-len(whole) % BLOCK_BYTES))
    return pieces


def read_rounds(content: bytes, path: str = "promises.log") -> Reading:
    """Judge a whole file. NewerFormat: it was written by a later version, and is left alone."""
    _refuse_newer_rounds(content, path)
    rounds: list[Round] = []
    position = 0
    while position < len(content):
        found = _read_round(content, position, number=len(rounds))
        if found is None:
            break
        rounds.append(found)
        position = found.end_position
    if not rounds:
        # A file gets its name only once its first round is synced.
        return Reading([], 0, "its first round is unreadable")
    if not rounds[0].frames or not isinstance(rounds[0].frames[0], DirectoryFrame):
        return Reading([], 0, "its first frame is not the directory id")
    if (unlisted := _unlisted(rounds)) is not None:
        return Reading([], 0, unlisted, is_mistake=True)
    later = next((header for _, header in _headers_in(content, position) if header.number > len(rounds)), None)
    if later is not None:
        return Reading([], 0, f"both copies of round {len(rounds)} are unreadable, but round {later.number} is there")
    return Reading(rounds, position, None)


def copies_agree(content: bytes, found: Round) -> bool:
    """Are both copies of a whole round the same, with what fills their blocks up, which no CRC covers?"""
    size = (found.end_position - found.position) // 2
    first, second = found.position + _HEADER_BYTES, found.position + size + _HEADER_BYTES
    return content[first : found.position + size] == content[second : found.end_position]


def _unlisted(rounds: Sequence[Round]) -> str | None:
    """Which round promises something for a replica that the rounds before it do not list; nobody writes such a one."""
    listed: set[PartitionId] = set()
    for found in rounds:
        for frame in found.frames:
            match frame:
                case CreatedFrame():
                    listed.add(frame.partition)
                case DeletedFrame():
                    listed.discard(frame.partition)
                case DirectoryFrame() | BootFrame() | StartNumberFrame() | ClusterSetFrame():
                    pass
                case _ if frame.partition not in listed:
                    return f"round {found.number} promises something for {frame.partition}, which is not listed"
    return None


def _refuse_newer_rounds(content: bytes, path: str) -> None:
    """Before anything else is judged: what is written for a later version to read must not be taken for damage."""
    for position, header in _headers_in(content, 0):
        refuse_newer(path, header.version, FORMAT_VERSION)
        begin = position + _HEADER_BYTES
        body = content[begin : begin + header.frames_bytes]
        if len(body) != header.frames_bytes or crc32c.crc32c(body) != header.frames_crc:
            continue
        try:
            _decode(body)
        except UNDECODABLE:
            refuse_newer(f"{path} (round {header.number})", FORMAT_VERSION + 1, FORMAT_VERSION)


def _read_round(content: bytes, position: int, number: int) -> Round | None:
    first = _read_copy(content, position, number, copy=0)
    if first is not None:
        size, frames = first
        whole = _read_copy(content, position + size, number, copy=1) is not None
        return Round(number, frames, position, position + 2 * size, whole)
    # How long the first copy is only the second can say: it stands as far from here as it is long itself.
    for at in range(position + BLOCK_BYTES, len(content), BLOCK_BYTES):
        second = _read_copy(content, at, number, copy=1)
        if second is not None and position + second[0] == at:
            size, frames = second
            return Round(number, frames, position, at + size, whole=False)
    return None


def _read_copy(content: bytes, position: int, number: int, copy: int) -> tuple[int, list[Frame]] | None:
    """Bytes that the copy takes, and its frames."""
    header = _read_header(content, position)
    if header is None or (header.number, header.copy) != (number, copy):
        return None
    frames = _read_frames(content, position, header)
    return None if frames is None else (header.blocks * BLOCK_BYTES, frames)


def _headers_in(content: bytes, position: int) -> Iterator[tuple[int, _RoundHeader]]:
    for at in range(position, len(content), BLOCK_BYTES):
        header = _read_header(content, at)
        if header is not None:
            yield at, header


def _read_header(content: bytes, position: int) -> _RoundHeader | None:
    if len(content) < position + _HEADER_BYTES or content[position : position + 4] != _MAGIC:
        return None
    raw = content[position : position + _HEADER.size]
    (crc,) = _HEADER_CRC.unpack_from(content, position + _HEADER.size)
    if crc32c.crc32c(raw) != crc:
        return None
    _, version, copy, _, frames_bytes, number, frames_crc = _HEADER.unpack(raw)
    return _RoundHeader(version, copy, frames_bytes, number, frames_crc)


def _read_frames(content: bytes, position: int, header: _RoundHeader) -> list[Frame] | None:
    begin = position + _HEADER_BYTES
    body = content[begin : begin + header.frames_bytes]
    if len(body) != header.frames_bytes or crc32c.crc32c(body) != header.frames_crc:
        return None
    try:
        return _decode(body)
    except UNDECODABLE:
        return None
