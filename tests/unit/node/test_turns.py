"""A thousand messages at once do not hold up the loop, and a few are not held up by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lograft.node.turns import Turns


class Loop:
    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def one_turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


def test_a_few_things_are_dealt_with_at_once() -> None:
    done: list[int] = []
    turns = Turns[int](Loop().call_soon, done.append, per_turn=3)
    turns.take([1, 2])
    turns.take([3])
    assert done == [1, 2, 3]


def test_many_things_are_spread_over_turns_of_the_loop_and_keep_their_order() -> None:
    loop, done = Loop(), list[int]()
    turns = Turns[int](loop.call_soon, done.append, per_turn=3)
    turns.take(range(5))
    turns.take(range(5, 8))
    assert done == [0, 1, 2] and len(loop.soon) == 1
    loop.one_turn()
    assert done == list(range(6))
    turns.take([8])
    loop.one_turn()
    assert done == list(range(9))


def test_no_more_wait_than_may() -> None:
    done: list[int] = []
    turns = Turns[int](Loop().call_soon, done.append, per_turn=1, waiting_max=4)
    turns.take(range(10))
    assert done == list(range(6)) and turns.waiting == 4


def test_what_comes_up_in_the_midst_of_a_thing_comes_after_all_that_waits() -> None:
    loop, done = Loop(), list[int]()

    def do(number: int) -> None:
        if number == 0:
            turns.take([9])
        done.append(number)

    turns = Turns[int](loop.call_soon, do, per_turn=10)
    turns.take([0, 1])
    assert done == [0, 1, 9]


def test_a_thing_that_fails_does_not_stop_the_rest_for_good() -> None:
    loop, done = Loop(), list[int]()

    def do(number: int) -> None:
        if number == 0:
            raise ValueError
        done.append(number)

    turns = Turns[int](loop.call_soon, do)
    with pytest.raises(ValueError):
        turns.take([0, 1])
    loop.one_turn()
    assert done == [1]
