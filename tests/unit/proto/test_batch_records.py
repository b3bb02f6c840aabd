"""The codec of records: what goes in comes out, other implementations agree, and hostile bytes do no harm."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import lz4.frame
import pytest
import zstandard
from aiokafka.record import default_records
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.proto.errors import BatchTooLarge, CorruptBatch, InvalidRecord, UnsupportedCompression
from lograft.proto.record_batch import (
    HEADER_SIZE,
    BatchBuilder,
    Compression,
    Header,
    NewRecord,
    Record,
    decode,
    encode,
    read_header,
    stamp,
    verify,
)

CODECS = [Compression.NONE, Compression.GZIP, Compression.LZ4, Compression.ZSTD]

maybe_bytes = st.none() | st.binary(max_size=80)
headers = st.lists(st.tuples(st.text(max_size=10), maybe_bytes), max_size=3)
timestamps = st.integers(0, 1 << 62)
new_records = st.lists(st.builds(NewRecord, timestamps, maybe_bytes, maybe_bytes, headers), min_size=1, max_size=20)


def resealed(batch: bytes, records: bytes, **fields: int) -> bytes:
    """`batch` with another records section under a CRC that is right: what a hostile or broken client could send."""
    header = bytearray(batch[:HEADER_SIZE])
    struct.pack_into(">i", header, 8, HEADER_SIZE - 12 + len(records))
    if "attributes" in fields:
        struct.pack_into(">h", header, 21, fields["attributes"])
    if "count" in fields:
        struct.pack_into(">i", header, 23, fields["count"] - 1)
        struct.pack_into(">i", header, 57, fields["count"])
    struct.pack_into(">I", header, 17, crc32c(bytes(header[21:]) + records))
    return bytes(header) + records


def as_read(records: list[NewRecord], base_offset: int = 0) -> list[Record]:
    return [
        Record(base_offset + n, new.timestamp_ms, new.key, new.value, tuple(Header(*pair) for pair in new.headers))
        for n, new in enumerate(records)
    ]


@given(records=new_records, compression=st.sampled_from(CODECS), base_offset=st.integers(0, 1 << 40))
def test_records_come_out_as_they_went_in(records: list[NewRecord], compression: Compression, base_offset: int) -> None:
    batch = stamp(encode(records, compression=compression), base_offset, term=3)
    assert decode(batch) == as_read(records, base_offset)
    header = verify(batch)
    assert header.record_count == header.width == len(records)
    assert header.base_timestamp_ms == records[0].timestamp_ms
    assert header.max_timestamp_ms == max(record.timestamp_ms for record in records)


@given(records=new_records, producer_id=st.integers(-1, 1 << 62), sequence=st.integers(0, 1 << 30))
@pytest.mark.parametrize("builder", ["DefaultRecordBatchBuilder", "_DefaultRecordBatchBuilderPy"])
def test_aiokafkas_own_builders_make_the_same_bytes(
    builder: str, records: list[NewRecord], producer_id: int, sequence: int
) -> None:
    theirs = getattr(default_records, builder)(2, 0, 0, producer_id, 0, sequence, 1 << 30)
    for n, record in enumerate(records):
        theirs.append(n, record.timestamp_ms, record.key, record.value, list(record.headers))
    ours = encode(records, producer_id=producer_id, producer_epoch=0, base_sequence=sequence)
    assert ours == bytes(theirs.build())


@given(records=new_records)
@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_a_reader_in_pure_python_agrees(compression: Compression, records: list[NewRecord]) -> None:
    reader = default_records._DefaultRecordBatchPy(encode(records, compression=compression))
    assert reader.validate_crc()
    read = [Record(r.offset, r.timestamp, r.key, r.value, tuple(Header(*h) for h in r.headers)) for r in reader]
    assert read == as_read(records)


def test_one_batch_is_these_bytes_for_good() -> None:
    batch = encode([NewRecord(1_700_000_000_000, b"k", b"hello", [("h", None)])], producer_id=1, producer_epoch=0)
    assert batch.hex(" ", -4) == (
        "00000000 00000000 00000041 ffffffff 0271edbb a1000000 00000000 00018bcf e5680000 00018bcf e5680000 00000000"
        " 00000100 00ffffff ff000000 011e0000 00026b0a 68656c6c 6f020268 01"
    )


# Compression --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", CODECS[1:])
def test_a_batch_that_would_not_shrink_goes_uncompressed(compression: Compression) -> None:
    batch = encode([NewRecord(0, None, bytes(range(256)))], compression=compression)
    assert batch == encode([NewRecord(0, None, bytes(range(256)))])
    assert read_header(encode([NewRecord(0, None, bytes(256))], compression=compression)).compression is compression


@pytest.mark.parametrize("compression", CODECS[1:])
def test_a_compressed_batch_keeps_its_producer_and_its_times(compression: Compression) -> None:
    records = [NewRecord(2_000 - n, b"key", bytes(100)) for n in range(10)]
    options: dict[str, Any] = {"producer_id": 1 << 61, "producer_epoch": 0, "base_sequence": 1_000}
    plain, packed = (verify(encode(records, compression=c, **options)) for c in (Compression.NONE, compression))
    assert packed.size < plain.size
    assert packed._replace(size=0, crc=0, attributes=0) == plain._replace(size=0, crc=0)


def test_lz4_blocks_do_not_lean_on_each_other_because_kafkas_readers_refuse_that() -> None:
    batch = encode([NewRecord(0, None, b"line of text " * 100_000)], compression=Compression.LZ4)
    assert lz4.frame.get_frame_info(batch[HEADER_SIZE:])["block_linked"] is False


def test_frames_that_other_clients_make_are_read() -> None:
    records = [NewRecord(1, b"key", b"a value of some length " * 5_000)]
    plain = encode(records)
    section = plain[HEADER_SIZE:]
    chunks = zstandard.ZstdCompressor(level=1).chunker(chunk_size=1_000)
    unsized_zstd = b"".join((*chunks.compress(section), *chunks.finish()))
    two_zstd_frames = b"".join(zstandard.compress(part) for part in (section[:100], section[100:]))
    unsized_lz4 = lz4.frame.compress(section, store_size=False, content_checksum=True)
    for attributes, packed in ((4, unsized_zstd), (4, two_zstd_frames), (3, unsized_lz4)):
        assert decode(resealed(plain, packed, attributes=attributes)) == as_read(records)


def test_snappy_is_refused_in_words() -> None:
    batch = encode([NewRecord(0, None, b"value")])
    with pytest.raises(UnsupportedCompression, match="snappy"):
        encode([NewRecord(0, None, b"value")], compression=Compression.SNAPPY)
    with pytest.raises(UnsupportedCompression, match="snappy"):
        decode(resealed(batch, b"snappy bytes", attributes=2))
    with pytest.raises(UnsupportedCompression, match="codec 6"):
        decode(resealed(batch, b"", attributes=6))


@pytest.mark.parametrize("compression", CODECS[1:])
def test_a_small_batch_that_inflates_past_the_limit_is_refused_without_inflating_it(compression: Compression) -> None:
    batch = encode([NewRecord(0, None, bytes(32 << 20))], compression=compression)
    assert len(batch) < 1 << 18
    tracemalloc.start()
    try:
        with pytest.raises(BatchTooLarge):
            decode(batch, inflated_bytes_max=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", CODECS[1:])
def test_the_limit_on_inflating_counts_the_bytes_exactly(compression: Compression) -> None:
    records = [NewRecord(0, None, bytes(300_000))]
    batch, inflated = encode(records, compression=compression), len(encode(records)) - HEADER_SIZE
    assert decode(batch, inflated_bytes_max=inflated) == as_read(records)
    with pytest.raises(BatchTooLarge):
        decode(batch, inflated_bytes_max=inflated - 1)


@pytest.mark.parametrize("compression", CODECS[1:])
def test_compressed_bytes_cut_short_anywhere_or_followed_by_others_are_refused(compression: Compression) -> None:
    batch = encode([NewRecord(0, b"key", b"0123456789" * 50)], compression=compression)
    packed, attributes = batch[HEADER_SIZE:], int(compression)
    for size in range(len(packed) - 8):  # without its last bytes, a checksum at most, the rest may still be whole
        with pytest.raises(CorruptBatch):
            decode(resealed(batch, packed[:size], attributes=attributes))
    with pytest.raises(CorruptBatch):
        decode(resealed(batch, packed + b"more", attributes=attributes))


# Hostile bytes ------------------------------------------------------------------------------------------------------


def decodes_or_is_refused(batch: bytes) -> None:
    try:
        read = decode(batch, inflated_bytes_max=1 << 20)
    except (CorruptBatch, BatchTooLarge, UnsupportedCompression):
        return
    header = read_header(batch)
    assert all(header.base_offset <= record.offset < header.next_offset for record in read)
    assert len(read) == header.record_count


@settings(max_examples=300)
@given(section=st.binary(max_size=120), count=st.integers(1, 6), attributes=st.integers(0, 0x0F))
def test_any_records_section_under_a_good_crc_is_read_or_refused(section: bytes, count: int, attributes: int) -> None:
    decodes_or_is_refused(resealed(encode([NewRecord(0, None, b"")]), section, count=count, attributes=attributes))


@settings(max_examples=300)
@given(records=new_records, compression=st.sampled_from(CODECS), data=st.data())
def test_a_records_section_altered_under_a_good_crc_is_read_or_refused(
    records: list[NewRecord], compression: Compression, data: st.DataObject
) -> None:
    batch = encode(records, compression=compression)
    section = bytearray(batch[HEADER_SIZE:])
    for _ in range(data.draw(st.integers(1, 3))):
        section[data.draw(st.integers(0, len(section) - 1))] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
        )
    decodes_or_is_refused(resealed(batch, bytes(section)))


def test_a_records_section_cut_short_anywhere_is_refused() -> None:
    records = [NewRecord(0, b"key", b"value", [("h", b"v"), ("none", None)])] * 3
    batch = encode(records)
    for size in range(len(batch) - HEADER_SIZE):
        with pytest.raises(CorruptBatch):
            decode(resealed(batch, batch[HEADER_SIZE : HEADER_SIZE + size]))


def test_counts_that_no_section_could_hold_cost_nothing() -> None:
    batch = encode([NewRecord(0, None, b"value")])
    for count in (2, 1_000, (1 << 31) - 1):
        with pytest.raises(CorruptBatch):
            decode(resealed(batch, batch[HEADER_SIZE:], count=count))


def test_a_record_that_runs_past_the_end_is_refused_and_reads_nothing_there() -> None:
    batch = encode([NewRecord(0, None, b"value")])
    endless_varint = b"\xff" * 7
    with pytest.raises(CorruptBatch):
        decode(resealed(batch, endless_varint, count=1))
    value_longer_than_the_section = bytes([2 * 20, 0, 0, 0, 1, 2 * 14]) + b"value" + b"\0"
    with pytest.raises(CorruptBatch):
        decode(resealed(batch, value_longer_than_the_section, count=1))


def test_offsets_may_have_gaps_but_must_rise_within_the_batch() -> None:
    def with_offset_deltas(*deltas: int) -> bytes:
        section = b"".join(bytes([2 * 6, 0, 0, 2 * delta, 1, 1, 0]) for delta in deltas)
        batch = resealed(encode([NewRecord(5, None, None)] * 3), section, count=4)
        changed = bytearray(batch)
        struct.pack_into(">i", changed, 57, len(deltas))
        return resealed(bytes(changed), section)

    assert [record.offset for record in decode(with_offset_deltas(0, 3))] == [0, 3]
    for deltas in ((1, 0), (1, 1), (0, 4), (4,)):
        with pytest.raises(CorruptBatch, match="offsets"):
            decode(with_offset_deltas(*deltas))


def test_decode_checks_the_crc_and_takes_one_batch() -> None:
    batch = encode([NewRecord(0, None, b"value")])
    for wrong in (batch[:-1] + b"!", batch[:-1], batch + b"\0", b""):
        with pytest.raises(CorruptBatch):
            decode(wrong)


def test_a_record_without_a_timestamp_has_minus_one() -> None:
    batch = bytearray(encode([NewRecord(0, None, b"value")]))
    struct.pack_into(">qq", batch, 27, -1, -1)
    assert decode(resealed(bytes(batch), bytes(batch[HEADER_SIZE:])))[0].timestamp_ms == -1


# Building -----------------------------------------------------------------------------------------------------------


def test_a_full_builder_says_so_and_stays_as_it_was() -> None:
    builder = BatchBuilder(bytes_max=200)
    taken = 0
    while builder.append(taken, None, b"x" * 20):
        taken += 1
    size, count = builder.size, builder.count
    assert not builder.append(99, None, b"x" * 20)
    assert (builder.size, builder.count) == (size, count) == (size, taken)
    batch = builder.build()
    assert len(batch) == size <= 200
    assert [record.timestamp_ms for record in decode(batch)] == list(range(taken))


def test_extend_takes_what_there_is_room_for() -> None:
    records = [NewRecord(n, b"key", b"x" * 20) for n in range(50)]
    read: list[Record] = []
    at = 0
    while at < len(records):
        builder = BatchBuilder(bytes_max=300)
        at = builder.extend(records, at)
        read += decode(builder.build())
    assert [record.timestamp_ms for record in read] == list(range(50))


@given(
    values=st.lists(st.binary(max_size=80), min_size=1, max_size=20), times=st.lists(timestamps, min_size=3, max_size=3)
)
def test_values_added_together_make_the_same_bytes_as_one_by_one(values: list[bytes], times: list[int]) -> None:
    one_by_one, together = BatchBuilder(), BatchBuilder()
    for builder in (one_by_one, together):
        builder.append(times[0], b"key", None)
    for value in values:
        one_by_one.append(times[1], None, value)
    assert together.append_values(values, times[1]) == len(values) == together.count - 1
    for builder in (one_by_one, together):
        builder.append(times[2], None, b"last", [("h", b"v")])
    assert together.build(7, 0, 5) == one_by_one.build(7, 0, 5)


def test_values_added_together_stop_where_there_is_no_room() -> None:
    values = [b"%02d" % n * 10 for n in range(50)]
    builder = BatchBuilder(bytes_max=300)
    taken = builder.append_values(values, 0)
    assert 0 < taken == builder.count < 50
    assert builder.append_values(values[taken:], 99) == 0
    batch = builder.build()
    assert [record.value for record in decode(batch)] == values[:taken]
    assert read_header(batch).max_timestamp_ms == 0
    assert not BatchBuilder(bytes_max=300).append_values([], 0)


@pytest.mark.parametrize("builder", ["DefaultRecordBatchBuilder", "_DefaultRecordBatchBuilderPy"])
def test_aiokafkas_builders_go_on_writing_into_what_they_built_first(builder: str) -> None:
    theirs = getattr(default_records, builder)(2, 0, 0, -1, -1, -1, 1 << 20)
    buffer = theirs.build()
    for n in range(1_000):
        theirs.append(n, n, None, b"x" * n, [])
    assert len(buffer) == theirs.size() > 500_000
    assert theirs.build() is buffer


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    builder = BatchBuilder(bytes_max=100)
    assert builder.append(0, None, b"x" * 1_000)
    assert not builder.append(0, None, b"")
    assert len(decode(builder.build())) == 1


@pytest.mark.parametrize(
    "record",
    [
        (-1, None, b""),
        (1 << 63, None, b""),
        ("now", None, b""),
        (0, "key", b""),
        (0, None, 5),
        (0, None, b"", [("name",)]),
        (0, None, b"", [(b"name", b"")]),
        (0, None, b"", [("name", "text")]),
        (0, None, b"", [("\ud800", b"")]),
    ],
    ids=repr,
)
def test_a_record_of_the_wrong_types_is_refused_and_leaves_the_batch_alone(record: tuple[Any, ...]) -> None:
    builder = BatchBuilder()
    builder.append(1, None, b"before")
    with pytest.raises(InvalidRecord):
        builder.append(*record)
    first = BatchBuilder()
    with pytest.raises(InvalidRecord):
        first.append(*record)
    first.append(1, None, b"before")
    assert first.build() == encode([NewRecord(1, None, b"before")])
    builder.append(2, None, b"after")
    assert [read.value for read in decode(builder.build())] == [b"before", b"after"]


def test_no_records_make_no_batch() -> None:
    with pytest.raises(InvalidRecord):
        encode([])
