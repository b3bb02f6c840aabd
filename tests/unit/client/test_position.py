"""One partition as a consumer reads it, where compaction took records away."""

from __future__ import annotations

from lograft.client.position import Position
from lograft.client.records import TopicPartition
from lograft.proto.record_batch import NewRecord, emptied, encode, read_header, stamp, unpack

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
