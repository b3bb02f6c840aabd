"""Brokers that run the real replicas, logs, promises and heartbeats, on simulated disks and a simulated network.

Invariants
    a broker's machine (disk, clock) outlives its processes; a process knows nothing but what is on its disk
    two brokers talk only within a session, which ends with either process, and nothing said in it outlives it
    every message that leaves a broker passes the invariants first
    replicas are created, deleted and made voters by what a broker knows of the decisions, which may be old
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from lograft.node.controller.facts import TopicFact
from lograft.node.departures import Departures, lets_go
from lograft.node.heartbeats import FRAME_TYPES, Heartbeats
from lograft.node.lineages import Lineages
from lograft.node.peer.raft_codec import decode_raft, encode_raft
from lograft.node.replicas import remove_tree
from lograft.node.retention import is_clock_trusted
from lograft.node.throttle import Throttle
from lograft.node.voter_steps import ChangeVoters, HandOver, next_step
from lograft.partitions.compactor import compact
from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.flusher import Flusher
from lograft.partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    HeadOffer,
    Message,
    RepairReply,
    RepairRequest,
    Voter,
    VoteReply,
)
from lograft.partitions.raft.points import Point
from lograft.partitions.replica import Replica
from lograft.partitions.storage.compaction import CompactionSettings
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.retention import RetentionLimits
from lograft.partitions.storage.rewriting import Job, Outcome, Take, rewrite
from lograft.proto.errors import BrokerUnavailable, LograftError, NoLeader
from lograft.proto.peer_frames import FrameType
from lograft.proto.record_batch import read_header

from tests.simulation.decisions import Decisions
from tests.simulation.disk import ROOT, SimulatedDisk
from tests.simulation.environment import Clock, SimulatedEnvironment
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.network import Letter, Network, Weather
from tests.simulation.platter import Platter
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop

HEARTBEAT_MS = 100.0
SILENCE_MS = 500.0
RECONNECT_MS = 100.0
RETENTION_MS = 200.0
RECONCILE_MS = 100.0
COPY_BYTES_PER_SECOND_SETTLING = 300_000
ASKED_MS = 700.0
"""How long a broker waits for another's answer."""

Answer = Callable[[Any], None]
"""Takes what a broker answered: a value, or a LograftError. It is not called if the answer is lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a seed draws before it begins."""

    brokers: int = 3
    replicas: int = 0
    """Of each partition when it begins; 0: one on every broker."""
    partitions: int = 1
    config: ReplicaConfig
    weather: Weather
    compaction: CompactionSettings
    clock_rates: tuple[float, ...]
    write_back_chance: float = 0.05
    flush_threads: int = 4
    retention: RetentionLimits | None = None
    """What every partition may keep."""
    compaction_pace_ms: float = 0.0
    """Mean time between two compactions of a replica's log; 0: it is never compacted."""
    copy_bytes_per_second: int | None = None
    """What each broker may send of a backlog to learners."""
    waits_for_decisions: bool = False
    """A process leads nothing before it has applied all that was decided when it started, as a real broker does."""
    scrub_pace_ms: float = 0.0
    """Mean time between two scrubs of a replica's log; 0: it is never scrubbed."""


class BrokerProcess:
    """One incarnation of a broker: what `node` does around the replicas, as far as they need it."""

    def __init__(self, cluster: Cluster, machine: Machine, environment: SimulatedEnvironment) -> None:
        self.broker_id = machine.broker_id
        self.environment = environment
        self.replicas: dict[PartitionId, Replica] = {}
        self.promises: Promises | None = None
        self.heartbeats = Heartbeats(self.broker_id, self.replicas, self._send, silence_ms=SILENCE_MS)
        self.sessions: set[int] = set()
        self.is_open = False
        self._cluster = cluster
        self._machine = machine
        self._ticked_ms = environment.monotonic_ms()
        self._departures = Departures(self._ask_whether_let_go)
        self._throttle = Throttle()
        self._known = 0
        """How many decisions are applied, but for the first."""
        self._decided_before = 0
        self._flusher: Flusher | None = None

    @property
    def is_alive(self) -> bool:
        return self.environment.is_alive

    async def open(self) -> None:
        """Recover what the disk holds. A broker that cannot does not start."""
        await self._or_halt(self.open_promises())
        self._cluster.registered_later(self._machine)
        self._decided_before = len(self._cluster.decisions.versions) - 1
        self._known = self.environment.random.randint(0, self._decided_before)
        await self._or_halt(self.open_replicas())

    async def create(self) -> None:
        """Make the first replicas, once the promises are open and everybody's place is decided."""
        await self._or_halt(self.open_replicas())

    async def _or_halt(self, opening: Coroutine[Any, Any, None]) -> None:
        try:
            await opening
        except OSError as error:
            self.environment.halt(f"cannot open: {error}")

    async def open_promises(self) -> None:
        self.promises = await Promises.open(
            self.environment, ROOT, mark_interval_ms=self._cluster.options.config.mark_interval_ms
        )
        known = self._machine.directory_id
        if known is not None and known != self.promises.directory_id:
            raise Violation("word-kept", f"{self.environment.name} was {known}, and calls itself another now")
        self._machine.directory_id = self.promises.directory_id

    async def open_replicas(self) -> None:
        assert self.promises is not None
        self.lineages = Lineages(self.environment, self.promises, ROOT)
        self._flusher = Flusher(self.environment, syncs_at_once=self._cluster.options.flush_threads)
        for partition in self.promises.listed():
            if await self.lineages.admit(partition, self._cluster.options.config) is not None:
                continue
            known = self.promises.recall(partition)
            assert known is not None, f"{partition} is listed, and not recalled"
            await self._open_replica(partition, known.replica_number, ())
        await self._create_placed()
        self.is_open = True
        self._ticked_ms = self.environment.monotonic_ms()
        self._tick()
        if self._cluster.options.retention is not None:
            self._enforce(self._cluster.options.retention)

        self.environment.spawn(self._reconcile())

    def _enforce(self, limits: RetentionLimits) -> None:
        """As `node.retention` does, but that other brokers' clocks are asked in no time."""
        walls = self._cluster.wall_clocks()
        now_ms = walls[self.broker_id]
        ahead_ms = {broker_id: wall_ms - now_ms for broker_id, wall_ms in walls.items()}
        for replica in self.replicas.values():
            trusted = is_clock_trusted(self.broker_id, [voter.broker_id for voter in replica.voters], ahead_ms)
            if not self._cluster.is_healed:
                replica.enforce_retention(limits, now_ms if trusted else None)
        self.environment.call_later(RETENTION_MS, lambda: self._enforce(limits))

    def _compact_later(self, replica: Replica) -> None:
        if self.replicas.get(replica.partition) is not replica:
            return  # deleted meanwhile
        pace_ms = self._cluster.options.compaction_pace_ms
        if pace_ms:
            delay_ms = self.environment.random.expovariate(1 / pace_ms)
            self.environment.call_later(delay_ms, lambda: self.environment.spawn(self._compact(replica)))

    async def _compact(self, replica: Replica) -> None:
        async def work(job: Job, take: Take) -> Outcome:
            self._cluster.invariants.note_compacting(replica.partition, job.end.offset)
            return await rewrite(job, self.environment.disk, self._pace, take)

        outcome = await compact(self.environment, replica, self._cluster.options.compaction, work)
        if outcome is not None:
            cleaned_to = max((segment.cleaned_to for segment in outcome.segments), default=0)
            self._cluster.invariants.note_compacted(replica, cleaned_to)
        if outcome is not None and outcome.records_dropped:
            self._cluster.compactions += 1
        self._compact_later(replica)

    def _scrub_later(self, replica: Replica) -> None:
        pace_ms = self._cluster.options.scrub_pace_ms
        if pace_ms and self.replicas.get(replica.partition) is replica:
            delay_ms = self.environment.random.expovariate(1 / pace_ms)
            self.environment.call_later(delay_ms, lambda: self.environment.spawn(self._scrub(replica)))

    async def _scrub(self, replica: Replica) -> None:
        await replica.scrub(self._pace)
        self._scrub_later(replica)

    async def _pace(self, size: int) -> None:
        """Elsewhere things go on meanwhile."""
        if self.environment.random.random() < 0.1:
            waited = asyncio.Event()
            self.environment.call_later(self.environment.random.uniform(0, 20), waited.set)
            await waited.wait()

    async def _open_replica(self, partition: PartitionId, replica_number: int, first_voters: tuple[Voter, ...]) -> None:
        assert self.promises is not None and self._flusher is not None, "not open yet"
        self._machine.numbers[partition] = replica_number
        replica = await Replica.open(
            environment=self.environment,
            promises=self.promises,
            flusher=self._flusher,
            directory=ROOT,
            partition=partition,
            voter=Voter(self.broker_id, self.promises.directory_id, replica_number),
            first_voters=first_voters,
            config=self._cluster.options.config,
            observer=self,
        )
        if self._cluster.options.waits_for_decisions:
            replica.set_willing(self._is_caught_up)
        self._cluster.invariants.note_opened(replica)
        self.replicas[partition] = replica
        self.heartbeats.opened(replica)
        self._compact_later(replica)
        self._scrub_later(replica)

    # -- decisions -----------------------------------------------------------------------------------------------------

    @property
    def topic(self) -> TopicFact:
        """As far as this process knows."""
        return self._cluster.decisions.versions[self._known]

    def placement(self, partition: PartitionId) -> tuple[Voter, ...]:
        return self.topic.partitions[partition.number].placement

    async def _reconcile(self) -> None:
        """Hear of some more decisions, and act on them as a broker does; again after a while."""
        newest = len(self._cluster.decisions.versions) - 1
        if self.environment.random.random() < 0.5:
            self._known = self.environment.random.randint(self._known, newest)
            self._silence_ended()
        await self._or_halt(self._follow_recoveries())
        await self._or_halt(self._create_placed())
        for replica in self.replicas.values():
            if self._cluster.options.waits_for_decisions:
                replica.set_willing(self._is_caught_up)
        for partition, replica in list(self.replicas.items()):
            replica.placed = self.placement(partition)
            self._take_step(partition, replica)
        for partition, replica in list(self.replicas.items()):
            if self._departs(partition, replica) and await self._departures.may_delete(partition, replica.voter):
                await self._or_halt(self._delete(partition, replica))
        delay_ms = RECONCILE_MS * self.environment.random.uniform(0.5, 1.5)
        self.environment.call_later(delay_ms, lambda: self.environment.spawn(self._reconcile()))

    @property
    def _is_caught_up(self) -> bool:
        return self._known >= self._decided_before

    def _silence_ended(self) -> None:
        """In the step in which the decision is heard."""
        for partition, replica in self.replicas.items():
            if self.topic.partitions[partition.number].ended(replica.voter):
                replica.fall_silent("a recovery ended it")

    async def _follow_recoveries(self) -> None:
        """As `node.replicas` does."""
        assert self.promises is not None
        for partition in self.promises.listed():
            recovery = self.topic.partitions[partition.number].recovery
            known = self.promises.recall(partition)
            if recovery is None or known is None:
                continue
            identity = Voter(self.broker_id, self.promises.directory_id, known.replica_number)
            why: str | None = None
            if recovery.ended(identity):
                replica = self.replicas.pop(partition, None)
                if replica is not None:
                    status = replica.status()
                    self.heartbeats.closed(partition)
                    await replica.stop()
                    self._cluster.forget(replica)
                    self.lineages.note_status(status)
                leader = self._cluster.leader_of(partition)
                is_led = leader is not None and leader.term >= recovery.term
                why = await self.lineages.follow(
                    partition, identity, recovery, may_begin=self._is_caught_up, is_led=is_led
                )
            elif not self.lineages.is_unfinished(partition):
                continue
            if why is None and self.promises.recall(partition) is not None:
                why = await self.lineages.admit(partition, self._cluster.options.config)
            listed = self.promises.recall(partition)
            if why is None and listed is not None:
                await self._open_replica(partition, listed.replica_number, ())

    async def _create_placed(self) -> None:
        assert self.promises is not None
        if self._known < self._decided_before:
            return
        for partition in self._cluster.partitions:
            for placed in self.placement(partition):
                is_here = placed[:2] == (self.broker_id, self.promises.directory_id)
                if is_here and partition not in self.replicas and self.promises.recall(partition) is None:
                    first_voters = self.topic.partitions[partition.number].first_voters
                    await self._open_replica(partition, placed.replica_number, first_voters)

    def _take_step(self, partition: PartitionId, replica: Replica) -> None:
        """Let the leader of a partition bring its voters nearer to where replicas should be."""
        if not replica.is_leader:
            return
        placed = self.placement(partition)
        learners = tuple(voter for voter in placed if voter not in replica.voters)
        if learners != replica.learners and self.environment.random.random() < 0.5:
            replica.set_learners(learners)
            self.heartbeats.role_changed(replica)
        step = next_step(replica.voter, replica.voters, placed, replica.keeps_up)
        if isinstance(step, HandOver):
            if self.environment.random.random() < 0.5:
                self.transfer(partition, step.broker_id)
                return
            # A broker would not, but a leader may remove itself: then the others commit it.
            step = ChangeVoters(tuple(voter for voter in replica.voters if voter != replica.voter))
        if step is not None:
            before = replica.voters
            try:
                replica.change_voters(step.voters)
            except LograftError as refusal:
                self._cluster.trace.note("refused", str(refusal))
            else:
                self._cluster.invariants.note_voters_changed(replica, before)

    def _departs(self, partition: PartitionId, replica: Replica) -> bool:
        was_placed = replica.voter.replica_number < self.topic.next_replica_number
        return was_placed and replica.voter not in self.placement(partition)

    async def _ask_whether_let_go(self, partition: PartitionId, identity: Voter) -> bool:
        leader = self._cluster.leader_of(partition)
        if leader is None:
            raise NoLeader(f"{partition} has no leader")
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def answer(outcome: object) -> None:
            if not answered.done():
                self.environment.enter(lambda: answered.done() or answered.set_result(outcome))

        self._cluster.call(
            leader.voter.broker_id, lambda process, answer: process.let_go(partition, identity, answer), answer
        )
        self.environment.call_later(ASKED_MS, lambda: answer(BrokerUnavailable("no answer in time")))
        outcome = await answered
        if isinstance(outcome, LograftError):
            raise outcome
        return outcome is True

    def let_go(self, partition: PartitionId, identity: Voter, answer: Answer) -> None:
        """Another broker asks whether a replica of it is needed here; the answer is a bool."""

        async def decide() -> None:
            try:
                outcome: object = await lets_go(self.replica(partition), identity, lambda: self.placement(partition))
            except LograftError as refusal:
                outcome = refusal
            self.environment.enter(lambda: answer(outcome))

        self.environment.spawn(decide())

    async def _delete(self, partition: PartitionId, replica: Replica) -> None:
        assert self.promises is not None
        self._cluster.trace.note("delete", f"{partition.number} {replica.voter}")
        del self.replicas[partition]
        self.heartbeats.closed(partition)
        await replica.stop()
        self._cluster.forget(replica)
        self._machine.numbers.pop(partition, None)
        await self.promises.sync(self.promises.note_deleted(partition))
        await remove_tree(self.environment, log_directory(partition))
        self._departures.deleted(partition)

    def _tick(self) -> None:
        now = self.environment.monotonic_ms()
        if now - self._ticked_ms > self._cluster.options.config.election_timeout_ms + HEARTBEAT_MS:
            for replica in self.replicas.values():
                replica.step_down("the loop slept longer than an election timeout")
        self._ticked_ms = now
        self.heartbeats.tick(now)
        self._allow_copying(now)
        self.environment.call_later(HEARTBEAT_MS, self._tick)

    def _allow_copying(self, now_ms: float) -> None:
        """As `node.moves` does."""
        bytes_per_second = self._cluster.copy_bytes_per_second()
        for replica in self.replicas.values():
            replica.set_throttled(bytes_per_second is not None)
        if bytes_per_second is None:
            return
        waiting = [(replica, each) for replica in self.replicas.values() for each in replica.waiting_for_allowance()]
        for (replica, learner), size_bytes in self._throttle.share(now_ms, bytes_per_second, waiting).items():
            self._cluster.allowances += 1
            replica.allow(learner, size_bytes)

    # -- ReplicaObserver -----------------------------------------------------------------------------------------------

    def role_changed(self, replica: Replica) -> None:
        if replica.is_leader:
            self._cluster.invariants.note_leader(replica.partition, replica.term, replica.voter)
        what = f"{replica.partition.number} {replica.voter} {replica.role.value} t{replica.term}"
        self._cluster.trace.note("role", what)
        self.heartbeats.role_changed(replica)

    def committed(self, replica: Replica) -> None:
        self._cluster.invariants.note_commit_moved(replica)
        self._cluster.note_committed(replica)

    # -- peers ---------------------------------------------------------------------------------------------------------

    def session_up(self, broker_id: int, directory_id: str) -> None:
        self.sessions.add(broker_id)
        self.environment.enter(
            lambda: self.heartbeats.session_up(broker_id, directory_id, self.environment.monotonic_ms())
        )

    def session_down(self, broker_id: int) -> None:
        self.sessions.discard(broker_id)
        self.environment.enter(lambda: self.heartbeats.session_down(broker_id))

    def deliver(self, partition: PartitionId, message: Message) -> None:
        """A replica sends this."""
        if self.topic.partitions[partition.number].ended(message.sender):
            raise Violation(
                "ended-silent", f"{message.sender} is over, as its broker knows: {told(partition, message)}"
            )
        self._cluster.invariants.note_message(partition, message)
        self._cluster.trace.note("send", told(partition, message))
        if message.to.broker_id in self.sessions:
            body = b"".join(encode_raft(partition, message))
            self._cluster.network.send(self, message.to.broker_id, Letter(FrameType.RAFT, body))
        self._cluster.sent(self, message)

    def arrive(self, sender_id: int, letter: Letter) -> None:
        self.environment.enter(lambda: self._take(sender_id, letter))

    def _take(self, sender_id: int, letter: Letter) -> None:
        if sender_id not in self.sessions:
            return
        if letter.frame_type in FRAME_TYPES:
            self.heartbeats.receive(sender_id, letter.frame_type, letter.body, self.environment.monotonic_ms())
            return
        partition, message = decode_raft(letter.body)
        self._cluster.trace.note("receive", told(partition, message))
        replica = self.replicas.get(partition)
        if replica is not None and not self._departures.is_silent(partition):
            self._cluster.invariants.note_received(partition, message)
            replica.receive(message)

    def _send(self, broker_id: int, frame_type: FrameType, body: bytes) -> None:
        self._cluster.network.send(self, broker_id, Letter(frame_type, body))

    # -- clients -------------------------------------------------------------------------------------------------------

    def replica(self, partition: PartitionId) -> Replica:
        """Raises NoLeader if there is none here."""
        replica = self.replicas.get(partition)
        if replica is None:
            raise NoLeader(f"{self.environment.name} has no replica of {partition}")
        return replica

    def produce(self, partition: PartitionId, batch: bytes, first_open: int, answer: Answer) -> None:
        """Append; the answer is an Appended."""

        def settled(future: asyncio.Future[Any]) -> None:
            failure = future.exception()
            outcome = failure if failure is not None else future.result()
            self.environment.enter(lambda: answer(outcome))

        replica = self.replica(partition)
        appending = replica.append(batch, read_header(batch), first_open)
        appending.committed.add_done_callback(settled)

    def fetch(self, partition: PartitionId, offset: int, bytes_max: int, answer: Answer) -> None:
        """Read; the answer is a Chunk."""
        chunk = self.replica(partition).read(offset, bytes_max)
        answer(chunk._replace(batches=[bytes(batch) for batch in chunk.batches]))

    def confirm_end(self, partition: PartitionId, answer: Answer) -> None:
        """Ask for the committed end by a read-index round; the answer is an offset."""

        async def confirm() -> None:
            try:
                outcome: object = await self.replica(partition).confirm_read()
            except LograftError as refusal:
                outcome = refusal
            self.environment.enter(lambda: answer(outcome))

        self.environment.spawn(confirm())

    def trim(self, partition: PartitionId, offset: int, answer: Answer) -> None:
        """Move the log start; the answer is the start."""

        async def move() -> None:
            try:
                outcome: object = await self.replica(partition).move_log_start(offset)
            except LograftError as refusal:
                outcome = refusal
            self.environment.enter(lambda: answer(outcome))

        self.environment.spawn(move())

    def transfer(self, partition: PartitionId, broker_id: int) -> None:
        async def hand_over() -> None:
            try:
                await self.replica(partition).transfer_leadership(broker_id)
            except LograftError as refusal:
                self._cluster.trace.note("transfer", f"{partition.number} to {broker_id}: {refusal.reason}")

        self.environment.spawn(hand_over())


class Machine:
    """A computer: its disk, its clock, and the broker process that runs on it, if one does."""

    def __init__(self, cluster: Cluster, broker_id: int, rate: float) -> None:
        self.broker_id = broker_id
        self.name = f"broker {broker_id}"
        self.disk = SimulatedDisk(Random(f"{cluster.seed} disk {broker_id}"))
        self.disk.write_back_chance = cluster.options.write_back_chance
        self.platter = Platter(self.disk)
        self.clock = Clock(rate=rate)
        self.directory_id: str | None = None
        self.numbers: dict[PartitionId, int] = {}
        """Replica number of what is, or is being made, on the disk."""
        self.process: BrokerProcess | None = None
        self.starts = 0
        self.losses = 0
        """Of its disk."""
        self.power_fails = False
        """The next end of the process that the broker does not choose is a power loss."""
        self.may_halt = False
        """A fault of this machine's disk was ordered: the broker may end itself."""
        self._cluster = cluster

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.is_alive

    def start(self) -> BrokerProcess:
        """A new incarnation, not open yet."""
        assert not self.is_up, f"{self.name} runs already"
        cluster = self._cluster
        self.starts += 1
        environment = SimulatedEnvironment(
            name=self.name,
            loop=cluster.loop,
            random=Random(f"{cluster.seed} {self.name} start {self.starts}"),
            disk=self.disk,
            clock=self.clock,
            trace=cluster.trace,
            deliver=lambda _, partition, message: process.deliver(partition, message),
            on_end=lambda _, why: self._ended(why),
            on_failure=lambda _, failure: cluster.fail(failure),
        )
        process = self.process = BrokerProcess(cluster, self, environment)
        cluster.network.connect(process)
        cluster.trace.note("start", f"{self.name} as {self.disk.boot_id}")
        return process

    def run(self) -> None:
        """Start, and open everything, in the background."""
        process = self.start()
        process.environment.spawn(process.open())

    def kill(self) -> None:
        if self.process is not None and self.process.is_alive:
            self.process.environment.crash()
            self._cleared("killed")
        self.disk.kill()

    def lose_power(self) -> None:
        if self._cluster.is_short_of_a_disk():
            # What a power loss tears is in doubt, and beside a lost disk nobody is left to lift that.
            self.kill()
            return
        if self.process is not None and self.process.is_alive:
            self.process.environment.crash()
            self._cleared("lost power")
        self.disk.lose_power()

    def lose_disk(self) -> None:
        """The disk is gone, with all that it held; the machine gets another one."""
        self.kill()
        assert self.directory_id is not None, f"{self.name} has nothing to lose yet"
        for number in self.numbers.values():
            self._cluster.invariants.lost.add(Voter(self.broker_id, self.directory_id, number))
        self.losses += 1
        self.disk = SimulatedDisk(Random(f"{self._cluster.seed} disk {self.broker_id} after {self.losses}"))
        self.disk.write_back_chance = self._cluster.options.write_back_chance
        self.platter = Platter(self.disk)
        self.directory_id = None
        self.numbers = {}

    def _ended(self, why: str) -> None:
        """The process ended in the middle of something."""
        self._cleared(why)
        if why.startswith("halted") and not self.may_halt:
            self._cluster.fail(Violation("no-needless-halt", f"{self.name} {why}"))
        # Not now: the process's code is still on the stack.
        after = self.disk.lose_power if self.power_fails and not self._cluster.is_short_of_a_disk() else self.disk.kill
        self.power_fails = False
        self._cluster.loop.call_soon(after)
        self._cluster.restart_later(self)

    def _cleared(self, why: str) -> None:
        assert self.process is not None
        self._cluster.trace.note("end", f"{self.name} {why}")
        for replica in self.process.replicas.values():
            self._cluster.forget(replica)


class Cluster:
    """Machines, the network between them, and the ways in for clients and faults."""

    def __init__(self, seed: str, options: Options, *, loop: VirtualLoop, trace: Trace) -> None:
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = trace
        self.random = Random(f"{seed} cluster")
        self.network = Network(loop=loop, random=Random(f"{seed} network"), weather=options.weather)
        self.partitions = [PartitionId(f"{0xABC:032x}", number) for number in range(options.partitions)]
        self.machines = {
            number: Machine(self, number, options.clock_rates[number - 1]) for number in range(1, options.brokers + 1)
        }
        self.decisions: Decisions
        self.invariants: Invariants
        self.failure: BaseException | None = None
        self.compactions = 0
        self.on_sent: Callable[[BrokerProcess, Message], None] | None = None
        """Told of each message once it has left: the moment at which a promise begins to bind."""
        self.restarts_ms: tuple[float, float] = (10.0, 1500.0)
        self.allowances = 0
        """Given to learners that waited for one."""
        self.is_healed = False
        """Nothing is forgotten any more: what is there can be compared."""
        self._sessions: dict[tuple[int, int], tuple[BrokerProcess, BrokerProcess]] = {}
        self._moved: dict[Replica, None] = {}
        self._forgotten: set[Replica] = set()
        loop.after_step = self._after_step
        loop.set_exception_handler(self._on_loop_failure)

    async def form(self) -> None:
        """Mint every directory id, then let the brokers open their replicas."""
        processes = [machine.start() for machine in self.machines.values()]
        for process in processes:
            await process.environment.start(process.open_promises())
        directories = {number: machine.directory_id or "" for number, machine in self.machines.items()}
        assert all(directories.values()), f"not every machine minted its directory id: {directories}"
        count = self.options.replicas or len(self.machines)
        placements = [self.random.sample(list(self.machines), count) for _ in self.partitions]
        self.decisions = Decisions(self.partitions[0].topic_id, placements, directories)
        self.invariants = Invariants(
            self.partitions,
            first_voters={partition: self.decisions.placement(partition) for partition in self.partitions},
            is_durable=self.is_durable,
        )
        for process in processes:
            process.environment.spawn(process.create())
        self._keep_sessions()

    # -- what brokers tell ---------------------------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        """A broker's code let this out, or a rule was broken inside of it."""
        if self.failure is None:
            self.failure = failure

    def note_committed(self, replica: Replica) -> None:
        self._moved[replica] = None

    def forget(self, replica: Replica) -> None:
        self._moved.pop(replica, None)
        self.invariants.forget(replica)

    def sent(self, process: BrokerProcess, message: Message) -> None:
        if self.on_sent is not None:
            self.on_sent(process, message)

    def restart_later(self, machine: Machine) -> None:
        self.loop.call_later(self.random.uniform(*self.restarts_ms) / 1000.0, self.ensure_up, machine)

    def ensure_up(self, machine: Machine) -> None:
        if not machine.is_up:
            machine.run()

    def is_settled(self, partition: PartitionId) -> bool:
        """Do just those vote who are placed? Only then does the controller take another move."""
        leader = self.leader_of(partition)
        return leader is not None and {*leader.voters} == {*self.decisions.placement(partition)}

    def is_short_of_a_disk(self) -> bool:
        """Does any set of voters that may count name a lost identity? Then the others are all needed."""
        return any(voter in self.invariants.lost for voters in self._voter_sets() for voter in voters)

    def _voter_sets(self) -> list[tuple[Voter, ...]]:
        sets = [log.voters for log in self.invariants.committed.values()]
        return sets + [replica.voters for partition in self.partitions for replica in self.live_replicas(partition)]

    def may_lose_disk(self, machine: Machine) -> bool:
        """Does a majority of disks survive, in every set of voters that may count now? One at a time is lost."""
        doubtful = any(
            replica.status().doubtful for partition in self.partitions for replica in self.live_replicas(partition)
        )
        return (
            machine.directory_id is not None
            and all(other.is_up for other in self.machines.values())
            and all(len(voters) >= 3 for voters in self._voter_sets())
            and not doubtful
            and not self.is_short_of_a_disk()
        )

    def is_durable(self, voter: Voter, partition: PartitionId, point: Point) -> bool:
        return self.is_there(voter, partition) and self.machines[voter.broker_id].platter.holds(
            log_directory(partition), point
        )

    def is_there(self, voter: Voter, partition: PartitionId) -> bool:
        """Is this identity's replica on its machine's disk?"""
        machine = self.machines[voter.broker_id]
        return voter[1:] == (machine.directory_id, machine.numbers.get(partition))

    def registered_later(self, machine: Machine) -> None:
        """The controller hears that a broker came up, and on which disk."""
        directory_id = machine.directory_id
        assert directory_id is not None, f"{machine.name} has no directory id"

        def register() -> None:
            if machine.directory_id == directory_id:
                self.decisions.register(machine.broker_id, directory_id)

        self.loop.call_later(self.random.uniform(10, 500) / 1000.0, register)

    def _after_step(self) -> None:
        while self._moved:
            replica = next(iter(self._moved))
            del self._moved[replica]
            self.trace.note("committed", f"{replica.voter} {replica.partition.number} {replica.committed}")
            self.invariants.note_committed(replica)
        if self.failure is not None:
            raise self.failure

    def _on_loop_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        if isinstance(failure, Exception):
            self.fail(failure)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _keep_sessions(self) -> None:
        """End sessions whose processes have ended, and begin those that can be."""
        for one in self.machines.values():
            for other in self.machines.values():
                if one.broker_id < other.broker_id:
                    self._keep_session(one, other)
        self.loop.call_later(RECONNECT_MS / 1000.0, self._keep_sessions)

    def _keep_session(self, one: Machine, other: Machine) -> None:
        pair = (one.broker_id, other.broker_id)
        session = self._sessions.get(pair)
        if (session is not None and session != (one.process, other.process)) or (
            session and not all(process.is_alive for process in session)
        ):
            self.end_session(*pair)
            session = None
        if session is None and one.process is not None and other.process is not None:
            processes = (one.process, other.process)
            ready = all(
                process.is_alive and process.is_open and not process.environment.is_paused for process in processes
            )
            if ready and not self.network.is_cut(*pair) and not self.network.is_cut(*reversed(pair)):
                self.network.reset(*pair)
                self._sessions[pair] = processes
                for process, peer in zip(processes, reversed(processes), strict=True):
                    assert peer.promises is not None, f"{peer.environment.name} is open, but has no promises"
                    process.session_up(peer.broker_id, peer.promises.directory_id)

    def end_session(self, one_id: int, other_id: int) -> None:
        """Both connections of a pair break."""
        pair = (min(one_id, other_id), max(one_id, other_id))
        session = self._sessions.pop(pair, None)
        if session is not None:
            self.network.reset(*pair)
            for process, peer_id in zip(session, reversed(pair), strict=True):
                process.session_down(peer_id)

    # -- clients -------------------------------------------------------------------------------------------------------

    def call(self, broker_id: int, request: Callable[[BrokerProcess, Answer], None], answer: Answer) -> None:
        """Carry a client's request to a broker and its answer back; either may be late, and either may be lost.

        Requests to one broker arrive in the order of their calls.
        """
        process = self.machines[broker_id].process
        if process is None or not process.is_alive or not process.is_open:
            return

        def answer_later(outcome: Any) -> None:
            if self.random.random() >= self.network.weather.drop_chance:
                self.loop.call_later(self.random.uniform(0.0001, 0.001), answer, outcome)

        def take() -> None:
            try:
                request(process, answer_later)
            except LograftError as refusal:
                answer_later(refusal)

        if self.random.random() >= self.network.weather.drop_chance:
            self.loop.call_later(0.0005, process.environment.enter, take)

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def wall_clocks(self) -> dict[int, int]:
        """Of the brokers that are up."""
        return {
            machine.broker_id: machine.process.environment.wall_ms()
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None
        }

    def copy_bytes_per_second(self) -> int | None:
        """A throttle that would take all the time there is for settling is lifted then."""
        limit = self.options.copy_bytes_per_second
        return None if limit is None or (self.is_healed and limit < COPY_BYTES_PER_SECOND_SETTLING) else limit

    def live_replicas(self, partition: PartitionId) -> list[Replica]:
        return [
            machine.process.replicas[partition]
            for machine in self.machines.values()
            if machine.is_up and machine.process is not None and partition in machine.process.replicas
            if not self.invariants.is_ended(machine.process.replicas[partition])
        ]

    def leader_of(self, partition: PartitionId) -> Replica | None:
        """The one of the highest term."""
        leaders = [replica for replica in self.live_replicas(partition) if replica.is_leader]
        return max(leaders, key=lambda replica: replica.term, default=None)


def log_directory(partition: PartitionId) -> str:
    return f"{ROOT}/partitions/{partition}"


def told(partition: PartitionId, message: Message) -> str:
    """A message, as short as a reader of the trace can bear."""
    way = f"{partition.number} {message.sender.broker_id}->{message.to.broker_id} t{message.term}"
    match message:
        case AppendRequest():
            upto = message.items[-1].point if message.items else "nothing"
            return f"{way} append s{message.session} {message.prev} .. {upto} committed {message.committed}"
        case HeadOffer():
            return f"{way} head s{message.session} {message.base}"
        case AppendReply():
            verdict = "accepted" if message.accepted else "refused"
            counts = "" if message.counts else " does not count"
            return f"{way} {verdict} s{message.session} match {message.match}{counts}"
        case RepairRequest():
            return f"{way} repair {message.number} after {message.after} of {message.hole} from {message.base_offset}"
        case RepairReply():
            upto = message.items[-1].point if message.items else "nothing"
            says = f"{message.serving.name}{' conflicts' * message.conflicts}"
            return f"{way} repair {message.number} {says} {message.after} .. {upto}"
        case VoteReply():
            doubt = " in doubt" if message.doubtful else ""
            return f"{way} {'pre-' * message.pre}vote {'granted' if message.granted else 'refused'}{doubt}"
        case _:
            pre = "pre " if getattr(message, "pre", False) else ""
            last = getattr(message, "last", getattr(message, "round_number", ""))
            return f"{way} {pre}{type(message).__name__} {last}"
