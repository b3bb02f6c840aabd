"""Batches that have lost records: what stays of them reads as before, and their bounds stay taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import (
    Compression,
    NewRecord,
    decode,
    emptied,
    encode,
    read_header,
    stamp,
    unpack,
    verify,
)

CODECS = [Compression.NONE, Compression.GZIP, Compression.LZ4, Compression.ZSTD]

maybe_bytes = st.none() | st.binary(max_size=80)
headers = st.lists(st.tuples(st.text(max_size=10), maybe_bytes), max_size=3)
new_records = st.lists(
    st.builds(NewRecord, st.integers(0, 1 << 50), maybe_bytes, maybe_bytes, headers), min_size=1, max_size=20
)


@settings(max_examples=50, deadline=None)
@given(records=new_records, compression=st.sampled_from(CODECS), draw=st.data())
def test_what_is_retained_keeps_its_offset_time_and_content(
    records: list[NewRecord], compression: Compression, draw: st.DataObject
) -> None:
    made = encode(records, compression=compression, producer_id=7, producer_epoch=1, base_sequence=40)
    batch = stamp(made, base_offset=1000, term=9)
    kept = sorted(draw.draw(st.sets(st.integers(0, len(records) - 1), min_size=1)))
    once = unpack(batch).retaining(kept)
    before, after = read_header(batch), verify(once)
    assert decode(once) == [decode(batch)[at] for at in kept]
    assert after.max_timestamp_ms == max(records[at].timestamp_ms for at in kept)
    unchanged = ("base_offset", "term", "last_offset_delta", "producer_id", "producer_epoch", "base_sequence")
    assert [getattr(after, field) for field in unchanged] == [getattr(before, field) for field in unchanged]
    twice = unpack(once).retaining([len(kept) - 1])
    assert decode(twice) == [decode(batch)[kept[-1]]]


def test_an_emptied_batch_keeps_bounds_term_and_producer_and_reads_as_no_records() -> None:
    made = encode([NewRecord(5, b"k", b"v")] * 3, producer_id=7, producer_epoch=1, base_sequence=40)
    header = verify(emptied(read_header(stamp(made, 1000, 9))))
    assert (header.base_offset, header.next_offset, header.term, header.record_count) == (1000, 1003, 9, 0)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 40)
    assert decode(emptied(header)) == []


def test_an_emptied_batch_can_stand_for_those_after_it_and_then_for_no_producer() -> None:
    made = encode([NewRecord(5, b"k", b"v")], producer_id=7, producer_epoch=1, base_sequence=40)
    header = verify(emptied(read_header(stamp(made, 1000, 9)), next_offset=5000))
    assert (header.base_offset, header.next_offset, header.term, header.record_count) == (1000, 5000, 9, 0)
    assert not header.has_producer


def test_records_with_bytes_after_them_are_not_taken_apart() -> None:
    batch = encode([NewRecord(5, b"k", b"v")] * 3)
    unpacked = unpack(batch)
    with pytest.raises(CorruptBatch, match="they end at"):
        unpacked._replace(records=bytes(unpacked.records) + b"\0").retaining([0])
