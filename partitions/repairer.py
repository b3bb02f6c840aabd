"""Repair of one replica's log: asks the other replicas for what it lost, and gives them what they lost.

Invariants
    no leader is needed, and nobody is bound by a question or an answer
    one request is under way, and one piece of bounded size comes back for it
    whoever is asked gives only what is proved to be the same in both logs, and was read and checked just now
    what lies beyond a hole is given up only if no peer that answers can fill it, and the leader that this replica
        follows says that it has no use for it
    a repair that cannot be done is tried again, at growing intervals, and `state` says why it cannot
    before it is, a log whose hole was made by errors of the disk is read anew if they have passed
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..proto.errors import CorruptBatch
from .environment import Environment, PartitionId
from .raft.events import HoleLost
from .raft.messages import HeadOffer, RepairReply, RepairRequest, Serving, Voter
from .raft.points import Point
from .storage.log import DamagedLog, PartitionLog
from .storage.promises import Promises
from .storage.repair import Hole, Mending, common_with, first_point_at, head_of_reply, judge_request

FIRST_RETRY_MS = 500.0
RETRY_MS_MAX = 30_000.0
ANSWER_MS = 3000.0
"""How long a peer may take for one piece."""
PIECE_BYTES_MAX = 1 << 20


class Damaged(Protocol):
    """The replica whose log is repaired."""

    partition: PartitionId
    log: PartitionLog

    @property
    def voter(self) -> Voter: ...
    @property
    def leader(self) -> Voter | None: ...
    @property
    def term(self) -> int: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def compacted_to(self) -> tuple[int, int]:
        """How far its log is rewritten and cleaned."""
        ...

    @property
    def log_start(self) -> int:
        """As far as it has committed that."""
        ...

    @property
    def is_log_in_flux(self) -> bool:
        """Is it being cut, reset or read anew?"""
        ...

    @property
    def awaits_repair(self) -> bool:
        """Is it damaged, and is nobody else about to change what is on disk? Not once its hole is given up."""
        ...

    def sources(self) -> Sequence[Voter]:
        """The other replicas of the partition, as far as they are known, voters or not."""
        ...

    def hole_lost(self, event: HoleLost) -> None: ...
    def note_unreadable(self, damage: DamagedLog) -> None: ...
    async def read_log_anew(self, suspect: int | None = None, base: Point | None = None) -> None:
        """What is on disk has changed, or something unreadable was met in the segment with this base offset.

        `base` is where the log begins now, if another beginning was put in place.
        """
        ...


@dataclass(slots=True)
class _Try:
    """One round of questions about a hole, and what came of it."""

    hole: Hole
    silent: set[Voter] = field(default_factory=set)
    """Not asked again in this round: identities that are no more would take their time twice."""
    said: dict[Voter, str] = field(default_factory=dict)
    servings: set[Serving] = field(default_factory=set)
    leader_said: RepairReply | None = None

    @property
    def refused_by(self) -> tuple[int, ...]:
        """Brokers that answered, and not what may be otherwise in a moment."""
        refusals = _WORDS[Serving.UNPROVED], _WORDS[Serving.CLEANED]
        return tuple(voter.broker_id for voter, what in self.said.items() if what in refusals)

    def note(self, voter: Voter, reply: RepairReply | None, replica: Damaged) -> bool:
        """True if the answer gives anything."""
        if reply is None:
            self.silent.add(voter)
            self.said[voter] = "does not answer"
            return False
        if reply.leads and (reply.sender, reply.term) == (replica.leader, replica.term):
            head = reply.head or (self.leader_said.head if self.leader_said is not None else b"")
            self.leader_said = replace(reply, head=head)
        self.servings.add(reply.serving)
        self.said[voter] = _WORDS[reply.serving]
        return reply.serving is Serving.ITEMS


@dataclass(slots=True)
class RepairCounts:
    """Of one broker, since it started."""

    holes_filled: int = 0
    holes_lost: int = 0
    items: int = 0
    bytes: int = 0
    pieces_given: int = 0
    failed_tries: int = 0


class Repairer:
    """Fills the holes of a replica's log, one after the other, and answers other replicas."""

    def __init__(self, environment: Environment, promises: Promises, replica: Damaged, counts: RepairCounts) -> None:
        self.state = ""
        """What is being repaired and what stands in the way, for an operator; empty if nothing is."""
        self.refused_by: tuple[int, ...] = ()
        """Brokers that said in the last try that they cannot prove what is lost, or do not have it any more."""
        self._environment = environment
        self._promises = promises
        self._replica = replica
        self._counts = counts
        self._number = 0
        self._awaited: tuple[Voter, int, asyncio.Future[RepairReply | None]] | None = None
        self._stopped = False
        self._is_running = False
        self._is_over = asyncio.Event()
        self._is_over.set()
        self._woken: asyncio.Event = asyncio.Event()

    # -- asking ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The log has a hole."""
        if not self._is_running and not self._stopped:
            self._is_running = True
            self._is_over.clear()
            self._environment.spawn(self._run())

    def wake(self) -> None:
        """A peer is heard again: what nobody could give before may be had now."""
        self._woken.set()

    async def stop(self) -> None:
        """Begin nothing more. Returns once no file is written any more."""
        self._stopped = True
        if self._awaited is not None:
            _answer(self._awaited[2], None)
        self._woken.set()
        await self._is_over.wait()

    def take(self, reply: RepairReply) -> None:
        if self._awaited is not None:
            sender, number, future = self._awaited
            if (reply.sender, reply.number) == (sender, number):
                _answer(future, reply)

    async def _run(self) -> None:
        replica, wait_ms = self._replica, FIRST_RETRY_MS
        while not self._stopped and replica.awaits_repair and (hole := replica.log.hole) is not None:
            why = await self._fill(hole)
            if not why and replica.log.hole == hole:
                why = f"the hole after {hole.where} was filled, and was found again"
            if not why:
                self.refused_by = ()
                wait_ms = FIRST_RETRY_MS
                self.state = ""
                continue
            if self._stopped or not replica.awaits_repair:
                break  # what is on disk is being cut: no file of the old log may take the place of what comes then
            self._counts.failed_tries += 1
            if why != self.state:
                self._log("repair_waits", where=str(hole.where), why=why)
            self.state = why
            was_woken = await self._sleep(wait_ms)
            wait_ms = FIRST_RETRY_MS if was_woken else min(2 * wait_ms, RETRY_MS_MAX)
            if not self._stopped and self._is_there(hole) and replica.log.hole_can_be_read:
                self._log("disk_errors_passed", where=str(hole.where), path=replica.log.directory)
                await replica.read_log_anew(suspect=hole.bases[max(hole.segment, 0)])
        if replica.log.hole is None or not replica.awaits_repair:
            self.state = ""
        self._is_running = False
        self._is_over.set()

    async def _fill(self, hole: Hole) -> str:
        """Fill one hole, or give up what is beyond it. Returns why it could not; empty if it is done."""
        tried = _Try(hole)
        self.state = self.state or f"the hole after {hole.where} is being repaired"
        try:
            if await self._fill_from_peers(tried):
                return ""
            if self._is_there(hole) and hole.segment >= 0 and Serving.CLEANED in tried.servings:
                again = _Try(hole.copied(), tried.silent)
                if await self._fill_from_peers(again):
                    return ""
        except (OSError, CorruptBatch) as error:
            return f"the hole after {hole.where} cannot be repaired on this disk: {error}"
        if self._stopped:
            return "it is stopped"
        if not self._is_there(hole):
            return ""
        if tried.leader_said is not None and self._give_up(hole, tried.leader_said):
            return f"what lies beyond {hole.where} is given up: the leader has no use for it"
        self.refused_by = tried.refused_by
        heard = "; ".join(f"{voter} {what}" for voter, what in tried.said.items()) or "no other replica is known"
        return f"no replica can prove what stood from {hole.where} to {hole.goal}: {heard}"

    def _is_there(self, hole: Hole) -> bool:
        """Not if the log was read anew meanwhile, and is whole, or has another one."""
        return self._replica.awaits_repair and self._replica.log.hole == hole

    async def _fill_from_peers(self, tried: _Try) -> bool:
        """Ask one after the other. True if the hole is filled, and the log read anew."""
        hole = tried.hole
        mending: Mending | None = None
        try:
            if hole.segment >= 0 and hole.where >= hole.goal:
                mending = await self._begin_mending(hole)
            for voter in self._replica.sources():
                if voter in tried.silent:
                    continue
                if hole.segment < 0 and mending is not None:
                    mending.close()  # a copy is of one log
                    mending = None
                while not self._stopped and (mending is None or not mending.is_whole):
                    reply = await self._ask(voter, hole, mending)
                    if not tried.note(voter, reply, self._replica):
                        break
                    assert reply is not None
                    try:
                        if mending is None:
                            mending = await self._begin_mending(hole)
                        if hole.segment < 0 and mending.head is None:
                            mending.begin_at(head_of_reply(reply.head, f"the head that {voter} gives"))
                        taken = mending.items_taken
                        if not mending.is_whole:
                            mending.take(reply.items, reply.rewritten_to)
                    except (CorruptBatch, ValueError) as error:
                        tried.said[voter] = f"gives what cannot be there: {error}"
                        break
                    if mending.items_taken == taken and not mending.is_whole:
                        tried.said[voter] = _WORDS[Serving.UNPROVED]
                        break
                    await self._breathe()
                if mending is not None and mending.is_whole:
                    break
            if self._stopped or mending is None or not mending.is_whole:
                return False
            return await self._put_in_place(mending)
        finally:
            if mending is not None:
                mending.close()

    async def _begin_mending(self, hole: Hole) -> Mending:
        self._log("repair_begins", where=str(hole.where), goal=str(hole.goal), path=self._replica.log.directory)
        rewritten_to, cleaned_to = self._replica.compacted_to
        mending = Mending(
            self._environment.disk,
            self._replica.log.directory,
            hole,
            rewritten_to=rewritten_to,
            cleaned_to=cleaned_to,
            breathe=self._breathe,
        )
        await mending.begin()
        return mending

    async def _put_in_place(self, mending: Mending) -> bool:
        replica = self._replica
        try:
            await mending.finish()
        except CorruptBatch as error:
            # What stands before the hole has decayed since it was read: there is another hole before this one.
            self._log("repair_given_up", where=str(mending.hole.where), why=str(error))
            if mending.hole.segment >= 0 and not self._stopped:
                await replica.read_log_anew(suspect=mending.base_offset)
            return False
        rewritten_to, cleaned_to = replica.compacted_to
        head = mending.head
        rewrites, cleans = (head.rewritten_to, head.cleaned_to) if head is not None else (0, 0)
        now = max(mending.rewritten_to, rewritten_to, rewrites), max(cleaned_to, cleans)
        known = self._promises.recall(replica.partition)
        is_past_mark = known is not None and known.mark < mending.after
        if is_past_mark:
            # It goes out with the next promise. Others may have merged what stands around the mark, and no log is read
            # over a mark at which no item ends.
            self._promises.raise_mark(replica.partition, mending.after)
        if now != (rewritten_to, cleaned_to) or is_past_mark:
            number = self._promises.note_compacted(replica.partition, rewritten_to=now[0], cleaned_to=now[1])
            await self._promises.sync(number)
        try:
            await mending.put_in_place()
        except OSError as error:
            self._environment.halt(f"putting a mended segment of {replica.partition} in place: {error}")
        self._counts.holes_filled += 1
        self._counts.items += mending.items_taken
        self._counts.bytes += mending.bytes_taken
        self._log(
            "repaired",
            where=str(mending.hole.where),
            upto=str(mending.after),
            items=mending.items_taken,
            bytes=mending.bytes_taken,
        )
        if not self._stopped:
            # All of that segment: what stood behind the hole was taken along unread, and the next head describes it.
            # Lost once more, the new head must not be taken for the old one: two logs that begin at one offset need not
            # begin behind the same item without width, and only a head says behind which.
            await replica.read_log_anew(suspect=mending.base_offset, base=None if head is None else head.base)
        return True

    def _give_up(self, hole: Hole, reply: RepairReply) -> bool:
        """If the leader's log has no use for what is beyond the hole, neither has this one."""
        if not reply.conflicts and reply.serving is not Serving.CLEANED:
            return False
        replica, offer = self._replica, None
        if hole.segment < 0:
            if not reply.head:
                return False
            try:
                head = head_of_reply(reply.head, f"the head that {reply.sender} gives")
            except ValueError:
                return False
            offer = HeadOffer(
                reply.sender,
                replica.voter,
                reply.term,
                0,
                head.base,
                voters=head.voters,
                head=reply.head,
                cleaned_to=head.cleaned_to,
            )
        if (reply.sender, reply.term) != (replica.leader, replica.term):
            return False
        self._log("hole_lost", where=str(hole.where), leader=str(reply.sender), serving=reply.serving.name)
        self._counts.holes_lost += 1
        replica.hole_lost(HoleLost(reply.sender, reply.term, offer))
        return True

    async def _ask(self, voter: Voter, hole: Hole, mending: Mending | None) -> RepairReply | None:
        """One piece, or why there is none; None if no answer came in time."""
        replica = self._replica
        self._number += 1
        is_begun = mending is not None and (hole.segment >= 0 or mending.head is not None)
        after = mending.after if mending is not None and is_begun else hole.where
        begin = mending.head.base if mending is not None and mending.head is not None else hole.where
        request = RepairRequest(
            replica.voter,
            voter,
            max(replica.term, 1),
            self._number,
            hole=begin,
            after=after,
            claims=hole.claims,
            base_offset=-1 if hole.segment >= 0 or is_begun else _first_offset(hole),
            bytes_max=PIECE_BYTES_MAX,
        )
        future: asyncio.Future[RepairReply | None] = asyncio.get_running_loop().create_future()
        self._awaited = (voter, self._number, future)
        deadline = self._environment.call_later(ANSWER_MS, lambda: _answer(future, None))
        self._environment.transport.send(replica.partition, request)
        try:
            reply = await future
        finally:
            deadline.cancel()
            self._awaited = None
        if reply is not None and is_begun and reply.after != after:
            return None
        return reply

    async def _sleep(self, delay_ms: float) -> bool:
        """True if `wake` ended it."""
        self._woken.clear()
        is_over = False

        def rang() -> None:
            nonlocal is_over
            is_over = True
            self._woken.set()

        timer = self._environment.call_later(delay_ms, rang)
        await self._woken.wait()
        timer.cancel()
        return not is_over

    async def _breathe(self) -> None:
        went_on = asyncio.Event()
        self._environment.call_soon(went_on.set)
        await went_on.wait()

    def _log(self, event: str, **facts: object) -> None:
        self._environment.log(event, partition=str(self._replica.partition), **facts)

    # -- answering -----------------------------------------------------------------------------------------------------

    def answer(self, request: RepairRequest) -> RepairReply:
        """What can be given now."""
        replica, log = self._replica, self._replica.log

        def reply(serving: Serving, *, conflicts: bool = False) -> RepairReply:
            return RepairReply(
                replica.voter,
                request.sender,
                max(replica.term, 1),
                request.number,
                serving,
                request.after,
                leads=replica.is_leader,
                conflicts=conflicts,
            )

        if replica.is_log_in_flux or (log.hole is not None and log.hole.segment < 0):
            return reply(Serving.BUSY)
        begins_anew = request.base_offset >= 0
        if begins_anew and log.may_lack_beginning:
            return reply(Serving.BUSY)
        own_claims = log.hole.claims if log.hole is not None else ()
        common = common_with(log.journal, own_claims, request.hole, request.claims)
        begin = first_point_at(log.journal, request.base_offset) if begins_anew else request.after
        rewritten_to, cleaned_to = replica.compacted_to
        if begins_anew and (begin.offset < cleaned_to or begin.offset > replica.log_start):
            # Also where the first segment that is left there is not the first one that there was.
            begin = log.base
        found = reply(judge_request(request, common, begin, log.base, cleaned_to), conflicts=common.conflicts)
        try:
            if found.serving is Serving.ITEMS:
                return self._filled(found, request, begin, min(common.upto, log.end), rewritten_to, cleaned_to)
            if begins_anew and replica.is_leader:
                head = log.first_head().compacted(rewritten_to, cleaned_to)
                return replace(found, after=head.base, head=head.to_bytes())
        except DamagedLog as damage:
            if not damage.why.startswith("no item ends at"):
                replica.note_unreadable(damage)
            return reply(Serving.BUSY)
        return found

    def _filled(
        self,
        found: RepairReply,
        request: RepairRequest,
        begin: Point,
        upto: Point,
        rewritten_to: int,
        cleaned_to: int,
    ) -> RepairReply:
        """The same, with what was asked for. DamagedLog: it cannot be read here either."""
        log = self._replica.log
        if not log.journal.holds(begin):
            return replace(found, serving=Serving.UNPROVED)
        head = b""
        if request.base_offset >= 0:
            begins = log.head_at(begin)
            if begins.base != begin:
                return replace(found, serving=Serving.CLEANED)
            if not log.voters:
                # This log is one of a learner, whose beginning names nobody, and it was never told who votes. The other
                # one may be a voter's, and would know of no voters either.
                return replace(found, serving=Serving.UNPROVED)
            head = begins.compacted(rewritten_to, cleaned_to).to_bytes()
        size = min(request.bytes_max, PIECE_BYTES_MAX, log.config.append_bytes_max)
        items = log.read_items(begin, upto, size) if begin < upto else ()
        if begin < upto and not items:
            return replace(found, serving=Serving.CLEANED)  # batches were merged across the end of what is proved
        self._counts.pieces_given += 1
        return replace(found, after=begin, rewritten_to=rewritten_to, head=head, items=items)


def _first_offset(hole: Hole) -> int:
    """Where a log whose beginning is lost should begin; 0: as early as the other one does."""
    return hole.bases[0] if hole.bases and hole.copied_past is None else 0


def _answer(future: asyncio.Future[RepairReply | None], reply: RepairReply | None) -> None:
    if not future.done():
        future.set_result(reply)


_WORDS = {
    Serving.ITEMS: "has no more",
    Serving.UNPROVED: "cannot prove that it is the same there",
    Serving.CLEANED: "has compacted or dropped it",
    Serving.BUSY: "cannot read it now",
}
