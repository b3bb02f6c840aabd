"""One incarnation of a broker: what `node` does around the real replicas, as far as they need it.

Invariants
    a process knows nothing but what is on its machine's disk, and what it was told since it started
    every message that leaves a broker passes the invariants first
    replicas are created, deleted and made voters by what a broker knows of the decisions, which may be old
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lograft.node.controller.facts import TopicFact
from lograft.node.departures import Departures, Placed, lets_go
from lograft.node.heartbeats import FRAME_TYPES, Heartbeats
from lograft.node.lineages import Lineages
from lograft.node.peer.raft_codec import decode_raft, encode_raft
from lograft.node.replicas import _is_small, remove_tree
from lograft.node.retention import is_clock_trusted
from lograft.node.throttle import Throttle
from lograft.node.voter_steps import ChangeVoters, HandOver, next_step, who_should_vote
from lograft.partitions.appendings import Appending
from lograft.partitions.commit_news import CommitNews
from lograft.partitions.compactor import compact
from lograft.partitions.environment import PartitionId
from lograft.partitions.flusher import Flusher
from lograft.partitions.proposal import Offered
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
from lograft.partitions.replica import Replica
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.retention import RetentionLimits
from lograft.partitions.storage.rewriting import Job, Outcome, Take, rewrite
from lograft.proto.errors import BrokerUnavailable, DiskFull, LograftError, NoLeader
from lograft.proto.peer_frames import FrameType
from lograft.proto.record_batch import read_header

from tests.simulation.disk import ROOT
from tests.simulation.environment import SimulatedEnvironment
from tests.simulation.invariants import Violation
from tests.simulation.network import Letter

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.machine import Machine

HEARTBEAT_MS = 100.0
SILENCE_MS = 500.0
RETENTION_MS = 200.0
LOOK_AT_DISK_MS = 100.0
PRODUCE_STOP_FREE_BYTES = 2 << 20
REPLICATION_STOP_FREE_BYTES = 1 << 20
RECONCILE_MS = 100.0
ASKED_MS = 700.0
"""How long a broker waits for another's answer."""

Answer = Callable[[Any], None]
"""Takes what a broker answered: a value, or a LograftError. It is not called if the answer is lost."""


class _Gathered(NamedTuple):
    """A batch that waits for others, to be appended in one run with them."""

    offered: Offered
    settled: Callable[[asyncio.Future[Any]], None]
    answer: Answer


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
        self._news: CommitNews | None = None
        self._produce_stopped = False
        self._replication_stopped = False
        self._gathered: dict[PartitionId, list[_Gathered]] = {}

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
        delay_ms = self._cluster.options.news_delay_ms
        self._news = CommitNews(self.environment, delay_ms=delay_ms) if delay_ms else None
        for partition in self.promises.listed():
            if await self.lineages.admit(partition, self._cluster.options.config) is not None:
                continue
            known = self.promises.recall(partition)
            assert known is not None, f"{partition} is listed, and not recalled"
            await self._open_replica(partition, known.replica_number, ())
        await self.promises.settle_boot()
        await self._create_placed()
        self.is_open = True
        self._ticked_ms = self.environment.monotonic_ms()
        self._tick()
        self._look_at_disk()
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
        if self.promises.recall(partition) is None:
            await self.lineages.make_way(partition)
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
            news=self._news,
        )
        if self._cluster.options.waits_for_decisions:
            replica.set_willing(self._is_caught_up)
        self._cluster.invariants.note_opened(replica, may_be_damaged=self._machine.may_halt)
        self.replicas[partition] = replica
        self.heartbeats.opened(replica)
        self._compact_later(replica)
        self._scrub_later(replica)
        self._hear_of_durability(replica)

    def _hear_of_durability(self, replica: Replica) -> None:
        """Or not yet: a broker may have read the decisions, or hear of the last one later."""
        cluster = self._cluster
        if cluster.options.in_memory and cluster.hears_of_durability.random() < 0.6:
            replica.set_durability(cluster.durability)

    # -- decisions -----------------------------------------------------------------------------------------------------

    @property
    def topic(self) -> TopicFact:
        """As far as this process knows."""
        return self._cluster.decisions.versions[self._known]

    def placement(self, partition: PartitionId) -> tuple[Voter, ...]:
        return self.topic.partitions[partition.number].placement

    def placed_voters(self, replica: Replica) -> tuple[Voter, ...]:
        return who_should_vote(self.topic.partitions[replica.partition.number], replica.voters)

    async def _reconcile(self) -> None:
        """Hear of some more decisions, and act on them as a broker does; again after a while."""
        for replica in self.replicas.values():
            self._hear_of_durability(replica)
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
            if self.promises.recall(partition) is not None:
                continue
            fact = self.topic.partitions[partition.number]
            identity = fact.replica_to_make(
                self.broker_id, self.promises.directory_id, never_held=self.promises.never_held(partition)
            )
            if identity is not None:
                await self._open_replica(partition, identity.replica_number, fact.first_voters)

    def _take_step(self, partition: PartitionId, replica: Replica) -> None:
        """Let the leader of a partition bring its voters nearer to where replicas should be."""
        if not replica.is_leader:
            return
        placed = self.placed_voters(replica)
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
                replica = self.replica(partition)
                outcome: object = await lets_go(
                    replica, identity, lambda: Placed(self.placement(partition), self.topic.next_replica_number)
                )
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

    def _look_at_disk(self) -> None:
        """As `node.replicas` does."""
        free = self.environment.disk.free_bytes() if self._machine.disk.is_bounded else REPLICATION_STOP_FREE_BYTES * 8
        stopped = free < PRODUCE_STOP_FREE_BYTES, free < REPLICATION_STOP_FREE_BYTES
        if stopped != (self._produce_stopped, self._replication_stopped):
            self._cluster.trace.note("disk space", f"{self.environment.name} has {free}")
        self._produce_stopped, self._replication_stopped = stopped
        self.environment.call_later(LOOK_AT_DISK_MS, self._look_at_disk)

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
            self._cluster.invariants.note_elected(replica)
        self._cluster.invariants.note_doubt(replica)
        what = f"{replica.partition.number} {replica.voter} {replica.role.value} t{replica.term}"
        self._cluster.trace.note("role", what)
        self.heartbeats.role_changed(replica)

    def committed(self, replica: Replica) -> None:
        self._cluster.invariants.note_commit_moved(replica)
        self._cluster.invariants.note_doubt(replica)
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
        body = b"".join(encode_raft(partition, message))
        self._cluster.trace.note_bytes("send", body, lambda: told(partition, message))
        if message.to.broker_id in self.sessions:
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
        self._cluster.trace.note_bytes("receive", letter.body, lambda: told(partition, message))
        replica = self.replicas.get(partition)
        if replica is not None and not self._departures.is_silent(partition):
            if self._replication_stopped and isinstance(message, AppendRequest) and not _is_small(message):
                return
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
        if self._produce_stopped:
            raise DiskFull(f"{self.environment.name} has little space left")
        gather_ms = self._cluster.options.gather_ms
        if not gather_ms:
            replica.append(batch, read_header(batch), first_open).committed.add_done_callback(settled)
            return
        waiting = self._gathered.setdefault(partition, [])
        waiting.append(_Gathered((batch, read_header(batch), first_open), settled, answer))
        if len(waiting) == 1:
            self.environment.call_later(gather_ms, lambda: self._append_gathered(partition))

    def _append_gathered(self, partition: PartitionId) -> None:
        """As `node.appends` does, but for when."""
        run = self._gathered.pop(partition)
        outcomes: Sequence[Appending | LograftError]
        try:
            outcomes = self.replica(partition).append_run([one.offered for one in run])
        except NoLeader as error:  # moved away meanwhile
            outcomes = [error] * len(run)
        self._cluster.runs += len(run) > 1
        for one, outcome in zip(run, outcomes, strict=True):
            if isinstance(outcome, LograftError):
                one.answer(outcome)
            else:
                outcome.committed.add_done_callback(one.settled)

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
