"""Kafka's framing, without sockets: bytes in, whole requests out; and what stands before a request's body.

Invariants
    a frame is given once all of it is there; nothing is set aside for what a length only claims
    what waits takes about as much memory as it has bytes, however small the pieces in which it came
    whatever is no frame, or larger than allowed, raises MalformedRequest; the connection ends then, as Kafka's does

A frame is a length (i32, big-endian) and so many bytes. A request's begin with API key, version, correlation id and
client id, and for flexible versions tagged fields.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from ...proto.errors import InvalidRequest
from ...proto.record_batch import Buffer

HEAD_BYTES_MIN = 8
CHUNK_BYTES_MIN = 1 << 10
"""What comes in smaller pieces is put together: a piece costs hundreds of bytes, and who drips sends a million of them.
"""
TAGS_MAX = 64
"""Tagged fields in one place of a request. Clients send two or three; millions would hold up the loop for seconds."""
_LENGTH = struct.Struct(">i")
_HEAD = struct.Struct(">hhi")
_SHORT = struct.Struct(">h")


class MalformedRequest(InvalidRequest):
    """Bytes that no Kafka client sends. There is no answer to them: the connection is closed."""

    reason = "MALFORMED_REQUEST"


class FrameReader:
    """Cuts what comes in into frames of at most `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        self.waiting_bytes = 0
        """Fed, and not yet given as a frame."""
        self._bytes_max = bytes_max
        self._chunks: deque[memoryview] = deque()
        self._size: int | None = None

    @property
    def is_amid(self) -> bool:
        """Has a frame begun that is not whole?"""
        return self._size is not None or self.waiting_bytes > 0

    def feed(self, data: Buffer) -> None:
        self.waiting_bytes += len(data)
        if self._chunks and len(self._chunks[-1]) < CHUNK_BYTES_MIN > len(data):
            data = b"".join((self._chunks.pop(), data))
        self._chunks.append(memoryview(data))

    def next(self) -> Buffer | None:
        """The next whole frame, without its length; None if it is not there yet. Raises MalformedRequest."""
        if self._size is None:
            if self.waiting_bytes < _LENGTH.size:
                return None
            (size,) = _LENGTH.unpack(self._take(_LENGTH.size))
            if not HEAD_BYTES_MIN <= size <= self._bytes_max:
                raise MalformedRequest(
                    f"a request of {size} bytes; there are none under {HEAD_BYTES_MIN}, and this broker takes "
                    f"{self._bytes_max} at most",
                    size=size,
                    limit=self._bytes_max,
                )
            self._size = size
        if self.waiting_bytes < self._size:
            return None
        size, self._size = self._size, None
        return self._take(size)

    def _take(self, size: int) -> memoryview:
        self.waiting_bytes -= size
        first = self._chunks[0]
        if len(first) > size:
            self._chunks[0] = first[size:]
            return first[:size]
        taken = [self._chunks.popleft()]
        left = size - len(first)
        while left:
            chunk = self._chunks.popleft()
            if len(chunk) > left:
                self._chunks.appendleft(chunk[left:])
                chunk = chunk[:left]
            taken.append(chunk)
            left -= len(chunk)
        return first if len(taken) == 1 else memoryview(b"".join(taken))


class RequestHead(NamedTuple):
    """What every request begins with, as far as all versions agree."""

    api_key: int
    api_version: int
    correlation_id: int


def read_head(frame: Buffer) -> RequestHead:
    """Of a frame that `FrameReader` gave."""
    return RequestHead(*_HEAD.unpack_from(frame))


def read_client_id(frame: Buffer, *, is_flexible: bool) -> tuple[str, int]:
    """The client id (empty if there is none), and where the body begins. Raises MalformedRequest."""
    try:
        (length,) = _SHORT.unpack_from(frame, _HEAD.size)
        position = _HEAD.size + _SHORT.size + max(length, 0)
        if length < -1 or position > len(frame):
            raise MalformedRequest(f"a client id of {length} bytes does not fit its request")
        # Never compact, in flexible versions neither.
        client_id = str(memoryview(frame)[_HEAD.size + _SHORT.size : position], "utf-8")
        if is_flexible:
            count, position = read_tag_count(frame, position)
            for _ in range(count):
                _, position = read_unsigned_varint(frame, position)
                size, position = read_unsigned_varint(frame, position)
                position += size
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"a request's header cannot be read: {error}") from None
    if position > len(frame):
        raise MalformedRequest("a request ends within its header")
    return client_id, position


def read_unsigned_varint(buffer: Buffer, position: int) -> tuple[int, int]:
    """The number, and the position after it. IndexError past the end, MalformedRequest past 32 bits."""
    number = 0
    for shift in range(0, 35, 7):
        byte = buffer[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
    raise MalformedRequest("a number without an end")


def read_tag_count(buffer: Buffer, position: int) -> tuple[int, int]:
    """How many tagged fields follow, and where. IndexError past the end, MalformedRequest for more than TAGS_MAX."""
    count, position = read_unsigned_varint(buffer, position)
    if count > TAGS_MAX:
        raise MalformedRequest(f"{count} tagged fields; {TAGS_MAX} are the most")
    return count, position


def unsigned_varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def framed(correlation_id: int, body: list[Buffer], *, is_flexible: bool) -> list[Buffer]:
    """A whole response: its length, its header (of version 1 where `is_flexible`), its body."""
    size = sum(map(len, body)) + 4 + is_flexible
    head = struct.pack(">ii", size, correlation_id) + (b"\0" if is_flexible else b"")
    return [head, *body]
