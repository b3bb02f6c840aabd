"""Small batches go together, and none waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lograft.node import appends
from lograft.node.appends import HELD_BYTES_MAX, HELD_COUNT_MAX, GatheredAppends
from lograft.node.metrics import Metrics
from lograft.node.replicas import Replicas
from lograft.proto.errors import CorruptBatch, LograftError, OutOfOrderSequence
from lograft.proto.record_batch import NewRecord, encode


def a_batch(size: int = 10) -> bytes:
    return encode([NewRecord(1_700_000_000_000, None, bytes(size))])


class Disk:
    """A partition's leader, whose flushes end when the test says so."""

    def __init__(self, *, in_memory: bool = False) -> None:
        self.runs: list[int] = []
        self.refusal: LograftError | None = None
        self._in_memory = in_memory
        self._flushes: list[asyncio.Future[Any]] = []

    def append_run(self, run: list[Any]) -> list[Any]:
        self.runs.append(len(run))
        if self.refusal is not None:
            return [self.refusal] * len(run)
        made = [SimpleNamespace(persisted=asyncio.Future(), is_duplicate=False) for _ in run]
        self._flushes += [one.persisted for one in made]
        if self._in_memory:
            self.flushed()
        return made

    def flushed(self) -> None:
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            flush.set_result(None)


class Door:
    def __init__(self, disk: Disk) -> None:
        topic = SimpleNamespace(name="t")
        self.disk = disk
        self.told: list[object] = []
        led = SimpleNamespace(topic=topic, settings=SimpleNamespace(batch_bytes_max=1 << 20), replica=disk)
        replicas = SimpleNamespace(leading=lambda *_: led, check_writable=lambda _: None)
        self.appends = GatheredAppends(cast(Replicas, replicas), Metrics())

    def add(self, *batches: bytes) -> None:
        for batch in batches:
            number = len(self.told)
            self.told.append(None)
            self.appends.add("t", 0, batch, lambda led, outcome, at=number: self.told.__setitem__(at, outcome))  # type: ignore[misc]


def in_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(cast(Any, test()))

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_what_comes_in_one_turn_of_the_loop_is_appended_together() -> None:
    door = Door(Disk())
    door.add(a_batch(), a_batch(), a_batch())
    assert door.disk.runs == []
    await asyncio.sleep(0)
    assert door.disk.runs == [3] and None not in door.told


@in_a_loop
async def test_what_comes_during_a_flush_waits_for_its_end_and_then_goes_together() -> None:
    door = Door(Disk())
    door.add(a_batch())
    await asyncio.sleep(0)
    for _ in range(5):
        door.add(a_batch())
        await asyncio.sleep(0)
    assert door.disk.runs == [1]
    door.disk.flushed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert door.disk.runs == [1, 5]


@in_a_loop
async def test_nothing_waits_where_a_copy_counts_in_memory() -> None:
    door = Door(Disk(in_memory=True))
    for _ in range(3):
        door.add(a_batch())
        await asyncio.sleep(0)
    assert door.disk.runs == [1, 1, 1]


@in_a_loop
async def test_a_flush_that_takes_long_is_not_waited_for() -> None:
    loop = asyncio.get_running_loop()
    door = Door(Disk())
    door.add(a_batch())
    await asyncio.sleep(0)
    timers: list[tuple[float, Callable[[], None]]] = []
    loop.call_later = lambda delay, call: (timers.append((delay, call)), SimpleNamespace(cancel=lambda: None))[1]  # type: ignore[method-assign,assignment]
    door.add(a_batch(), a_batch())
    ((delay, ring),) = timers
    assert delay == appends.HELD_SECONDS_MAX and door.disk.runs == [1]
    ring()
    assert door.disk.runs == [1, 2]


@in_a_loop
async def test_a_large_batch_waits_for_no_flush_and_takes_along_what_came_before_it() -> None:
    door = Door(Disk())
    door.add(a_batch())
    await asyncio.sleep(0)
    door.add(a_batch(), a_batch(HELD_BYTES_MAX))
    assert door.disk.runs == [1, 2]


@in_a_loop
async def test_a_run_has_a_bounded_number_of_batches() -> None:
    door = Door(Disk())
    door.add(*[a_batch()] * (2 * HELD_COUNT_MAX + 7))
    await asyncio.sleep(0)
    assert door.disk.runs == [HELD_COUNT_MAX, HELD_COUNT_MAX]  # the rest waits for the flush
    door.disk.flushed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert door.disk.runs[2:] == [7] and None not in door.told


@in_a_loop
async def test_refusals_are_told_and_hold_up_nothing_after_them() -> None:
    door = Door(Disk())
    door.disk.refusal = OutOfOrderSequence("no", expected=1, got=2)
    door.add(a_batch())
    await asyncio.sleep(0)
    assert door.told == [door.disk.refusal]
    with pytest.raises(CorruptBatch):
        door.add(a_batch()[:-1])
    door.disk.refusal = None
    door.add(a_batch())
    await asyncio.sleep(0)
    assert door.disk.runs == [1, 1]
