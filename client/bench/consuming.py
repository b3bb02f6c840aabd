"""One worker's reading.

Always
    a record is measured when the application has it in its hands
    what is read to a stop is read to that offset, however many records compaction left before it
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..client import Client
from ..consumer import Consumer
from ..records import Record, TopicPartition
from .histogram import Histogram
from .order import WorkerOrder
from .payload import due_of
from .timeline import Timeline

_POLL_MS = 100
_RECORDS_AT_ONCE = 10_000
_LOOKED_AT = 16
"""Stamps looked at in the records that come at once of one partition, where not all are."""
_ASSIGNMENT_AWAITED_S = 3.0


class ConsumerCounts:
    """What a consumer's reading has come to since it was last told."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.end_to_end = Histogram()


class ConsumerLoad:
    """Reads as a WorkerOrder says."""

    def __init__(self, worker: WorkerOrder, client: Client) -> None:
        assert worker.consumer is not None
        self._part = worker.consumer
        self._order = worker.order
        self._topic = worker.topic
        self._run_id = bytes.fromhex(worker.run_id)
        group = self._part.group
        if group is None:
            self.consumer: Consumer = client.consumer(auto_offset_reset="error", max_poll_records=_RECORDS_AT_ONCE)
        else:
            self.consumer = client.consumer(
                worker.topic,
                group_id=group,
                auto_offset_reset="earliest",
                auto_commit=True,
                max_poll_records=_RECORDS_AT_ONCE,
            )
        self.counts = ConsumerCounts()
        self._read = 0
        self._open: set[TopicPartition] = set()
        self._stopping = False
        self.span: tuple[float, float] | None = None
        self._measured_from = float("inf")
        self._measured_to = float("inf")

    def assign(self) -> None:
        """Take on the partitions chosen by hand; reading begins when the consumer is entered."""
        places = {TopicPartition(self._topic, number): at for number, at in (self._part.partitions or {}).items()}
        self.consumer.assign(places)
        for partition, offset in places.items():
            self.consumer.seek(partition, offset)
        if self._part.stops is not None:
            self._open = {one for one in places if places[one] < self._part.stops[one.partition]}

    async def await_assignment(self) -> None:
        """In a group: wait a moment for partitions. With more members than partitions, some get none."""
        deadline = time.monotonic() + _ASSIGNMENT_AWAITED_S
        while not self.consumer.assignment() and time.monotonic() < deadline:
            self._take(await self.consumer.getmany(timeout_ms=_POLL_MS))

    def stop(self) -> None:
        self._stopping = True

    async def run(self, start_at: float) -> None:
        """Read until the stops, the time or the number of records asked for, or `stop`."""
        follows = self._part.stops is None
        warm_at = self._measured_from = start_at + self._order.warmup_s
        if self._order.seconds is not None:
            self._measured_to = warm_at + self._order.seconds
        while not self._stopping and (follows or self._open):
            now = time.monotonic()
            if now >= self._measured_to and not follows:
                break
            if self._part.records is not None and self._read >= self._part.records:
                break
            taken = await self.consumer.getmany(timeout_ms=_POLL_MS)
            self._take(taken)
            if not follows:
                await self._drop_ended(taken)
            await asyncio.sleep(0)
        end = min(time.monotonic(), self._measured_to)
        if end > warm_at:
            self.span = (warm_at, end)

    def _take(self, taken: dict[TopicPartition, list[Record]]) -> None:
        if not taken:
            return
        now = time.monotonic()
        count = size = 0
        stops = self._part.stops
        for partition, records in taken.items():
            if stops is not None and records[-1].offset >= stops[partition.partition]:
                records = [record for record in records if record.offset < stops[partition.partition]]
            count += len(records)
            size += sum([len(record.value or b"") for record in records])
            if self._part.stamped != "no" and records:
                self._look_at(records, now)
        self.counts.timeline.add(now, count, size)
        if now >= self._measured_from:
            self._read += count

    def _look_at(self, records: Sequence[Record], now: float) -> None:
        if self._part.stamped == "some":
            records = records[:: max(1, len(records) // _LOOKED_AT)]
        edge_s = self._order.edge_s
        for record in records:
            due = due_of(record.value, self._run_id)
            if due is not None and self._measured_from - edge_s <= due < self._measured_to - edge_s:
                self.counts.end_to_end.record(now - due)

    async def _drop_ended(self, taken: dict[TopicPartition, list[Record]]) -> None:
        assert self._part.stops is not None
        for partition in [one for one in (taken or self._open) if one in self._open]:
            if await self.consumer.position(partition) >= self._part.stops[partition.partition]:
                self._open.discard(partition)
                self.consumer.drop(partition)
