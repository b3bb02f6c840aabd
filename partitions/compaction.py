"""Compaction of one replica's log, as far as it is the replica's: when it is time, and what may take a segment's place.

Invariants
    how far the log is rewritten and cleaned is promised, durably, before a compacted segment takes another's place
    none begins to while the log is cut, reset or read anew, segments of it are dropped, or another is put in place
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .environment import Environment, PartitionId
from .log_start import LogStart
from .raft.core import RaftCore
from .raft.events import Event, LogCleaned
from .storage.compaction import CompactionSettings, CompactionState, plan_compaction
from .storage.log import PartitionLog
from .storage.promises import Promises
from .storage.rewriting import Job, Outcome, Rewritten


class Compacted(Protocol):
    """The replica whose log it is."""

    partition: PartitionId
    log: PartitionLog

    @property
    def is_log_in_flux(self) -> bool:
        """Is it being cut, reset or read anew, or its replica stopped?"""
        ...

    @property
    def is_resetting(self) -> bool: ...
    @property
    def compacted_to(self) -> tuple[int, int]:
        """How far its log is, or is about to be, rewritten and cleaned."""
        ...

    def promise_compacted(self, rewritten_to: int, cleaned_to: int) -> None: ...
    async def sync_promises(self) -> None:
        """All that it promised is on disk on return."""
        ...

    def take(self, event: Event) -> None: ...


class Compaction:
    """Of one replica."""

    def __init__(
        self, environment: Environment, promises: Promises, core: RaftCore, start: LogStart, replica: Compacted
    ) -> None:
        self._environment = environment
        self._promises = promises
        self._core = core
        self._start = start
        self._replica = replica
        self._state = CompactionState(replica.compacted_to[0])
        self._replacement_is_over = asyncio.Event()
        self._replacement_is_over.set()

    @property
    def is_replacing(self) -> bool:
        """A segment is being put in place."""
        return not self._replacement_is_over.is_set()

    async def replacement_is_over(self) -> None:
        await self._replacement_is_over.wait()

    def begin_anew(self) -> None:
        """It is another log now."""
        self._state = CompactionState(self._replica.compacted_to[0])

    def plan(self, settings: CompactionSettings, *, below: int | None) -> Job | None:
        """What to compact now, if it is time; `below` is an offset that whoever reads the log has passed."""
        log = self._replica.log
        if self._replica.is_log_in_flux or self._core.damaged:
            return None
        return plan_compaction(
            log.directory,
            log.base,
            [one for one in log.closed_segments() if below is None or one.end.offset <= below],
            self._core.cleanable_to,
            self._state,
            settings,
            self._environment.wall_ms(),
        )

    async def take(self, rewritten: Rewritten) -> bool:
        """Put a compacted segment in place. False: things have changed since it was planned, and it is of no use.

        How far the log is rewritten and cleaned is durable first: else, after a crash, this replica as a leader could
        take a follower for one that it can bring up to date. With it goes the mark, so that none stands where the
        segment has no bound any more.
        """
        core, replica = self._core, self._replica
        ready = core.cleanable_to
        if replica.is_log_in_flux or self._start.is_dropping or self.is_replacing:
            return False
        done = min(core.committed_synced, core.persisted)
        if core.damaged or rewritten.end > done or rewritten.cleaned_to > ready.offset:
            return False
        self._replacement_is_over.clear()
        try:
            rewritten_to, cleaned_to = replica.compacted_to
            replica.promise_compacted(max(rewritten_to, rewritten.end.offset), max(cleaned_to, rewritten.cleaned_to))
            # From here on a follower that comes back is judged by what is about to be.
            self._note_cleaned(rewritten)
            await replica.sync_promises()
            known = self._promises.recall(replica.partition)
            if replica.is_log_in_flux or known is None or known.mark < rewritten.end:
                return False
            # A follower that began to copy the log meanwhile may stand where it has no bound from now on.
            return await replica.log.replace(rewritten, lambda: self._note_cleaned(rewritten))
        finally:
            self._replacement_is_over.set()
            self._start.drop_soon()

    def note(self, job: Job, outcome: Outcome, settings: CompactionSettings) -> None:
        """All of a job is done, and in place."""
        self._state.note(job, outcome, self._environment.wall_ms(), settings)

    def _note_cleaned(self, rewritten: Rewritten) -> None:
        if rewritten.cleaned_to and not self._replica.is_resetting:
            self._replica.take(LogCleaned(rewritten.cleaned_to))
