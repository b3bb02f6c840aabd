"""A search that goes backwards, over logs in memory: it comes forward whatever the records weigh, in short turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from lograft.client.offset_bounds import END, START
from lograft.client.records import Record, TopicPartition
from lograft.node.console import scan
from lograft.node.console.scan import Budget, Found, Merge, Progress, Scanner, Search

PLENTY = Budget(1 << 40, 1e9)


class WindowOnMemory:
    """Stands for `Window`: all records have one value."""

    value = b""
    unreadable = 0

    def __init__(self, client: Any, ranges: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self._ranges = ranges

    async def __aenter__(self) -> WindowOnMemory:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def batches(self, pace: Any) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
        for partition, (begin, end) in self._ranges.items():
            at_once = max(1, min(200, (1 << 20) // max(1, len(self.value))))
            for first in range(begin, end, at_once):
                offsets = range(first, min(first + at_once, end))
                yield partition, [Record(*partition, at, at, None, self.value, (), 1) for at in offsets]


def searched(monkeypatch: pytest.MonkeyPatch, ends: list[int], value: bytes, limit: int) -> list[Found]:
    monkeypatch.setattr(WindowOnMemory, "value", value)
    monkeypatch.setattr(scan, "Window", WindowOnMemory)

    async def scene() -> list[Found]:
        ranges = {TopicPartition("t", number): (0, end) for number, end in enumerate(ends)}
        search = Search("t", START, END, limit=limit)
        return [found async for found in Scanner(None)._backward(search, ranges, PLENTY, Progress())]  # type: ignore[arg-type]

    return asyncio.run(scene())


@pytest.mark.parametrize(
    ("ends", "size", "limit"), [([1000], 400_000, 50), ([120, 120], 900_000, 50), ([50_000], 1000, 40_000)]
)
def test_records_too_heavy_for_one_step_are_found_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch, ends: list[int], size: int, limit: int
) -> None:
    told = searched(monkeypatch, ends, b"x" * size, limit)
    offsets = [record.offset for found in told for record in found.records if record.partition == 0]
    assert told[-1].ended == "limit" and sum(len(found.records) for found in told) == limit
    assert offsets == list(range(ends[0] - 1, ends[0] - 1 - len(offsets), -1))


def test_what_cannot_be_held_at_once_ends_a_search_that_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "KEPT_BYTES_MAX", 500)
    last = searched(monkeypatch, [9, 9, 9], b"x" * 600, 50)[-1]
    assert last.ended == "bytes" and sum(last.cursor.values()) < 27


def test_much_is_told_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    told = searched(monkeypatch, [10_000] * 4, b"x", 30_000)
    assert max(len(found.records) for found in told) <= scan.RECORDS_AT_ONCE
    assert sum(len(found.records) for found in told) == 30_000 and told[-1].ended == "limit"


def test_taking_from_many_partitions_is_quick() -> None:
    places = [TopicPartition("t", number) for number in range(200)]
    merge = Merge(dict.fromkeys(places, (0, 200)))
    for place in places:
        merge.give(place, 0, [Record(*place, at, at, None, b"", (), 1) for at in range(200)])
    began = time.process_time()
    assert len(merge.take(40_000, all_of_it=False)) == 40_000
    assert time.process_time() - began < 1
