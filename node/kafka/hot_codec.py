"""The messages that come with every batch, by hand: kio takes several times as long, and copies the records.

Byte for byte what kio writes and reads (`tests/unit/kafka/test_hot_codec.py`).

Invariants
    records are never copied here: in a request they are a view of its frame, in a response a piece of their own
    a request names at most PARTITIONS_PER_REQUEST_MAX partitions, which is known before more of them are read
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from ...proto.record_batch import Buffer
from ..rpc.limits import PARTITIONS_PER_REQUEST_MAX
from .frames import MalformedRequest, read_tag_count, read_unsigned_varint, unsigned_varint

PRODUCE_FLEXIBLE_FROM, _FETCH_FLEXIBLE, _HEARTBEAT_FLEXIBLE = 9, 12, 4
_SHORT = struct.Struct(">h")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_ACKS_AND_TIMEOUT = struct.Struct(">hi")


class ProducedBatch(NamedTuple):
    """What a ProduceRequest brings for one partition."""

    topic: str
    partition: int
    records: memoryview | None


class ProduceRequest(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    batches: list[ProducedBatch]


def read_produce_request(frame: Buffer, position: int, version: int) -> ProduceRequest:
    """The request whose body begins at `position`. Raises MalformedRequest."""
    try:
        return _Cursor(frame, position, version >= PRODUCE_FLEXIBLE_FROM).produce_request()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"a Produce request cannot be read: {error}") from None


class _Cursor:
    """Reads one request from its start to its end."""

    __slots__ = ("_at", "_flexible", "_view")

    def __init__(self, frame: Buffer, position: int, flexible: bool) -> None:
        self._view = memoryview(frame)
        self._at = position
        self._flexible = flexible

    def produce_request(self) -> ProduceRequest:
        transactional_id = self._string()
        acks, timeout_ms = _ACKS_AND_TIMEOUT.unpack_from(self._view, self._at)
        self._at += _ACKS_AND_TIMEOUT.size
        batches: list[ProducedBatch] = []
        for _ in range(self._count()):
            topic = self._string()
            if topic is None:
                raise MalformedRequest("a topic without a name")
            count = self._count()
            if len(batches) + count > PARTITIONS_PER_REQUEST_MAX:
                raise MalformedRequest(f"a request for more than {PARTITIONS_PER_REQUEST_MAX} partitions")
            for _ in range(count):
                (partition,) = _INT.unpack_from(self._view, self._at)
                self._at += _INT.size
                batches.append(ProducedBatch(topic, partition, self._records()))
                self._tags()
            self._tags()
        self._tags()
        return ProduceRequest(transactional_id, acks, timeout_ms, batches)

    def _count(self) -> int:
        """Of an array, as far as it can be: a name of a topic takes a byte or more."""
        if self._flexible:
            count, self._at = read_unsigned_varint(self._view, self._at)
            count -= 1
        else:
            (count,) = _INT.unpack_from(self._view, self._at)
            self._at += _INT.size
        if count > PARTITIONS_PER_REQUEST_MAX:
            raise MalformedRequest(f"a list of {count}; {PARTITIONS_PER_REQUEST_MAX} are the most")
        if count < 0:
            raise MalformedRequest("a list that is null where none may be")
        return count

    def _string(self) -> str | None:
        if self._flexible:
            size, self._at = read_unsigned_varint(self._view, self._at)
            size -= 1
        else:
            (size,) = _SHORT.unpack_from(self._view, self._at)
            self._at += _SHORT.size
        piece = self._piece(size)
        return None if piece is None else str(piece, "utf-8")

    def _records(self) -> memoryview | None:
        if self._flexible:
            size, self._at = read_unsigned_varint(self._view, self._at)
            size -= 1
        else:
            (size,) = _INT.unpack_from(self._view, self._at)
            self._at += _INT.size
        return self._piece(size)

    def _piece(self, size: int) -> memoryview | None:
        if size == -1:
            return None
        begin, end = self._at, self._at + size
        if size < 0 or end > len(self._view):
            raise MalformedRequest(f"{size} bytes are claimed where {len(self._view) - begin} are left")
        self._at = end
        return self._view[begin:end]

    def _tags(self) -> None:
        if not self._flexible:
            return
        if self._view[self._at] == 0:
            self._at += 1
            return
        count, self._at = read_tag_count(self._view, self._at)
        for _ in range(count):
            _, self._at = read_unsigned_varint(self._view, self._at)
            size, self._at = read_unsigned_varint(self._view, self._at)
            self._piece(size)


# Responses ------------------------------------------------------------------------------------------------------------


class ProducedAnswer(NamedTuple):
    """What became of a batch."""

    topic: str
    partition: int
    error_code: int
    base_offset: int
    log_start_offset: int
    error_message: str | None = None


def produce_response(version: int, answers: Sequence[ProducedAnswer]) -> bytes:
    """Answers of one topic stand together, as in the request."""
    flexible = version >= PRODUCE_FLEXIBLE_FROM
    runs = _runs(answers)
    pieces = [_array(len(runs), flexible)]
    for run in runs:
        pieces += [_text(run[0].topic, flexible), _array(len(run), flexible)]
        for one in run:
            # partition, code, base offset, time of append (-1: the client's own counts)
            pieces.append(struct.pack(">ihqq", one.partition, one.error_code, one.base_offset, -1))
            if version >= 5:
                pieces.append(_LONG.pack(one.log_start_offset))
            if version >= 8:
                pieces += [_array(0, flexible), _nullable_text(one.error_message, flexible)]
            if flexible:
                pieces.append(b"\0")
        if flexible:
            pieces.append(b"\0")
    pieces.append(b"\0\0\0\0\0" if flexible else b"\0\0\0\0")  # no throttling, no tags
    return b"".join(pieces)


class FetchedAnswer(NamedTuple):
    """What there is of a partition."""

    topic: str
    topic_id: UUID | None
    partition: int
    error_code: int
    committed_offset: int
    """-1 with an error, as the next one."""
    log_start_offset: int
    batches: Sequence[Buffer]


def fetch_response(version: int, answers: Sequence[FetchedAnswer], *, is_read_committed: bool) -> list[Buffer]:
    """In pieces to be written one after the other. Answers of one topic stand together, as in the request."""
    flexible = version >= _FETCH_FLEXIBLE
    runs = _runs(answers)
    begin = b"\0\0\0\0" + (b"\0\0\0\0\0\0" if version >= 7 else b"")  # no throttling, no error, no session
    pieces: list[Buffer] = [begin + _array(len(runs), flexible)]
    for run in runs:
        name = _text(run[0].topic, flexible) if version < 13 else _uuid(run[0].topic_id)
        head = name + _array(len(run), flexible)
        for one in run:
            # partition, code, high watermark, last stable offset
            head += struct.pack(">ihqq", one.partition, one.error_code, one.committed_offset, one.committed_offset)
            if version >= 5:
                head += _LONG.pack(one.log_start_offset)
            # Who asks for committed records alone is to hear that none were aborted; others hear nothing of that.
            head += _array(0 if is_read_committed else -1, flexible)
            if version >= 11:
                head += b"\xff\xff\xff\xff"  # no preferred replica
            size = sum(map(len, one.batches))
            head += unsigned_varint(size + 1) if flexible else _INT.pack(size)
            pieces.append(head)
            pieces += one.batches
            head = b"\0" if flexible else b""
        pieces.append(head + (b"\0" if flexible else b""))
    if flexible:
        pieces.append(b"\0")
    return [piece for piece in pieces if len(piece)]


def heartbeat_response(version: int, error_code: int) -> bytes:
    throttle = b"\0\0\0\0" if version >= 1 else b""
    return throttle + _SHORT.pack(error_code) + (b"\0" if version >= _HEARTBEAT_FLEXIBLE else b"")


def _runs(answers: Sequence[ProducedAnswer] | Sequence[FetchedAnswer]) -> list[list[Any]]:
    """The answers, those of one topic that follow each other together."""
    runs: list[list[Any]] = []
    for one in answers:
        if (
            runs
            and runs[-1][0][:1] == one[:1]
            and getattr(runs[-1][0], "topic_id", None) == getattr(one, "topic_id", None)
        ):
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _array(count: int, flexible: bool) -> bytes:
    return unsigned_varint(count + 1) if flexible else _INT.pack(count)


def _text(text: str, flexible: bool) -> bytes:
    encoded = text.encode()
    return (unsigned_varint(len(encoded) + 1) if flexible else _SHORT.pack(len(encoded))) + encoded


def _nullable_text(text: str | None, flexible: bool) -> bytes:
    if text is None:
        return b"\0" if flexible else b"\xff\xff"
    return _text(text, flexible)


def _uuid(value: UUID | None) -> bytes:
    return bytes(16) if value is None else value.bytes
