"""Kafka's RecordBatch v2: the one layout of records on the wire, on disk and in replication.

Invariants
    base offset and term lie outside the CRC, so a leader stamps a batch without touching what the client signed
    a batch takes `last_offset_delta + 1` offsets, its *width*; a zero-width batch, made by lograft alone, takes none
    a produced batch holds as many records as it takes offsets; one that was compacted holds fewer, or none
    nothing here trusts its input: bytes that are no batch raise CorruptBatch, and inflating stops at a limit

Layout, big-endian, in bytes from the start of the batch
    0 base offset i64 | 8 length of what follows i32 | 12 term i32 (Kafka's leader epoch) | 16 magic i8, always 2
    17 CRC-32C u32 of all that follows | 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64
    35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32
    61 records
    attributes: bits 0-2 compression, 3 timestamps are the broker's, 4 transactional, 5 control

Timestamps are unix milliseconds. A broker only ever reads headers; the codec of records is for clients.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from functools import cache, lru_cache
from itertools import pairwise, repeat
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

import lz4.frame
import zstandard
from crc32c import crc32c

from .errors import BatchTooLarge, CorruptBatch, InvalidRecord, UnsupportedCompression

Buffer = bytes | bytearray | memoryview

HEADER_SIZE = 61
INFLATED_BYTES_MAX = 64 << 20
"""What a reader is willing to hold of one batch, unless it says otherwise."""

_MAGIC = 2
_HEADER = struct.Struct(">qiibIhiqqqhii")
_UNSIGNED_HEADER = struct.Struct(">qiibI")
_SIGNED_HEADER = struct.Struct(">hiqqqhii")  # the part under the CRC: attributes to record count
_BASE_OFFSET = struct.Struct(">q")
_TERM = struct.Struct(">i")
_SIZE_BEFORE_LENGTH = 12  # the length field counts what comes after itself
_TERM_POSITION = 12
_SIGNED_POSITION = 21
_CONTROL_KEY = struct.Struct(">hh")
_CONTROL_VERSION = 0

_COMPRESSION_MASK = 0x07
_TRANSACTIONAL = 0x10
_CONTROL = 0x20

_RECORD_SIZE_MIN = 7  # length, attributes, timestamp, offset, key, value, headers: a byte each
_NO_TERM = -1
_TIMESTAMP_MAX = (1 << 63) - 1


class Compression(IntEnum):
    """How the records of a batch are packed; the values are Kafka's."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class BatchHeader(NamedTuple):
    """The first 61 bytes of a batch."""

    base_offset: int
    size: int
    """Of the whole batch, this header included, in bytes."""
    term: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def width(self) -> int:
        """How many offsets the batch takes."""
        return self.last_offset_delta + 1

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def compression(self) -> Compression:
        """UnsupportedCompression if the bits name none."""
        code = self.attributes & _COMPRESSION_MASK
        if code > Compression.ZSTD:
            raise UnsupportedCompression(f"a batch says it is compressed by codec {code}; 0 to 4 are known", codec=code)
        return Compression(code)

    @property
    def has_producer(self) -> bool:
        return self.producer_id >= 0


class Header(NamedTuple):
    """A name and a value that travel with a record."""

    key: str
    value: bytes | None


class NewRecord(NamedTuple):
    """A record that has no offset yet."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Record(NamedTuple):
    """A record as it stands in a partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


# Headers ------------------------------------------------------------------------------------------------------------


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch that begins at `position`. Neither CRC nor the presence of its records is looked at.

    Raises
        CorruptBatch  no header of a batch can stand there
    """
    if position < 0 or len(buffer) - position < HEADER_SIZE:
        raise CorruptBatch(
            f"{max(0, len(buffer) - position)} bytes at {position} are too few for a batch header of {HEADER_SIZE}",
            what="short header",
            position=position,
        )
    base_offset, length, term, magic, crc, attributes, last_delta, *rest = _HEADER.unpack_from(buffer, position)
    if magic != _MAGIC:
        raise CorruptBatch(f"magic {magic} at {position}, where a batch has 2", what="magic", position=position)
    size = length + _SIZE_BEFORE_LENGTH
    if size < HEADER_SIZE:
        raise CorruptBatch(
            f"a batch at {position} claims {size} bytes; {HEADER_SIZE} are the least", what="size", position=position
        )
    header = BatchHeader(base_offset, size, term, crc, attributes, last_delta, *rest)
    if last_delta < -1 or header.record_count < 0:
        raise CorruptBatch(
            f"a batch at {position} claims {header.record_count} records over {header.width} offsets",
            what="counts",
            position=position,
        )
    return header


def verify(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`, once all of it is there and its CRC is right.

    Raises
        CorruptBatch  with the facts what ("short header", "magic", "size", "counts", "cut short", "crc") and position
    """
    header = read_header(buffer, position)
    if len(buffer) - position < header.size:
        raise CorruptBatch(
            f"a batch of {header.size} bytes at {position} is cut short at {len(buffer) - position}",
            what="cut short",
            position=position,
        )
    actual = crc32c(memoryview(buffer)[position + _SIGNED_POSITION : position + header.size])
    if actual != header.crc:
        raise CorruptBatch(
            f"a batch at {position} says its CRC is {header.crc:#010x}, but it is {actual:#010x}",
            what="crc",
            position=position,
        )
    return header


def check_produced(batch: Buffer, *, bytes_max: int) -> BatchHeader:
    """The header of a batch that a client sent, once it keeps all that a leader needs; its records stay unread.

    Raises
        BatchTooLarge           more than `bytes_max`
        CorruptBatch            not one whole batch with a right CRC and nothing after it
        InvalidRecord           its fields contradict each other, or claim what only a broker may
        UnsupportedCompression  a codec that nobody knows
    """
    if len(batch) > bytes_max:
        raise BatchTooLarge(
            f"a batch of {len(batch)} bytes is over the limit of {bytes_max}: send smaller batches",
            size=len(batch),
            limit=bytes_max,
        )
    header = verify(batch)
    if header.size != len(batch):
        raise CorruptBatch(
            f"{len(batch) - header.size} bytes follow the batch; one batch was expected",
            what="trailing bytes",
            position=header.size,
        )
    if header.attributes & _CONTROL:
        raise InvalidRecord("a control batch: only brokers write those", attributes=header.attributes)
    if header.attributes & _TRANSACTIONAL:
        raise InvalidRecord("a transactional batch: there are no transactions here", attributes=header.attributes)
    if header.attributes & ~_COMPRESSION_MASK:
        raise InvalidRecord(
            f"attributes {header.attributes:#06x}: a producer may set none but the compression",
            attributes=header.attributes,
        )
    compression = header.compression
    if not header.record_count == header.width > 0:
        raise InvalidRecord(
            f"{header.record_count} records over {header.width} offsets: a produced batch has one or more, "
            "and as many offsets",
            record_count=header.record_count,
            width=header.width,
        )
    room = header.size - HEADER_SIZE if compression is Compression.NONE else INFLATED_BYTES_MAX
    if header.record_count * _RECORD_SIZE_MIN > room:
        raise InvalidRecord(
            f"{header.record_count} records cannot fit in {room} bytes", record_count=header.record_count
        )
    producer = (header.producer_id, header.producer_epoch, header.base_sequence)
    # Without a producer id the others say nothing: some clients leave a sequence of 0 there.
    if header.producer_id != -1 and min(producer) < 0:
        raise InvalidRecord(
            "producer id {}, epoch {} and sequence {} must all be set (0 or above), or the id be -1".format(*producer),
            producer_id=header.producer_id,
        )
    return header


def stamp(batch: Buffer, base_offset: int, term: int) -> bytearray:
    """A copy of `batch` that stands at `base_offset` and was appended in `term`. Its CRC stays good."""
    stamped = bytearray(batch)
    _BASE_OFFSET.pack_into(stamped, 0, base_offset)
    _TERM.pack_into(stamped, _TERM_POSITION, term)
    return stamped


def split(buffer: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The batches that stand one after the other in `buffer`, as views of it. CRCs are not checked.

    Raises
        CorruptBatch  at the first that is not whole; those before it have been given
    """
    view = memoryview(buffer)
    position = 0
    while position < len(view):
        header = read_header(view, position)
        end = position + header.size
        if end > len(view):
            raise CorruptBatch(
                f"a batch of {header.size} bytes at {position} is cut short at {len(view) - position}",
                what="cut short",
                position=position,
            )
        yield header, view[position:end]
        position = end


# Zero-width batches -------------------------------------------------------------------------------------------------


def zero_width(kind: int, offset: int, term: int, payload: bytes = b"", timestamp_ms: int = 0) -> bytes:
    """A control batch that takes no offset: it says something about the log at `offset`, where the next record goes."""
    key = _CONTROL_KEY.pack(_CONTROL_VERSION, kind)
    fields = b"".join((b"\0\0\0", _varint(len(key)), key, _varint(len(payload)), payload, b"\0"))
    records = _varint(len(fields)) + fields
    return _sealed(
        records,
        base_offset=offset,
        term=term,
        attributes=_CONTROL,
        last_offset_delta=-1,
        timestamps_ms=(timestamp_ms, timestamp_ms),
        producer=(-1, -1, -1),
        record_count=1,
    )


def read_zero_width(batch: Buffer) -> tuple[int, bytes]:
    """Kind and payload of a zero-width batch.

    Raises
        CorruptBatch  bytes that `zero_width` would not have made
    """
    header = verify(batch)
    try:
        _, position = _read_varint(batch, HEADER_SIZE)
        key_length, position = _read_varint(batch, position + 3)
        _, kind = _CONTROL_KEY.unpack_from(batch, position)
        payload_length, position = _read_varint(batch, position + key_length)
    except (IndexError, struct.error) as error:
        raise CorruptBatch("a zero-width batch ends inside its record", what="zero-width", position=0) from error
    payload = bytes(batch[position : position + payload_length])
    # There is one way to write it, so what differs from that anywhere was not written here.
    if zero_width(kind, header.base_offset, header.term, payload, header.base_timestamp_ms) != batch:
        raise CorruptBatch("not a zero-width batch", what="zero-width", position=0)
    return kind, payload


# Emptied batches ----------------------------------------------------------------------------------------------------


def emptied(header: BatchHeader, next_offset: int | None = None) -> bytes:
    """What is left of a batch whose records are all gone: its bounds, its term and its producer.

    With `next_offset` it stands for the batches after it as well, up to there, and for no producer.
    """
    end, producer = header.next_offset, (header.producer_id, header.producer_epoch, header.base_sequence)
    if next_offset is not None:
        end, producer = next_offset, (-1, -1, -1)
    return _sealed(
        b"",
        base_offset=header.base_offset,
        term=header.term,
        attributes=0,
        last_offset_delta=end - header.base_offset - 1,
        timestamps_ms=(-1, -1),
        producer=producer,
        record_count=0,
    )


def _sealed(
    records: Buffer,
    *,
    base_offset: int,
    term: int,
    attributes: int,
    last_offset_delta: int,
    timestamps_ms: tuple[int, int],
    producer: tuple[int, int, int],
    record_count: int,
) -> bytes:
    """A whole batch around an encoded, and perhaps compressed, records section."""
    signed = _SIGNED_HEADER.pack(attributes, last_offset_delta, *timestamps_ms, *producer, record_count)
    crc = crc32c(records, crc32c(signed))
    length = HEADER_SIZE - _SIZE_BEFORE_LENGTH + len(records)
    return b"".join((_UNSIGNED_HEADER.pack(base_offset, length, term, _MAGIC, crc), signed, records))


def _varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest first."""
    zigzag = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    encoded.append(zigzag)
    return bytes(encoded)


def _read_varint(buffer: Buffer, position: int) -> tuple[int, int]:
    """The number at `position`, and the position after it. IndexError if it is negative, endless or cut short."""
    zigzag = 0
    for shift in range(0, 35, 7):
        byte = buffer[position]
        position += 1
        zigzag |= (byte & 0x7F) << shift
        if not byte & 0x80:
            if zigzag & 1:
                break
            return zigzag >> 1, position
    raise IndexError(position)


# Records ------------------------------------------------------------------------------------------------------------


_NO_HEADERS: list[tuple[str, bytes | None]] = []  # the C codec takes a list, and only looks at it
_codec_import = Lock()


@cache
def _codec() -> tuple[Any, Any, type[Exception]]:
    """Builder, reader and reader's error of aiokafka's C codec. Late, because importing it takes 80 ms."""
    # Its modules import each other in a circle: two threads that begin at once would each see half of it.
    with _codec_import:
        from aiokafka.errors import CorruptRecordException
        from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

    return DefaultRecordBatchBuilder, DefaultRecordBatch, CorruptRecordException


class BatchBuilder:
    """Records on their way to becoming one batch of at most `bytes_max` bytes before compression.

    A record that is larger than that by itself still goes in, alone: whether it may be sent is the broker's to say.
    """

    __slots__ = ("_append", "_base_timestamp_ms", "_buffer", "_builder", "_max_timestamp_ms", "count")

    def __init__(self, bytes_max: int = 1 << 20) -> None:
        builder, _, _ = _codec()
        # Always uncompressed: its own lz4 is ten times slower than lz4.frame.
        self._builder = builder(_MAGIC, 0, 0, -1, -1, -1, bytes_max)
        self._append = self._builder.append
        # What it builds without a record is the very bytearray that it goes on writing records into. So in the end the
        # header is ours to write: its own CRC, in software, costs more than all the rest of a batch of large records.
        self._buffer: bytearray = self._builder.build()
        self._base_timestamp_ms = self._max_timestamp_ms = -1
        self.count = 0

    @property
    def size(self) -> int:
        """Bytes so far, header included, before compression."""
        return int(self._builder.size())

    def append(
        self,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> bool:
        """Add a record. False if there is no room for it; the batch is then as it was.

        Raises
            InvalidRecord  a timestamp before 1970, or a key, value or header of the wrong type
        """
        try:
            if not 0 <= timestamp_ms <= _TIMESTAMP_MAX:
                raise InvalidRecord(f"timestamp {timestamp_ms} ms: it must be 0 or later", timestamp_ms=timestamp_ms)
            appended = self._append(self.count, timestamp_ms, key, value, _plain(headers) if headers else _NO_HEADERS)
        except (TypeError, ValueError, BufferError) as error:
            raise InvalidRecord(
                f"a record has an int timestamp, key and value bytes or None, headers of str and bytes or None: {error}"
            ) from error
        if appended is None:
            return False
        if timestamp_ms > self._max_timestamp_ms:
            self._note_timestamp(timestamp_ms)
        self.count += 1
        return True

    def append_values(self, values: Iterable[bytes], timestamp_ms: int) -> int:
        """Add records that are a value alone, as many as there is room for; returns how many. The time is not before
        1970, and the values are `bytes` themselves: whoever calls has looked."""
        append, first = self._append, self.count
        number = first
        for value in values:
            if append(number, timestamp_ms, None, value, _NO_HEADERS) is None:
                break
            number += 1
        if number > first and timestamp_ms > self._max_timestamp_ms:
            self._note_timestamp(timestamp_ms)
        self.count = number
        return number - first

    def _note_timestamp(self, timestamp_ms: int) -> None:
        """It is the greatest so far, and the first one is that as well."""
        if self._max_timestamp_ms < 0:
            self._base_timestamp_ms = timestamp_ms
        self._max_timestamp_ms = timestamp_ms

    def extend(self, records: Sequence[NewRecord], start: int = 0) -> int:
        """Add records from `start` on, as many as there is room for; the index of the first that found none.

        Raises InvalidRecord as `append` does; the records before the one refused are then in the batch.
        """
        for at in range(start, len(records)):
            if not self.append(*records[at]):
                return at
        return len(records)

    def build(
        self,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        compression: Compression = Compression.NONE,
    ) -> bytes:
        """The batch, base offset 0 and without a term. Once only; there must be a record in it.

        Compressed only if that makes it smaller.

        Raises
            UnsupportedCompression  there is no library for it
        """
        assert self.count, "a batch without records"
        plain = self._buffer
        size = self._builder.size()
        assert len(plain) >= size, "the codec writes its records elsewhere"
        del plain[size:]  # of a record that it refused half-way
        producer = (producer_id, producer_epoch, base_sequence)
        timestamps_ms = (self._base_timestamp_ms, self._max_timestamp_ms)
        if compression is not Compression.NONE:
            records = memoryview(plain)[HEADER_SIZE:]
            packed = _deflate(records, compression)
            if len(packed) < len(records):
                return _sealed(
                    packed,
                    base_offset=0,
                    term=_NO_TERM,
                    attributes=compression,
                    last_offset_delta=self.count - 1,
                    timestamps_ms=timestamps_ms,
                    producer=producer,
                    record_count=self.count,
                )
        _SIGNED_HEADER.pack_into(plain, _SIGNED_POSITION, 0, self.count - 1, *timestamps_ms, *producer, self.count)
        crc = crc32c(memoryview(plain)[_SIGNED_POSITION:])
        _UNSIGNED_HEADER.pack_into(plain, 0, 0, len(plain) - _SIZE_BEFORE_LENGTH, _NO_TERM, _MAGIC, crc)
        return bytes(plain)


def _plain(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """What the C codec takes: tuples and bytes themselves, nothing derived from or like them."""
    return [(name, None if content is None else bytes(memoryview(content))) for name, content in headers]


def encode(
    records: Iterable[NewRecord],
    *,
    compression: Compression = Compression.NONE,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """One batch of all `records`, at least one.

    Raises
        InvalidRecord           see BatchBuilder.append
        UnsupportedCompression  there is no library for it
    """
    builder = BatchBuilder(bytes_max=1 << 31)
    builder.extend(list(records))
    if not builder.count:
        raise InvalidRecord("a batch needs at least one record", record_count=0)
    return builder.build(producer_id, producer_epoch, base_sequence, compression)


# The C reader may look up to 20 bytes past the end of its buffer before it notices, so it gets one more record than
# the batch has: the bytes past the end are then ours, and reading them as anything else than this record is an error.
_LAST_VALUE = bytes(64)
_LAST_RECORD = b"".join(
    (_varint(3 + 1 + 2 + len(_LAST_VALUE) + 1), b"\0\0\0", _varint(-1), _varint(len(_LAST_VALUE)), _LAST_VALUE, b"\0")
)

_new_tuple: Any = tuple.__new__  # called by `map` itself: half the time of `Record(*fields)`, or of a partial
_column_offset = attrgetter("offset")
_column_timestamp = attrgetter("timestamp")
_column_key = attrgetter("key")
_column_value = attrgetter("value")
_column_headers = attrgetter("headers")


class Columns(NamedTuple):
    """The records of a batch, field by field: all of the same length, but for `headers`, which may be endless."""

    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: Iterable[tuple[Header, ...]]


_NO_RECORDS = Columns([], [], [], [], ())


def decode(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> list[Record]:
    """The records of one batch; raises as `decode_columns` does."""
    fields = zip(*decode_columns(batch, inflated_bytes_max=inflated_bytes_max), strict=False)
    return list(map(_new_tuple, repeat(Record), fields))


def decode_columns(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> Columns:
    """The records of one batch, which may have gaps in their offsets once it was compacted; none of a control batch.

    In columns, so that whoever wants other objects of them than `Record` makes no object twice.

    Raises
        CorruptBatch            CRC, compressed bytes or records are not what they should be
        BatchTooLarge           it would inflate to more than `inflated_bytes_max`
        UnsupportedCompression  there is no library for it
    """
    return unpack(batch, inflated_bytes_max=inflated_bytes_max).columns


class Unpacked(NamedTuple):
    """A batch whose records have been read."""

    header: BatchHeader
    records: Buffer
    """As encoded, not compressed."""
    columns: Columns

    def retaining(self, kept: Sequence[int]) -> bytes:
        """The same batch with only those of its records, named by their index, one at least.

        Bounds, term, producer and the bytes of what is kept stay as they are; the other offsets are nobody's from now
        on. Compressed as it was, if that makes it smaller. CorruptBatch: the records do not end where they should.
        """
        header = self.header
        spans = self._spans()
        section = b"".join(bytes(self.records[slice(*spans[at])]) for at in kept)
        compression = header.compression
        packed = _deflate(memoryview(section), compression) if compression is not Compression.NONE else section
        if len(packed) >= len(section):
            packed, compression = section, Compression.NONE
        return _sealed(
            packed,
            base_offset=header.base_offset,
            term=header.term,
            attributes=header.attributes & ~_COMPRESSION_MASK | compression,
            last_offset_delta=header.last_offset_delta,
            # Each record's timestamp is told from the base.
            timestamps_ms=(header.base_timestamp_ms, max(self.columns.timestamps_ms[at] for at in kept)),
            producer=(header.producer_id, header.producer_epoch, header.base_sequence),
            record_count=len(kept),
        )

    def _spans(self) -> list[tuple[int, int]]:
        """Where each record begins and ends."""
        spans = []
        position = 0
        try:
            for _ in range(self.header.record_count):
                length, fields = _read_varint(self.records, position)
                spans.append((position, fields + length))
                position = fields + length
        except IndexError as error:
            raise _bad_records("a record without a length") from error
        if position != len(self.records):
            raise _bad_records(f"they end at {position} of {len(self.records)} bytes")
        return spans


def unpack(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> Unpacked:
    """One batch and its records; raises as `decode_columns` does."""
    header = verify(batch)
    if header.size != len(batch):
        raise CorruptBatch("bytes follow the batch", what="trailing bytes", position=header.size)
    records: Buffer = memoryview(batch)[HEADER_SIZE:]
    if header.is_control or not header.record_count:
        return Unpacked(header, records, _NO_RECORDS)
    if header.compression is not Compression.NONE:
        records = _inflate(records, header.compression, inflated_bytes_max)
    return Unpacked(header, records, _columns(header, records))


def _columns(header: BatchHeader, records: Buffer) -> Columns:
    if header.record_count * _RECORD_SIZE_MIN > len(records):
        raise _bad_records(f"{header.record_count} records cannot fit in {len(records)} bytes")
    _, reader, reader_error = _codec()
    plain_header = _HEADER.pack(
        header.base_offset,
        HEADER_SIZE - _SIZE_BEFORE_LENGTH + len(records) + len(_LAST_RECORD),
        header.term,
        _MAGIC,
        0,
        header.attributes & ~_COMPRESSION_MASK,
        *header[5:11],
        header.record_count + 1,
    )
    try:
        read = list(reader(b"".join((plain_header, records, _LAST_RECORD))))
    except (reader_error, ValueError, OverflowError, MemoryError) as error:
        raise _bad_records(str(error)) from error
    if read.pop().value != _LAST_VALUE:
        raise _bad_records("a record runs past the end")

    offsets = list(map(_column_offset, read))
    # The width is only a claim: what it could be must not be counted out.
    if len(offsets) != header.width or offsets != list(range(header.base_offset, header.next_offset)):
        rising = all(before < after for before, after in pairwise(offsets))
        if not (rising and offsets[0] >= header.base_offset and offsets[-1] < header.next_offset):
            raise _bad_records("offsets that do not rise within the batch")
    timestamps: list[int] = list(map(_column_timestamp, read))
    if None in timestamps:  # Kafka's "no timestamp"
        timestamps = [-1 if timestamp is None else timestamp for timestamp in timestamps]
    headers: Iterable[tuple[Header, ...]] = repeat(())
    raw_headers = list(map(_column_headers, read))
    if any(raw_headers):
        headers = [tuple(Header(*pair) for pair in pairs) for pairs in raw_headers]
    return Columns(offsets, timestamps, list(map(_column_key, read)), list(map(_column_value, read)), headers)


def _bad_records(why: str) -> CorruptBatch:
    return CorruptBatch(f"the records of a batch are unreadable: {why}", what="records", position=HEADER_SIZE)


# Compression --------------------------------------------------------------------------------------------------------


def _deflate(records: memoryview, compression: Compression) -> bytes:
    if compression is Compression.LZ4:
        # Kafka's readers refuse frames whose blocks lean on each other.
        return bytes(lz4.frame.compress(records, block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX256KB))
    if compression is Compression.ZSTD:
        return zstandard.ZstdCompressor(level=3).compress(records)
    if compression is Compression.GZIP:
        packer = zlib.compressobj(level=6, wbits=31)
        return packer.compress(records) + packer.flush()
    raise UnsupportedCompression(f"no library for {compression.name.lower()} here: use lz4 or zstd", codec=compression)


def _inflate(packed: Buffer, compression: Compression, bytes_max: int) -> bytes:
    """Unpack to at most `bytes_max` bytes, and not much further before noticing that there are more."""
    if compression is Compression.SNAPPY:
        raise UnsupportedCompression("no library for snappy here: it cannot be read", codec=compression)
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _INFLATE[compression](packed, bytes_max + 1):
            pieces.append(piece)
            size += len(piece)
            if size > bytes_max:
                raise BatchTooLarge(
                    f"a batch of {len(packed)} bytes inflates to more than {bytes_max}",
                    size=len(packed),
                    limit=bytes_max,
                )
    except (RuntimeError, EOFError, ValueError, MemoryError, zlib.error, zstandard.ZstdError) as error:
        raise CorruptBatch(
            f"the {compression.name.lower()} bytes of a batch are unreadable: {error}",
            what="compression",
            position=HEADER_SIZE,
        ) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _inflate_lz4(packed: Buffer, bytes_max: int) -> Iterator[bytes]:
    unpacker = lz4.frame.LZ4FrameDecompressor()
    piece_bytes = _piece_bytes(lz4.frame.get_frame_info(packed)["content_size"], packed, bytes_max)
    yield unpacker.decompress(packed, piece_bytes)
    while not unpacker.eof:
        piece = unpacker.decompress(b"", piece_bytes)
        if not piece and not unpacker.eof:
            raise EOFError("cut short")
        yield piece
    if unpacker.unused_data:
        raise ValueError("bytes follow the frame")


def _inflate_zstd(packed: Buffer, bytes_max: int) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    piece_bytes = _piece_bytes(max(0, zstandard.frame_content_size(packed)), packed, bytes_max)
    # A frame that was cut short just ends here; that records are missing is then seen by who reads them.
    while piece := reader.read(piece_bytes):
        yield piece


def _inflate_gzip(packed: Buffer, bytes_max: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    piece_bytes = _piece_bytes(0, packed, bytes_max)
    left: Buffer = packed
    while not unpacker.eof:
        piece = unpacker.decompress(left, piece_bytes)
        if not piece and not unpacker.eof:
            raise EOFError("cut short")
        yield piece
        left = unpacker.unconsumed_tail
    if unpacker.unused_data:
        raise ValueError("bytes follow the stream")


def _piece_bytes(claimed: int, packed: Buffer, bytes_max: int) -> int:
    """How much to unpack at a time: all of it, if the claimed size is true; a guess if there is none."""
    return min(bytes_max, claimed or max(1 << 16, 4 * len(packed)))


_INFLATE = {Compression.GZIP: _inflate_gzip, Compression.LZ4: _inflate_lz4, Compression.ZSTD: _inflate_zstd}


# Which partition ----------------------------------------------------------------------------------------------------


def murmur2(key: bytes) -> int:
    """Kafka's hash of a key: MurmurHash2 with its seed, as a signed 32-bit number."""
    length = len(key)
    whole = length & ~3
    mixed = 0x9747B28C ^ length
    for (word,) in _WORD.iter_unpack(memoryview(key)[:whole]):
        word = word * 0x5BD1E995 & 0xFFFFFFFF
        word ^= word >> 24
        mixed = (mixed * 0x5BD1E995 ^ word * 0x5BD1E995) & 0xFFFFFFFF
    if length > whole:
        mixed ^= int.from_bytes(key[whole:], "little")
        mixed = mixed * 0x5BD1E995 & 0xFFFFFFFF
    mixed ^= mixed >> 13
    mixed = mixed * 0x5BD1E995 & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return mixed - (1 << 32) if mixed & 0x80000000 else mixed


_WORD = struct.Struct("<I")
_REMEMBERED_KEY_BYTES_MAX = 128
_remembered_murmur2 = lru_cache(maxsize=1 << 16)(murmur2)


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition, of `partitions`, that Kafka's clients choose for `key`. Short keys are remembered."""
    mixed = _remembered_murmur2(key) if len(key) <= _REMEMBERED_KEY_BYTES_MAX else murmur2(key)
    return (mixed & 0x7FFFFFFF) % partitions
