"""Framing of the link between brokers, without I/O: bytes in, whole frames out.

A frame is: length u32 (of all that follows it) | type u8 | CRC-32C u32 (of type and body) | body. Big-endian.

Invariants
    the frames read do not depend on how the stream was cut into pieces
    a length that cannot be true is refused as soon as its four bytes are in; no memory is set aside for it
    no body is handed out before its CRC was found right
"""

from __future__ import annotations

import struct
from enum import IntEnum

from crc32c import crc32c

from .errors import LograftError

Buffer = bytes | bytearray | memoryview

FRAME_BYTES_MAX = 24 << 20
"""Greatest length field. Above the 16 MiB that a client's message may have, so that one forwarded whole still fits."""

_PREFIX = struct.Struct(">IBI")
_LENGTH = struct.Struct(">I")
_LENGTH_BYTES = 4
_PREFIX_BYTES = 9
_LENGTH_MIN = _PREFIX_BYTES - _LENGTH_BYTES


class FrameType(IntEnum):
    """What a frame says; the values are on the wire, so they stay."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    REFUSED = 5
    PING = 6
    PONG = 7
    HEARTBEAT = 8
    HEARTBEAT_REPLY = 9
    LEADING = 10
    LEADING_REPLY = 11
    RAFT = 12
    SIGHTING = 13
    BOARD = 14
    CALL = 15
    ANSWER = 16
    CLUSTER = 17


_TYPES = {int(known): known for known in FrameType}
_TYPE_CRCS = {known: crc32c(bytes((known,))) for known in FrameType}


class PeerFrameError(LograftError):
    """The stream is not one of frames, or a frame was altered on its way: the link must be closed. Facts: what."""

    reason, grpc_status, kafka_code, retriable = "PEER_FRAME", "INTERNAL", -1, False


def encode_frame(kind: FrameType, *buffers: Buffer) -> list[Buffer]:
    """One frame whose body is `buffers`, one after the other; none of them is copied.

    Raises
        PeerFrameError  the body is larger than any reader takes
    """
    crc = _TYPE_CRCS[kind]
    length = _LENGTH_MIN
    for buffer in buffers:
        crc = crc32c(buffer, crc)
        # Not len(): a view may have items of more than a byte.
        length += buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    if length > FRAME_BYTES_MAX:
        raise PeerFrameError(
            f"a {kind.name} frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}", what="length"
        )
    return [_PREFIX.pack(length, kind, crc), *buffers]


class FrameReader:
    """Turns what arrives on one link into frames. Holds one unfinished frame at most, and no more of it than arrived.

    After an error it is of no further use: where the next frame would begin is not known.
    """

    __slots__ = ("_begun", "_failed", "_needed")

    def __init__(self) -> None:
        self._begun = bytearray()  # the unfinished frame
        self._needed = 0  # bytes of it that must be there before it is worth another look
        self._failed = False

    def feed(self, data: bytes) -> list[tuple[FrameType, memoryview]]:
        """The frames that `data` completes. Their bodies may be views of `data`, which must not change.

        Raises
            PeerFrameError  what is "length", "type" or "crc"; frames before the bad one in `data` are lost with it
        """
        assert not self._failed, "a frame reader that had failed was fed again"
        if self._begun:
            self._begun += data
            if len(self._begun) < self._needed:
                return []
            view = memoryview(self._begun).toreadonly()
            self._begun = bytearray()  # the old one now belongs to the frames in it
        else:
            view = memoryview(data).toreadonly()
        frames: list[tuple[FrameType, memoryview]] = []
        position = 0
        try:
            while (needed := _frame_bytes(view, position)) <= len(view) - position:
                frames.append(_read_frame(view, position, needed))
                position += needed
        except PeerFrameError:
            self._failed = True
            raise
        self._needed = needed
        if position < len(view):
            self._begun += view[position:]
        return frames


def _frame_bytes(view: memoryview, position: int) -> int:
    """Size of the frame that begins at `position`; while that cannot be told, more bytes than there are."""
    there = len(view) - position
    if there < _LENGTH_BYTES:
        return _LENGTH_BYTES
    (length,) = _LENGTH.unpack_from(view, position)
    if not _LENGTH_MIN <= length <= FRAME_BYTES_MAX:
        raise PeerFrameError(
            f"a frame claims {length} bytes; {_LENGTH_MIN} to {FRAME_BYTES_MAX} are possible", what="length"
        )
    if there == _LENGTH_BYTES:
        return _LENGTH_BYTES + 1
    if view[position + _LENGTH_BYTES] not in _TYPES:
        raise PeerFrameError(f"a frame of unknown type {view[position + _LENGTH_BYTES]}", what="type")
    return _LENGTH_BYTES + int(length)


def _read_frame(view: memoryview, position: int, size: int) -> tuple[FrameType, memoryview]:
    _, code, crc = _PREFIX.unpack_from(view, position)
    kind = _TYPES[code]
    body = view[position + _PREFIX_BYTES : position + size]
    actual = crc32c(body, _TYPE_CRCS[kind])
    if actual != crc:
        raise PeerFrameError(f"a {kind.name} frame says its CRC is {crc:#010x}, but it is {actual:#010x}", what="crc")
    return kind, body
