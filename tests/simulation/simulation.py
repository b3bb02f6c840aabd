"""One simulated run, from a seed to a report.

A run forms a cluster, lets producers and readers work while faults come, then heals everything and demands progress:
new records acknowledged in every partition, and every replica equal, byte for byte.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from lograft.partitions.environment import ReplicaConfig
from lograft.partitions.replica import Replica
from lograft.partitions.storage.compaction import CompactionSettings
from lograft.partitions.storage.retention import RetentionLimits

from tests.simulation.clients import Producer, Reader, Trimmer
from tests.simulation.cluster import Cluster, Options
from tests.simulation.disk import Crashed
from tests.simulation.faults import COMMON, DECAYING, MOVING, RARE, RARER, WHERE_FOLLOWERS_BEGIN_ANEW, Nemesis
from tests.simulation.invariants import Violation
from tests.simulation.network import FAIR, Weather
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop

LENGTH_MS = 30_000.0
"""What a seed with calm stretches lasts at least."""
CALM_TRAFFIC = 0.04
"""So much of their usual load clients make in a calm stretch."""
FAULTS_MIN = 3
SETTLE_MS = 30_000
"""How long a healed cluster may take until it is whole again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is made of, beside its seed. Whatever is None is drawn from the seed."""

    acts: int | None = 1
    """Storms of faults and load; after each a calm stretch, so that all of it lasts `LENGTH_MS`. None: drawn."""
    faults: Sequence[str] = (*COMMON, *COMMON, *RARE)
    fault_count: int | None = None
    span_ms: float | None = None
    brokers: int | None = None
    segment_bytes_max: int | None = None
    pace_ms: float | None = None
    trim_pace_ms: float | None = None
    """Mean time between two moves of a log's start; 0: it stays."""
    moving: bool | None = None
    """Are replicas moved and disks lost? Then there are more brokers than replicas."""
    compaction_pace_ms: float | None = None
    """Mean time between two compactions of a replica's log; 0: it is never compacted."""
    scrub_pace_ms: float = 0.0
    """Mean time between two scrubs of a replica's log; 0: it is scrubbed only at the end."""
    durability: str | None = "fsync"
    """Of the topic; `memory` is `fsync` again at times. None: drawn."""
    events_shown: int = 60
    """Of the trace, if the run fails."""


LONG = Plan(acts=None, durability=None, faults=(*COMMON, *COMMON, *RARE, *RARER))
"""What counts as a seed: at length, with all there is that can fail."""


class Act(NamedTuple):
    """A storm and the calm after it."""

    faults: Sequence[str]
    fault_count: int
    storm_ms: float
    calm_ms: float
    calm_faults: int


@dataclass(slots=True)
class Report:
    """What a run saw."""

    seed: int
    digest: int = 0
    failure: BaseException | None = None
    events: str = ""
    """The last of the trace, if the run failed."""
    simulated_ms: float = 0.0
    steps: int = 0
    records_acknowledged: int = 0
    records_read: int = 0
    losses: int = 0
    """Of what a majority had in memory alone, and lost with its power."""
    in_memory: bool = False
    trims: int = 0
    resets: int = 0
    compactions: int = 0
    runs: int = 0
    """Of several batches that were appended at once."""
    voter_changes: int = 0
    allowances: int = 0
    leaders_elected: int = 0
    starts: int = 0
    messages: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """What was broken. In brackets: what became of some of that."""
    idle_faults: Counter[str] = field(default_factory=Counter)
    """What was ordered, and found nothing to break."""
    log_notes: Counter[str] = field(default_factory=Counter)
    """What brokers said to operators."""
    drawn: str = ""

    @property
    def fault_count(self) -> int:
        return sum(count for fault, count in self.faults.items() if not fault.startswith("("))

    @property
    def why_worthless(self) -> str:
        """Why a seed that found nothing does not count as one that looked; empty if it does."""
        if self.simulated_ms < LENGTH_MS:
            return f"{self.simulated_ms:.0f} ms simulated"
        if self.fault_count < FAULTS_MIN:
            return f"{self.fault_count} faults"
        return "" if self.records_acknowledged else "no record acknowledged"

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.simulated_ms:.0f} ms, {self.records_acknowledged} records acknowledged, "
            f"{self.records_read} read, {self.trims} trims, {self.resets} resets, {self.compactions} compactions, "
            f"{self.voter_changes} voter changes, {self.allowances} allowances, "
            f"{self.leaders_elected} leaders, {self.starts} starts, {self.messages} messages"
        )


class Simulation:
    """One run. `run` never raises for what the run finds: the report carries it."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or Plan()
        self.loop = VirtualLoop()
        self.trace = Trace(self.loop.now_ms, kept=self.plan.events_shown)
        random = Random(f"{seed} options")
        # Of its own, so that what else is drawn for a seed stays as it was.
        drawn_moving = Random(f"{seed} moving").random() < 0.4
        self._is_moving = drawn_moving if self.plan.moving is None else self.plan.moving
        self.options = replace(self._draw_options(random), retention=self._draw_retention())
        rates = (None, 3_000, 30_000, 300_000)
        self.options = replace(self.options, copy_bytes_per_second=Random(f"{seed} throttle").choice(rates))
        self._span_ms = self.plan.span_ms or random.choice((4_000.0, 6_000.0, 10_000.0))
        self._fault_count = self.plan.fault_count or random.choice((3, 6, 10, 16))
        self._pace_ms = self.plan.pace_ms or random.choice((40.0, 80.0, 160.0))
        self._value_bytes = random.choice((20, 200, 1500))
        trim_paces = (0.0, 0.0, 300.0, 1_000.0)
        drawn = Random(f"{seed} trims").choice(trim_paces)
        self._trim_pace_ms = drawn if self.plan.trim_pace_ms is None else self.plan.trim_pace_ms
        self._acts = self._draw_acts()
        self._draw_durability()
        self.cluster = Cluster(str(seed), self.options, loop=self.loop, trace=self.trace)
        self.nemesis = Nemesis(self.cluster, str(seed))
        self._producers: list[Producer] = []
        self._readers: list[Reader] = []
        self._trimmers: list[Trimmer] = []

    def run(self) -> Report:
        report = Report(self.seed, drawn=str(self.options))
        # A run leaves less than it takes to look for it, again and again: what is over is collected afterwards.
        collects = gc.isenabled()
        gc.disable()
        try:
            self.loop.run_until_complete(self._live())
        except (Exception, Crashed) as failure:
            report.failure = failure
            report.events = self.trace.last(self.plan.events_shown)
        finally:
            self._report(report)
            self._end_loop()
            if collects:
                gc.enable()
        return report

    async def _live(self) -> None:
        cluster = self.cluster
        self.trace.note("options", str(self.options))
        await cluster.form()
        for partition in cluster.partitions:
            for name in ("a", "b"):
                self._producers.append(
                    Producer(
                        cluster,
                        f"{name}{partition.number}",
                        partition,
                        pace_ms=self._pace_ms,
                        value_bytes=self._value_bytes,
                    )
                )
            self._readers.append(Reader(cluster, partition, pace_ms=100.0))
            if self._trim_pace_ms:
                self._trimmers.append(Trimmer(cluster, partition, pace_ms=self._trim_pace_ms))
        for client in (*self._producers, *self._readers, *self._trimmers):
            client.start()
        if self.options.in_memory:
            self._alter_durability()
        for act in self._acts:
            await self._play(act)
        await self._settle()

    async def _play(self, act: Act) -> None:
        says_how = bool({*MOVING} & {*self.plan.faults})
        self.cluster.traffic = 1.0
        self.nemesis.start(act.faults, act.fault_count, act.storm_ms)
        if self._is_moving and not says_how:
            self.nemesis.start_absences(act.storm_ms)
        if self._trimmers or self.options.compaction_pace_ms:
            self.nemesis.start(WHERE_FOLLOWERS_BEGIN_ANEW, 4 if len(self._acts) == 1 else 2, act.storm_ms)
        for _ in range(2):
            await asyncio.sleep(act.storm_ms / 2000.0)
            self._check_log_matching()
        if act.calm_ms:
            self.trace.note("calm")
            self.cluster.traffic = CALM_TRAFFIC
            self.nemesis.start(act.faults, act.calm_faults, act.calm_ms)
            await asyncio.sleep(act.calm_ms / 1000.0)
            self._check_log_matching()

    def _draw_acts(self) -> list[Act]:
        says_how = bool({*MOVING} & {*self.plan.faults})
        faults = (*self.plan.faults, *MOVING * 3) if self._is_moving and not says_how else tuple(self.plan.faults)
        if self.plan.acts == 1:
            return [Act(faults, self._fault_count, self._span_ms, 0.0, 0)]
        # Of its own, so that what else is drawn for a seed stays as it was.
        random = Random(f"{self.seed} acts")
        if self._is_moving:
            faults += ("lose_word", "lose_word")
        if random.random() < 0.3:
            faults += DECAYING * 5
            self.options = replace(self.options, scrub_pace_ms=random.choice((0.0, 800.0, 4_000.0)))
        count = self.plan.acts or random.choice((2, 3, 4))
        storms_ms = [random.uniform(3_000, 7_000) / count for _ in range(count)]
        calm_ms = (LENGTH_MS - sum(storms_ms)) / count
        acts = []
        for storm_ms in storms_ms:
            # Some storms are of few kinds: what takes several of one to find is not found among all of them.
            kinds = faults if random.random() < 0.6 else random.sample(faults, 3)
            acts.append(Act(kinds, random.choice((2, 4, 7)), storm_ms, calm_ms, random.choice((0, 1, 2))))
        return acts

    def _draw_durability(self) -> None:
        # Of its own, so that what else is drawn for a seed stays as it was.
        random = Random(f"{self.seed} memory")
        decays = any({*DECAYING} & {*act.faults} for act in self._acts)
        # Beside a disk that decays nobody may need what another lost with its memory.
        drawn = random.random() < 0.25 and not decays
        if drawn if self.plan.durability is None else self.plan.durability == "memory":
            config = replace(
                self.options.config,
                memory_flush_ms=random.choice((5, 100, 1_000)),
                memory_flush_bytes=random.choice((500, 1 << 20)),
                memory_unsynced_bytes_max=random.choice((2_000, 1 << 20)),
            )
            self.options = replace(self.options, config=config, in_memory=True)
            self._alters_durability_ms = random.choice((None, None, 2_000.0))

    def _alter_durability(self) -> None:
        """Now and then the topic has fsync for a while."""
        cluster = self.cluster
        if self._alters_durability_ms is None:
            return
        delay_ms = cluster.hears_of_durability.expovariate(1 / self._alters_durability_ms)

        def alter() -> None:
            cluster.durability = "fsync" if cluster.durability == "memory" else "memory"
            cluster.trace.note("durability", cluster.durability)
            self._alter_durability()

        self.loop.call_later(delay_ms / 1000.0, alter)

    async def _settle(self) -> None:
        """Nothing fails any more: progress is demanded."""
        cluster = self.cluster
        self.trace.note("heal")
        self.nemesis.heal()
        cluster.is_healed = True
        cluster.network.weather = FAIR
        for machine in cluster.machines.values():
            cluster.ensure_up(machine)
        for client in (*self._producers, *self._trimmers):
            client.stop()
        deadline = self.loop.now_ms() + SETTLE_MS
        while any(producer.open_batches for producer in self._producers):
            await self._pass(deadline, "open batches were never answered")
        acknowledged = {producer.name: producer.acknowledged for producer in self._producers}
        for producer in self._producers:
            producer.produce(1)
        while any(producer.acknowledged == acknowledged[producer.name] for producer in self._producers):
            await self._pass(deadline, "nothing new was acknowledged")
        while not self._is_even():
            await self._pass(deadline, "not every replica caught up")
        await self._scrub_all(deadline)
        self._check_log_matching()
        for partition in cluster.partitions:
            cluster.invariants.check_equal(cluster.live_replicas(partition))

    def _is_even(self) -> bool:
        """Is there a replica where one is placed and nowhere else, and does each stand where its leader stands, all of
        it committed, with just those as its voters?"""
        for partition in self.cluster.partitions:
            placed = {*self.cluster.placed_voters(partition)}
            live = self.cluster.live_replicas(partition)
            if {replica.voter for replica in live} != placed or len(live) != len(placed):
                return False
            if any({*replica.voters} != placed for replica in self.cluster.live_replicas(partition)):
                return False
            end = self.cluster.invariants.committed[partition].end
            replicas = self.cluster.live_replicas(partition)
            if not all(replica.committed == end == replica.log.end for replica in replicas):
                return False
        return True

    async def _scrub_all(self, deadline: float) -> None:
        """Whatever has decayed is found, and repaired."""
        cluster = self.cluster
        is_clean = False
        while not is_clean:
            await self._pass(deadline, "not every replica is whole again")
            is_clean = True
            for partition in cluster.partitions:
                for replica in cluster.live_replicas(partition):
                    process = cluster.machines[replica.voter.broker_id].process
                    assert process is not None
                    await process.environment.start(replica.scrub(_no_pace))
                    is_clean = is_clean and not replica.status().damaged
            is_clean = is_clean and self._is_even()
        cluster.invariants.unreadable.clear()

    async def _pass(self, deadline: float, otherwise: str) -> None:
        if self.loop.now_ms() > deadline:
            states = "; ".join(
                self._state_of(replica)
                for partition in self.cluster.partitions
                for replica in self.cluster.live_replicas(partition)
            )
            placed = "; ".join(
                f"{partition.number} on {', '.join(map(str, self.cluster.decisions.placement(partition)))}, "
                f"led with {', '.join(map(str, leader.voters)) if leader else 'nobody'}"
                for partition in self.cluster.partitions
                for leader in [self.cluster.leader_of(partition)]
            )
            raise Violation("progress", f"{otherwise} within {SETTLE_MS} ms of healing: {states}; {placed}")
        await asyncio.sleep(0.1)

    @staticmethod
    def _state_of(replica: Replica) -> str:
        status = replica.status()
        spoiled = " doubtful" * status.doubtful + " damaged" * status.damaged
        stands = f"end {status.end} persisted {status.persisted} committed {status.committed}"
        spoiled += f" knows {len(status.voters)} voters" * (replica.voter not in status.voters)
        return f"{replica.partition.number} {replica.voter} {status.role.value} t{status.term} {stands}{spoiled}"

    def _check_log_matching(self) -> None:
        for partition in self.cluster.partitions:
            self.cluster.invariants.check_log_matching(self.cluster.live_replicas(partition))

    def _draw_options(self, random: Random) -> Options:
        brokers = self.plan.brokers or random.choice((3, 3, 3, 5))
        config = ReplicaConfig(
            segment_bytes_max=self.plan.segment_bytes_max or random.choice((1_000, 4_000, 30_000, 1 << 20)),
            index_interval_bytes=random.choice((100, 4096)),
            append_bytes_max=random.choice((300, 3_000, 1 << 20)),
            in_flight_bytes_max=random.choice((2_000, 1 << 20)),
            mark_interval_ms=random.choice((5, 100)),
        )
        replicas = 0
        if self._is_moving:
            replicas = min(brokers, 3)
            brokers = self.plan.brokers or {3: 4, 5: 5}[brokers]
        return Options(
            brokers=brokers,
            replicas=replicas,
            partitions=random.choice((1, 1, 2)),
            config=config,
            weather=Weather(
                late_chance=random.choice((0.0, 0.01, 0.05)),
                drop_chance=random.choice((0.0, 0.0, 0.01)),
                double_chance=random.choice((0.0, 0.02)),
                in_order=random.random() < 0.6,
            ),
            clock_rates=tuple(random.uniform(0.98, 1.02) for _ in range(brokers)),
            write_back_chance=random.choice((0.0, 0.05, 0.3)),
            flush_threads=random.choice((1, 4)),
            scrub_pace_ms=self.plan.scrub_pace_ms,
            # Of its own chance, so that what else is drawn for a seed stays as it was.
            news_delay_ms=Random(f"{self.seed} news").choice((0.0, 10.0, 50.0)),
            gather_ms=Random(f"{self.seed} gathering").choice((0.0, 0.0, 10.0, 60.0)),
            **self._draw_compaction(config),
        )

    def _draw_retention(self) -> RetentionLimits | None:
        # Of its own, so that what else is drawn for a seed stays as it was.
        random = Random(f"{self.seed} retention")
        if self.plan.trim_pace_ms is not None or random.random() < 0.7:
            return None
        return RetentionLimits(
            ms_max=random.choice((None, 1_000, 3_000)),
            bytes_max=random.choice((None, 3_000, 20_000)),
            follower_bytes_max=random.choice((0, 5_000, 1 << 30)),
        )

    def _draw_compaction(self, config: ReplicaConfig) -> dict[str, Any]:
        # Of its own chance, so that what else is drawn for a seed stays as it was.
        random = Random(f"{self.seed} compaction")
        drawn = random.choice((0.0, 0.0, 200.0, 600.0))
        return {
            "compaction_pace_ms": drawn if self.plan.compaction_pace_ms is None else self.plan.compaction_pace_ms,
            "compaction": CompactionSettings(
                tombstones_ms=random.choice((0, 0, 1_000)),
                segment_bytes_max=config.segment_bytes_max,
                dirty_bytes_max=0,
                table_bytes_max=random.choice((600, 1 << 20)),
                index_interval_bytes=config.index_interval_bytes,
            ),
        }

    def _report(self, report: Report) -> None:
        report.digest = self.trace.digest
        report.simulated_ms = self.loop.now_ms()
        report.steps = self.loop.steps
        report.faults = self.nemesis.done
        report.idle_faults = self.nemesis.idle
        report.log_notes = self.trace.said
        report.messages = self.cluster.network.delivered
        report.starts = sum(machine.starts for machine in self.cluster.machines.values())
        report.records_read = sum(reader.records_read for reader in self._readers)
        if self._producers:
            invariants = self.cluster.invariants
            report.records_acknowledged = invariants.acknowledged_records
            report.resets = invariants.resets
            report.compactions = self.cluster.compactions
            report.runs = self.cluster.runs
            report.allowances = self.cluster.allowances
            report.voter_changes = self.cluster.invariants.voter_changes
            report.losses = sum(log.losses for log in invariants.committed.values())
            report.in_memory = self.options.in_memory
            report.trims = sum(len(log.moves) - 1 for log in invariants.committed.values())
            report.leaders_elected = len(self.cluster.invariants.leaders)

    def _end_loop(self) -> None:
        self.loop.after_step = None
        self.cluster.failure = None
        for machine in self.cluster.machines.values():
            if machine.process is not None:
                machine.process.environment.crash()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(self._see_off(tasks))
        self.loop.close()

    @staticmethod
    async def _see_off(tasks: set[asyncio.Task[object]]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)


async def _no_pace(size: int) -> None:
    """As fast as it goes."""


def simulate(seed: int, plan: Plan | None = None) -> Report:
    return Simulation(seed, plan).run()
