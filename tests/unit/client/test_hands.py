from __future__ import annotations

from collections.abc import Iterator

import pytest
from lograft.client.hands import Hands
from lograft.client.position import Position
from lograft.client.records import TopicPartition
from lograft.proto.record_batch import NewRecord, encode, stamp


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hands(clock: Clock) -> Iterator[Hands]:
    back: list[None] = []
    yield Hands(clock, on_back=lambda: back.append(None))


def a_position(*sizes: int) -> Position:
    """A position at offset 0, with batches of so many records fetched."""
    position = Position(TopicPartition("t", 0), "start", "id", generation=3)
    position.begin_at(0)
    first = 0
    for size in sizes:
        batch = bytes(stamp(encode([NewRecord(1, None, b"")] * size), first, 1))
        first += size
        position.take_in(batch, first, 1)
    return position


def test_an_iteration_is_finished_with_all_but_the_record_at_which_it_stands(hands: Hands) -> None:
    position = a_position(3, 2)
    hands.came_back()
    assert position.decode_next()
    hands.stand_at(position)
    assert position.finished_offset == 0
    for handed_out in range(3):
        position.at += 1
        assert (position.finished_offset, position.offset) == (handed_out, handed_out + 1)
    hands.came_back()
    assert position.finished_offset == 3
    assert position.decode_next()
    hands.stand_at(position)
    position.at += 1
    assert position.finished_offset == 3


def test_a_seek_finishes_nothing(hands: Hands) -> None:
    position = a_position(5)
    assert position.decode_next()
    hands.stand_at(position)
    position.at = 3
    position.seek(40)
    assert position.finished_offset == 2
    position.seek(1)
    assert position.finished_offset == 2
    hands.came_back()
    assert position.finished_offset == 1


def test_time_is_handling_time_from_one_answer_to_the_next_question(hands: Hands, clock: Clock) -> None:
    clock.now_s += 5
    assert hands.handling_s() == 5, "who never asks handles from the beginning"
    hands.came_back()
    clock.now_s += 100
    assert hands.handling_s() == 0
    hands.hold([a_position(1)])
    clock.now_s += 7
    assert hands.handling_s() == 7
    hands.came_back()
    hands.turned_away()
    clock.now_s += 1
    assert hands.handling_s() == 1


def test_an_iteration_asks_with_each_record_it_takes(hands: Hands, clock: Clock) -> None:
    position = a_position(10)
    assert position.decode_next()
    hands.came_back()
    hands.stand_at(position)
    for _ in range(10):
        position.at += 1
        clock.now_s += 8
        hands.handling_s()
        clock.now_s += 1
        assert hands.handling_s() <= 9
    clock.now_s += 20
    assert hands.handling_s() == 21


def test_what_the_log_does_not_hold_any_more_is_skipped_only_behind_what_was_fetched() -> None:
    position = a_position(5)
    position.skip_to(30)
    assert (position.offset, position.fetch_offset) == (0, 30)
    assert [record.offset for record in position.take(10)] == [0, 1, 2, 3, 4]
    batch = bytes(stamp(encode([NewRecord(1, None, b"")] * 2), 30, 1))
    position.take_in(batch, 32, 1)
    assert [record.offset for record in position.take(10)] == [30, 31]
    position.skip_to(50)
    assert position.offset == 50


def test_a_closed_position_hands_nothing_out_even_if_it_is_resumed() -> None:
    position = a_position(5)
    position.pause()
    position.close()
    position.resume()
    assert not position.has_records
    assert not position.is_fetchable
