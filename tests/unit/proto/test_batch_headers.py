"""What a broker asks of a batch: header, CRC, checks, stamping, splitting, zero-width batches."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from lograft.proto.errors import BatchTooLarge, CorruptBatch, InvalidRecord, LograftError, UnsupportedCompression
from lograft.proto.record_batch import (
    HEADER_SIZE,
    Compression,
    NewRecord,
    check_produced,
    decode,
    encode,
    read_header,
    read_zero_width,
    split,
    stamp,
    verify,
    zero_width,
)

FIELDS = struct.Struct(">qiibIhiqqqhii")
NAMES = (
    *("base_offset", "length", "term", "magic", "crc", "attributes", "last_offset_delta", "base_timestamp_ms"),
    *("max_timestamp_ms", "producer_id", "producer_epoch", "base_sequence", "record_count"),
)
OUTSIDE_THE_CRC = {*range(8), *range(12, 16)}  # base offset and term


def a_batch(count: int = 3, **options: Any) -> bytes:
    return encode([NewRecord(1_000 + n, b"key-%d" % n, b"value-%d" % n) for n in range(count)], **options)


def altered(batch: bytes, **fields: int) -> bytes:
    """`batch` with other header fields, and the CRC that belongs to them."""
    values = dict(zip(NAMES, FIELDS.unpack_from(batch), strict=True)) | fields
    header = FIELDS.pack(*values.values())
    crc = crc32c(header[21:] + batch[HEADER_SIZE:])
    return header[:17] + struct.pack(">I", crc) + header[21:] + batch[HEADER_SIZE:]


def why_corrupt(batch: bytes) -> str:
    with pytest.raises(CorruptBatch) as caught:
        verify(batch)
    return caught.value.facts["what"]


def test_a_header_tells_offsets_counts_producer_and_times() -> None:
    batch = stamp(a_batch(3, producer_id=7, producer_epoch=0, base_sequence=40), base_offset=100, term=5)
    header = read_header(batch)
    assert (header.base_offset, header.next_offset, header.width, header.record_count) == (100, 103, 3, 3)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.has_producer) == (7, 0, 40, True)
    assert (header.base_timestamp_ms, header.max_timestamp_ms, header.term) == (1_000, 1_002, 5)
    assert (header.size, header.is_control, header.compression) == (len(batch), False, Compression.NONE)


def test_a_stamped_batch_keeps_its_crc_and_leaves_the_original_alone() -> None:
    batch = a_batch()
    stamped = stamp(memoryview(batch), base_offset=1 << 40, term=(1 << 31) - 1)
    assert verify(stamped)._replace(base_offset=0, term=-1) == verify(batch)
    assert stamped[16:] == batch[16:]


def test_a_batch_is_read_at_any_position_of_any_buffer() -> None:
    batch = a_batch()
    for buffer in (b"junk" + batch, bytearray(b"junk" + batch), memoryview(b"junk" + batch + b"more")):
        assert verify(buffer, 4) == verify(batch)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4, Compression.ZSTD, Compression.GZIP])
def test_every_bit_flipped_under_the_crc_is_noticed(compression: Compression) -> None:
    batch = encode([NewRecord(1, b"key", b"a value " * 20)], compression=compression)
    for position in set(range(len(batch))) - OUTSIDE_THE_CRC:
        for bit in range(8):
            flipped = bytearray(batch)
            flipped[position] ^= 1 << bit
            with pytest.raises(CorruptBatch):
                verify(flipped)


def test_a_batch_cut_short_anywhere_is_noticed() -> None:
    batch = a_batch()
    assert {why_corrupt(batch[:size]) for size in range(HEADER_SIZE)} == {"short header"}
    assert {why_corrupt(batch[:size]) for size in range(HEADER_SIZE, len(batch))} == {"cut short"}


def test_impossible_headers_are_named_for_what_is_wrong_with_them() -> None:
    batch = a_batch()
    assert why_corrupt(altered(batch, magic=1)) == "magic"
    for length in (0, -1, -(1 << 31), 48):
        assert why_corrupt(altered(batch, length=length)) == "size"
    assert why_corrupt(altered(batch, length=(1 << 31) - 1)) == "cut short"
    assert why_corrupt(altered(batch, last_offset_delta=-2)) == "counts"
    assert why_corrupt(altered(batch, record_count=-1)) == "counts"
    assert why_corrupt(batch[:-1] + b"!") == "crc"


def test_zeros_are_no_batch() -> None:
    assert why_corrupt(bytes(4096)) == "magic"


@given(st.binary(max_size=200))
def test_no_bytes_get_past_the_reader_but_a_batch(junk: bytes) -> None:
    with pytest.raises(CorruptBatch):
        verify(junk)


def test_split_gives_each_batch_with_its_bytes() -> None:
    batches = [a_batch(1), a_batch(5), zero_width(1, 6, 2), a_batch(2)]
    assert [bytes(view) for _, view in split(b"".join(batches))] == batches
    assert list(split(b"")) == []


def test_split_gives_the_whole_batches_before_it_refuses_the_one_cut_short() -> None:
    batch = a_batch()
    batches = split(batch + batch[:-1])
    assert next(batches)[1] == batch
    with pytest.raises(CorruptBatch) as caught:
        next(batches)
    assert caught.value.facts == {"what": "cut short", "position": str(len(batch))}


# What a client may send ---------------------------------------------------------------------------------------------


def test_a_produced_batch_with_and_without_a_producer_is_taken() -> None:
    assert check_produced(a_batch(), bytes_max=1 << 20).record_count == 3
    idempotent = a_batch(producer_id=0, producer_epoch=0, base_sequence=0)
    assert check_produced(idempotent, bytes_max=len(idempotent)).has_producer


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"record_count": 0}, InvalidRecord),
        ({"record_count": 2}, InvalidRecord),
        ({"record_count": 4}, InvalidRecord),
        ({"record_count": 0, "last_offset_delta": -1}, InvalidRecord),
        ({"last_offset_delta": -1}, InvalidRecord),
        ({"record_count": 1_000, "last_offset_delta": 999}, InvalidRecord),  # they would not fit
        ({"record_count": (1 << 31) - 1, "last_offset_delta": (1 << 31) - 2, "attributes": 4}, InvalidRecord),
        ({"last_offset_delta": (1 << 31) - 1}, InvalidRecord),
        ({"attributes": 0x20}, InvalidRecord),
        ({"attributes": 0x10}, InvalidRecord),
        ({"attributes": 0x08}, InvalidRecord),
        ({"attributes": 0x40}, InvalidRecord),
        ({"attributes": -(1 << 15)}, InvalidRecord),
        ({"attributes": 5}, UnsupportedCompression),
        ({"attributes": 7}, UnsupportedCompression),
        ({"producer_id": 7}, InvalidRecord),
        ({"producer_id": 7, "producer_epoch": 0}, InvalidRecord),
        ({"producer_id": 7, "producer_epoch": 0, "base_sequence": -2}, InvalidRecord),
        ({"producer_id": -2, "producer_epoch": 0, "base_sequence": 0}, InvalidRecord),
    ],
    ids=str,
)
def test_a_produced_batch_that_contradicts_itself_is_refused(fields: dict[str, int], error: type[LograftError]) -> None:
    with pytest.raises(error):
        check_produced(altered(a_batch(), **fields), bytes_max=1 << 20)


@pytest.mark.parametrize("fields", [{"base_sequence": 0}, {"producer_epoch": 0, "base_sequence": 0}], ids=str)
def test_without_a_producer_id_it_does_not_matter_what_else_would_belong_to_one(fields: dict[str, int]) -> None:
    # aiokafka sends a sequence of 0 then.
    assert not check_produced(altered(a_batch(), **fields), bytes_max=1 << 20).has_producer


def test_one_produced_batch_means_one_and_nothing_after_it() -> None:
    batch = a_batch()
    for sent in (b"", batch[:-1], batch + b"\0", batch + batch, batch[:-1] + b"!"):
        with pytest.raises(CorruptBatch):
            check_produced(sent, bytes_max=1 << 20)


def test_a_batch_over_the_limit_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(BatchTooLarge) as caught:
        check_produced(bytes(101), bytes_max=100)
    assert caught.value.facts == {"size": "101", "limit": "100"}


# Zero-width batches -------------------------------------------------------------------------------------------------


@given(
    kind=st.integers(0, (1 << 15) - 1),
    offset=st.integers(0, (1 << 63) - 1),
    term=st.integers(0, (1 << 31) - 1),
    payload=st.binary(max_size=300),
    timestamp_ms=st.integers(0, (1 << 63) - 1),
)
def test_a_zero_width_batch_says_its_kind_and_takes_no_offset(
    kind: int, offset: int, term: int, payload: bytes, timestamp_ms: int
) -> None:
    batch = zero_width(kind, offset, term, payload, timestamp_ms)
    header = verify(batch)
    assert (header.base_offset, header.next_offset, header.width, header.term) == (offset, offset, 0, term)
    assert header.is_control and not header.has_producer and header.max_timestamp_ms == timestamp_ms
    assert read_zero_width(batch) == (kind, payload)
    assert decode(batch) == []


def test_a_zero_width_batch_is_one_that_kafkas_readers_can_read() -> None:
    from aiokafka.record.default_records import DefaultRecordBatch

    reader = DefaultRecordBatch(zero_width(2, 10, 1, b"x" * 100, timestamp_ms=55))
    assert reader.is_control_batch and reader.validate_crc()
    (record,) = reader
    assert (record.key, record.value, record.timestamp, record.headers) == (b"\0\0\0\2", b"x" * 100, 55, [])


def test_neither_records_nor_an_altered_batch_pass_for_a_zero_width_one() -> None:
    batch = zero_width(1, 6, 2, b"payload")
    wrong = [
        a_batch(),
        batch + b"\0",
        altered(batch, record_count=2),
        altered(batch, last_offset_delta=0),
        altered(batch, attributes=0x30),
    ]
    for position in range(HEADER_SIZE, len(batch)):
        for bit in range(8):
            changed = bytes([batch[position] ^ 1 << bit])
            wrong.append(altered(batch[:position] + changed + batch[position + 1 :]))
    for other in wrong:
        try:
            kind, payload = read_zero_width(other)
        except CorruptBatch:
            continue
        assert other == zero_width(kind, 6, 2, payload)
        assert (kind, payload) != (1, b"payload")


@given(st.binary(max_size=40))
def test_any_record_bytes_under_a_good_crc_are_read_as_zero_width_or_refused(record: bytes) -> None:
    batch = zero_width(1, 6, 2)[:HEADER_SIZE] + record
    batch = altered(batch, length=len(batch) - 12)
    try:
        kind, payload = read_zero_width(batch)
    except CorruptBatch:
        return
    assert batch == zero_width(kind, 6, 2, payload)
