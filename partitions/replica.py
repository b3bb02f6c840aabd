"""One replica of a partition: what the Raft core decides, carried out on a disk and a network.

All I/O of a replica is started in one loop, so the order that safety depends on is read in one place, `_carry_out`.
The loop never waits for the disk: what must be durable first is handed to the flusher, and goes on when that says so.
The exceptions are a cut and a reset, during which events queue up.

Invariants
    a message that binds leaves only after the promise, and for an append's acknowledgement the items, are on disk
    a flush from before the last cut says nothing
    the core hears `Persisted` only once the promises made before it are durable too
    where a copy counts once it is written, it does so only while `promises.log` says, durably, that the page cache of
    this boot holds what no sync has covered
    what moves the log start is acted upon once it is committed, and segments are dropped once it is on this disk too
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from ..proto.errors import (
    LograftError,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    ReplicaDamaged,
    UnknownOutcome,
    VotersUnchanged,
)
from ..proto.record_batch import BatchHeader, read_header, stamp
from .campaigns import Campaigns
from .commit_news import CommitNews
from .environment import Environment, PartitionId, ReplicaConfig, TimerHandle
from .flusher import Flusher
from .producers import Duplicate, next_sequence
from .raft.core import RaftCore, Role
from .raft.events import (
    Allow,
    AskLeader,
    CountWritten,
    DamageFound,
    Effects,
    Event,
    HoleLost,
    LogBegan,
    LogCleaned,
    LogRecovered,
    PeerHeard,
    Persisted,
    Propose,
    ReadIndex,
    Replicate,
    Sent,
    SetLearners,
    SetThrottled,
    SetWilling,
    StepDown,
    TellCommitted,
    TimerFired,
    TransferAbandoned,
    TransferTo,
)
from .raft.messages import AppendReply, AppendRequest, HeadOffer, Message, RepairReply, RepairRequest, Voter
from .raft.points import ORIGIN, Item, ItemKind, Point
from .repairer import RepairCounts, Repairer
from .replica_counts import ReplicaCounts
from .storage.compaction import CompactionSettings, CompactionState, plan_compaction
from .storage.log import DamagedLog, PartitionLog, RecoveryVerdict, Ticket
from .storage.promises import Promises
from .storage.repair import NamesNotSynced
from .storage.retention import RetentionLimits, start_to_keep
from .storage.rewriting import Job, Outcome, Rewritten
from .storage.scrub import Pace, scrub
from .storage.segment import segment_base
from .storage.segment_head import SegmentHead
from .storage.zero_width import log_start_move, voter_change

WAITERS_SWEPT_AT = 64
"""How many may wait for a commit before those who gave up are looked for."""

MEMORY_QUIET_MS = 2_000.0
"""Nothing was written for so long, and all of it is on disk: the promise that memory counts is taken back."""


Offered = tuple[bytes | bytearray | memoryview, BatchHeader, int | None]
"""A checked batch, its header, and the lowest sequence of its producer without a final answer, if it said so."""


class Appended(NamedTuple):
    """What became of a batch."""

    base_offset: int
    """-1: a duplicate so old that its offset is not remembered."""
    term: int
    """In which the batch was written; of a duplicate without an offset the leader's own."""
    duplicate: bool
    copies: int
    """Voters known to hold it, in the way that `durability` says."""
    replicas: int
    durability: str = "fsync"
    """Where the copies are that were counted: `fsync`, on disk, or `memory`, in page caches at least."""


class Appending:
    """A batch on its way. The futures fail with UnknownOutcome if leadership is lost first."""

    __slots__ = ("base_offset", "began_ms", "committed", "end", "is_duplicate", "persisted", "term")

    def __init__(
        self,
        base_offset: int,
        end: Point,
        term: int,
        *,
        duplicate: bool,
        loop: asyncio.AbstractEventLoop,
        began_ms: float = 0.0,
    ) -> None:
        self.base_offset = base_offset
        self.end = end
        self.term = term
        self.is_duplicate = duplicate
        """It is there already, or on its way."""
        self.began_ms = began_ms
        self.committed: asyncio.Future[Appended] = loop.create_future()
        self.persisted: asyncio.Future[Appended] = loop.create_future()

    def resolve(self, future: asyncio.Future[Appended], copies: int, replicas: int, durability: str) -> None:
        if not future.done():
            future.set_result(Appended(self.base_offset, self.term, self.is_duplicate, copies, replicas, durability))

    def fail(self, why: Exception) -> None:
        for future in (self.committed, self.persisted):
            if not future.done():
                future.set_exception(why)
                # An answer that nobody waits for (each caller awaits one of the two) is no error.
                future.exception()


class Chunk(NamedTuple):
    """Committed batches, as stored."""

    batches: list[memoryview]
    """The first may begin before the offset that was asked for."""
    next_offset: int
    committed_offset: int
    start_offset: int
    term: int


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    voter: Voter
    votes: bool
    heard: bool
    match: Point
    counts: bool
    held_bytes: int | None
    """Of a learner: how much of the log it holds, about."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What an operator would ask of one replica."""

    partition: PartitionId
    voter: Voter
    role: Role
    term: int
    leader: Voter | None
    ready: bool
    start_offset: int
    end: Point
    committed: Point
    persisted: Point
    size_bytes: int
    durability: str
    unsynced_bytes: int
    doubtful: bool
    damaged: bool
    repair: str
    """What of its log is being repaired, or why it cannot be; empty if all that was read of it could be read."""
    word: Point
    """What it once held, and votes by until its log end has reached it; the origin if there is no such thing."""
    voters: tuple[Voter, ...]
    voters_committed: tuple[Voter, ...]
    """Who votes by the newest change that is known to be committed."""
    followers: tuple[FollowerStatus, ...]
    """Of a leader; else empty."""


class ReplicaObserver(Protocol):
    """Told of changes, in the loop; must not block."""

    def role_changed(self, replica: Replica) -> None: ...
    def committed(self, replica: Replica) -> None: ...


class CommitWaiter:
    """A callback to be called once, when the committed end passes an offset or leadership is lost."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


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
        self._campaigns = campaigns
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
        self._timer: TimerHandle | None = None
        self._promised = promises.synced
        """Number of the newest promise this replica made."""
        self._awaited_promise = self._promised
        """Once this one is on disk, `_release` is called."""
        self._flushed = log.ticket()
        """All of it is durable: recovery and creation return only then."""
        self._in_memory = False
        """Does a copy count once it is written, as the topic has it?"""
        known = promises.recall(partition)
        noted = known is not None and known.memory_boot == environment.disk.boot_id
        self._memory_noted: int | None = 0 if noted else None
        """Number of the promise that this boot's page cache may hold what no sync has covered; None: not promised."""
        self._counts_written = self._others_count_written = False
        """As the core was told of this replica's copy, and of the others'; it may be yet to hear that."""
        self._unsynced: deque[tuple[int, int]] = deque()
        """Appends of records that are not on disk yet: the ticket's number, and bytes."""
        self._unsynced_bytes = 0
        self._unrequested_bytes = 0
        self._memory_through = 0
        """Of a replica whose copy counts only on disk again: the last append that may have counted before."""
        self._flush_timer: TimerHandle | None = None
        self._quiet_timer: TimerHandle | None = None
        self._early_reply: AppendReply | None = None
        """Acknowledges what was not on disk yet when it left; sent once more when it is."""
        self._after_promise: deque[tuple[int, Message]] = deque()
        self._after_flush: deque[tuple[int, Ticket, Message]] = deque()
        self._appendings: list[tuple[int, int, Appending]] = []
        self._unpersisted: deque[Appending] = deque()
        self._start_moves: list[tuple[Point, asyncio.Future[None]]] = []
        self._dropping = False
        self._drop_is_over = asyncio.Event()
        self._drop_is_over.set()
        self._replacement_is_over = asyncio.Event()
        self._replacement_is_over.set()
        self._compaction = CompactionState(self.compacted_to[0])
        self.resets = 0
        """Times the log was begun anew: what was read of it before may be gone without a trace."""
        self._appending_count = 0
        self._commit_waiters: list[tuple[int, int, CommitWaiter]] = []
        self._waiter_count = 0
        self._waiters_swept_at = WAITERS_SWEPT_AT
        self._reads: dict[int, asyncio.Future[int]] = {}
        self._read_count = 0
        self._handing_over: list[tuple[int, asyncio.Future[None]]] = []
        self._led = False
        self._committed = core.committed
        """As carried out: during a cut the core knows more, of a log that is not there yet."""
        self._log_start = log.start_offset_at(core.committed)
        self._repairer = Repairer(environment, promises, self, repair_counts or RepairCounts())
        self._suspects: set[int] = set()
        """Base offsets of segments in which something unreadable was met, and that were not read since."""
        self._is_reading_anew = False
        self._awaits_leader = False
        """The leader does not know yet that this log is not what it was."""
        self._was_settled = not log.damage
        """What this process found past the mark is on disk again, so its page cache is what counts."""
        self._unreadable = ""

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
        known = promises.recall(partition)
        counts = counts or ReplicaCounts()
        doubtful = damaged = False
        word = ORIGIN
        if known is None or known.replica_number != voter.replica_number:
            voters = first_voters if voter in first_voters else ()
            log = await PartitionLog.create(environment, directory, partition, voters, config)
            number = promises.note_created(partition, voter.replica_number)
            await promises.sync(number)
            term, voted_for = 0, None
        else:
            term, voted_for, doubtful = known.term, known.voted_for, known.doubtful
            word = known.word or ORIGIN
            if known.memory_boot not in (None, environment.disk.boot_id):
                # What it acknowledged last was in a page cache that is gone. In one round: no crash finds half of it.
                promises.note_doubt(partition, True)
                await promises.sync(promises.note_memory_boot(partition, None))
                doubtful = True
                environment.log("memory_lost", partition=str(partition), boot=known.memory_boot)

            async def remember_doubt() -> None:
                await promises.sync(promises.note_doubt(partition, True))

            async def remember_reset(head: SegmentHead) -> None:
                await _promise_reset(promises, partition, head)

            log, verdict = await PartitionLog.recover(
                environment,
                directory,
                partition,
                mark=known.mark,
                same_boot=not promises.boot_changed,
                config=config,
                on_doubt=remember_doubt,
                on_reset=remember_reset,
                term_max=term,
                # With a word to keep, it was found damaged, maybe by a read in the midst of it.
                suspects=None if known.word is not None else (),
            )
            if log.end.term > term:
                # A crash came between items of a newer term and the promise to follow in it. They will be acknowledged
                # now, and recovery counts on it that nothing past the promised term ever was.
                term, voted_for = log.end.term, None
                await promises.sync(promises.note_vote(partition, term, None))
            await _promise_thinned(promises, log)
            doubtful = doubtful or verdict.doubtful
            counts.recovery_cut_bytes += verdict.cut_bytes
            if verdict.damage is not None:
                counts.damage_met()
                damaged = True
                word = max(word, verdict.damage.word)
                await promises.sync(promises.note_word(partition, word))
                environment.log("replica_damaged", partition=str(partition), why=verdict.damage.why, word=str(word))
            elif known.memory_boot == environment.disk.boot_id:
                # All that it holds is on disk now.
                promises.note_memory_boot(partition, None)
            if verdict.doubtful:
                environment.log("replica_doubtful", partition=str(partition), end=str(log.end))
        listed = promises.recall(partition)
        assert listed is not None, f"{partition} was just opened"
        core = RaftCore(
            voter=voter,
            voter_sets=log.voter_sets.copy(),
            journal=log.journal.copy(),
            random=environment.random,
            term=term,
            voted_for=voted_for,
            word=word,
            doubtful=doubtful,
            damaged=damaged,
            cleaned_to=listed.cleaned_to,
            election_timeout_ms=config.election_timeout_ms,
            election_stagger_ms=config.election_stagger_ms,
            append_bytes_max=config.append_bytes_max,
            in_flight_bytes_max=config.in_flight_bytes_max,
        )
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
        if not damaged:
            promises.raise_mark(partition, log.end)
        replica._carry_out(core.start())
        if damaged:
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
        return self._log_start

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
        return self._core.damaged or bool(self._unreadable)

    @property
    def repair_refused_by(self) -> tuple[int, ...]:
        """Brokers that said that they cannot give what its log lost."""
        return self._repairer.refused_by if self._core.damaged else ()

    @property
    def durability(self) -> str:
        """From when on a copy counts here: `fsync`, once it is on disk, or `memory`, once it is written."""
        return "memory" if self._in_memory else "fsync"

    @property
    def unsynced_bytes(self) -> int:
        """Of a replica whose copy counts once it is written: how much of it is not on disk yet."""
        return self._unsynced_bytes

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
        core = self._core
        return ReplicaStatus(
            partition=self.partition,
            voter=core.voter,
            role=core.role,
            term=core.term,
            leader=core.leader,
            ready=core.is_ready,
            start_offset=self._log_start,
            end=core.last,
            committed=self._committed,
            persisted=core.persisted,
            size_bytes=self.log.size_bytes,
            durability=self.durability,
            unsynced_bytes=self._unsynced_bytes,
            doubtful=core.doubtful,
            damaged=core.damaged,
            repair=self._repairer.state or self._unreadable,
            word=core.word,
            voters=core.voters,
            voters_committed=core.voter_sets.at(core.committed),
            followers=tuple(
                FollowerStatus(
                    voter=progress.voter,
                    votes=progress.voter in core.voters,
                    heard=core.is_heard(progress.voter),
                    match=progress.match,
                    counts=progress.counted >= progress.match,
                    held_bytes=None if progress.voter in core.voters else self.log.size_to(progress.match),
                )
                for progress in core.progress.values()
            ),
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
                    self._awaits_leader = False
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
        await self._promises.sync(self._promised)
        if not self._stopped:
            before_bytes = self.log.size_bytes
            await self.log.cut(point)
            self._counts.cut_bytes += before_bytes - self.log.size_bytes
            self._flushed = Ticket(self.log.cuts, self._flushed.written, min(self._flushed.end, point))

    async def _reset(self, offer: HeadOffer) -> None:
        """Begin the log anew at a leader's head. What this replica once acknowledged is kept durably first."""
        self._promises.note_word(self.partition, self._core.word)
        self._promised = self._promises.lower_mark(self.partition, ORIGIN)
        await self._promises.sync(self._promised)
        await self._drop_is_over.wait()
        await self._replacement_is_over.wait()
        if not self._stopped:
            await self.log.reset(
                SegmentHead.from_bytes(offer.head, f"the head that {offer.sender} offers"),
                lambda head: _promise_reset(self._promises, self.partition, head),
            )
            self.resets += 1
            self._counts.resets += 1
            self._compaction = CompactionState(self.compacted_to[0])
            self._log_start = self.log.start_offset_at(offer.base)
            self._flushed = Ticket(self.log.cuts, self._flushed.written, offer.base)

    async def _go_on_after_cut(self, effects: Effects) -> None:
        """Cut or reset the log, then carry out the rest."""
        # What these were to acknowledge is about to vanish.
        self._forget_unsynced()
        if effects.cut is not None and not self._stopped:
            try:
                await self._cut(effects.cut)
            except DamagedLog as damage:
                # Where it would end cannot be read any more, and nothing was cut: the log is what the disk says it is.
                self._cut_is_over.set()
                self._cutting = self._resetting = False
                self._on_damage(damage)
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
        self._flusher.request(self.log, self._on_flushed)
        self._cutting = False
        self._draining = True
        try:
            self._carry_out_from_append(effects)
        finally:
            self._draining = False
        self._drain()
        self._drop_soon()

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
            self._set_timer(effects.timer_ms)
        for event, facts in effects.notes:
            self._counts.note(event)
            self._environment.log(event, partition=str(self.partition), **facts)
        if effects.has_news:
            self._tell_committed()
        if effects.committed is not None:
            self._on_committed()
        if effects.reads_confirmed or effects.reads_refused:
            self._answer_reads(effects)
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
            self._promised = self._promises.note_compacted(
                self.partition, rewritten_to=self.log.thinned_to, cleaned_to=cleaned_to
            )
        if self._in_memory:
            self._flush_later(items)
        else:
            self._flusher.request(self.log, self._on_flushed)

    def _replicate(self, filling: Replicate, appended: tuple[Item, ...]) -> None:
        request = filling.request
        items = appended if self._just_follows(request.prev, appended, filling) else None
        append_time_ms = self.log.append_time_ms
        if items is None:
            try:
                items, append_time_ms = self.log.read_to_replicate(request.prev, filling.upto, filling.bytes_max)
            except DamagedLog as damage:
                self._on_damage(damage)
                return
        through = items[-1].point if items else request.prev
        size = sum(len(item.data) for item in items)
        if items:
            request = replace(request, items=items, append_time_ms=append_time_ms)
        self._environment.transport.send(self.partition, request)
        self._inbox.append(Sent(request.to, request.session, through, size))
        if not self._draining and not self._cutting:
            self._drain()

    def _offer(self, offer: HeadOffer) -> None:
        try:
            head = self.log.first_head()
        except DamagedLog as damage:
            self._on_damage(damage)
            return
        assert head.base == offer.base, f"{self.partition} begins at {head.base}, not at {offer.base}"
        head = head.compacted(*self.compacted_to)
        offer = replace(offer, voters=head.voters, head=head.to_bytes(), cleaned_to=head.cleaned_to)
        self._environment.transport.send(self.partition, offer)

    @staticmethod
    def _just_follows(prev: Point, appended: tuple[Item, ...], filling: Replicate) -> bool:
        """Are the items just appended exactly what is asked for? Then they need not be read back."""
        if not appended or appended[-1].point != filling.upto or appended[0].kind is not ItemKind.RECORDS:
            return False
        first = appended[0].point
        return (
            prev.term == first.term
            and prev.rank == first.rank
            and prev.offset == int.from_bytes(bytes(appended[0].data[:8]), "big")
            and (len(appended) == 1 or sum(len(item.data) for item in appended) <= filling.bytes_max)
        )

    def _send_when_persisted(self, messages: list[Message]) -> None:
        ticket = self.log.ticket()
        for message in messages:
            if isinstance(message, AppendReply):
                self._after_flush.append((self._promised, ticket, message))
            else:
                self._after_promise.append((self._promised, message))
        self._release()

    def _on_flushed(self, ticket: Ticket) -> None:
        if self._stopped or ticket.cuts != self.log.cuts:
            return  # the log was cut since: these bytes are gone, and so is what they promised
        if ticket.written > self._flushed.written:
            self._flushed = ticket
        if self._unsynced or self._memory_noted is not None:
            self._note_unsynced(ticket.written)
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
                if not self._may_count_written():
                    break
                message = self._told_early(message)
            self._after_flush.popleft()
            self._deliver(message)
        if self._promised <= synced and flushed.cuts == self.log.cuts and flushed.end > self._core.persisted:
            self._promises.raise_mark(self.partition, flushed.end)
            self.take(Persisted(flushed.end))
            self._answer_persisted(flushed.end)
            if self._early_reply is not None:
                self._tell_synced(self._early_reply, flushed.end)
            self._drop_soon()

    # -- copies that count once they are written ---------------------------------------------------------------------

    def set_durability(self, durability: str) -> None:
        """`fsync`: a copy counts once it is on disk. `memory`: once it is written; the disk follows soon.

        From now on: what counted before goes on to do so.
        """
        in_memory = durability == "memory"
        if in_memory == self._in_memory or self._stopped:
            return
        self._in_memory = in_memory
        if not in_memory:
            self._memory_through = self.log.ticket().written
            self._flush_now()
        self._tell_what_counts()

    def _may_count_written(self) -> bool:
        return (
            self._in_memory
            and self._memory_noted is not None
            and self._memory_noted <= self._promises.synced
            and self._unsynced_bytes <= self._config.memory_unsynced_bytes_max
            and not self._core.damaged
        )

    def _tell_what_counts(self) -> None:
        """Tell the core if its own copy counts, or others' do, from another moment on than it was told."""
        own = self._may_count_written()
        if self._stopped or (own, self._in_memory) == (self._counts_written, self._others_count_written):
            return
        self._counts_written, self._others_count_written = own, self._in_memory
        self.take(CountWritten(copies=self._in_memory, own=own))
        if own and not self._cutting:
            self._answer_persisted(self.log.end)
            self._release()

    def _flush_later(self, items: tuple[Item, ...]) -> None:
        """What was just written is to be on disk soon; what no majority counts before it is, at once."""
        size = sum(len(item.data) for item in items)
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        self._unsynced.append((self.log.ticket().written, size))
        self._unsynced_bytes += size
        self._unrequested_bytes += size
        if self._memory_noted is None:
            self._memory_noted = self._promises.note_memory_boot(self.partition, self._environment.disk.boot_id)
            self._promises.when_synced(self._memory_noted, self._tell_what_counts)
        elif self._counts_written and self._unsynced_bytes > self._config.memory_unsynced_bytes_max:
            self._tell_what_counts()
        is_binding = any(item.kind is not ItemKind.RECORDS for item in items)
        if is_binding or self._unrequested_bytes >= self._config.memory_flush_bytes:
            self._flush_now()
        elif self._flush_timer is None:
            self._flush_timer = self._environment.call_later(self._config.memory_flush_ms, self._flush_now)

    def _flush_now(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._unrequested_bytes = 0
        if not self._stopped and not self._cutting:
            self._flusher.request(self.log, self._on_flushed)

    def _note_unsynced(self, written: int) -> None:
        """All appends up to this one are on disk."""
        while self._unsynced and self._unsynced[0][0] <= written:
            self._unsynced_bytes -= self._unsynced.popleft()[1]
        self._tell_what_counts()
        if self._memory_noted is not None and self._quiet_timer is None and self._is_on_disk():
            delay_ms = MEMORY_QUIET_MS if self._in_memory else 0.0
            self._quiet_timer = self._environment.call_later(delay_ms, self._maybe_take_back)

    def _is_on_disk(self) -> bool:
        """All that may have counted before it was on disk?"""
        through = self.log.ticket().written if self._in_memory else self._memory_through
        return self._flushed.cuts == self.log.cuts and self._flushed.written >= through

    def _maybe_take_back(self) -> None:
        """Where all is on disk, and nothing comes in, a loss of power costs nothing: say so."""
        self._quiet_timer = None
        is_in_flux = self._stopped or self._cutting or self._core.damaged
        if is_in_flux or self._memory_noted is None or not self._is_on_disk():
            return
        # From here on no copy counts before it is synced, until the promise is made anew.
        self._memory_noted = None
        self._promises.note_memory_boot(self.partition, None)
        self._tell_what_counts()

    def _told_early(self, message: Message) -> Message:
        """An acknowledgement of what is written, and not all on disk: it says how much is."""
        if not isinstance(message, AppendReply) or not message.accepted:
            return message
        synced = min(message.match, self._core.persisted)
        if synced == message.match:
            return message
        self._early_reply = message
        return replace(message, synced=synced)

    def _tell_synced(self, early: AppendReply, synced: Point) -> None:
        """What was acknowledged before it was on disk is there by now, or more of it."""
        if synced >= early.match:
            self._early_reply = None
            self._deliver(early)
        else:
            self._deliver(replace(early, synced=synced))

    def _forget_unsynced(self) -> None:
        """The log is cut: no message from before says anything of it any more."""
        self._after_flush.clear()
        self._early_reply = None
        self._unsynced.clear()
        self._unsynced_bytes = self._unrequested_bytes = 0
        if self._flush_timer is not None:
            # What is left of the log is flushed when the cut is over; one that is read anew is not to be touched.
            self._flush_timer.cancel()
            self._flush_timer = None

    def _deliver(self, message: Message) -> None:
        if message.to == self._core.voter:
            self.take(message)
        else:
            self._environment.transport.send(self.partition, message)

    def _set_timer(self, delay_ms: float) -> None:
        if self._campaigns is not None:
            self._campaigns.withdraw(self.partition)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms:
            self._timer = self._environment.call_later(delay_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._campaigns is None or self._core.is_leader:
            self.take(TimerFired())
        else:
            self._campaigns.ask(self.partition, self._on_campaign_turn)

    def _on_campaign_turn(self) -> None:
        self.take(TimerFired())
        self._end_campaign_turn()

    def _end_campaign_turn(self) -> None:
        """Unless it still seeks to be elected, or does not know yet what is committed."""
        core = self._core
        if self._campaigns is not None and (
            self._stopped or core.role is Role.FOLLOWER or core.is_ready or not core.is_heard_by_majority
        ):
            self._campaigns.over(self.partition)

    def _on_role_changed(self) -> None:
        core = self._core
        self._led = core.is_leader
        self._end_campaign_turn()
        if core.leader is not None:
            for term, handed_over in self._handing_over:
                if core.term > term:
                    _resolve(handed_over)
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
        taken: list[tuple[Item, Appending]] = []
        taken_bytes = 0
        numbered: dict[int, tuple[int, int]] = {}
        """Of the producers of what is taken and not proposed yet: epoch, and the sequence after their last batch."""
        for batch, header, first_open in run:
            follows = numbered.get(header.producer_id) == (header.producer_epoch, header.base_sequence)
            is_unclear = not follows and header.producer_id in numbered
            if is_unclear or taken_bytes + len(batch) > self._config.append_bytes_max:
                # Only what is in the log is in the table of producers.
                self._propose_records(taken)
                taken, taken_bytes, numbered, follows = [], 0, {}, False
            try:
                outcome = self._take_or_refuse(batch, header, first_open, taken, follows=follows)
            except LograftError as refusal:
                outcomes.append(refusal)
                continue
            outcomes.append(outcome)
            if not outcome.is_duplicate:
                taken_bytes += len(batch)
                if header.has_producer:
                    numbered[header.producer_id] = header.producer_epoch, next_sequence(header)
        self._propose_records(taken)
        return outcomes

    def _take_or_refuse(
        self,
        batch: bytes | bytearray | memoryview,
        header: BatchHeader,
        first_open: int | None,
        taken: list[tuple[Item, Appending]],
        *,
        follows: bool,
    ) -> Appending:
        """Add a batch to those about to be proposed. `follows`: it is its producer's next, after one of them."""
        core = self._core
        self._require_lead()
        if core.transfer_target is not None:
            raise NoLeader(f"leadership of {self.partition} is being handed over; try again", term=core.term)
        if header.has_producer and not follows:
            verdict = self.log.producers.check(header, first_open)
            if isinstance(verdict, Duplicate):
                return self._await_original(verdict)
        last = taken[-1][0].point if taken else core.last
        data = stamp(batch, last.offset, core.term)
        end = Point(core.term, last.offset + header.width, last.rank)
        began_ms = self._environment.monotonic_ms()
        appending = Appending(last.offset, end, core.term, duplicate=False, loop=self._loop, began_ms=began_ms)
        taken.append((Item(end, ItemKind.RECORDS, data), appending))
        return appending

    def _propose_records(self, taken: list[tuple[Item, Appending]]) -> None:
        if not taken:
            return
        for item, appending in taken:
            self._appending_count += 1
            heapq.heappush(self._appendings, (item.point.offset, self._appending_count, appending))
            self._unpersisted.append(appending)
        assert not self._draining and self._core.voters, "appending from within a step, or without voters"
        self.take(Propose(tuple(item for item, _ in taken)))
        if self._counts_written:
            self._answer_persisted(taken[-1][0].point)

    def _await_original(self, duplicate: Duplicate) -> Appending:
        """A duplicate is answered when the original is committed, with the original's offset and term."""
        core = self._core
        base_offset = -1 if duplicate.base_offset is None else duplicate.base_offset
        end = Point(core.term, duplicate.end_offset, 0)
        # Readers get the record with the term it was written in: whoever sent it is told no other.
        term = core.term if duplicate.base_offset is None else self.log.journal.term_at(base_offset)
        appending = Appending(base_offset, end, term, duplicate=True, loop=self._loop)
        if core.committed.offset >= duplicate.end_offset:
            self._settle(appending)
        else:
            self._appending_count += 1
            heapq.heappush(self._appendings, (duplicate.end_offset, self._appending_count, appending))
        return appending

    def _settle(self, appending: Appending) -> None:
        core = self._core
        copies = max(core.copies_of(appending.end), len(core.voters) // 2 + 1)
        is_synced = not self._in_memory and core.committed_synced.offset >= appending.end.offset
        for future in (appending.committed, appending.persisted):
            appending.resolve(future, copies, len(core.voters), "fsync" if is_synced else "memory")

    def _on_committed(self) -> None:
        self._committed = self._core.committed
        committed = self._committed.offset
        if self._appendings and self._appendings[0][0] <= committed:
            now_ms = self._environment.monotonic_ms()
            while self._appendings and self._appendings[0][0] <= committed:
                appending = heapq.heappop(self._appendings)[2]
                if not appending.is_duplicate:
                    self._counts.committed_after((now_ms - appending.began_ms) / 1000)
                self._settle(appending)
        while self._commit_waiters and self._commit_waiters[0][0] < committed:
            heapq.heappop(self._commit_waiters)[2].fire()
        log_start = self.log.start_offset_at(self._committed)
        assert log_start >= self._log_start, (
            f"the start of {self.partition} moves from {self._log_start} to {log_start}"
        )
        if log_start > self._log_start:
            self._log_start = log_start
            self._drop_soon()
        if self._start_moves:
            self._answer_start_moves()
        self._observer.committed(self)

    def _answer_persisted(self, persisted: Point) -> None:
        while self._unpersisted and self._unpersisted[0].end <= persisted:
            appending = self._unpersisted.popleft()
            copies = max(self._core.copies_of(appending.end), 1)
            appending.resolve(appending.persisted, copies, len(self._core.voters), self.durability)

    def _fail_appendings(self) -> None:
        pending, self._appendings = self._appendings, []
        self._unpersisted.clear()
        for _, _, appending in pending:
            appending.fail(
                UnknownOutcome(
                    f"leadership of {self.partition} was lost before a majority answered; send the same batch again",
                    term=appending.end.term,
                )
            )
        moves, self._start_moves = self._start_moves, []
        for _, moved in moves:
            if not moved.done():
                moved.set_exception(self._unknown_start_move())
                moved.exception()
        waiters, self._commit_waiters = self._commit_waiters, []
        for _, _, waiter in waiters:
            waiter.fire()

    # -- the log start -----------------------------------------------------------------------------------------------

    def check_log_start(self, offset: int) -> None:
        """May the log start at `offset`? Raises NotLeader, NoLeader, OffsetOutOfRange."""
        self.require_ready()
        if not 0 <= offset <= self._committed.offset:
            raise OffsetOutOfRange(
                f"{self.partition} cannot start at {offset}: name an offset from 0 to {self._committed.offset}, up to "
                "which it is committed",
                offset=offset,
                start=self._log_start,
                end=self._committed.offset,
            )

    async def move_log_start(self, offset: int) -> int:
        """Let the log start at `offset`; return the start once that is committed. One that starts later stays so.

        Raises NotLeader, NoLeader, OffsetOutOfRange (negative, or past the committed end), UnknownOutcome.
        """
        self.check_log_start(offset)
        if offset > self.log.start_offset:
            self._propose_log_start(offset)
            if not self._core.is_leader:  # lost in that very step: what was appended may be cut
                raise self._unknown_start_move()
        if offset > self._log_start:
            # Whoever moved it there first: what is answered must be committed.
            moved: asyncio.Future[None] = self._loop.create_future()
            self._start_moves.append((self.log.start_moved_past(offset), moved))
            await moved
        return self._log_start

    def enforce_retention(self, limits: RetentionLimits, now_ms: int | None) -> None:
        """As the leader, let go of what the limits no longer keep. It is gone once the others agree; nobody waits.

        `now_ms` is None if the wall clock cannot be trusted.
        """
        core = self._core
        if self._stopped or not core.is_ready or core.transfer_target is not None:
            return
        if now_ms is not None and limits.ms_max is not None:
            ms_max = limits.ms_max
            self._roll(lambda: self.log.roll_if_old(now_ms, ms_max))
        segments = self.log.closed_segments()
        start_offset = start_to_keep(
            segments,
            self.log.size_bytes - sum(segment.size_bytes for segment in segments),
            start_offset=self.log.start_offset,
            committed=self._committed,
            limits=limits,
            now_ms=now_ms,
            followers=[each.match.offset for each in core.progress.values() if core.is_heard(each.voter)],
        )
        if start_offset > self.log.start_offset:
            self._propose_log_start(start_offset)

    def _propose_log_start(self, offset: int) -> None:
        core = self._core
        if core.transfer_target is not None:
            raise NoLeader(f"leadership of {self.partition} is being handed over; try again", term=core.term)
        assert not self._draining, "moving the log start from within a step"
        point = core.last._replace(rank=core.last.rank + 1)
        self.take(Propose((log_start_move(point, offset, self._environment.wall_ms()),)))
        self._environment.log("log_start_moves", partition=str(self.partition), to=offset, at=str(point))

    def _unknown_start_move(self) -> UnknownOutcome:
        return UnknownOutcome(f"leadership of {self.partition} was lost before a majority answered; trim it again")

    def _answer_start_moves(self) -> None:
        waiting, self._start_moves = self._start_moves, []
        for point, moved in waiting:
            if point > self._committed:
                self._start_moves.append((point, moved))
            elif not moved.done():
                moved.set_result(None)

    def _drop_soon(self) -> None:
        """Segments may lie wholly below the log start now. Not in the midst of a step: drop them a little later."""
        if not self._dropping and self.log.has_segment_below(self._log_start):
            self._dropping = True
            self._environment.call_soon(self._drop)

    def _drop(self) -> None:
        """Drop what lies wholly below the log start, as far as that is committed and on this disk.

        In this order: the log and the core forget it at once, then the files go, oldest first. A crash in between
        leaves more than is needed, which is dropped again.
        """
        self._dropping = False
        core = self._core
        assert not self._draining, "dropping from within a step"
        is_busy = self._cutting or not self._drop_is_over.is_set() or not self._replacement_is_over.is_set()
        if self._stopped or is_busy or core.damaged:
            return  # whatever is under way looks again when it is over
        through = min(self._committed, core.persisted)
        start_offset = self.log.start_offset_at(through)
        if self.log.end <= through:
            self._roll(lambda: self.log.roll_if_wholly_below(start_offset))
        base = self.log.first_needed(start_offset, through)
        if base > self.log.base:
            before_bytes = self.log.size_bytes
            self.log.drop_before(base)
            self._counts.dropped(self.partition.topic_id, before_bytes - self.log.size_bytes)
            self._drop_is_over.clear()
            self._environment.spawn(self._finish_drop())
            self.take(LogBegan(base))

    async def _finish_drop(self) -> None:
        await self.log.remove_dropped()
        self._drop_is_over.set()
        self._environment.log("segments_dropped", partition=str(self.partition), base=str(self.log.base))
        self._drop_soon()

    def _roll(self, roll: Callable[[], bool]) -> None:
        try:
            if roll():
                self._flusher.request(self.log, self._on_rolled)
        except OSError as error:
            # On a full disk the old segment has to do until there is room.
            self._environment.log("segment_not_rolled", partition=str(self.partition), why=str(error))

    def _on_rolled(self, ticket: Ticket) -> None:
        self._on_flushed(ticket)
        if not self._stopped:
            self._drop_soon()

    # -- compaction --------------------------------------------------------------------------------------------------

    @property
    def compacted_to(self) -> tuple[int, int]:
        """How far the log is, or is about to be, rewritten and cleaned."""
        known = self._promises.recall(self.partition)
        return (known.rewritten_to, known.cleaned_to) if known is not None else (0, 0)

    def plan_compaction(self, settings: CompactionSettings, *, below: int | None = None) -> Job | None:
        """What to compact now, if it is time; `below` is an offset that whoever reads the log has passed.

        Whoever carries it out hands each segment to `take_compacted`, oldest first, and tells of the end.
        """
        if self._stopped or self._cutting or self._core.damaged:
            return None
        return plan_compaction(
            self.log.directory,
            self.log.base,
            [one for one in self.log.closed_segments() if below is None or one.end.offset <= below],
            self._core.cleanable_to,
            self._compaction,
            settings,
            self._environment.wall_ms(),
        )

    def stands_as_planned(self, job: Job, resets: int) -> bool:
        """Is the log still the one that `job` was planned for, after so many resets, and all of it there?

        Else whoever reads its files finds others, or none, which says nothing of what is stored.
        """
        return not self._cutting and self.resets == resets and self.log.base == job.groups[0].base

    async def take_compacted(self, rewritten: Rewritten) -> bool:
        """Put a compacted segment in place. False: things have changed since it was planned, and it is of no use.

        How far the log is rewritten and cleaned is durable first: else, after a crash, this replica as a leader could
        take a follower for one that it can bring up to date. With it goes the mark, so that none stands where the
        segment has no bound any more.
        """
        core = self._core
        ready = core.cleanable_to
        if self._stopped or self._cutting or not self._drop_is_over.is_set() or not self._replacement_is_over.is_set():
            return False
        done = min(core.committed_synced, core.persisted)
        if core.damaged or rewritten.end > done or rewritten.cleaned_to > ready.offset:
            return False
        self._replacement_is_over.clear()
        try:
            rewritten_to, cleaned_to = self.compacted_to
            rewritten_to, cleaned_to = max(rewritten_to, rewritten.end.offset), max(cleaned_to, rewritten.cleaned_to)
            self._promised = self._promises.note_compacted(
                self.partition, rewritten_to=rewritten_to, cleaned_to=cleaned_to
            )
            # From here on a follower that comes back is judged by what is about to be.
            self._note_cleaned(rewritten)
            await self._promises.sync(self._promised)
            known = self._promises.recall(self.partition)
            if self._stopped or self._cutting or known is None or known.mark < rewritten.end:
                return False
            # A follower that began to copy the log meanwhile may stand where it has no bound from now on.
            return await self.log.replace(rewritten, lambda: self._note_cleaned(rewritten))
        finally:
            self._replacement_is_over.set()
            self._drop_soon()

    def _note_cleaned(self, rewritten: Rewritten) -> None:
        if rewritten.cleaned_to and not self._resetting:
            self.take(LogCleaned(rewritten.cleaned_to))

    def note_compaction(self, job: Job, outcome: Outcome, settings: CompactionSettings) -> None:
        """All of a job is done, and in place."""
        self._compaction.note(job, outcome, self._environment.wall_ms(), settings)

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
        start, end = max(self._log_start, self.log.base.offset), min(self._committed.offset, self.log.end.offset)
        if not start <= offset <= end:
            raise OffsetOutOfRange(
                f"offset {offset} of {self.partition} is not there: it holds {start} up to {end}",
                offset=offset,
                start=start,
                end=end,
            )
        batches: list[memoryview] = []
        if offset < end:
            try:
                batches = self.log.read_records(offset, end, bytes_max, only_cached=only_cached)
            except DamagedLog as damage:
                self._on_damage(damage)
                raise ReplicaDamaged(
                    f"stored bytes of {self.partition} are unreadable here from offset {offset} on "
                    f"({damage.path} at {damage.position}); try again: another replica may lead by then",
                    offset=offset,
                ) from damage
        next_offset = offset
        if batches:
            next_offset = read_header(batches[-1]).next_offset
        return Chunk(batches, next_offset, end, start, self._core.term)

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> CommitWaiter:
        """Call back once when the committed end passes `offset`, or when leadership is lost."""
        waiter = CommitWaiter(callback)
        if self._committed.offset > offset:
            self._environment.call_soon(waiter.fire)
        else:
            if len(self._commit_waiters) >= self._waiters_swept_at:
                self._sweep_waiters()
            self._waiter_count += 1
            heapq.heappush(self._commit_waiters, (offset, self._waiter_count, waiter))
        return waiter

    def _sweep_waiters(self) -> None:
        """Forget those who gave up: on an idle partition no commit would ever do so."""
        self._commit_waiters = [entry for entry in self._commit_waiters if entry[2].callback is not None]
        heapq.heapify(self._commit_waiters)
        self._waiters_swept_at = max(WAITERS_SWEPT_AT, 2 * len(self._commit_waiters))

    async def confirm_read(self) -> int:
        """The committed end, confirmed by a read-index round that begins after this call.

        Raises NotLeader, NoLeader.
        """
        self._require_lead()
        self._read_count += 1
        token = self._read_count
        future: asyncio.Future[int] = self._loop.create_future()
        self._reads[token] = future
        try:
            self.take(ReadIndex(token))
            return await future
        finally:
            self._reads.pop(token, None)

    def _answer_reads(self, effects: Effects) -> None:
        for token in effects.reads_confirmed:
            future = self._reads.get(token)
            if future is not None and not future.done():
                future.set_result(self._core.committed.offset)
        for token in effects.reads_refused:
            future = self._reads.get(token)
            if future is not None and not future.done():
                future.set_exception(self._not_leader())

    # -- leadership --------------------------------------------------------------------------------------------------

    def _require_lead(self) -> None:
        if self._core.damaged:
            raise ReplicaDamaged(f"stored bytes of {self.partition} are unreadable here; ask another replica")
        if self._stopped or not self._core.is_leader:
            raise self._not_leader()

    def require_ready(self) -> None:
        """Raises NotLeader, NoLeader (it does not know yet what is committed), ReplicaDamaged."""
        self._require_lead()
        if not self._core.is_ready:
            raise NoLeader(f"the new leader of {self.partition} does not know yet what is committed; try again")

    def _not_leader(self) -> NotLeader | NoLeader:
        leader = self._core.leader
        if leader is None or leader == self._core.voter:
            return NoLeader(f"{self.partition} has no leader that this broker knows; try again")
        return NotLeader(
            f"{self.partition} is led by broker {leader.broker_id}", leader_id=leader.broker_id, term=self._core.term
        )

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
        self._require_lead()
        if broker_id == self.voter.broker_id:
            return
        handed_over: asyncio.Future[None] = self._loop.create_future()
        self._handing_over.append((self._core.term, handed_over))
        deadline = self._environment.call_later(timeout_ms, lambda: _resolve(handed_over))
        try:
            self.take(TransferTo(broker_id))
            await handed_over
        finally:
            deadline.cancel()
            self._handing_over = [one for one in self._handing_over if one[1] is not handed_over]
            self.take(TransferAbandoned())
        leader = self._core.leader
        if leader is None or leader.broker_id != broker_id:
            raise NoLeader(f"broker {broker_id} did not take over {self.partition} within {timeout_ms} ms")

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
        suspect = segment_base(damage.path)
        told = {"path": damage.path, "position": damage.position, "why": damage.why}
        if self._core.voters == (self.voter,):
            if not self._unreadable:
                self._counts.damage_met()
                self._environment.log("replica_unreadable", partition=str(self.partition), **told)
            self._unreadable = f"{damage.path} is unreadable at {damage.position}, and no other replica has it"
            return
        if suspect in self._suspects:
            return
        self._suspects.add(suspect)
        self._counts.damage_met()
        self._environment.log("replica_damaged", partition=str(self.partition), **told)
        if not self._core.damaged and not self._stopped:
            # What is flushed may be acknowledged, though the core hears of it only once a newer promise is on disk too.
            word = max(self._core.word, self._core.persisted, self._flushed.end)
            if self._memory_noted is not None:
                word = max(word, self._core.last)  # it may be acknowledged as soon as it is written
            self._early_reply = None
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
    def awaits_repair(self) -> bool:
        return self._core.damaged and not self.is_log_in_flux

    def hole_lost(self, event: HoleLost) -> None:
        self._suspects.clear()
        self.take(event)
        self._awaits_leader = True
        self._environment.call_later(self._config.election_timeout_ms, self._ask_leader)

    async def read_log_anew(self, suspect: int | None = None) -> None:
        """What is on disk of a damaged log has changed, or is to be looked at: be what it says."""
        if suspect is not None:
            self._suspects.add(suspect)
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
            self._awaits_leader = True
            self._ask_leader()

    def _ask_leader(self) -> None:
        """Until something comes of it: messages can be lost."""
        if self._awaits_leader and not self._stopped and not self._core.is_leader:
            self.take(AskLeader())
            self._environment.call_later(self._config.election_timeout_ms, self._ask_leader)

    async def _read_log_anew(self) -> None:
        assert self._core.damaged and not self._draining, f"{self.partition} is read anew, but is not damaged"
        env, partition, promises, old = self._environment, self.partition, self._promises, self.log
        self._cutting = True
        self._cut_is_over.clear()
        # From here on nothing that was written before says anything: what is read now does.
        old.announce_cut()
        self._inbox = deque(event for event in self._inbox if not isinstance(event, Persisted))
        self._forget_unsynced()
        await self._drop_is_over.wait()
        await self._replacement_is_over.wait()
        await self._flusher.let_go(old)
        await promises.sync(self._promised)
        suspects = frozenset(self._suspects)

        async def remember_doubt() -> None:
            await promises.sync(promises.note_doubt(partition, True))

        async def remember_reset(head: SegmentHead) -> None:
            await _promise_reset(promises, partition, head)

        known = promises.recall(partition)
        if not self._stopped and known is not None:
            log, verdict = await PartitionLog.recover(
                env,
                self._data_directory,
                partition,
                # Of what is on disk the promises hear a little later.
                mark=max(known.mark, self._core.persisted),
                same_boot=self._was_settled or not promises.boot_changed,
                config=old.config,
                on_doubt=remember_doubt,
                on_reset=remember_reset,
                term_max=self._core.term,
                suspects=suspects,
                base=old.base if old.hole is None or old.hole.segment >= 0 else old.hole.base,
            )
            await _promise_thinned(promises, log)
            word = self._core.word
            if verdict.damage is not None:
                word = max(word, verdict.damage.word)
            if verdict.damage is not None or word > log.end:
                self._promised = promises.note_word(partition, word)
                await promises.sync(self._promised)
            self._take_log(log, verdict, word, suspects)
        self._cut_is_over.set()
        self._cutting = False
        if not self._stopped:
            self._drain()
            self._drop_soon()
            if self._memory_noted is not None:
                self._note_unsynced(self._flushed.written)  # what is read anew is on disk, and no flush will say so

    def _take_log(self, log: PartitionLog, verdict: RecoveryVerdict, word: Point, suspects: frozenset[int]) -> None:
        """Go on with a log that was read anew."""
        old, core, known = self.log, self._core, self._promises.recall(self.partition)
        assert known is not None, f"{self.partition} is listed no more"
        is_whole = verdict.damage is None and suspects == self._suspects
        self.log = log
        old.close()
        self._flushed = log.ticket()
        self._memory_through = 0
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
        self._log_start = log.start_offset_at(core.committed)
        if core.committed < committed:
            self.resets += 1  # whoever follows what is committed begins anew

    # -- the end -----------------------------------------------------------------------------------------------------

    def fall_silent(self, why: str) -> None:
        """Neither lead, vote, count nor answer from now on. `stop` is still to be called."""
        if self._stopped:
            return
        self.step_down(why)
        self._stopped = True
        self._set_timer(0)
        for timer in (self._flush_timer, self._quiet_timer):
            if timer is not None:
                timer.cancel()
        self._end_campaign_turn()
        self._fail_appendings()
        for future in self._reads.values():
            if not future.done():
                future.set_exception(self._not_leader())

    async def stop(self) -> None:
        """Stop answering; what was written stays, and is on disk if it counted before it was."""
        self.fall_silent("the broker stops")
        if self._closed:
            return
        self._closed = True
        # A cut, a drop or a flush that finds its files closed, or gone with a deleted one, would end the process.
        await self._cut_is_over.wait()
        await self._drop_is_over.wait()
        await self._replacement_is_over.wait()
        await self._repairer.stop()
        await self._flusher.let_go(self.log)
        if self._memory_noted is not None:
            await self._sync_at_last()
        self.log.close()

    async def _sync_at_last(self) -> None:
        """So that the machine may restart, and nothing of this replica is in doubt."""
        try:
            await self.log.sync()
        except OSError as error:
            self._environment.halt(f"fsync failed: {error}")
        if self._promises.recall(self.partition) is not None:
            self._promises.note_memory_boot(self.partition, None)


async def _promise_reset(promises: Promises, partition: PartitionId, head: SegmentHead) -> None:
    """A log that begins anew lacks what the one lacks that it is a copy of; what its own had lost counts no more.

    Not before the reset is decided: the old log, if it stayed after a crash, would pass for such a copy. Not after its
    first item: the new log would pass for a whole one.
    """
    number = promises.note_compacted(partition, rewritten_to=head.rewritten_to, cleaned_to=head.cleaned_to)
    await promises.sync(number)


async def _promise_thinned(promises: Promises, log: PartitionLog) -> None:
    """A crash may have come between items that a leader had thinned, and the promise that tells of them."""
    known = promises.recall(log.partition)
    if known is not None and log.thinned_to > known.rewritten_to:
        await promises.sync(
            promises.note_compacted(log.partition, rewritten_to=log.thinned_to, cleaned_to=known.cleaned_to)
        )


def _listed(voters: tuple[Voter, ...]) -> str:
    return ", ".join(map(str, voters))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
