from __future__ import annotations

import asyncio

import pytest
from lograft.client.room import Room
from lograft.proto.errors import BrokerUnavailable

from tests.unit.client.conftest import run


def test_who_comes_first_gets_room_first_even_if_a_later_one_would_fit() -> None:
    async def scenario() -> None:
        room = Room(10)
        await room.take(8)
        large, small = asyncio.ensure_future(room.take(9)), asyncio.ensure_future(room.take(1))
        await asyncio.sleep(0)
        assert not room.try_take(1)
        room.give_back(8)
        await large
        await small
        assert room.held_bytes == 10

    run(scenario())


def test_a_taker_larger_than_the_bound_gets_the_room_to_itself() -> None:
    async def scenario() -> None:
        room = Room(10)
        await room.take(1)
        large = asyncio.ensure_future(room.take(50))
        await asyncio.sleep(0)
        assert not large.done()
        room.give_back(1)
        await large
        assert not room.try_take(1)

    run(scenario())


def test_who_is_cancelled_while_waiting_holds_nothing_and_lets_the_next_in() -> None:
    async def scenario() -> None:
        room = Room(10)
        await room.take(8)
        large, small = asyncio.ensure_future(room.take(9)), asyncio.ensure_future(room.take(2))
        await asyncio.sleep(0)
        large.cancel()
        await small
        assert room.held_bytes == 10
        late = asyncio.ensure_future(room.take(5))
        await asyncio.sleep(0)
        room.give_back(10)
        late.cancel()  # its turn has come, but it is gone before it hears of it
        await asyncio.gather(late, return_exceptions=True)
        assert room.held_bytes == 0

    run(scenario())


def test_whose_turn_comes_just_after_it_was_cancelled_is_passed_over_in_peace() -> None:
    async def scenario() -> None:
        room = Room(10)
        await room.take(8)
        waiting = asyncio.ensure_future(room.take(9))
        await asyncio.sleep(0)
        waiting.cancel()
        room.give_back(8)
        (ended,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        assert room.held_bytes == 0

    run(scenario())


def test_who_is_cancelled_just_after_there_was_to_be_no_room_gives_back_nothing() -> None:
    async def scenario() -> None:
        room = Room(10)
        await room.take(10)
        waiting = asyncio.ensure_future(room.take(5))
        await asyncio.sleep(0)
        room.fail_waiting(BrokerUnavailable("closed"))
        waiting.cancel()
        (ended,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        assert room.held_bytes == 10

    run(scenario())


def test_those_who_wait_are_told_when_there_will_be_no_room() -> None:
    async def scenario() -> None:
        room = Room(1)
        await room.take(1)
        waiting = asyncio.ensure_future(room.take(1))
        await asyncio.sleep(0)
        room.fail_waiting(BrokerUnavailable("closed"))
        with pytest.raises(BrokerUnavailable):
            await waiting

    run(scenario())
