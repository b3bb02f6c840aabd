"""One partition as a consumer reads it, where compaction took records away."""

from __future__ import annotations

import pytest
from lograft.client.position import Position, ReadBounds
from lograft.client.records import TopicPartition
from lograft.proto.errors import BatchTooLarge
from lograft.proto.record_batch import Compression, NewRecord, emptied, encode, read_header, stamp, unpack

PARTITION = TopicPartition("t", 0)


def batch(base_offset: int, count: int) -> bytes:
    return bytes(stamp(encode([NewRecord(1, b"k", b"%d" % at) for at in range(count)]), base_offset, 1))


def a_position(offset: int) -> Position:
    position = Position(PARTITION, "start")
    position.seek(offset)
    return position


def offsets(position: Position) -> list[int]:
    return [record.offset for record in position.take(100)]


def test_batches_without_records_are_passed_over_and_move_the_position_on() -> None:
    position = a_position(3)
    gone = emptied(read_header(batch(0, 10)), next_offset=40)
    position.take_in(gone + batch(40, 2) + emptied(read_header(batch(42, 5))), 47, 1)
    assert position.fetch_offset == 47
    assert offsets(position) == [40, 41]
    assert offsets(position) == [] and position.offset == 47 and position.buffered_bytes == 0


def test_a_position_in_a_range_without_records_goes_on_behind_it() -> None:
    position = a_position(12)
    position.take_in(emptied(read_header(batch(10, 5))), 15, 1)
    assert position.has_records and not position.decode_next()
    assert position.offset == 15 and position.fetch_offset == 15


def test_what_is_left_of_a_batch_keeps_its_offsets() -> None:
    position = a_position(2)
    position.take_in(unpack(batch(0, 6)).retaining([0, 3, 5]), 6, 1)
    assert position.offset == 2
    assert offsets(position) == [3, 5] and position.offset == 6


def test_what_is_put_back_is_handed_out_again_before_what_follows_it() -> None:
    position = a_position(0)
    position.take_in(batch(0, 4) + batch(4, 2), 6, 1)
    position.put_back(position.take(3))
    assert position.offset == position.finished_offset == 0
    assert offsets(position) == [0, 1, 2, 3, 4, 5] and position.offset == 6


@pytest.mark.parametrize("sought", [1, 6])
def test_what_is_put_back_after_a_seek_is_dropped(sought: int) -> None:
    position = a_position(0)
    position.take_in(batch(0, 4), 4, 1)
    taken = position.take(3)
    position.seek(sought)
    position.put_back(taken)
    assert offsets(position) == [] and position.offset == sought


@pytest.mark.parametrize("bounds", [ReadBounds(records_max=9), ReadBounds(inflated_bytes_max=20)])
def test_a_batch_beyond_the_readers_bounds_is_told_with_its_place_after_what_is_before_it(bounds: ReadBounds) -> None:
    position = a_position(0)
    position.bounds = bounds
    many = encode([NewRecord(1, b"k", b"v" * 100)] * 10, compression=Compression.LZ4)
    position.take_in(batch(0, 1) + stamp(many, 1, 1) + batch(11, 1), 12, 1)
    assert offsets(position) == [0]
    with pytest.raises(BatchTooLarge, match="t-0 at offset 1") as refused:
        position.take(100)
    assert (refused.value.facts["partition"], refused.value.facts["next_offset"]) == ("0", "11")
    position.seek(11)
    position.take_in(batch(11, 1), 12, 1)
    assert offsets(position) == [11]
