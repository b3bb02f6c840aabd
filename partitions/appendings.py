"""Batches on their way: appended by a replica that leads, and not yet answered.

Invariants
    each is answered when a majority has it, or fails when leadership is lost first, and then its outcome is unknown
    a duplicate is answered when the original is committed, with the original's offset and term
    an answer says how many copies are where
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import NamedTuple

from ..proto.errors import UnknownOutcome
from .environment import Environment, PartitionId
from .producers import Duplicate
from .raft.core import RaftCore
from .raft.points import Point
from .replica_counts import ReplicaCounts
from .storage.log import PartitionLog


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


class Appendings:
    """Those of one replica. `durability` is its topic's, at the moment of an answer."""

    def __init__(self, environment: Environment, partition: PartitionId, core: RaftCore, counts: ReplicaCounts) -> None:
        self._environment = environment
        self._partition = partition
        self._core = core
        self._counts = counts
        self._by_end: list[tuple[int, int, Appending]] = []
        self._count = 0
        self._unpersisted: deque[Appending] = deque()
        """In the order of the log; no duplicates."""

    def add(self, appending: Appending) -> None:
        self._count += 1
        heapq.heappush(self._by_end, (appending.end.offset, self._count, appending))
        if not appending.is_duplicate:
            self._unpersisted.append(appending)

    def add_duplicate(self, duplicate: Duplicate, log: PartitionLog, durability: str) -> Appending:
        core = self._core
        base_offset = -1 if duplicate.base_offset is None else duplicate.base_offset
        end = Point(core.term, duplicate.end_offset, 0)
        # Readers get the record with the term it was written in: whoever sent it is told no other.
        term = core.term if duplicate.base_offset is None else log.journal.term_at(base_offset)
        appending = Appending(base_offset, end, term, duplicate=True, loop=asyncio.get_running_loop())
        if core.committed.offset >= duplicate.end_offset:
            self._settle(appending, durability)
        else:
            self.add(appending)
        return appending

    def settle_through(self, committed: int, durability: str) -> None:
        """A majority has all that ends at or before this offset."""
        if not self._by_end or self._by_end[0][0] > committed:
            return
        now_ms = self._environment.monotonic_ms()
        while self._by_end and self._by_end[0][0] <= committed:
            appending = heapq.heappop(self._by_end)[2]
            if not appending.is_duplicate:
                self._counts.committed_after((now_ms - appending.began_ms) / 1000)
            self._settle(appending, durability)

    def answer_persisted(self, persisted: Point, durability: str) -> None:
        """This replica's own copy counts through here."""
        while self._unpersisted and self._unpersisted[0].end <= persisted:
            appending = self._unpersisted.popleft()
            copies = max(self._core.copies_of(appending.end), 1)
            appending.resolve(appending.persisted, copies, len(self._core.voters), durability)

    def fail(self) -> None:
        """Leadership is lost: what a successor commits at the same offsets is another's."""
        pending, self._by_end = self._by_end, []
        self._unpersisted.clear()
        for _, _, appending in pending:
            appending.fail(
                UnknownOutcome(
                    f"leadership of {self._partition} was lost before a majority answered; send the same batch again",
                    term=appending.end.term,
                )
            )

    def _settle(self, appending: Appending, durability: str) -> None:
        """A majority has it."""
        core = self._core
        copies = max(core.copies_of(appending.end), len(core.voters) // 2 + 1)
        is_synced = durability == "fsync" and core.committed_synced.offset >= appending.end.offset
        for future in (appending.committed, appending.persisted):
            appending.resolve(future, copies, len(core.voters), "fsync" if is_synced else "memory")
