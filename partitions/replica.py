"""One replica of a partition: what the Raft core decides, carried out on a disk and a network.

All I/O of a replica is started in one loop, so the order that safety depends on is read in one place, `_carry_out`.
The loop never waits for the disk: what must be durable first is handed to the flusher, and goes on when that says so.
The exceptions are a cut and a reset, during which events queue up.

What has a state of its own has a module of its own, and is told here when: who waits for an answer (`appendings`,
`commit_waiters`, `waiting_reads`), where the log starts, whether the copy counts before it is synced, compaction,
leadership, the timer, repair. What changes the log itself, or what is believed to be on disk, is here.

Invariants
    a message that binds leaves only after the promise, and for an append's acknowledgement the items, are on disk
    a flush from before the last cut says nothing
    the core hears `Persisted` only once the promises made before it are durable too
    a reset, and reading the log anew, wait until nothing of it is being dropped or replaced
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..proto.errors import LograftError, ReplicaDamaged, VotersUnchanged
from ..proto.record_batch import BatchHeader
from .appendings import Appending, Appendings
from .campaigns import Campaigns
from .chunk import Chunk, read_chunk
from .commit_news import CommitNews
from .commit_waiters import CommitWaiter, CommitWaiters
from .compaction import Compaction
from .election_timer import ElectionTimer
from .environment import Environment, PartitionId, ReplicaConfig
from .filling import filled_offer, filled_request
from .flusher import Flusher
from .leadership import Leadership
from .log_start import LogStart
from .opening import open_log_and_core, promise_reset, promise_thinned, recover_log
from .producers import Duplicate
from .proposal import Offered, Proposal
from .raft.core import RaftCore, Role
from .raft.events import (
    Allow,
    DamageFound,
    Effects,
    Event,
    HoleLost,
    LogCleaned,
    LogRecovered,
    PeerHeard,
    Persisted,
    Propose,
    ReadIndex,
    Replicate,
    SetLearners,
    SetThrottled,
    SetWilling,
    StepDown,
    TellCommitted,
    TimerFired,
)
from .raft.messages import AppendReply, AppendRequest, HeadOffer, Message, RepairReply, RepairRequest, Voter
from .raft.points import ORIGIN, Item, Point
from .repairer import RepairCounts, Repairer
from .replica_counts import ReplicaCounts
from .replica_status import ReplicaStatus, status_of
from .storage.compaction import CompactionSettings
from .storage.log import DamagedLog, PartitionLog, RecoveryVerdict, Ticket
from .storage.promises import Promises
from .storage.repair import NamesNotSynced
from .storage.retention import RetentionLimits
from .storage.rewriting import Job, Outcome, Rewritten
from .storage.scrub import Pace, scrub
from .storage.segment_head import SegmentHead
from .storage.zero_width import voter_change
from .suspects import Suspects
from .waiting_reads import WaitingReads
from .written_copy import WrittenCopy


class ReplicaObserver(Protocol):
    """Told of changes, in the loop; must not block."""

    def role_changed(self, replica: Replica) -> None: ...
    def committed(self, replica: Replica) -> None: ...


class Replica:
    """The shell around a RaftCore. Made by `open`; everything but `open`, `stop` and the awaitables acts at once."""

    def __init__(
        self,
        *,
        environment: Environment,
        promises: Promises,
        flusher: Flusher,
        log: PartitionLog,
        core: RaftCore,
        partition: PartitionId,
        config: ReplicaConfig,
        observer: ReplicaObserver,
        news: CommitNews | None = None,
        repair_counts: RepairCounts | None = None,
        campaigns: Campaigns | None = None,
        counts: ReplicaCounts | None = None,
    ) -> None:
        self.partition = partition
        self.log = log
        self.placed: tuple[Voter, ...] = ()
        """Where replicas should be, as far as the decisions here say: whoever has one may repair this one."""
        self._environment = environment
        self._promises = promises
        self._flusher = flusher
        self._news = news
        self._data_directory = log.data_directory
        self._core = core
        self._config = config
        self._observer = observer
        self._counts = counts or ReplicaCounts()
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._cutting = False
        self._resetting = False
        """The cut under way takes all of the log."""
        self._cut_is_over = asyncio.Event()
        self._cut_is_over.set()
        self._stopped = False
        self._closed = False
        self._promised = promises.synced
        """Number of the newest promise this replica made."""
        self._awaited_promise = self._promised
        """Once this one is on disk, `_release` is called."""
        self._flushed = log.ticket()
        """All of it is durable: recovery and creation return only then."""
        self._after_promise: deque[tuple[int, Message]] = deque()
        self._after_flush: deque[tuple[int, Ticket, Message]] = deque()
        self.resets = 0
        """Times the log was begun anew: what was read of it before may be gone without a trace."""
        self._reads = WaitingReads()
        self._led = False
        self._committed = core.committed
        """As carried out: during a cut the core knows more, of a log that is not there yet."""
        self._timer = ElectionTimer(environment, campaigns, partition, core, lambda: self.take(TimerFired()))
        self._copy = WrittenCopy(environment, promises, flusher, core, config, self)
        self._appendings = Appendings(environment, partition, core, self._counts)
        self._waiters = CommitWaiters()
        self._leadership = Leadership(environment, core, config, self)
        self._start = LogStart(environment, flusher, core, self._leadership, self, self._counts)
        self._compaction = Compaction(environment, promises, core, self._start, self)
        self._repairer = Repairer(environment, promises, self, repair_counts or RepairCounts())
        self._suspects = Suspects(environment, partition, self._counts)
        self._is_reading_anew = False
        self._was_settled = not log.damage
        """What this process found past the mark is on disk again, so its page cache is what counts."""
        self._new_base: Point | None = None
        """Where a repair has let the log begin that was not read since."""

    @classmethod
    async def open(
        cls,
        *,
        environment: Environment,
        promises: Promises,
        flusher: Flusher,
        directory: str,
        partition: PartitionId,
        voter: Voter,
        first_voters: tuple[Voter, ...],
        config: ReplicaConfig,
        observer: ReplicaObserver,
        news: CommitNews | None = None,
        repair_counts: RepairCounts | None = None,
        campaigns: Campaigns | None = None,
        counts: ReplicaCounts | None = None,
    ) -> Replica:
        """Recover the replica if `promises` lists it, else create it.

        Only an identity among the partition's first voters begins with that voter set; any other begins as a learner.
        `directory` is the broker's data directory. Without `news` followers hear at once what is committed, without
        `campaigns` it campaigns whenever its timer says so.
        Raises OSError, NewerFormat.
        """
        counts = counts or ReplicaCounts()
        log, core = await open_log_and_core(
            environment, promises, directory, partition, voter, first_voters, config, counts
        )
        is_damaged = core.damaged
        replica = cls(
            environment=environment,
            promises=promises,
            flusher=flusher,
            log=log,
            core=core,
            partition=partition,
            config=config,
            observer=observer,
            news=news,
            repair_counts=repair_counts,
            campaigns=campaigns,
            counts=counts,
        )
        if not is_damaged:
            promises.raise_mark(partition, log.end)
        replica._carry_out(core.start())
        if is_damaged:
            environment.call_soon(replica._repairer.begin)
        return replica

    # -- what can be asked -------------------------------------------------------------------------------------------

    @property
    def voter(self) -> Voter:
        return self._core.voter

    @property
    def voters(self) -> tuple[Voter, ...]:
        return self._core.voters

    @property
    def committed_voters(self) -> tuple[Voter, ...]:
        """Who votes as far as is committed: those named later may yet be cut."""
        return self._core.voter_sets.at(self._committed)

    @property
    def learners(self) -> tuple[Voter, ...]:
        """Who else gets the log from this replica when it leads."""
        return self._core.learners

    @property
    def role(self) -> Role:
        return self._core.role

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def leader(self) -> Voter | None:
        return self._core.leader

    @property
    def committed(self) -> Point:
        """Everything through here is committed, and in this log."""
        return self._committed

    @property
    def log_start(self) -> int:
        """The first offset that can be read, as far as this replica knows it to be committed."""
        return self._start.offset

    @property
    def is_leader(self) -> bool:
        return self._core.is_leader

    @property
    def is_ready(self) -> bool:
        """Leads and knows what is committed: only then does it serve."""
        return self._core.is_ready

    @property
    def is_damaged(self) -> bool:
        """Something of its log cannot be read."""
        return self._core.damaged or bool(self._suspects.beyond_repair)

    @property
    def repair_refused_by(self) -> tuple[int, ...]:
        """Brokers that said that they cannot give what its log lost."""
        return self._repairer.refused_by if self._core.damaged else ()

    @property
    def durability(self) -> str:
        """From when on a copy counts here: `fsync`, once it is on disk, or `memory`, once it is written."""
        return self._copy.durability

    @property
    def unsynced_bytes(self) -> int:
        """Of a replica whose copy counts once it is written: how much of it is not on disk yet."""
        return self._copy.unsynced_bytes

    @property
    def is_doubtful(self) -> bool:
        """It may have lost what it acknowledged, and does not count until that is made good."""
        return self._core.doubtful

    @property
    def log_end(self) -> int:
        """Committed or not."""
        return self._core.last.offset

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def status(self) -> ReplicaStatus:
        return status_of(
            self._core,
            self.log,
            committed=self._committed,
            start_offset=self._start.offset,
            durability=self.durability,
            unsynced_bytes=self.unsynced_bytes,
            repair=self._repairer.state or self._suspects.beyond_repair,
        )

    def followed_by(self) -> list[tuple[Voter, bool, Point]]:
        """Of a leader, who follows: whether it is in touch and counts, and how far it is known to have come.

        Of `status` what may be asked of a thousand replicas again and again.
        """
        core = self._core
        return [
            (progress.voter, progress.counted >= progress.match and core.is_heard(progress.voter), progress.match)
            for progress in core.progress.values()
        ]

    # -- events ------------------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take a peer's message. One that asks for another identity is not for us."""
        if message.to != self._core.voter or self._stopped:
            return
        match message:
            case RepairRequest():
                self._environment.transport.send(self.partition, self._repairer.answer(message))
            case RepairReply():
                self._repairer.take(message)
            case _:
                if isinstance(message, AppendRequest | HeadOffer):
                    self._leadership.leader_heard()
                self.take(message)

    def take(self, event: Event) -> None:
        """Step the core and carry out what it asks; in order, also when called from within."""
        if self._stopped:
            return
        if isinstance(event, PeerHeard):
            self._repairer.wake()
        self._inbox.append(event)
        if not self._draining and not self._cutting:
            self._drain()

    def _drain(self) -> None:
        self._draining = True
        try:
            while self._inbox and not self._cutting and not self._stopped:
                self._carry_out(self._core.step(self._inbox.popleft()))
        except Exception as error:
            # Whoever called us may go on after an exception; a replica whose effects are half carried out must not.
            self._environment.fail(error)
        finally:
            self._draining = False

    def _carry_out(self, effects: Effects) -> None:
        """The order of these lines is what safety rests on."""
        if self._led and not self._core.is_leader:
            # Before a cut or a commit: what a successor commits at the offsets waited for is another's.
            self._led = False
            self._fail_appendings()
        if effects.promise is not None:
            self._promised = self._promises.note_vote(self.partition, effects.promise.term, effects.promise.voted_for)
        if effects.doubt_cleared:
            self._promised = self._promises.note_doubt(self.partition, False)
        if effects.word_reached:
            self._promised = self._promises.note_word(self.partition, None)
        if effects.cut is not None or effects.reset is not None:
            self._cutting = True
            self._cut_is_over.clear()
            # From here on no flush of what is about to vanish may raise the mark again, or be told to the core.
            self.log.announce_cut()
            self._inbox = deque(event for event in self._inbox if not isinstance(event, Persisted))
            if effects.reset is not None:
                # What is cleaned is the log that goes.
                self._resetting = True
                self._inbox = deque(event for event in self._inbox if not isinstance(event, LogCleaned))
            self._environment.spawn(self._go_on_after_cut(effects))
            return
        self._carry_out_from_append(effects)

    async def _cut(self, point: Point) -> None:
        """Cut the log. The mark is lowered durably first: nothing before a mark may ever be missing."""
        # Not to `point`: what lies before it may not be on disk yet.
        self._promised = self._promises.lower_mark(self.partition, min(point, self._core.persisted))
        await self.sync_promises()
        if not self._stopped:
            before_bytes = self.log.size_bytes
            await self.log.cut(point)
            self._counts.cut_bytes += before_bytes - self.log.size_bytes
            self._flushed = Ticket(self.log.cuts, self._flushed.written, min(self._flushed.end, point))

    async def _reset(self, offer: HeadOffer) -> None:
        """Begin the log anew at a leader's head. What this replica once acknowledged is kept durably first."""
        self._promises.note_word(self.partition, self._core.word)
        self._promised = self._promises.lower_mark(self.partition, ORIGIN)
        await self.sync_promises()
        await self._start.drop_is_over()
        await self._compaction.replacement_is_over()
        if not self._stopped:
            await self.log.reset(
                SegmentHead.from_bytes(offer.head, f"the head that {offer.sender} offers"),
                lambda head: promise_reset(self._promises, self.partition, head),
            )
            self.resets += 1
            self._counts.resets += 1
            self._compaction.begin_anew()
            self._start.begin_anew(offer.base)
            self._flushed = Ticket(self.log.cuts, self._flushed.written, offer.base)

    async def _go_on_after_cut(self, effects: Effects) -> None:
        """Cut or reset the log, then carry out the rest."""
        # What these were to acknowledge is about to vanish.
        self._forget_unsynced()
        if effects.cut is not None and not self._stopped:
            try:
                await self._cut(effects.cut)
            except DamagedLog as damage:
                # Where it would end cannot be read any more, or what was cut hid a loss: the log is what the disk says.
                self._cut_is_over.set()
                self._cutting = self._resetting = False
                self._on_damage(damage)
                self._drain()  # it may have been met before, while nothing could be heard of it
                self._environment.spawn(self.read_log_anew())
                return
            if effects.commits_lost:
                self._committed = self._core.committed
                self.resets += 1  # whoever follows what is committed begins anew
        if effects.reset is not None and not self._stopped:
            await self._reset(effects.reset)
        self._resetting = False
        self._cut_is_over.set()
        if self._stopped:
            return
        self._flusher.request(self.log, self.on_flushed)
        self._cutting = False
        self._draining = True
        try:
            self._carry_out_from_append(effects)
        finally:
            self._draining = False
        self._drain()
        if self._core.damaged and self.log.hole is None:
            self._environment.spawn(self.read_log_anew())  # damage was met while a lost hole was cut
        self._start.drop_soon()

    def _carry_out_from_append(self, effects: Effects) -> None:
        if effects.append:
            self._append(effects.append, effects.append_time_ms)
        for message in effects.send_now:
            self._environment.transport.send(self.partition, message)
        for filling in effects.replicate:
            self._replicate(filling, effects.append)
        for offer in effects.offers:
            self._offer(offer)
        if effects.send_when_persisted:
            self._send_when_persisted(effects.send_when_persisted)
        if effects.timer_ms is not None:
            self._timer.set(effects.timer_ms)
        for event, facts in effects.notes:
            self._counts.note(event)
            self._environment.log(event, partition=str(self.partition), **facts)
        if effects.has_news:
            self._tell_committed()
        if effects.committed is not None:
            self._on_committed()
        if effects.reads_confirmed or effects.reads_refused:
            self._reads.confirm(effects.reads_confirmed, self._core.committed.offset)
            self._reads.refuse(effects.reads_refused, self._leadership.refusal)
        if effects.role_changed:
            self._on_role_changed()

    def _tell_committed(self) -> None:
        if self._news is not None:
            self._news.note(self)
        else:
            self.take(TellCommitted())

    def _append(self, items: tuple[Item, ...], append_time_ms: int) -> None:
        try:
            self.log.append(items, append_time_ms or self._environment.wall_ms())
        except OSError as error:
            # The core counts on these items; the disk refused them. Nothing was acknowledged, so stopping is safe.
            self._environment.halt(f"cannot write to {self.partition}: {error}")
        rewritten_to, cleaned_to = self.compacted_to
        if self.log.thinned_to > rewritten_to:
            # Some of what its leader's compaction left out is left out here too: durable before it is acknowledged, as
            # from `rewritten_to` on this log is taken to hold the bytes that every other one holds.
            self.promise_compacted(self.log.thinned_to, cleaned_to)
        if self._copy.in_memory:
            self._copy.flush_later(items)
        else:
            self._flusher.request(self.log, self.on_flushed)

    def _replicate(self, filling: Replicate, appended: tuple[Item, ...]) -> None:
        try:
            request, sent = filled_request(filling, self.log, appended)
        except DamagedLog as damage:
            self._on_damage(damage)
            return
        self._environment.transport.send(self.partition, request)
        self._inbox.append(sent)
        if not self._draining and not self._cutting:
            self._drain()

    def _offer(self, offer: HeadOffer) -> None:
        try:
            offer = filled_offer(offer, self.log, *self.compacted_to)
        except DamagedLog as damage:
            self._on_damage(damage)
            return
        self._environment.transport.send(self.partition, offer)

    def _send_when_persisted(self, messages: list[Message]) -> None:
        ticket = self.log.ticket()
        for message in messages:
            if isinstance(message, AppendReply):
                self._after_flush.append((self._promised, ticket, message))
            else:
                self._after_promise.append((self._promised, message))
        self._release()

    def on_flushed(self, ticket: Ticket) -> None:
        """All up to this ticket is on disk."""
        if self._stopped or ticket.cuts != self.log.cuts:
            return  # the log was cut since: these bytes are gone, and so is what they promised
        if ticket.written > self._flushed.written:
            self._flushed = ticket
        self._copy.note_flushed(ticket.written)
        self._release()

    def _release(self) -> None:
        """Let go what waited for the disk."""
        if self._stopped:
            return
        synced, flushed = self._promises.synced, self._flushed
        if self._awaited_promise < self._promised and synced < self._promised:
            # Here, not where something begins to wait: what waits may be overtaken by another promise.
            self._awaited_promise = self._promised
            self._promises.when_synced(self._promised, self._release)
        while self._after_promise and self._after_promise[0][0] <= synced:
            self._deliver(self._after_promise.popleft()[1])
        if self._cutting:
            return
        while self._after_flush:
            promised, ticket, message = self._after_flush[0]
            if promised > synced:
                break
            if ticket.written > flushed.written:
                if not self._copy.may_count():
                    break
                message = self._copy.told_early(message)
            self._after_flush.popleft()
            self._deliver(message)
        if self._promised <= synced and flushed.cuts == self.log.cuts and flushed.end > self._core.persisted:
            self._promises.raise_mark(self.partition, flushed.end)
            self.take(Persisted(flushed.end))
            self._answer_persisted(flushed.end)
            synced_now = self._copy.told_synced(flushed.end)
            if synced_now is not None:
                self._deliver(synced_now)
            self._start.drop_soon()

    def set_durability(self, durability: str) -> None:
        """`fsync`: a copy counts once it is on disk. `memory`: once it is written; the disk follows soon.

        From now on: what counted before goes on to do so.
        """
        self._copy.set_durability(durability)

    def copy_counts(self) -> None:
        """Its own copy counts as it is written, from now on."""
        if not self._cutting:
            self._answer_persisted(self.log.end)
            self._release()

    def _forget_unsynced(self) -> None:
        """The log is cut: no message from before says anything of it any more."""
        self._after_flush.clear()
        self._copy.forget()

    def _deliver(self, message: Message) -> None:
        if message.to == self._core.voter:
            self.take(message)
        else:
            self._environment.transport.send(self.partition, message)

    def _on_role_changed(self) -> None:
        self._led = self._core.is_leader
        self._timer.end_turn()
        self._leadership.note_leader()
        self._observer.role_changed(self)

    # -- producing ---------------------------------------------------------------------------------------------------

    def append(self, batch: bytes | bytearray | memoryview, header: BatchHeader, first_open: int | None) -> Appending:
        """Append a checked batch as the leader.

        `first_open`: the lowest sequence of its producer without a final answer; None where the protocol has none.
        Raises NotLeader, NoLeader, OutOfOrderSequence, ReplicaDamaged.
        """
        (outcome,) = self.append_run([(batch, header, first_open)])
        if isinstance(outcome, LograftError):
            raise outcome
        return outcome

    def append_run(self, run: Sequence[Offered]) -> list[Appending | LograftError]:
        """Append several checked batches, each taken or refused by itself, just as if they came one after the other.

        But one write, one flush and one message to each follower carry them, as far as a message goes.
        """
        outcomes: list[Appending | LograftError] = []
        proposal = Proposal()
        for batch, header, first_open in run:
            if not proposal.can_take(header, len(batch), self._config.append_bytes_max):
                self._propose_records(proposal)
                proposal = Proposal()
            try:
                outcomes.append(self._take_or_refuse(batch, header, first_open, proposal))
            except LograftError as refusal:
                outcomes.append(refusal)
        self._propose_records(proposal)
        return outcomes

    def _take_or_refuse(
        self, batch: bytes | bytearray | memoryview, header: BatchHeader, first_open: int | None, proposal: Proposal
    ) -> Appending:
        """Add a batch to those about to be proposed."""
        self._leadership.require()
        self._leadership.require_no_transfer()
        if header.has_producer and not proposal.follows(header):
            verdict = self.log.producers.check(header, first_open)
            if isinstance(verdict, Duplicate):
                return self._appendings.add_duplicate(verdict, self.log, self.durability)
        core = self._core
        began_ms = self._environment.monotonic_ms()
        return proposal.add(batch, header, core.last, core.term, loop=self._loop, began_ms=began_ms)

    def _propose_records(self, proposal: Proposal) -> None:
        if not proposal.items:
            return
        for appending in proposal.appendings:
            self._appendings.add(appending)
        assert not self._draining and self._core.voters, "appending from within a step, or without voters"
        self.take(Propose(tuple(proposal.items)))
        if self._copy.counts_written:
            self._answer_persisted(proposal.items[-1].point)

    def _on_committed(self) -> None:
        self._committed = self._core.committed
        committed = self._committed.offset
        self._appendings.settle_through(committed, self.durability)
        self._waiters.fire_below(committed)
        self._start.note_committed()
        self._observer.committed(self)

    def _answer_persisted(self, persisted: Point) -> None:
        self._appendings.answer_persisted(persisted, self.durability)

    def _fail_appendings(self) -> None:
        self._appendings.fail()
        self._start.fail_moves()
        self._waiters.fire_all()

    # -- the log start -----------------------------------------------------------------------------------------------

    def check_log_start(self, offset: int) -> None:
        """May the log start at `offset`? Raises NotLeader, NoLeader, OffsetOutOfRange."""
        self._start.check(offset)

    async def move_log_start(self, offset: int) -> int:
        """Let the log start at `offset`; return the start once that is committed. One that starts later stays so.

        Raises NotLeader, NoLeader, OffsetOutOfRange (negative, or past the committed end), UnknownOutcome.
        """
        return await self._start.move(offset)

    def enforce_retention(self, limits: RetentionLimits, now_ms: int | None) -> None:
        """As the leader, let go of what the limits no longer keep. It is gone once the others agree; nobody waits.

        `now_ms` is None if the wall clock cannot be trusted.
        """
        self._start.enforce(limits, now_ms)

    # -- compaction --------------------------------------------------------------------------------------------------

    @property
    def compacted_to(self) -> tuple[int, int]:
        """How far the log is, or is about to be, rewritten and cleaned."""
        known = self._promises.recall(self.partition)
        return (known.rewritten_to, known.cleaned_to) if known is not None else (0, 0)

    def promise_compacted(self, rewritten_to: int, cleaned_to: int) -> None:
        self._promised = self._promises.note_compacted(self.partition, rewritten_to=rewritten_to, cleaned_to=cleaned_to)

    async def sync_promises(self) -> None:
        """All that this replica promised is on disk on return."""
        await self._promises.sync(self._promised)

    def plan_compaction(self, settings: CompactionSettings, *, below: int | None = None) -> Job | None:
        """What to compact now, if it is time; `below` is an offset that whoever reads the log has passed.

        Whoever carries it out hands each segment to `take_compacted`, oldest first, and tells of the end.
        """
        return self._compaction.plan(settings, below=below)

    def stands_as_planned(self, job: Job, resets: int) -> bool:
        """Is the log still the one that `job` was planned for, after so many resets, and all of it there?

        Else whoever reads its files finds others, or none, which says nothing of what is stored.
        """
        return not self._cutting and self.resets == resets and self.log.base == job.groups[0].base

    async def take_compacted(self, rewritten: Rewritten) -> bool:
        """Put a compacted segment in place. False: things have changed since it was planned, and it is of no use."""
        return await self._compaction.take(rewritten)

    def note_compaction(self, job: Job, outcome: Outcome, settings: CompactionSettings) -> None:
        """All of a job is done, and in place."""
        self._compaction.note(job, outcome, settings)

    def give_up_compaction(self) -> None:
        """What was written for a job, and not taken, is of no use."""
        if not self._stopped:
            self.log.remove_rewritten()

    def note_unreadable(self, damage: DamagedLog) -> None:
        """Whoever read the log's files met bytes that are not what was written."""
        if not self._stopped:
            self._on_damage(damage)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        """Committed batches from `offset`; only the leader answers.

        Raises NotLeader, NoLeader (it does not know yet what is committed), OffsetOutOfRange, ReplicaDamaged; with
        `only_cached` NotInMemory, rather than wait for the disk.
        """
        self.require_ready()
        return self.read_committed(offset, bytes_max, only_cached=only_cached)

    def read_committed(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk:
        """Like `read`, but what this replica knows to be committed, whoever leads."""
        # While the log is reset, nothing of what was committed in it is there.
        start, end = max(self._start.offset, self.log.base.offset), min(self._committed.offset, self.log.end.offset)
        try:
            return read_chunk(self.log, offset, start, end, bytes_max, self._core.term, only_cached=only_cached)
        except DamagedLog as damage:
            self._on_damage(damage)
            raise ReplicaDamaged(
                f"stored bytes of {self.partition} are unreadable here from offset {offset} on "
                f"({damage.path} at {damage.position}); try again: another replica may lead by then",
                offset=offset,
            ) from damage

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> CommitWaiter:
        """Call back once when the committed end passes `offset`, or when leadership is lost."""
        waiter = CommitWaiter(callback)
        if self._committed.offset > offset:
            self._environment.call_soon(waiter.fire)
        else:
            self._waiters.add(offset, waiter)
        return waiter

    async def confirm_read(self) -> int:
        """The committed end, confirmed by a read-index round that begins after this call.

        Raises NotLeader, NoLeader.
        """
        self._leadership.require()
        token, confirmed = self._reads.begin()
        try:
            self.take(ReadIndex(token))
            return await confirmed
        finally:
            self._reads.end(token)

    # -- leadership --------------------------------------------------------------------------------------------------

    def require_ready(self) -> None:
        """Raises NotLeader, NoLeader (it does not know yet what is committed), ReplicaDamaged."""
        self._leadership.require_ready()

    def change_voters(self, voters: tuple[Voter, ...]) -> None:
        """Append a change of the voters, which counts from now on. It is committed later, or cut with this leadership.

        Raises NotLeader, NoLeader, VotersUnchanged.
        """
        self.require_ready()
        core = self._core
        refusal = core.refuses_voters(voters)
        if refusal is not None:
            raise VotersUnchanged(f"the voters of {self.partition} stay {_listed(core.voters)}: {refusal}")
        assert not self._draining, "changing the voters from within a step"
        point = core.last._replace(rank=core.last.rank + 1)
        self.take(Propose((voter_change(point, voters, self._environment.wall_ms()),)))

    def keeps_up(self, voter: Voter) -> bool:
        """Leader only: is it in touch, and holds what this log held a moment ago?"""
        return voter == self.voter or self._core.is_within_reach(voter)

    async def transfer_leadership(self, broker_id: int, timeout_ms: int = 3000) -> None:
        """Hand leadership to the voter on `broker_id`.

        Raises NotLeader, NoLeader (it did not take over in time, and this replica leads on if it still can).
        """
        await self._leadership.transfer(broker_id, timeout_ms)

    def set_learners(self, learners: tuple[Voter, ...]) -> None:
        if learners != self._core.learners:
            self.take(SetLearners(learners))

    def set_throttled(self, throttled: bool) -> None:
        """Are learners that catch up, while this replica leads, sent only what `allow` allows them?"""
        if throttled != self._core.throttled:
            self.take(SetThrottled(throttled))

    def waiting_for_allowance(self) -> list[Voter]:
        """The learners that could be sent more, had they an allowance."""
        return self._core.waiting_for_allowance()

    def allow(self, learner: Voter, size_bytes: int) -> None:
        """Let a learner that catches up be sent so much more. What it is owed stays with it until it has caught up."""
        self.take(Allow(learner, size_bytes))

    def set_willing(self, willing: bool) -> None:
        """May it lead? An unwilling replica votes and follows like any other."""
        if willing != self._core.willing:
            self.take(SetWilling(willing))

    def step_down(self, reason: str) -> None:
        self.take(StepDown(reason))

    # -- damage ------------------------------------------------------------------------------------------------------

    def _on_damage(self, damage: DamagedLog) -> None:
        """Our own stored bytes are unreadable: keep our word, stop leading and counting, and have it repaired.

        One that votes alone leads on: nobody else has what it could be repaired with, and all the rest can be served.
        """
        if self._core.voters == (self.voter,):
            self._suspects.note_beyond_repair(damage)
            return
        if not self._suspects.note(damage):
            return
        if not self._core.damaged and not self._stopped:
            word = self._word_now()
            self._copy.forget_early_reply()
            self._promised = self._promises.note_word(self.partition, word)
            # Before all that waits: none of it is for a log that is whole.
            self._inbox.appendleft(DamageFound(word))
            if not self._draining and not self._cutting:
                self._drain()
        if self.log.hole is None:
            self._environment.spawn(self.read_log_anew())
        # Else what is repaired now is read anew later, and all that is suspect with it.

    async def scrub(self, pace: Pace) -> int:
        """Read the whole log at a pace, to find what has decayed. Returns the bytes read; 0 if it is no time for it."""
        if self._stopped or self._cutting or self._core.damaged:
            return 0
        try:
            return await scrub(self._environment.disk, self.log, pace)
        except DamagedLog as damage:
            if not self._stopped:
                self._on_damage(damage)
            return 0
        except NamesNotSynced as error:
            self._environment.halt(f"a mended head of {self.partition}: {error}")

    def sources(self) -> tuple[Voter, ...]:
        """The other replicas, voters or not, of which this one knows; the leader first."""
        leader = () if self._core.leader is None else (self._core.leader,)
        known = (*leader, *self._core.voters, *self._core.learners, *self.placed)
        return tuple(voter for voter in dict.fromkeys(known) if voter != self.voter)

    @property
    def is_log_in_flux(self) -> bool:
        return self._cutting or self._stopped

    @property
    def is_replacing(self) -> bool:
        return self._compaction.is_replacing

    @property
    def is_resetting(self) -> bool:
        return self._resetting

    @property
    def is_stepping(self) -> bool:
        return self._draining

    @property
    def flushed(self) -> Ticket:
        return self._flushed

    @property
    def awaits_repair(self) -> bool:
        return self._core.damaged and not self.is_log_in_flux

    def _word_now(self) -> Point:
        """As far as it may have acknowledged anything."""
        # What is flushed may be acknowledged, though the core hears of it only once a newer promise is on disk too.
        word = max(self._core.word, self._core.persisted, self._flushed.end)
        if self._copy.is_promised:
            word = max(word, self._core.last)  # it may be acknowledged as soon as it is written
        return word

    def hole_lost(self, event: HoleLost) -> None:
        self._suspects.clear()
        self.take(event)
        self._leadership.ask_leader_later()

    async def read_log_anew(self, suspect: int | None = None, base: Point | None = None) -> None:
        """What is on disk of a damaged log has changed, or is to be looked at: be what it says.

        `base` is where it begins now, if that is another place than before.
        """
        if suspect is not None:
            self._suspects.add(suspect)
        if base is not None:
            self._new_base = base
        if self._is_reading_anew or self._stopped:
            return
        self._is_reading_anew = True
        while not self._cut_is_over.is_set():
            await self._cut_is_over.wait()
        if not self._stopped:
            await self._read_log_anew()
        self._is_reading_anew = False
        if self._stopped:
            return
        if self.log.hole is not None:
            self._repairer.begin()
        elif self._core.damaged:
            self._environment.spawn(self.read_log_anew())  # more was met meanwhile
        else:
            self._leadership.ask_leader()

    async def _read_log_anew(self) -> None:
        assert self._core.damaged and not self._draining, f"{self.partition} is read anew, but is not damaged"
        partition, promises, old = self.partition, self._promises, self.log
        self._cutting = True
        self._cut_is_over.clear()
        # From here on nothing that was written before says anything: what is read now does. What of it never was on
        # disk was not acknowledged: a leader whose first item could not be synced must not wait until others hold it.
        # It is on disk before anything may be cut.
        word = self._word_now()
        self._promised = promises.note_word(partition, word)
        old.announce_cut()
        self._inbox = deque(event for event in self._inbox if not isinstance(event, Persisted))
        self._forget_unsynced()
        await self._start.drop_is_over()
        await self._compaction.replacement_is_over()
        await self._flusher.let_go(old)
        await promises.sync(self._promised)
        suspects = frozenset(self._suspects)
        known = promises.recall(partition)
        if not self._stopped and known is not None:
            try:
                log, verdict = await recover_log(
                    self._environment,
                    promises,
                    self._data_directory,
                    partition,
                    old.config,
                    # Of what is on disk the promises hear a little later.
                    mark=max(known.mark, self._core.persisted),
                    same_boot=self._was_settled or not promises.boot_changed,
                    term_max=self._core.term,
                    # While what was found at the start is not repaired, it may be any: only that process knew which.
                    suspects=suspects if self._was_settled else None,
                    base=_base_of(old) if self._new_base is None else self._new_base,
                )
            except OSError as error:
                # The old log may be cut by half, and nobody could go on with it: the next start finds what there is.
                self._environment.halt(f"reading {partition} anew: {error}")
            await promise_thinned(promises, log)
            if verdict.damage is not None and not self._was_settled:
                # An earlier process may have acknowledged what stands there, and each reading tells more of it.
                word = max(word, verdict.damage.word)
            if verdict.damage is not None or word > log.end:
                self._promised = promises.note_word(partition, word)
                await promises.sync(self._promised)
            self._take_log(log, verdict, word, suspects)
        self._cut_is_over.set()
        self._cutting = False
        if not self._stopped:
            self._drain()
            self._start.drop_soon()
            if self._copy.is_promised:
                self._copy.note_flushed(self._flushed.written)  # what is read anew is on disk, and no flush will say so

    def _take_log(self, log: PartitionLog, verdict: RecoveryVerdict, word: Point, suspects: frozenset[int]) -> None:
        """Go on with a log that was read anew."""
        old, core, known = self.log, self._core, self._promises.recall(self.partition)
        self._new_base = None
        assert known is not None, f"{self.partition} is listed no more"
        is_whole = verdict.damage is None and suspects == frozenset(self._suspects)
        self.log = log
        old.close()
        self._flushed = log.ticket()
        self._copy.begin_anew()
        if verdict.damage is None:
            self._was_settled = True
        if is_whole:
            self._suspects.clear()
            self._promises.raise_mark(self.partition, log.end)
        committed = self._committed
        # How far it is cleaned is promised before anybody is told: the event says it, of this log.
        self._inbox = deque(event for event in self._inbox if not isinstance(event, LogCleaned))
        event = LogRecovered(
            log.journal.copy(),
            log.voter_sets.copy(),
            word,
            known.doubtful,
            not is_whole,
            known.cleaned_to,
            committed,
        )
        self._draining = True
        try:
            self._carry_out(core.step(event))
        finally:
            self._draining = False
        self._committed = core.committed
        self._start.begin_anew(core.committed)
        if core.committed < committed:
            self.resets += 1  # whoever follows what is committed begins anew

    # -- the end -----------------------------------------------------------------------------------------------------

    def fall_silent(self, why: str) -> None:
        """Neither lead, vote, count nor answer from now on. `stop` is still to be called."""
        if self._stopped:
            return
        self.step_down(why)
        self._stopped = True
        self._timer.stop()
        self._copy.stop()
        self._fail_appendings()
        self._reads.refuse_all(self._leadership.refusal)

    async def stop(self) -> None:
        """Stop answering; what was written stays, and is on disk if it counted before it was."""
        self.fall_silent("the broker stops")
        if self._closed:
            return
        self._closed = True
        # A cut, a drop or a flush that finds its files closed, or gone with a deleted one, would end the process.
        await self._cut_is_over.wait()
        await self._start.drop_is_over()
        await self._compaction.replacement_is_over()
        await self._repairer.stop()
        await self._flusher.let_go(self.log)
        await self._copy.sync_at_last()
        self.log.close()


def _base_of(log: PartitionLog) -> Point:
    """Where it begins, as far as that is known: its beginning may be lost."""
    return log.base if log.hole is None or log.hole.segment >= 0 else log.hole.base


def _listed(voters: tuple[Voter, ...]) -> str:
    return ", ".join(map(str, voters))
