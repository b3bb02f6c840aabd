"""Where a time lies in a log."""

from __future__ import annotations

import asyncio

import pytest
from lograft.node import time_search
from lograft.node.time_search import first_at
from lograft.partitions.storage.log import PartitionLog

from tests.unit.storage.fakes import FakeDisk, FakeEnvironment, a_log, records


def a_log_of_one_batch() -> PartitionLog:
    async def scenario() -> PartitionLog:
        log = await a_log(FakeEnvironment(FakeDisk()), "T1")
        log.append([records(log.end, 5, timestamp_ms=20)], 5)
        return log

    return asyncio.run(scenario())


def test_a_time_is_found_at_the_first_record_of_that_age_past_the_start() -> None:
    log = a_log_of_one_batch()
    assert first_at(log, 20, 2, 5) == (2, 20)
    assert first_at(log, 21, 2, 5) == (5, -1)


def test_of_a_batch_too_large_to_read_for_a_time_nothing_past_the_start_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = a_log_of_one_batch()
    monkeypatch.setattr(time_search, "RECORDS_READ_MAX", 1)
    assert first_at(log, 20, 0, 5) == (0, 20)
    assert first_at(log, 20, 2, 5) == (2, 20)
