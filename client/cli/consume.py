"""Records go to standard output, as they are.

Always
    a record is shown whole or not at all, and each once
    what is here is written before more is waited for, so that a pipe sees records as they come
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ...proto.errors import OffsetOutOfRange
from ..client import Client
from ..consumer import Consumer
from ..offset_bounds import END, START, Bound, OffsetRange
from ..records import Record, TopicPartition
from .formats import RecordShown

_FLUSH_BYTES = 64 << 10
_FLUSH_AFTER_S = 0.05


@dataclass(frozen=True, slots=True)
class ConsumeOrder:
    """What `lograft consume` was asked to do."""

    topic: str
    offsets: OffsetRange
    partitions: tuple[int, ...] | None
    count: int | None
    exit_at_end: bool
    show: Callable[[RecordShown], bytes]


class _Output:
    """Standard output in large writes, none of them later than 50 ms after its record."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.failure: OSError | None = None

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_FLUSH_AFTER_S, self._flush_in_time)

    def flush(self) -> None:
        """Raises OSError if nobody reads any more, or the disk is full."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        rest = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]

    def _flush_in_time(self) -> None:
        self._timer = None
        try:
            self.flush()
        except OSError as error:
            self.failure = error
            assert self._task is not None
            self._task.cancel()  # it waits for records, and would wait long


async def consume_topic(addresses: Sequence[str], order: ConsumeOrder) -> None:
    """Write the records that were asked for. Raises BrokenPipeError if nobody reads them."""
    wanted = order.offsets
    stop = END if order.exit_at_end and wanted.stop is None else wanted.stop
    output = _Output()
    async with Client(addresses, client_id="lograft-cli") as client:
        if stop is None:
            records = _follow(client, order, wanted.start)
        else:
            records = client.read(order.topic, wanted.start, stop, order.partitions)
        try:
            await _write(records, order, output)
        except asyncio.CancelledError:
            if output.failure is None:
                output.flush()
                raise
            raise output.failure from None
        output.flush()


async def _write(records: AsyncIterator[Record], order: ConsumeOrder, output: _Output) -> None:
    left = order.count
    async for record in records:
        output.write(order.show(record))
        if left is not None:
            left -= 1
            if left == 0:
                return


async def _follow(client: Client, order: ConsumeOrder, start: Bound) -> AsyncIterator[Record]:
    """Records from `start` on, and those to come."""
    if order.partitions is None and start in (START, END):
        # Partitions that the topic gets later are read too.
        async with client.consumer(order.topic, auto_offset_reset="latest" if start == END else "earliest") as consumer:
            async for record in consumer:
                yield record
        return
    described = await client.admin.describe_topic(order.topic)
    numbers = [partition.number for partition in described.partitions] if order.partitions is None else order.partitions
    chosen = [TopicPartition(order.topic, number) for number in numbers]
    async with client.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign(chosen)
        await _seek(consumer, chosen, start)
        early = set(chosen) if start.base == "time" else set()
        async for record in consumer:
            if early and (partition := TopicPartition(record.topic, record.partition)) in early:
                if record.timestamp_ms < start.number:
                    continue  # the brokers find the batch; what is earlier in it is left out here
                early.discard(partition)
            yield record


async def _seek(consumer: Consumer, chosen: Sequence[TopicPartition], start: Bound) -> None:
    """Put each partition at `start`; counted bounds stop at the log's start and end."""
    if start.base == "time":
        await consumer.seek_to_time(start.number)
        return
    await consumer.seek_to_beginning()
    begins = {partition: await consumer.position(partition) for partition in chosen}
    await consumer.seek_to_end()
    for partition in chosen:
        begin, end = begins[partition], await consumer.position(partition)
        match start.base:
            case "start":
                consumer.seek(partition, min(begin + start.number, end))
            case "end":
                consumer.seek(partition, max(end + start.number, begin))
            case _:
                if not begin <= start.number <= end:
                    raise OffsetOutOfRange(
                        f"{partition} holds offsets from {begin} up to {end}; {start.number} is none of them"
                    )
                consumer.seek(partition, start.number)
