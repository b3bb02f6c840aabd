"""The place at which a time is reached is looked for within a search's budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from lograft.client.offset_bounds import Bound
from lograft.client.records import Record, TopicPartition
from lograft.node.console import scan
from lograft.node.console.scan import Budget, Scanner, Search
from lograft.proto.errors import RequestTimedOut

PLACE = TopicPartition("t", 0)
RECORDS = 100_000


def a_record(offset: int, timestamp_ms: int) -> Record:
    return Record("t", 0, offset, timestamp_ms, None, b"x" * 60, (), 1)


class Log:
    """A partition of which brokers say that it reaches any time at its start: as a client had its batches say."""

    def __init__(self, reaches_at: int | None) -> None:
        self.reaches_at = reaches_at
        self.read = 0

    async def resolve(self, topic: str, bound: Bound) -> dict[TopicPartition, int]:
        return {PLACE: RECORDS if bound.base == "end" else 0}

    def window(self, client: Any, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Log:
        self.at, self.end = ranges[PLACE]
        self.unreadable = 0
        return self

    async def __aenter__(self) -> Log:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def batches(self, pace: Any) -> AsyncGenerator[tuple[TopicPartition, list[Record]], None]:
        for first in range(self.at, self.end, 100):
            offsets = range(first, first + 100)
            records = [a_record(offset, 2_000 if offset == self.reaches_at else 0) for offset in offsets]
            self.read += len(records)
            yield PLACE, records


def found(log: Log, monkeypatch: pytest.MonkeyPatch, budget: Budget) -> list[int]:
    class Client:
        groups = log

    monkeypatch.setattr(scan, "Window", log.window)
    search = Search("t", Bound("time", 1_000), Bound("end"), newest_first=False, limit=1)

    async def scene() -> list[int]:
        news = Scanner(Client()).search(search, budget)  # type: ignore[arg-type]
        return [record.offset async for told in news for record in told.records]

    return asyncio.run(scene())


def test_a_time_that_is_reached_nowhere_costs_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(None)
    with pytest.raises(RequestTimedOut, match=r"limit of bytes: search by offset"):
        found(log, monkeypatch, Budget(50_000, 60))
    assert log.read == 500, "of a hundred bytes each"


def test_a_time_that_is_reached_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(Log(250), monkeypatch, Budget(50_000, 60)) == [250]
