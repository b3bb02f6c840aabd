"""A run from its topic to its result.

Always
    what the run made is deleted at its end, however it ends, unless it is to be kept
    what was there before is left as it was, but for records that somebody agreed to have appended
"""

from __future__ import annotations

import asyncio
import math
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address

import msgspec

from ...proto.errors import LograftError, UnknownTopic
from ..admin import TopicDescription
from ..cli.endings import Refused, one_line, say
from ..cli.tables import count
from ..client import Client
from .crew import Crew
from .machine import Machine, this_machine
from .merging import Figures, Gathered, figures_of
from .order import ConsumerPart, Order, ProducerPart, WorkerOrder
from .report import Result, TopicFacts, progress_line
from .timeline import Span

PARTITIONS = 12
"""Of a topic that a run makes."""
_FILL_BYTES = 512 << 20
_FILL_RECORDS_MAX = 2_000_000
_DRAIN_S = 10.0
"""How long consumers have, once all is sent, to read it."""
_LOOK_EVERY_S = 0.05
_DELETE_S = 15.0
_LEADERS_AWAITED_S = 5.0
_PROGRESS_LATE_S = 0.35
"""Workers tell what they counted four times a second: a second is shown once it is complete."""


class Run:
    """One run of `order` on the cluster at `addresses`. `show`, if given, gets a line each second."""

    def __init__(self, addresses: Sequence[str], order: Order, show: Callable[[str], None] | None) -> None:
        self._addresses = list(addresses)
        self._order = order
        self._show = show
        self._run_id = secrets.token_bytes(8).hex()
        self._made: str | None = None
        self._groups: list[str] = []
        self._crew: Crew | None = None
        self._task: asyncio.Task[object] | None = None
        self._notes: list[str] = []
        self.signal: int | None = None
        """What interrupted it."""

    async def run(self) -> Result:
        """Raises Refused, or what the cluster answered; CancelledError if it was interrupted before it measured."""
        machine = this_machine()
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, number)
        try:
            async with Client(self._addresses, client_id="lograft-bench") as client:
                try:
                    return await self._run(client, machine)
                finally:
                    await self._clean_up(client)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _interrupt(self, number: int) -> None:
        """The first time what was measured is still told; before there is any, and the second time, it just ends."""
        again = self.signal is not None
        self.signal = number
        if self._crew is None or again:
            assert self._task is not None
            self._task.cancel()
        else:
            self._interrupted.set()

    async def _run(self, client: Client, machine: Machine) -> Result:
        self._interrupted = asyncio.Event()
        described = await self._topic(client)
        if self._order.kind == "consume" and self._made:
            await self._fill(described)
            described = await _described(client, described.name)
        cluster = await client.admin.describe_cluster()
        alive = [broker for broker in cluster.brokers if broker.alive]
        facts = TopicFacts(
            name=described.name,
            made=self._made is not None,
            kept=self._order.keep,
            partitions=len(described.partitions),
            replicas=described.replication,
            durability=described.config.get("durability", "fsync"),
            brokers=len(alive),
            brokers_here=all(_is_here(broker.address) for broker in alive),
        )
        gathered = await self._measure(self._workers(described))
        figures: Figures = figures_of(gathered)
        return Result(self._order, facts, machine, figures, self.signal is not None, tuple(self._notes))

    # The topic -----------------------------------------------------------------------------------------------------

    async def _topic(self, client: Client) -> TopicDescription:
        order = self._order
        if order.topic is not None:
            with suppress(UnknownTopic):
                return self._fitting(await _described(client, order.topic))
            if order.kind == "consume":
                say(f"{order.topic} does not exist: it is made and filled")
        name = order.topic or f"lograft-bench-{self._run_id[:8]}"
        config = {}
        if order.durability is not None:
            config["durability"] = order.durability
        if order.batch_bytes > 1 << 20:
            config["batch.bytes.max"] = str(order.batch_bytes)
        self._made = name  # before it is: an answer may get lost
        try:
            return await client.admin.create_topic(
                name, partitions=order.partitions or PARTITIONS, replication=order.replicas, config=config
            )
        except LograftError as error:
            if not error.retriable:
                self._made = None
            raise

    def _fitting(self, found: TopicDescription) -> TopicDescription:
        """A topic that is there already, if it is as it was asked for."""
        order = self._order
        for option, wanted, there in (
            ("--partitions", order.partitions, len(found.partitions)),
            ("--replicas", order.replicas, found.replication),
            ("--durability", order.durability, found.config.get("durability", "fsync")),
        ):
            if wanted is not None and wanted != there:
                raise Refused(
                    f"topic {found.name} exists with {option[2:]} {there}, not {wanted}",
                    f"leave {option} out, or name a topic that does not exist",
                )
        held = sum(max(0, one.committed_offset - one.log_start_offset) for one in found.partitions)
        if order.kind == "consume" and not held:
            raise Refused(
                f"topic {found.name} holds no records to read", "leave --topic out, and one is made and filled"
            )
        if order.groups and held:
            raise Refused(
                f"topic {found.name} holds records, which new groups would read first", "leave --topic out, or --groups"
            )
        return found

    async def _fill(self, described: TopicDescription) -> None:
        order = self._order
        number = order.records or min(_FILL_RECORDS_MAX, max(1, _FILL_BYTES // order.size))
        say(f"filling {described.name} with {count(number, 'record')} of {order.size:,} B, to be read then")
        filling = msgspec.structs.replace(order, kind="produce", records=number, seconds=None, warmup_s=0.0, clients=1)
        worker = self._worker(described.name, ProducerPart(number=0, of=1), None)
        async with Crew([msgspec.structs.replace(worker, order=filling)]) as crew:
            begun_at = crew.begin()
            await self._watch(crew, crew.done(), begun_at, 0.0, "filling")

    # Workers -------------------------------------------------------------------------------------------------------

    def _worker(self, topic: str, producer: ProducerPart | None, consumer: ConsumerPart | None) -> WorkerOrder:
        return WorkerOrder(
            addresses=self._addresses,
            run_id=self._run_id,
            topic=topic,
            order=self._order,
            producer=producer,
            consumer=consumer,
        )

    def _workers(self, described: TopicDescription) -> list[WorkerOrder]:
        order, name = self._order, described.name
        stamped = order.kind in ("latency", "mixed")
        producers = [ProducerPart(number=number, of=order.clients, stamped=stamped) for number in range(order.clients)]
        match order.kind:
            case "produce":
                return [self._worker(name, one, None) for one in producers]
            case "consume":
                return [self._worker(name, None, one) for one in self._readers(described)]
            case "latency":
                followers = self._followers(described, order.clients, "all")
                if order.apart:
                    return [self._worker(name, one, None) for one in producers] + [
                        self._worker(name, None, one) for one in followers if one.partitions
                    ]
                return [self._worker(name, one, beside) for one, beside in zip(producers, followers, strict=True)]
        if order.groups:
            self._groups = [f"lograft-bench-{self._run_id[:8]}-{number}" for number in range(order.groups)]
            followers = [
                ConsumerPart(group=group, stamped="some") for group in self._groups for _ in range(order.consumers)
            ]
        else:
            followers = self._followers(described, order.consumers, "some")
        return [self._worker(name, one, None) for one in producers] + [
            self._worker(name, None, one) for one in followers
        ]

    def _followers(self, described: TopicDescription, count: int, stamped: str) -> list[ConsumerPart]:
        """Partitions dealt out by hand, each to be followed from its end."""
        return [
            ConsumerPart(
                partitions={one.number: max(0, one.committed_offset) for one in described.partitions[number::count]},
                stamped=stamped,  # type: ignore[arg-type]
            )
            for number in range(count)
        ]

    def _readers(self, described: TopicDescription) -> list[ConsumerPart]:
        """Partitions dealt out by hand, those with records, each to be read from its start to its end as it is now."""
        order = self._order
        held = [one for one in described.partitions if one.committed_offset > one.log_start_offset]
        if len(held) < order.clients:
            raise Refused(
                f"records are in {count(len(held), 'partition')}, too few to be shared by {order.clients} clients",
                "ask for fewer --clients",
            )
        return [
            ConsumerPart(
                partitions={one.number: one.log_start_offset for one in held[number :: order.clients]},
                stops={one.number: one.committed_offset for one in held[number :: order.clients]},
                records=None if order.records is None or self._made else math.ceil(order.records / order.clients),
            )
            for number in range(order.clients)
        ]

    # Measuring -----------------------------------------------------------------------------------------------------

    async def _measure(self, workers: Sequence[WorkerOrder]) -> Gathered:
        async with Crew(workers) as crew:
            self._crew = crew
            begun_at = crew.begin()
            work = self._to_the_end(crew)
            what = "read" if self._order.kind == "consume" else "acknowledged"
            await self._watch(crew, work, begun_at, self._order.warmup_s, what)
            return crew.gathered

    async def _to_the_end(self, crew: Crew) -> None:
        await crew.produced()
        if self._order.kind in ("latency", "mixed"):
            await self._await_readers(crew.gathered)
            crew.stop_consuming()
        await crew.done()

    async def _await_readers(self, gathered: Gathered) -> None:
        """What was sent arrives; a record that is slow to must not be left out of the latencies."""
        deadline = time.monotonic() + _DRAIN_S
        while (missing := self._missing(gathered)) > 0:
            if time.monotonic() >= deadline:
                self._notes.append(
                    f"{missing:,} records sent were not read within {_DRAIN_S:g} s; latencies end to end leave them out"
                )
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _missing(self, gathered: Gathered) -> int:
        """How many records that were acknowledged have not been read by all who should."""
        unread = gathered.produced.records * max(1, self._order.groups) - gathered.consumed.records
        if self._order.kind == "mixed":
            return unread
        # Others may write to the topic too, and here each record of ours is looked at.
        answered = gathered.acknowledged.count - gathered.not_sent - gathered.unanswered
        return max(unread, answered - gathered.end_to_end.count)

    async def _watch(self, crew: Crew, work: object, begun_at: float, warmup_s: float, what: str) -> None:
        """Until the work is done or interrupted, telling of each second."""
        working: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        stopping = asyncio.create_task(self._interrupted.wait())
        second = 0
        try:
            while not working.done() and not stopping.done():
                wait_s = None
                if self._show is not None:
                    wait_s = max(0.0, begun_at + second + 1 + _PROGRESS_LATE_S - time.monotonic())
                ended, _ = await asyncio.wait((working, stopping), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if not ended and self._show is not None:
                    second += 1
                    span = Span(begun_at + second - 1, begun_at + second)
                    timeline = (
                        crew.gathered.consumed
                        if self._order.kind == "consume" and what == "read"
                        else crew.gathered.produced
                    )
                    warm = second > warmup_s
                    recent = crew.gathered.take_recent()
                    self._show(progress_line(second, timeline.within(span), recent, warm=warm, what=what))
            if working.done():
                working.result()
            else:
                working.cancel()
                await crew.stop()
        finally:
            for task in (working, stopping):
                task.cancel()

    # The end -------------------------------------------------------------------------------------------------------

    async def _clean_up(self, client: Client) -> None:
        for group in self._groups:
            with suppress(LograftError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_DELETE_S):
                    await client.groups.delete(group)
        if self._made is None or self._order.keep:
            return
        try:
            async with asyncio.timeout(_DELETE_S):
                await client.admin.delete_topic(self._made)
        except UnknownTopic:
            pass
        except (LograftError, TimeoutError, asyncio.CancelledError) as error:  # a result is told all the same
            ended = "interrupted" if isinstance(error, asyncio.CancelledError) else f"no answer within {_DELETE_S:g} s"
            say(
                f"lograft: topic {self._made} may still be there: {one_line(str(error)) or ended}; "
                f"delete it with `lograft topic delete {self._made}`"
            )


async def _described(client: Client, topic: str) -> TopicDescription:
    """A topic with the offsets of all its partitions. Raises Refused if one has no leader to tell them."""
    deadline = time.monotonic() + _LEADERS_AWAITED_S
    while True:
        found = await client.admin.describe_topic(topic)
        silent = [one.number for one in found.partitions if one.committed_offset < 0]
        if not silent:
            return found
        if time.monotonic() >= deadline:
            raise Refused(
                f"partition {silent[0]} of {topic} has no leader that answers",
                "see `lograft cluster health`, and try again",
            )
        await asyncio.sleep(_LOOK_EVERY_S)


def _is_here(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
