"""One run of a world: a cluster forms, clients work, faults happen, all heals, and then all must be as it should.

Invariants
    all that a run does follows from its seed and its plan
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

from lograft import Client, TopicPartition
from lograft.client.offset_bounds import END
from lograft.node.replicas import CLUSTER_PARTITION
from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.raft.points import ItemKind

from tests.simulation.invariants import Violation, _base_of, all_items
from tests.simulation.simulation import FAULTS_MIN, LENGTH_MS
from tests.simulation.trace import Trace
from tests.simulation.wires import Weather
from tests.simulation.world.clients import ClientProcess, Grouped, Producing, Reading, Watching, name_of, value_of
from tests.simulation.world.history import Event, History
from tests.simulation.world.loop import WorldLoop
from tests.simulation.world.nemesis import ALL, Nemesis
from tests.simulation.world.operating import Operating
from tests.simulation.world.verdict import judge
from tests.simulation.world.world import LogsToWorld, Options, World

SETTLE_S = 120.0
"""How long a healed cluster may take until all is well again; what is away for long is dialled seldom."""
TOPIC, TRIMMED = "t", "u"
GROUP = "g"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is made of, beside its seed. Whatever is None is drawn from the seed."""

    faults: Sequence[str] = ALL
    fault_count: int | None = None
    span_ms: float | None = None
    brokers: int | None = None
    operates: bool | None = None
    """Does somebody move replicas, drain brokers, grow topics, trim?"""
    events_shown: int = 60


@dataclass(slots=True)
class Report:
    """What a run saw."""

    seed: int
    digest: int = 0
    failure: BaseException | None = None
    events: str = ""
    simulated_ms: float = 0.0
    steps: int = 0
    history: list[Event] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    """What the checker of histories held its rules against."""
    drawn: str = ""

    @property
    def why_worthless(self) -> str:
        """Why a seed that found nothing does not count as one that looked; empty if it does."""
        if self.simulated_ms < LENGTH_MS:
            return f"{self.simulated_ms:.0f} ms simulated"
        faults = sum(count for fault, count in self.faults.items() if not fault.startswith("("))
        if faults < FAULTS_MIN:
            return f"{faults} faults"
        return "" if self.counts["records acknowledged"] else "no record acknowledged"

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return f"seed {self.seed}: {self.simulated_ms:.0f} ms, {counted}"


class WorldSimulation:
    """`run` never raises for what it finds: the report carries it."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or Plan()
        self.loop = WorldLoop()
        self.trace = Trace(self.loop.now_ms, kept=self.plan.events_shown)
        random = Random(f"{seed} options")
        self.options = self._draw_options(random)
        self.world = World(str(seed), self.options, loop=self.loop, trace=self.trace)
        self.history = self.world.history = History(self.loop.time, self.trace.note)
        self._partitions = random.choice((1, 2, 3))
        self._span_ms = self.plan.span_ms or random.choice((30_000.0, 45_000.0))
        self._fault_count = random.choice((3, 6, 12, 20)) if self.plan.fault_count is None else self.plan.fault_count
        self.world.topics = {TOPIC: self._partitions, TRIMMED: 1}
        pace_ms = random.choice((100.0, 300.0, 1000.0))
        value_bytes = random.choice((0, 100, 1000))
        self.producers = [
            Producing(self.world, name, topic, count, pace_ms=pace_ms, value_bytes=value_bytes)
            for name, topic, count in (
                ("p1", TOPIC, self._partitions),
                ("p2", TOPIC, self._partitions),
                ("p3", TRIMMED, 1),
            )
        ]
        readable = [TopicPartition(TOPIC, number) for number in range(self._partitions)]
        self.readers = [Reading(self.world, "r1", readable), Reading(self.world, "r2", [TopicPartition(TRIMMED, 0)])]
        static = random.random() < 0.3
        self.members = [
            Grouped(self.world, f"m{number}", GROUP, [TOPIC], static=static)
            for number in range(1, random.choice((3, 4)))
        ]
        self.others: list[ClientProcess] = [Watching(self.world, "w1", [TOPIC, TRIMMED], GROUP)]
        if random.random() < 0.6 if self.plan.operates is None else self.plan.operates:
            self.others.append(Operating(self.world, "o1", TOPIC, TRIMMED))
        self.clients: list[ClientProcess] = [*self.producers, *self.readers, *self.members, *self.others]
        self.nemesis = Nemesis(self.world, self.clients, str(seed), loses_disks=random.random() < 0.5)
        self._errands = 0

    def _draw_options(self, random: Random) -> Options:
        brokers = self.plan.brokers or random.choice((3, 3, 3, 4, 5))
        return Options(
            brokers=brokers,
            voters=random.choice((3, brokers)),
            replica=ReplicaConfig(
                segment_bytes_max=random.choice((4_000, 30_000, 1 << 20)),
                index_interval_bytes=random.choice((100, 4096)),
                append_bytes_max=random.choice((1000, 10_000, 1 << 20)),
                in_flight_bytes_max=random.choice((10_000, 1 << 24)),
            ),
            weather=Weather(
                late_chance=random.choice((0.0, 0.01, 0.03)), reset_chance=random.choice((0.0, 0.0, 0.0001))
            ),
            offsets_partitions=random.choice((1, 2)),
            write_back_chance=random.choice((0.0, 0.05, 0.3)),
        )

    def run(self) -> Report:
        report = Report(self.seed, drawn=str(self.options))
        with LogsToWorld():
            try:
                self.loop.run_until_complete(self._live())
                self._judge(report)
            except Exception as failure:
                report.failure = failure
                report.events = self.trace.last(self.plan.events_shown)
            finally:
                self._report(report)
                self._discard()
        return report

    def _judge(self, report: Report) -> None:
        found = judge(self.history.events, brokers=self.options.brokers, trimmed=[TRIMMED])
        report.judged = found.judged
        if found.complaints:
            raise Violation("history", " / ".join(found.complaints))

    async def _live(self) -> None:
        world = self.world
        self.trace.note("options", str(self.options))
        for machine in world.machines.values():
            machine.start()
        await self._until(self._all_ready, 60.0, "the cluster did not form")
        await self._errand(self._make_topics)
        for client in self.clients:
            client.start()
        await asyncio.sleep(2.0)
        self.nemesis.start(self.plan.faults, self._fault_count, self._span_ms)
        await asyncio.sleep(self._span_ms / 1000.0)
        await self._settle()

    async def _settle(self) -> None:
        """Nothing fails any more: progress is demanded."""
        world = self.world
        self.trace.note("heal")
        self.history.note("nemesis", "fault", what="nemesis", on="all", begins=False)
        self.nemesis.heal()
        deadline = self.loop.time() + SETTLE_S
        for machine in world.machines.values():
            if not machine.stays_down:
                machine.start()
        for client in self.clients:
            client.start()
        for client in (*self.producers, *self.readers, *self.others):
            client.stop()
        for member in self.members:
            member.stores_always = True
        await self._until(self._all_ready, deadline - self.loop.time(), "not every broker is ready")
        rest = [*self.producers, *self.readers, *self.others]
        await self._until(
            lambda: not any(client.is_busy for client in rest),
            deadline - self.loop.time(),
            lambda: f"clients do not come to an end: {[client.process for client in rest if client.is_busy]}",
        )
        await self._errand(self._restore)
        await self._errand(self._send_once_more)
        await self._until(self._is_even, deadline - self.loop.time(), self._states)
        await self._errand(self._await_group)
        for member in self.members:
            member.stop()
        await self._until(
            lambda: not any(member.is_busy for member in self.members),
            deadline - self.loop.time(),
            "members do not come to an end",
        )
        await self._until(self._is_even, deadline - self.loop.time(), self._states)
        await self._errand(self._read_all)
        self._note_replicas()

    # -- errands -----------------------------------------------------------------------------------------------------

    async def _errand(
        self, what: Callable[[Client, str], Coroutine[Any, Any, None]], within_s: float = SETTLE_S
    ) -> None:
        """Have a fresh client process do something, and wait for it."""
        self._errands += 1
        errand = _Errand(self.world, f"errand{self._errands}", what)
        errand.start()
        await self._until(lambda: errand.is_done, within_s, f"{what.__name__} did not come to its end")
        errand.crash()

    async def _make_topics(self, client: Client, process: str) -> None:
        for topic, partitions in self.world.topics.items():
            op = self.history.invoke(process, "create_topic", topic=topic)
            made = await client.admin.create_topic(topic, partitions=partitions)
            self.history.ok(op, topic_id=made.topic_id)

    async def _restore(self, client: Client, process: str) -> None:
        """Whatever was drained takes part again."""
        for broker_id in self.world.machines:
            await client.admin.undrain_broker(broker_id)

    async def _send_once_more(self, client: Client, process: str) -> None:
        async with client.producer() as producer:
            for topic, partitions in self.world.topics.items():
                for number in range(partitions):
                    value = f"{process}-{topic}-{number}"
                    op = self.history.invoke(
                        process, "send", topic=topic, partition=number, producer=process, values=[value]
                    )
                    got = await producer.send_and_wait(topic, value.encode(), partition=number)
                    self.history.ok(op, partition=number, offsets=[got.offset], term=got.term)

    async def _await_group(self, client: Client, process: str) -> None:
        async with client.consumer(group_id=GROUP) as consumer:
            ends = await client.groups.resolve(TOPIC, END)
            for partition, end in ends.items():
                while True:
                    op = self.history.invoke(process, "fetch_stored", group=GROUP)
                    stored = await consumer.committed(partition)
                    self.history.ok(op, offsets={name_of(partition): stored})
                    if stored == end:
                        break
                    await asyncio.sleep(0.5)

    async def _read_all(self, client: Client, process: str) -> None:
        for topic, partitions in self.world.topics.items():
            for number in range(partitions):
                name = f"{topic}/{number}"
                op = self.history.invoke(process, "read_all", partition=name)
                values = [
                    [record.offset, value_of(record)]
                    async for record in client.read(topic, "start", "end", partitions=[number])
                ]
                end = (await client.groups.resolve(topic, END))[TopicPartition(topic, number)]
                start = values[0][0] if values else end
                self.history.ok(op, partition=name, start=start, end=end, values=values)
                self.world.counts["records read in the end"] += len(values)
        op = self.history.invoke(process, "list_topics")
        topics = await client.admin.list_topics()
        self.history.ok(op, topics={topic.name: topic.topic_id for topic in topics})

    # -- what is demanded ----------------------------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool], within_s: float, otherwise: str | Callable[[], str]) -> None:
        deadline = self.loop.time() + within_s
        while not holds():
            if self.loop.time() > deadline:
                why = otherwise if isinstance(otherwise, str) else otherwise()
                raise Violation("progress", f"{why} within {within_s:.0f} s")
            await asyncio.sleep(0.1)

    def _all_ready(self) -> bool:
        return all(machine.is_ready for machine in self.world.machines.values())

    def _is_even(self) -> bool:
        """Has each partition just the voters where it is placed, each standing where its leader stands?"""
        for partition in self.world.known_partitions():
            leader = self.world.leader_of(partition)
            replicas = self.world.replicas(partition)
            if leader is None:
                return False
            holders = {replica.voter for replica in replicas}
            voters = {*leader.voters}
            if partition == CLUSTER_PARTITION:  # of the decisions everybody holds a replica
                if len(holders) != len(self.world.machines) or not holders >= voters:
                    return False
            elif holders != voters:
                return False
            if not all(replica.committed == leader.log.end == replica.log.end for replica in replicas):
                return False
        return True

    def _states(self) -> str:
        return "replicas differ: " + "; ".join(
            f"{partition} {replica.voter} {replica.status().role.value} t{replica.term} end {replica.log.end} "
            f"committed {replica.committed} voters {[str(voter) for voter in replica.voters]}"
            f"{' doubtful' * replica.status().doubtful}{' damaged' * replica.status().damaged}"
            for partition in self.world.known_partitions()
            for replica in self.world.replicas(partition)
        )

    def _note_replicas(self) -> None:
        ids = self.world.topic_ids()
        for topic, partitions in self.world.topics.items():
            for partition in self.world.known_partitions():
                if partition.topic_id != ids[topic] or partition.number >= partitions:
                    continue
                for replica in self.world.replicas(partition):
                    name = f"{topic}/{partition.number}"
                    broker = replica.voter.broker_id
                    op = self.history.invoke("harness", "replica", partition=name, broker=broker)
                    self.history.ok(
                        op,
                        partition=name,
                        broker=broker,
                        start=replica.log_start,
                        committed=replica.committed.offset,
                        sums=[
                            [_base_of(item), crc32(item.data)]
                            for item in all_items(replica)
                            if item.kind is ItemKind.RECORDS and _base_of(item) >= replica.log_start
                        ],
                    )

    # -- the end -----------------------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        world = self.world
        report.digest = self.trace.digest
        report.simulated_ms = self.loop.now_ms()
        report.steps = self.loop.steps
        report.history = self.history.events
        report.faults = self.nemesis.done
        report.counts = Counter(
            {
                "records acknowledged": sum(producer.acknowledged for producer in self.producers),
                "records read by hand": sum(reader.records for reader in self.readers),
                "records read in groups": sum(member.records for member in self.members),
                "rebalances": sum(member.rebalances for member in self.members),
                "leaders elected": world.counts["leading"],
                "moves of a log start": world.counts["log_start_moves"],
                "replicas in doubt": world.counts["replica_doubtful"],
                "replicas deleted": world.counts["replica_deleted"],
                "sessions of brokers": world.counts["peer.session_up"],
                "process starts": sum(machine.starts for machine in world.machines.values()),
                "client starts": sum(client.incarnation for client in self.clients),
                "parcels delivered": world.wires.delivered,
                "events in histories": len(self.history.events),
                "operations done": sum(getattr(client, "done", 0) for client in self.clients),
            }
        )

    def _discard(self) -> None:
        """All that was held back dies now; nobody is told, and nothing of it reaches anything."""
        self.loop.after_step = None
        for machine in self.world.machines.values():
            if machine.process is not None:
                machine.process.owner.is_alive = False
        hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        asyncio.set_event_loop(None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of coroutines that nobody awaits any more
                self.loop.discard()
                self.world.failure = None
                gc.collect()
        finally:
            sys.unraisablehook = hook


class _Errand(ClientProcess):
    def __init__(self, world: World, name: str, what: Callable[[Client, str], Coroutine[Any, Any, None]]) -> None:
        super().__init__(world, name)
        self.what = what
        self.is_done = False

    async def work(self, client: Client) -> None:
        await self.what(client, self.process)
        self.is_done = True
        self.is_stopping = True


def simulate(seed: int, plan: Plan | None = None) -> Report:
    return WorldSimulation(seed, plan).run()
