from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.simulation.virtual_loop import NothingLeftToHappen, VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_an_hour_of_sleep_takes_no_time_and_moves_the_clock_by_an_hour(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == pytest.approx(3600)


def test_timers_run_in_order_of_their_time_and_see_it(loop: VirtualLoop) -> None:
    seen: list[tuple[str, float]] = []
    loop.call_later(0.3, lambda: seen.append(("late", loop.time())))
    loop.call_later(0.1, lambda: seen.append(("early", loop.time())))
    loop.run_until_complete(asyncio.sleep(1))
    assert seen == [("early", pytest.approx(0.1)), ("late", pytest.approx(0.3))]


def test_timeouts_work_in_virtual_time(loop: VirtualLoop) -> None:
    async def wait_for_nothing() -> None:
        async with asyncio.timeout(5):
            await loop.create_future()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(wait_for_nothing())
    assert loop.time() == pytest.approx(5)


def test_waiting_for_what_nobody_will_do_is_an_error_and_not_a_hang(loop: VirtualLoop) -> None:
    with pytest.raises(NothingLeftToHappen):
        loop.run_until_complete(loop.create_future())


def test_after_step_runs_after_every_round_of_callbacks(loop: VirtualLoop) -> None:
    times: list[float] = []
    loop.after_step = lambda: times.append(loop.time())
    loop.run_until_complete(asyncio.sleep(1))
    assert times[0] == 0
    assert times[-1] == pytest.approx(1)


def test_a_generator_that_is_dropped_half_way_is_closed(loop: VirtualLoop) -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    async def take_one() -> int:
        async for number in numbers():
            return number
        return 0

    assert loop.run_until_complete(take_one()) == 1
    loop.run_until_complete(asyncio.sleep(0.1))
    assert closed == ["closed"]


def test_threads_are_refused(loop: VirtualLoop) -> None:
    with pytest.raises(AssertionError, match="no threads"):
        loop.run_in_executor(None, print)
