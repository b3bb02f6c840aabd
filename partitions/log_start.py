"""Where one replica's log starts for its readers: moves of that on demand or by retention, and what goes with them.

Invariants
    what moves the log start is acted upon once it is committed, and segments are dropped once it is on this disk too
    the log start never moves back
    one drop is under way at a time; none begins while the log is cut, reset or read anew, or a segment of it replaced
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..proto.errors import OffsetOutOfRange, UnknownOutcome
from .environment import Environment, PartitionId
from .flusher import Flusher
from .leadership import Leadership
from .raft.core import RaftCore
from .raft.events import Event, LogBegan, Propose
from .raft.points import Point
from .replica_counts import ReplicaCounts
from .storage.log import PartitionLog, Ticket
from .storage.retention import RetentionLimits, start_to_keep
from .storage.zero_width import log_start_move


class Started(Protocol):
    """The replica whose log it is."""

    partition: PartitionId
    log: PartitionLog

    @property
    def committed(self) -> Point: ...
    @property
    def is_stopped(self) -> bool: ...
    @property
    def is_log_in_flux(self) -> bool:
        """Is it being cut, reset or read anew, or its replica stopped?"""
        ...

    @property
    def is_replacing(self) -> bool:
        """Is a compacted segment being put in place?"""
        ...

    @property
    def is_stepping(self) -> bool:
        """Is a step of its core being carried out? What is taken now waits until it is."""
        ...

    def require_ready(self) -> None: ...
    def take(self, event: Event) -> None: ...
    def on_flushed(self, ticket: Ticket) -> None: ...


class LogStart:
    """Of one replica."""

    def __init__(
        self,
        environment: Environment,
        flusher: Flusher,
        core: RaftCore,
        leadership: Leadership,
        replica: Started,
        counts: ReplicaCounts,
    ) -> None:
        self.offset = replica.log.start_offset_at(core.committed)
        """The first that can be read, as far as the replica knows it to be committed."""
        self._environment = environment
        self._flusher = flusher
        self._core = core
        self._leadership = leadership
        self._replica = replica
        self._counts = counts
        self._moves: list[tuple[Point, asyncio.Future[None]]] = []
        """Who waits until the move at this point is committed."""
        self._drop_is_due = False
        self._drop_is_over = asyncio.Event()
        self._drop_is_over.set()

    # -- moving it ---------------------------------------------------------------------------------------------------

    def check(self, offset: int) -> None:
        """May the log start at `offset`? Raises NotLeader, NoLeader, OffsetOutOfRange."""
        replica = self._replica
        replica.require_ready()
        if not 0 <= offset <= replica.committed.offset:
            raise OffsetOutOfRange(
                f"{replica.partition} cannot start at {offset}: name an offset from 0 to {replica.committed.offset}, "
                "up to which it is committed",
                offset=offset,
                start=self.offset,
                end=replica.committed.offset,
            )

    async def move(self, offset: int) -> int:
        """Let the log start at `offset`; return the start once that is committed. One that starts later stays so.

        Raises NotLeader, NoLeader, OffsetOutOfRange (negative, or past the committed end), UnknownOutcome.
        """
        self.check(offset)
        log = self._replica.log
        if offset > log.start_offset:
            self.propose(offset)
            if not self._core.is_leader:  # lost in that very step: what was appended may be cut
                raise self._unknown_outcome()
        if offset > self.offset:
            # Whoever moved it there first: what is answered must be committed.
            moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._moves.append((log.start_moved_past(offset), moved))
            await moved
        return self.offset

    def enforce(self, limits: RetentionLimits, now_ms: int | None) -> None:
        """As the leader, let go of what the limits no longer keep. It is gone once the others agree; nobody waits."""
        core, log = self._core, self._replica.log
        if self._replica.is_stopped or not core.is_ready or core.transfer_target is not None:
            return
        if now_ms is not None and limits.ms_max is not None:
            ms_max = limits.ms_max
            self._roll(lambda: log.roll_if_old(now_ms, ms_max))
        segments = log.closed_segments()
        start_offset = start_to_keep(
            segments,
            log.size_bytes - sum(segment.size_bytes for segment in segments),
            start_offset=log.start_offset,
            committed=self._replica.committed,
            limits=limits,
            now_ms=now_ms,
            followers=[each.match.offset for each in core.progress.values() if core.is_heard(each.voter)],
        )
        if start_offset > log.start_offset:
            self.propose(start_offset)

    def propose(self, offset: int) -> None:
        core, partition = self._core, self._replica.partition
        self._leadership.require_no_transfer()
        assert not self._replica.is_stepping, "moving the log start from within a step"
        point = core.last._replace(rank=core.last.rank + 1)
        self._replica.take(Propose((log_start_move(point, offset, self._environment.wall_ms()),)))
        self._environment.log("log_start_moves", partition=str(partition), to=offset, at=str(point))

    def note_committed(self) -> None:
        """More is committed: of the moves, too?"""
        replica = self._replica
        offset = replica.log.start_offset_at(replica.committed)
        assert offset >= self.offset, f"the start of {replica.partition} moves from {self.offset} to {offset}"
        if offset > self.offset:
            self.offset = offset
            self.drop_soon()
        if self._moves:
            self._answer_moves()

    def fail_moves(self) -> None:
        """Leadership is lost before they were committed."""
        moves, self._moves = self._moves, []
        for _, moved in moves:
            if not moved.done():
                moved.set_exception(self._unknown_outcome())
                moved.exception()

    def begin_anew(self, committed: Point) -> None:
        """It is another log now, of which this much is committed."""
        self.offset = self._replica.log.start_offset_at(committed)

    def _answer_moves(self) -> None:
        waiting, self._moves = self._moves, []
        for point, moved in waiting:
            if point > self._replica.committed:
                self._moves.append((point, moved))
            elif not moved.done():
                moved.set_result(None)

    def _unknown_outcome(self) -> UnknownOutcome:
        return UnknownOutcome(
            f"leadership of {self._replica.partition} was lost before a majority answered; trim it again"
        )

    # -- dropping what lies below it ---------------------------------------------------------------------------------

    @property
    def is_dropping(self) -> bool:
        """Files of the log are being removed."""
        return not self._drop_is_over.is_set()

    async def drop_is_over(self) -> None:
        await self._drop_is_over.wait()

    def drop_soon(self) -> None:
        """Segments may lie wholly below the log start now. Not in the midst of a step: drop them a little later."""
        if not self._drop_is_due and self._replica.log.has_segment_below(self.offset):
            self._drop_is_due = True
            self._environment.call_soon(self._drop)

    def _drop(self) -> None:
        """Drop what lies wholly below the log start, as far as that is committed and on this disk.

        In this order: the log and the core forget it at once, then the files go, oldest first. A crash in between
        leaves more than is needed, which is dropped again.
        """
        self._drop_is_due = False
        core, replica, log = self._core, self._replica, self._replica.log
        assert not replica.is_stepping, "dropping from within a step"
        if replica.is_log_in_flux or self.is_dropping or replica.is_replacing or core.damaged:
            return  # whatever is under way looks again when it is over
        through = min(replica.committed, core.persisted)
        start_offset = log.start_offset_at(through)
        if log.end <= through:
            self._roll(lambda: log.roll_if_wholly_below(start_offset))
        base = log.first_needed(start_offset, through)
        if base > log.base:
            before_bytes = log.size_bytes
            log.drop_before(base)
            self._counts.dropped(replica.partition.topic_id, before_bytes - log.size_bytes)
            self._drop_is_over.clear()
            self._environment.spawn(self._finish_drop())
            replica.take(LogBegan(base))

    async def _finish_drop(self) -> None:
        replica = self._replica
        await replica.log.remove_dropped()
        self._drop_is_over.set()
        self._environment.log("segments_dropped", partition=str(replica.partition), base=str(replica.log.base))
        self.drop_soon()

    def _roll(self, roll: Callable[[], bool]) -> None:
        try:
            if roll():
                self._flusher.request(self._replica.log, self._on_rolled)
        except OSError as error:
            # On a full disk the old segment has to do until there is room.
            self._environment.log("segment_not_rolled", partition=str(self._replica.partition), why=str(error))

    def _on_rolled(self, ticket: Ticket) -> None:
        self._replica.on_flushed(ticket)
        if not self._replica.is_stopped:
            self.drop_soon()
