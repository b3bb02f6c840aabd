"""A producer and a member of a group that run all along while a cluster is changed, and what became of each record."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

import lograft

GROUP = "steady"
_DIGITS = 12


class Acknowledged(NamedTuple):
    number: int
    sent_at: float
    """By time.monotonic()."""
    took_s: float
    partition: int
    offset: int


@dataclass
class Phase:
    """Something that was done to the cluster meanwhile."""

    name: str
    began: float
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class SteadyLoad:
    """`rate` numbered records a second to a topic, by an idempotent producer; one member of a group reads them."""

    client: lograft.Client
    topic: str
    rate: float
    size: int = 100
    acknowledged: list[Acknowledged] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """What the producer and the member were told, word by word."""
    consumed: list[tuple[int, int, int]] = field(default_factory=list)
    """Partition, offset and number of each record that the member was handed, in that order."""

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._produce()), asyncio.create_task(self._consume())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self._tasks[0]
        for _ in range(300 if error is None else 0):
            if len(self.consumed) >= len(self.acknowledged):
                break
            await asyncio.sleep(0.05)
        self._tasks[1].cancel()
        await asyncio.gather(self._tasks[1], return_exceptions=True)

    async def written_to(self, partitions: set[int]) -> None:
        """Until a record was acknowledged in each of them."""
        missing = set(partitions)
        looked_at = 0
        for _ in range(300):
            missing.difference_update(one.partition for one in self.acknowledged[looked_at:])
            looked_at = len(self.acknowledged)
            if not missing:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"nothing was written to partitions {sorted(missing)} within a minute")

    async def _produce(self) -> None:
        number = 0
        waiting: set[asyncio.Task[None]] = set()
        async with self.client.producer() as producer:
            due = time.monotonic()
            while not self._stop.is_set():
                value = b"%0*d" % (_DIGITS, number)
                sent_at = time.monotonic()
                try:
                    delivery = await producer.send(self.topic, value.ljust(self.size, b"."))
                except lograft.LograftError as error:
                    self.errors.append(f"send: {error}")
                else:
                    task = asyncio.create_task(self._settle(number, sent_at, delivery))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                number += 1
                due += 1 / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.gather(*waiting)

    async def _settle(self, number: int, sent_at: float, delivery: lograft.Delivery) -> None:
        try:
            told = await delivery
        except lograft.LograftError as error:
            self.errors.append(f"delivery: {error}")
        else:
            took_s = time.monotonic() - sent_at
            self.acknowledged.append(Acknowledged(number, sent_at, took_s, told.partition, told.offset))

    async def _consume(self) -> None:
        try:
            async with self.client.consumer(
                self.topic, group_id=GROUP, auto_offset_reset="earliest", auto_commit=True, auto_commit_interval_s=0.5
            ) as consumer:
                while True:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        self.consumed += [(one.partition, one.offset, number_of(one)) for one in records]
        except lograft.LograftError as error:
            self.errors.append(f"consumer: {error}")

    def figures(self, phase: Phase) -> dict[str, float | int | str]:
        """Of the records that were sent in the phase."""
        took = [one.took_s * 1000 for one in self.acknowledged if phase.began <= one.sent_at < phase.ended]
        cuts = statistics.quantiles(took, n=1000) if len(took) > 1 else [0.0] * 999
        return {
            "phase": phase.name,
            "seconds": round(phase.seconds, 1),
            "records": len(took),
            "p50_ms": round(cuts[499], 1),
            "p99_ms": round(cuts[989], 1),
            "max_ms": round(max(took, default=0.0), 1),
        }

    async def wrongs(self) -> list[str]:
        """What the log, read anew, and the member say against the promise. Empty if all is well."""
        held = [(one.partition, one.offset, number_of(one)) async for one in self.client.read(self.topic)]
        where = {number: (partition, offset) for partition, offset, number in held}
        found = [
            f"{one.number} was acknowledged at {one.partition}/{one.offset}, and is at {where.get(one.number)}"
            for one in self.acknowledged
            if where.get(one.number) != (one.partition, one.offset)
        ]
        found += [
            f"{number} is there {times} times" for number, times in Counter(n for *_, n in held).items() if times > 1
        ]
        found += [f"of the log: {what}" for what in _out_of_order(held)]
        seen = {number for *_, number in self.consumed}
        if missing := {one.number for one in self.acknowledged} - seen:
            found.append(f"the group was not handed {len(missing)} records, such as {min(missing)}")
        found += [f"of the group: {what}" for what in _out_of_order(self.consumed)]
        return found


def number_of(record: lograft.Record) -> int:
    assert record.value is not None
    return int(record.value[:_DIGITS])


def _out_of_order(records: list[tuple[int, int, int]]) -> list[str]:
    """Where, within a partition, offset or number do not rise."""
    by_partition: dict[int, list[tuple[int, int]]] = {}
    for partition, offset, number in records:
        by_partition.setdefault(partition, []).append((offset, number))
    return [
        f"partition {partition}: {after} comes after {before}"
        for partition, sequence in sorted(by_partition.items())
        for before, after in pairwise(sequence)
        if not (before[0] < after[0] and before[1] < after[1])
    ]
