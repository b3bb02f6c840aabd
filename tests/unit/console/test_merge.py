"""Newest first over several partitions that are read backwards, window by window."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.client.records import Record, TopicPartition
from lograft.node.console.scan import Merge

Logs = dict[TopicPartition, list[int]]


def logs(*timestamps: list[int]) -> Logs:
    """Of each partition the times of its records, by offset."""
    return {TopicPartition("t", number): times for number, times in enumerate(timestamps)}


def a_record(partition: TopicPartition, offset: int, timestamp_ms: int) -> Record:
    return Record(*partition, offset, timestamp_ms, None, b"", (), 1)


def read(
    there: Logs, cursor: dict[int, int] | None = None, *, limit: int, step: int, every: int = 1
) -> tuple[list[Record], dict[int, int]]:
    """What one search gives, and where it ended; of the records only those with offsets divisible by `every`."""
    ends = {
        partition: len(times) if cursor is None else cursor[partition.partition] for partition, times in there.items()
    }
    merge = Merge({partition: (0, end) for partition, end in ends.items()})
    taken: list[Record] = []
    while len(taken) < limit and (merge.has_more or merge.holds_any):
        for partition, (begin, end) in merge.next_windows(step).items():
            times = there[partition]
            found = [a_record(partition, offset, times[offset]) for offset in range(begin, end) if offset % every == 0]
            merge.give(partition, begin, found)
        taken += merge.take(limit - len(taken), all_of_it=not merge.has_more)
    return taken, merge.cursor


def places(records: list[Record]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in records]


def test_the_newest_of_all_partitions_come_first() -> None:
    found, _ = read(logs([10, 40], [20, 30, 50]), limit=3, step=1)
    assert places(found) == [(1, 2), (0, 1), (1, 1)]


def test_a_partition_with_nothing_found_yet_holds_up_the_rest_until_it_is_known_what_it_has() -> None:
    merge = Merge({TopicPartition("t", 0): (0, 10), TopicPartition("t", 1): (0, 10)})
    first, second = merge.next_windows(5)
    merge.give(first, 5, [a_record(first, 7, 100)])
    merge.give(second, 5, [])
    assert merge.take(9, all_of_it=False) == []
    assert list(merge.next_windows(5)) == [second]
    merge.give(second, 0, [a_record(second, 2, 900)])
    assert places(merge.take(1, all_of_it=False)) == [(1, 2)]


@pytest.mark.parametrize("every", [1, 3])
@given(data=st.data())
def test_pages_together_are_everything_once_and_each_partition_backwards(every: int, data: st.DataObject) -> None:
    random = Random(data.draw(st.integers(0, 10_000)))
    there = logs(*([random.randrange(50) for _ in range(random.randrange(30))] for _ in range(random.randrange(1, 5))))
    limit, step = random.randrange(1, 12), random.randrange(1, 9)
    pages, cursor = [], None
    for _ in range(200):
        page, cursor = read(there, cursor, limit=limit, step=step, every=every)
        if not page:
            break
        assert len(page) <= limit
        pages += page
    everything = {(p.partition, offset) for p, times in there.items() for offset in range(0, len(times), every)}
    assert len(pages) == len(everything) and {*places(pages)} == everything
    for partition in there:
        offsets = [record.offset for record in pages if record.partition == partition.partition]
        assert offsets == sorted(offsets, reverse=True)


def test_with_times_in_order_what_is_told_is_in_order() -> None:
    random = Random(7)
    there = logs(*(sorted(random.sample(range(1000), 60)) for _ in range(4)))
    found, _ = read(there, limit=240, step=7)
    times = [record.timestamp_ms for record in found]
    assert times == sorted(times, reverse=True) and len(times) == 240
