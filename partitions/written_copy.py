"""A replica's own copy where it may count once it is written: whether it does, and how soon the disk has it.

Invariants
    it counts so only while `promises.log` says, durably, that this boot's page cache holds what no sync has covered
    what counted before it was on disk is on its way there, and is told to be there once it is
    where all is on disk, and nothing comes in, the promise is taken back: a loss of power costs nothing then
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Protocol

from .environment import Environment, PartitionId, ReplicaConfig, TimerHandle
from .flusher import Flusher
from .raft.core import RaftCore
from .raft.events import CountWritten, Event
from .raft.messages import AppendReply, Message
from .raft.points import Item, ItemKind, Point
from .storage.log import PartitionLog, Ticket
from .storage.promises import Promises

QUIET_MS = 2_000.0
"""Nothing was written for so long, and all of it is on disk: the promise that memory counts is taken back."""


class Written(Protocol):
    """The replica whose copy it is."""

    partition: PartitionId
    log: PartitionLog

    @property
    def flushed(self) -> Ticket:
        """All of it is on disk."""
        ...

    @property
    def is_stopped(self) -> bool: ...
    @property
    def is_log_in_flux(self) -> bool:
        """Is it being cut, reset or read anew, or its replica stopped?"""
        ...

    def take(self, event: Event) -> None: ...
    def on_flushed(self, ticket: Ticket) -> None: ...
    def copy_counts(self) -> None:
        """From now on it does as it is written."""
        ...


class WrittenCopy:
    """Of one replica. Where its topic's durability is `fsync`, all that this does is to let what was before end."""

    def __init__(
        self,
        environment: Environment,
        promises: Promises,
        flusher: Flusher,
        core: RaftCore,
        config: ReplicaConfig,
        replica: Written,
    ) -> None:
        self.in_memory = False
        """Does a copy count once it is written, as the topic has it?"""
        self.unsynced_bytes = 0
        """How much of it is not on disk yet."""
        self.counts_written = False
        """As the core was told of it; the core may be yet to hear that."""
        self._environment = environment
        self._promises = promises
        self._flusher = flusher
        self._core = core
        self._config = config
        self._replica = replica
        self._others_count_written = False
        """As the core was told of the others' copies."""
        known = promises.recall(replica.partition)
        noted = known is not None and known.memory_boot == environment.disk.boot_id
        self._noted: int | None = 0 if noted else None
        """Number of the promise that this boot's page cache may hold what no sync has covered; None: not promised."""
        self._unsynced: deque[tuple[int, int]] = deque()
        """Appends of records that are not on disk yet: the ticket's number, and bytes."""
        self._unrequested_bytes = 0
        self._memory_through = 0
        """Where it counts only on disk again: the last append that may have counted before."""
        self._flush_timer: TimerHandle | None = None
        self._quiet_timer: TimerHandle | None = None
        self._early_reply: AppendReply | None = None
        """Acknowledges what was not on disk yet when it left; sent once more when it is."""

    @property
    def durability(self) -> str:
        return "memory" if self.in_memory else "fsync"

    @property
    def is_promised(self) -> bool:
        """Is it promised, durably or soon, that memory may hold what no sync has covered?"""
        return self._noted is not None

    def may_count(self) -> bool:
        return (
            self.in_memory
            and self._noted is not None
            and self._noted <= self._promises.synced
            and self.unsynced_bytes <= self._config.memory_unsynced_bytes_max
            and not self._core.damaged
        )

    def set_durability(self, durability: str) -> None:
        in_memory = durability == "memory"
        if in_memory == self.in_memory or self._replica.is_stopped:
            return
        self.in_memory = in_memory
        if not in_memory:
            self._memory_through = self._replica.log.ticket().written
            self._flush_now()
        self._tell_what_counts()

    def flush_later(self, items: tuple[Item, ...]) -> None:
        """What was just written is to be on disk soon; what no majority counts before it is, at once."""
        size = sum(len(item.data) for item in items)
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        self._unsynced.append((self._replica.log.ticket().written, size))
        self.unsynced_bytes += size
        self._unrequested_bytes += size
        if self._noted is None:
            self._noted = self._promises.note_memory_boot(self._replica.partition, self._environment.disk.boot_id)
            self._promises.when_synced(self._noted, self._tell_what_counts)
        elif self.counts_written and self.unsynced_bytes > self._config.memory_unsynced_bytes_max:
            self._tell_what_counts()
        is_binding = any(item.kind is not ItemKind.RECORDS for item in items)
        if is_binding or self._unrequested_bytes >= self._config.memory_flush_bytes:
            self._flush_now()
        elif self._flush_timer is None:
            self._flush_timer = self._environment.call_later(self._config.memory_flush_ms, self._flush_now)

    def note_flushed(self, written: int) -> None:
        """All appends up to this one are on disk."""
        if not self._unsynced and self._noted is None:
            return
        while self._unsynced and self._unsynced[0][0] <= written:
            self.unsynced_bytes -= self._unsynced.popleft()[1]
        self._tell_what_counts()
        if self._noted is not None and self._quiet_timer is None and self._is_on_disk():
            delay_ms = QUIET_MS if self.in_memory else 0.0
            self._quiet_timer = self._environment.call_later(delay_ms, self._maybe_take_back)

    def told_early(self, message: Message) -> Message:
        """An acknowledgement of what is written, and not all on disk: it says how much is."""
        if not isinstance(message, AppendReply) or not message.accepted:
            return message
        synced = min(message.match, self._core.persisted)
        if synced == message.match:
            return message
        self._early_reply = message
        return replace(message, synced=synced)

    def told_synced(self, synced: Point) -> AppendReply | None:
        """What was acknowledged before it was on disk is there by now, or more of it: what is to be said of that."""
        early = self._early_reply
        if early is None:
            return None
        if synced >= early.match:
            self._early_reply = None
            return early
        return replace(early, synced=synced)

    def forget_early_reply(self) -> None:
        """What it acknowledges cannot be read any more."""
        self._early_reply = None

    def forget(self) -> None:
        """The log is cut: no message from before says anything of it any more."""
        self._early_reply = None
        self._unsynced.clear()
        self.unsynced_bytes = self._unrequested_bytes = 0
        if self._flush_timer is not None:
            # What is left of the log is flushed when the cut is over; one that is read anew is not to be touched.
            self._flush_timer.cancel()
            self._flush_timer = None

    def begin_anew(self) -> None:
        """The log was read anew: all of it is on disk."""
        self._memory_through = 0

    def stop(self) -> None:
        for timer in (self._flush_timer, self._quiet_timer):
            if timer is not None:
                timer.cancel()

    async def sync_at_last(self) -> None:
        """So that the machine may restart, and nothing of this replica is in doubt."""
        if self._noted is None:
            return
        try:
            await self._replica.log.sync()
        except OSError as error:
            self._environment.halt(f"fsync failed: {error}")
        if self._promises.recall(self._replica.partition) is not None:
            self._promises.note_memory_boot(self._replica.partition, None)

    def _tell_what_counts(self) -> None:
        """Tell the core if its own copy counts, or others' do, from another moment on than it was told."""
        own = self.may_count()
        if self._replica.is_stopped or (own, self.in_memory) == (self.counts_written, self._others_count_written):
            return
        self.counts_written, self._others_count_written = own, self.in_memory
        self._replica.take(CountWritten(copies=self.in_memory, own=own))
        if own:
            self._replica.copy_counts()

    def _flush_now(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._unrequested_bytes = 0
        if not self._replica.is_log_in_flux:
            self._flusher.request(self._replica.log, self._replica.on_flushed)

    def _is_on_disk(self) -> bool:
        """All that may have counted before it was on disk?"""
        log, flushed = self._replica.log, self._replica.flushed
        through = log.ticket().written if self.in_memory else self._memory_through
        return flushed.cuts == log.cuts and flushed.written >= through

    def _maybe_take_back(self) -> None:
        """Where all is on disk, and nothing comes in, a loss of power costs nothing: say so."""
        self._quiet_timer = None
        if self._replica.is_log_in_flux or self._core.damaged or self._noted is None or not self._is_on_disk():
            return
        # From here on no copy counts before it is synced, until the promise is made anew.
        self._noted = None
        self._promises.note_memory_boot(self._replica.partition, None)
        self._tell_what_counts()
