"""What clients do while the cluster is in trouble. Each notes in the history what it asked, and what it was told.

A workload has one name, its process in the history; after a crash it goes by another one. `fail` is noted only where
it is sure that nothing happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable
from typing import Any

import lograft
from lograft.client.check.history import Recorder
from lograft.client.offsets import OffsetLookup
from lograft.client.records import Record, TopicPartition

POLL_MS = 500.0
UNDER_WAY_MAX = 40
"""Sends of one producer."""


def shown(partition: TopicPartition) -> str:
    """As the history writes it."""
    return f"{partition.topic}/{partition.partition}"


def rows(found: dict[TopicPartition, list[Record]]) -> list[list[Any]]:
    return [
        [shown(partition), record.offset, (record.value or b"").decode(errors="replace"), record.term]
        for partition, records in found.items()
        for record in records
    ]


class Workload:
    """One client's doings. `run` goes on until `stop` is set, then ends what is under way."""

    def __init__(self, name: str, client: lograft.Client, history: Recorder, chance: random.Random) -> None:
        self.name = name
        self.client = client
        self.history = history
        self.chance = chance
        self.stop = asyncio.Event()

    async def run(self) -> None:
        raise NotImplementedError

    async def rest(self, seconds: float) -> None:
        """Less, if it is to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()


class Produce(Workload):
    """Unique values by one idempotent producer, to partitions by number and by key, a few sends under way at a time."""

    def __init__(self, *given: Any, topic: str, partitions: int, per_s: float = 12.0, values_max: int = 4) -> None:
        super().__init__(*given)
        self.topic, self.partitions, self.per_s, self.values_max = topic, partitions, per_s, values_max
        self._numbers = itertools.count()
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        producer = self.client.producer(linger_ms=self.chance.choice([0, 2, 20]))
        while not self.stop.is_set():
            if len(self._sending) < UNDER_WAY_MAX:
                await self._send(producer)
            await self.rest(self.chance.expovariate(self.per_s))
        await asyncio.gather(*self._sending)
        with contextlib.suppress(lograft.LograftError):
            await producer.close()

    async def _send(self, producer: lograft.Producer) -> None:
        """Hand some values over, one send after the other: who hands over from several tasks at once has no order."""
        by_key = self.chance.random() < 0.3
        count = 1 if by_key else self.chance.randint(1, self.values_max)
        values = [f"{self.name}.{next(self._numbers)}" for _ in range(count)]
        partition = None if by_key else self.chance.randrange(self.partitions)
        op = self.history.invoke(
            self.name, "send", topic=self.topic, partition=partition, producer=self.name, values=values
        )
        key = f"k{self.chance.randrange(40)}".encode() if by_key else None
        try:
            deliveries = await producer.send_many(
                self.topic, [(key, value.encode()) for value in values], partition=partition
            )
        except (lograft.errors.UnknownTopic, lograft.errors.BrokerUnavailable) as error:
            self.history.info(op, error=str(error)[:200])
            return
        task = asyncio.create_task(self._settle(op, deliveries, count))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _settle(self, op: int, deliveries: lograft.Deliveries, count: int) -> None:
        try:
            ranges = await deliveries
        except lograft.DeliveryErrors as error:
            surely = all(failure.outcome == "failed" for failure in error.failures) and error.count == count
            (self.history.fail if surely else self.history.info)(op, error=str(error)[:200])
            return
        # An old duplicate is acknowledged, but nobody knows any more at which offset.
        offsets = [one.base_offset + n if one.base_offset >= 0 else None for one in ranges for n in range(one.count)]
        terms = {one.term for one in ranges}  # batches of one send may go to two leaders
        term = terms.pop() if len(terms) == 1 else None
        self.history.ok(op, partition=ranges[0].partition, offsets=offsets, term=term)


class Follow(Workload):
    """Reads partitions assigned by hand, from their start on, as records come; may go back to where it was now and
    then, and begins anew as another process every so often."""

    def __init__(self, *given: Any, topic: str, partitions: int, seeks: bool = False, life_s: float = 40.0) -> None:
        super().__init__(*given)
        self.assigned = [TopicPartition(topic, number) for number in range(partitions)]
        self.seeks, self.life_s = seeks, life_s

    async def run(self) -> None:
        for life in itertools.count():
            if self.stop.is_set():
                return
            process = f"{self.name}#{life}"
            with contextlib.suppress(lograft.LograftError):
                await self._live(process)
            self.history.note(process, "crash")
            await self.rest(0.5)

    async def _live(self, process: str) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.life_s * self.chance.uniform(0.5, 1.5)
        async with self.client.consumer(auto_offset_reset="earliest", max_poll_records=200) as consumer:
            positions = {shown(partition): 0 for partition in self.assigned}
            op = self.history.invoke(process, "assign", positions=positions)
            consumer.assign(self.assigned)
            for partition in self.assigned:
                consumer.seek(partition, 0)
            self.history.ok(op, positions=positions)
            seen: dict[TopicPartition, int] = {}
            while not self.stop.is_set() and loop.time() < ends_at:
                op = self.history.invoke(process, "poll")
                try:
                    found = await consumer.getmany(timeout_ms=POLL_MS)
                except lograft.LograftError as error:
                    self.history.fail(op, error=str(error)[:200])
                    await self.rest(0.2)
                    continue
                self.history.ok(op, records=rows(found))
                for partition, records in found.items():
                    seen[partition] = max(records[-1].offset, seen.get(partition, 0))
                if self.seeks and seen and self.chance.random() < 0.1:
                    self._seek(process, consumer, seen)
                await self.rest(0.2)

    def _seek(self, process: str, consumer: lograft.Consumer, seen: dict[TopicPartition, int]) -> None:
        partition = self.chance.choice(list(seen))
        to = {shown(partition): max(seen[partition] - self.chance.randrange(300), 0)}
        op = self.history.invoke(process, "seek", positions=to)
        consumer.seek(partition, to[shown(partition)])
        self.history.ok(op, positions=to)


class Belong(Workload):
    """A member of a group: reads what it is granted, does its work, stores how far it came. Its process is killed."""

    def __init__(self, *given: Any, topics: list[str], group: str) -> None:
        super().__init__(*given)
        self.topics, self.group = topics, group

    async def run(self) -> None:
        while not self.stop.is_set():
            try:
                await self._live()
            except lograft.LograftError:
                await self.rest(0.5)

    async def _live(self) -> None:
        owned: set[TopicPartition] = set()

        def tell() -> None:
            held = consumer._positions
            generations = {shown(p): held[p].generation for p in owned if p in held}
            self.history.note(
                self.name,
                "own",
                group=self.group,
                member=consumer.member_id,
                generation=generations,
                partitions=sorted(shown(partition) for partition in owned),
            )

        def on_assign(partitions: list[TopicPartition]) -> None:
            owned.update(partitions)
            tell()

        def on_revoke(partitions: list[TopicPartition]) -> None:
            owned.difference_update(partitions)
            tell()

        consumer = self.client.consumer(
            *self.topics,
            group_id=self.group,
            auto_offset_reset="earliest",
            session_timeout_s=6.0,
            max_poll_records=100,
            on_assign=on_assign,
            on_revoke=on_revoke,
        )
        try:
            op = self.history.invoke(
                self.name,
                "subscribe",
                group=self.group,
                topics=self.topics,
                reset="earliest",
                member=consumer.member_id,
            )
            await consumer.__aenter__()
            self.history.ok(op)
            while not self.stop.is_set():
                op = self.history.invoke(self.name, "poll")
                try:
                    found = await consumer.getmany(timeout_ms=POLL_MS)
                except lograft.LograftError as error:
                    self.history.fail(op, error=str(error)[:200])
                    await self.rest(0.2)
                    if not error.retriable:
                        raise
                    continue
                # Under which grants these were fetched, while they are in hand.
                generations = {p: consumer._positions[p].generation for p in found if p in consumer._positions}
                self.history.ok(op, records=rows(found), group=self.group)
                if found:
                    await self._work(consumer, found, generations)
                if self.chance.random() < 0.05:
                    await self._ask_stored(consumer, sorted(owned))
        finally:
            owned.clear()
            tell()
            with contextlib.suppress(lograft.LograftError):
                await consumer.close()

    async def _work(
        self,
        consumer: lograft.Consumer,
        found: dict[TopicPartition, list[Record]],
        generations: dict[TopicPartition, int],
    ) -> None:
        await self.rest(self.chance.uniform(0, 0.05))
        self.history.note(
            self.name,
            "process",
            group=self.group,
            records=[[shown(p), record.offset] for p, records in found.items() for record in records],
        )
        for partition, records in found.items():
            offsets = {shown(partition): records[-1].offset + 1}
            op = self.history.invoke(
                self.name,
                "store",
                group=self.group,
                member=consumer.member_id,
                generation=generations.get(partition, 0),
                offsets=offsets,
            )
            try:
                await consumer.commit({partition: records[-1].offset + 1})
            except lograft.LograftError as error:
                if isinstance(error, lograft.errors.LostGrant) and "outcome" not in error.facts:
                    self.history.fail(op, error=str(error)[:200])
                else:
                    self.history.info(op, error=str(error)[:200])
            else:
                self.history.ok(op)

    async def _ask_stored(self, consumer: lograft.Consumer, owned: list[TopicPartition]) -> None:
        for partition in owned[:2]:
            op = self.history.invoke(self.name, "fetch_stored", group=self.group)
            try:
                stored = await consumer.committed(partition)
            except lograft.LograftError as error:
                self.history.fail(op, error=str(error)[:200])
            else:
                self.history.ok(op, offsets={} if stored is None else {shown(partition): stored})


class AskEnds(Workload):
    """Asks where partitions begin and end, by their leaders' word."""

    def __init__(self, *given: Any, topic: str, partitions: int, per_s: float = 2.0) -> None:
        super().__init__(*given)
        self.partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self.per_s = per_s

    async def run(self) -> None:
        lookup = OffsetLookup(self.client._connection, self.client._metadata, timeout_s=10.0)
        while not self.stop.is_set():
            partition = self.chance.choice(self.partitions)
            op = self.history.invoke(self.name, "ends")
            try:
                (extent,) = (await lookup.extents([partition])).values()
            except lograft.LograftError as error:
                self.history.fail(op, error=str(error)[:200])
            else:
                self.history.ok(op, ends={shown(partition): list(extent)})
            await self.rest(self.chance.expovariate(self.per_s))


class MakeTopics(Workload):
    """Creates, lists and deletes topics of its own."""

    def __init__(self, *given: Any, per_s: float = 0.3) -> None:
        super().__init__(*given)
        self.per_s = per_s
        self._numbers = itertools.count()
        self._mine: list[str] = []

    async def run(self) -> None:
        while not self.stop.is_set():
            await self.chance.choices([self._create, self._delete, self._list], [3, 2, 3])[0]()
            await self.rest(self.chance.expovariate(self.per_s))

    async def _create(self) -> None:
        name = f"{self.name}-{next(self._numbers)}"
        op = self.history.invoke(self.name, "create_topic", topic=name)
        with self._told(op):
            made = await self.client.admin.create_topic(name, partitions=1)
            self._mine.append(name)
            self.history.ok(op, topic_id=made.topic_id)

    async def _delete(self) -> None:
        if not self._mine:
            return
        name = self._mine.pop(self.chance.randrange(len(self._mine)))
        op = self.history.invoke(self.name, "delete_topic", topic=name)
        with self._told(op):
            await self.client.admin.delete_topic(name)
            self.history.ok(op)

    async def _list(self) -> None:
        op = self.history.invoke(self.name, "list_topics")
        with self._told(op):
            found = await self.client.admin.list_topics()
            self.history.ok(op, topics={topic.name: topic.topic_id for topic in found})

    @contextlib.contextmanager
    def _told(self, op: int) -> Any:
        try:
            yield
        except lograft.LograftError as error:
            self.history.info(op, error=str(error)[:200])


KINDS: dict[str, Callable[..., Workload]] = {
    "produce": Produce,
    "follow": Follow,
    "belong": Belong,
    "ends": AskEnds,
    "topics": MakeTopics,
}
