"""Client processes with the real client in them, each noting in the history what it asked for and was told.

Invariants
    a process that was killed notes nothing any more; the one that takes its place has another name
    every value is sent once
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from lograft import Client, TopicPartition
from lograft.client.delivery import Delivery, DeliveryFailed
from lograft.client.environment import Environment
from lograft.client.offset_bounds import END, START
from lograft.proto.errors import (
    BatchTooLarge,
    InvalidRequest,
    LograftError,
    LostGrant,
    OffsetOutOfRange,
    TopicExists,
    UnknownTopic,
)

from tests.simulation.environment import WALL_START_MS
from tests.simulation.world.loop import Owner

if TYPE_CHECKING:
    from tests.simulation.world.world import World

_SURELY_NOT = (InvalidRequest, UnknownTopic, BatchTooLarge, TopicExists)


def name_of(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"


class ClientProcess:
    """One machine with one client process on it, started anew after each end. Subclasses say what it does."""

    timeout_s = 10.0

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.history = world.history
        self.incarnation = 0
        self.owner: Owner | None = None
        self.wall_offset_ms = 0.0
        self.is_stopping = False
        self.has_ended = False
        self.random = Random(f"{world.seed} client {name}")

    @property
    def process(self) -> str:
        return f"{self.name}.{self.incarnation}"

    @property
    def is_up(self) -> bool:
        return self.owner is not None and self.owner.is_alive

    @property
    def is_busy(self) -> bool:
        """Has it not come to its end?"""
        return self.is_up and not self.has_ended

    def start(self) -> None:
        if self.is_up:
            return
        self.incarnation += 1
        self.has_ended = False
        self.owner = Owner(self.world.loop, self.process, self.name)
        self.owner.start(self._run())

    def crash(self) -> None:
        if self.owner is None or not self.is_up:
            return
        self.owner.kill()
        self.world.wires.reset_all(self.name)
        self.history.note(self.process, "crash")

    def stop(self) -> None:
        """Come to an end by itself."""
        self.is_stopping = True

    async def _run(self) -> None:
        try:
            while not self.is_stopping:
                try:
                    async with self.client() as client:
                        await self.work(client)
                except LograftError as error:
                    self.world.trace.note("client", f"{self.process} {error!r}")
                    await asyncio.sleep(self.random.uniform(0.05, 0.5))
            self.has_ended = True
        except Exception as error:
            self.world.fail(error)

    def client(self) -> Client:
        loop, wall = self.world.loop, self

        def unix_ms() -> int:
            return int(WALL_START_MS + loop.now_ms() + wall.wall_offset_ms)

        return Client(
            [f"b{number}:9600" for number in self.world.machines],
            client_id=self.name,
            timeout=self.timeout_s,
            environment=Environment(
                now=loop.time,
                unix_ms=unix_ms,
                chance=Random(f"{self.world.seed} {self.process}"),
                open_channel=self.world.open_channel,
            ),
        )

    async def work(self, client: Client) -> None:
        raise NotImplementedError


class Producing(ClientProcess):
    """Sends records to one topic, several at a time under way."""

    def __init__(
        self, world: World, name: str, topic: str, partitions: int, *, pace_ms: float, value_bytes: int
    ) -> None:
        super().__init__(world, name)
        self.topic = topic
        self.partitions = partitions
        self.pace_ms = pace_ms
        self.value_bytes = value_bytes
        self.sent = 0
        self.acknowledged = 0
        self.hearing: dict[asyncio.Task[None], None] = {}

    def start(self) -> None:
        if not self.is_up:
            self.hearing = {}  # what an earlier process had under way, nobody waits for
        super().start()

    async def work(self, client: Client) -> None:
        producer = client.producer(
            linger_ms=self.random.choice((0, 5, 20)),
            max_batch_bytes=self.random.choice((1024, 4000, 1 << 20)),
            compression=self.random.choice((None, "lz4")),
        )
        async with producer:
            instance = f"{self.process}/{self.sent}"
            while not self.is_stopping:
                for _ in range(self.random.choice((1, 1, 2, 5))):
                    await self.send(producer, instance)
                await asyncio.sleep(self.random.expovariate(1000 / self.pace_ms))
            await asyncio.gather(*self.hearing)

    async def send(self, producer: Any, instance: str) -> None:
        self.sent += 1
        value = f"{self.process}-{self.sent}"
        keyed = self.random.random() < 0.2
        partition = None if keyed else self.random.randrange(self.partitions)
        op = self.history.invoke(
            self.process, "send", topic=self.topic, partition=partition, producer=instance, values=[value]
        )
        content = value.encode() + b"|" + b"." * self.random.randint(0, self.value_bytes)
        try:
            delivery = await producer.send(
                self.topic, content, key=f"k{self.random.randrange(5)}".encode() if keyed else None, partition=partition
            )
        except LograftError as error:
            self.history.fail(op, error=str(error))
            return
        hearing = asyncio.ensure_future(self._hear(op, delivery))
        self.hearing[hearing] = None
        hearing.add_done_callback(self.hearing.pop)

    async def _hear(self, op: int, delivery: Delivery) -> None:
        try:
            got = await delivery
        except DeliveryFailed as failure:
            end = self.history.fail if failure.outcome == "failed" else self.history.info
            end(op, error=str(failure))
        else:
            self.acknowledged += 1
            offset = None if got.offset < 0 else got.offset
            self.history.ok(op, partition=got.partition, offsets=[offset], term=got.term)


class Reading(ClientProcess):
    """Reads partitions chosen by hand, and goes elsewhere at times."""

    def __init__(self, world: World, name: str, partitions: Sequence[TopicPartition]) -> None:
        super().__init__(world, name)
        self.partitions = partitions
        self.ends: dict[TopicPartition, int] = {}
        self.records = 0

    async def work(self, client: Client) -> None:
        history = self.history
        consumer = client.consumer(
            auto_offset_reset="earliest",
            max_poll_records=self.random.choice((1, 7, 500)),
            prefetch_bytes=self.random.choice((64 << 10, 8 << 20)),
        )
        async with consumer:
            chosen = self.random.sample(self.partitions, self.random.randint(1, len(self.partitions)))
            consumer.assign(chosen)
            places = {partition: self._place(partition) for partition in chosen}
            for partition, offset in places.items():
                consumer.seek(partition, offset)
            positions = {name_of(partition): offset for partition, offset in places.items()}
            history.ok(history.invoke(self.process, "assign", positions=positions), positions=positions)
            for _ in range(self.random.randint(5, 60)):
                if self.is_stopping:
                    return
                op = history.invoke(self.process, "poll")
                try:
                    polled = await consumer.getmany(timeout_ms=self.random.choice((50, 400, 1500)))
                except LograftError as error:
                    history.fail(op, error=repr(error))
                    raise
                history.ok(op, records=self._told(polled))
                if self.random.random() < 0.05:
                    partition = self.random.choice(chosen)
                    positions = {name_of(partition): self._place(partition)}
                    consumer.seek(partition, positions[name_of(partition)])
                    history.ok(history.invoke(self.process, "seek", positions=positions), positions=positions)
                if self.random.random() < 0.2:
                    await asyncio.sleep(self.random.uniform(0, 1.0))

    def _place(self, partition: TopicPartition) -> int:
        end = self.ends.get(partition, 0)
        return self.random.choice((0, end, max(0, end - self.random.randint(0, 20))))

    def _told(self, polled: Any) -> list[Any]:
        told = []
        for partition, records in polled.items():
            for record in records:
                told.append([name_of(partition), record.offset, value_of(record), record.term])
                self.ends[partition] = max(self.ends.get(partition, 0), record.offset + 1)
                self.records += 1
        return told


class Grouped(ClientProcess):
    """A member of a group: handles records, then stores how far it came."""

    def __init__(self, world: World, name: str, group: str, topics: Sequence[str], *, static: bool = False) -> None:
        super().__init__(world, name)
        self.group = group
        self.topics = topics
        self.static = static
        self.owned: dict[str, int] = {}
        self.records = 0
        self.rebalances = 0
        self.stores_always = False
        self.session_s = self.random.choice((2.0, 6.0))

    async def work(self, client: Client) -> None:
        history = self.history
        self.owned = {}
        consumer = client.consumer(
            *self.topics,
            group_id=self.group,
            auto_offset_reset="earliest",
            session_timeout_s=self.session_s,
            instance_id=self.name if self.static else None,
            max_poll_records=self.random.choice((5, 500)),
            max_handling_s=self.random.choice((3.0, 300.0)),
            on_assign=lambda partitions: self._assigned(consumer, partitions),
            on_revoke=lambda partitions: self._revoked(consumer, partitions),
        )
        try:
            async with consumer:
                op = history.invoke(
                    self.process,
                    "subscribe",
                    group=self.group,
                    topics=list(self.topics),
                    member=consumer.member_id,
                    reset="earliest",
                )
                history.ok(op)
                for _ in range(self.random.randint(10, 200)):
                    if self.is_stopping:
                        return
                    await self._handle(consumer)
        finally:
            if self.owned:
                self.owned = {}
                self._note_owned(consumer)

    async def _handle(self, consumer: Any) -> None:
        history = self.history
        op = history.invoke(self.process, "poll")
        try:
            polled = await consumer.getmany(timeout_ms=self.random.choice((100, 1000)))
        except LograftError as error:
            history.fail(op, error=repr(error))
            raise
        generations = dict(self.owned)
        records = [
            [name_of(partition), record.offset, value_of(record), record.term]
            for partition, taken in polled.items()
            for record in taken
        ]
        history.ok(op, records=records)
        if not records:
            return
        self.records += len(records)
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.uniform(0, 1.0))
        history.note(self.process, "process", group=self.group, records=[[where, at] for where, at, _, _ in records])
        if self.stores_always or self.random.random() < 0.8:
            for partition, taken in polled.items():
                await self._store(consumer, partition, taken[-1].offset + 1, generations.get(name_of(partition)))

    async def _store(self, consumer: Any, partition: TopicPartition, offset: int, generation: int | None) -> None:
        history = self.history
        op = history.invoke(
            self.process,
            "store",
            group=self.group,
            member=consumer.member_id,
            generation=generation,
            offsets={name_of(partition): offset},
        )
        try:
            await consumer.commit({partition: offset})
        except (InvalidRequest, OffsetOutOfRange) as error:
            history.fail(op, error=repr(error))
        except LograftError as error:
            if isinstance(error, LostGrant) and "outcome" not in error.facts:
                history.fail(op, error=repr(error))
            else:
                history.info(op, error=repr(error))
        else:
            history.ok(op)

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self.rebalances += 1
        for partition in partitions:
            self.owned[name_of(partition)] = consumer.positions[partition].generation
        self._note_owned(consumer)

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self.owned.pop(name_of(partition), None)
        self._note_owned(consumer)

    def _note_owned(self, consumer: Any) -> None:
        self.history.note(
            self.process,
            "own",
            group=self.group,
            member=consumer.member_id,
            generation=dict(self.owned),
            partitions=sorted(self.owned),
        )


class Watching(ClientProcess):
    """Asks for ends, stored offsets and topics, and makes and deletes topics of its own."""

    def __init__(self, world: World, name: str, topics: Sequence[str], group: str) -> None:
        super().__init__(world, name)
        self.topics = topics
        self.group = group
        self.partitions = list(world.partitions_of(topics))
        self.made: dict[str, str] = {}
        self.count = 0

    async def work(self, client: Client) -> None:
        while not self.is_stopping:
            what = self.random.choice((self._ends, self._ends, self._stored, self._stored, self._list, self._change))
            await what(client)
            await asyncio.sleep(self.random.expovariate(1 / 0.4))

    async def _ends(self, client: Client) -> None:
        topic = self.random.choice(self.topics)
        op = self.history.invoke(self.process, "ends")
        try:
            starts = await client.groups.resolve(topic, START)
            ends = await client.groups.resolve(topic, END)
        except LograftError as error:
            self.history.fail(op, error=repr(error))
            return
        self.history.ok(
            op, ends={name_of(partition): [starts.get(partition, 0), ends[partition]] for partition in ends}
        )

    async def _stored(self, client: Client) -> None:
        async with client.consumer(group_id=self.group) as consumer:
            for partition in self.partitions:
                op = self.history.invoke(self.process, "fetch_stored", group=self.group)
                try:
                    offset = await consumer.committed(partition)
                except LograftError as error:
                    self.history.fail(op, error=repr(error))
                    return
                self.history.ok(op, offsets={name_of(partition): offset})

    async def _list(self, client: Client) -> None:
        op = self.history.invoke(self.process, "list_topics")
        try:
            topics = await client.admin.list_topics()
        except LograftError as error:
            self.history.fail(op, error=repr(error))
            return
        self.history.ok(op, topics={topic.name: topic.topic_id for topic in topics})

    async def _change(self, client: Client) -> None:
        if self.made and self.random.random() < 0.5:
            name = self.random.choice(list(self.made))
            await self._delete(client, name)
        else:
            self.count += 1
            await self.create(client, self.random.choice((f"{self.name}-a", f"{self.name}-b")), 1)

    async def _delete(self, client: Client, name: str) -> None:
        op = self.history.invoke(self.process, "delete_topic", topic=name)
        try:
            await client.admin.delete_topic(name)
        except LograftError as error:
            end = self.history.fail if isinstance(error, _SURELY_NOT) else self.history.info
            end(op, error=repr(error))
        else:
            self.history.ok(op)
        self.made.pop(name, None)

    async def create(self, client: Client, name: str, partitions: int, **settings: str) -> bool:
        chance = client._connection.environment.chance
        before = chance.getstate()
        topic_id = f"{chance.getrandbits(128):032x}"  # what the client is about to draw
        chance.setstate(before)
        op = self.history.invoke(self.process, "create_topic", topic=name, topic_id=topic_id)
        try:
            made = await client.admin.create_topic(name, partitions=partitions, config=settings or None)
        except LograftError as error:
            end = self.history.fail if isinstance(error, _SURELY_NOT) else self.history.info
            end(op, error=repr(error))
            return isinstance(error, TopicExists)
        assert made.topic_id == topic_id, "the client draws the id first"
        self.history.ok(op, topic_id=made.topic_id)
        self.made[name] = made.topic_id
        return True


def value_of(record: Any) -> str:
    return bytes(record.value).partition(b"|")[0].decode()
