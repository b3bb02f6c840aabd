"""A state machine that follows what is committed in the local replica of an internal partition.

What always holds
    only committed records are applied, each once, in the order of their offsets, on leader and followers alike
    the records of one batch are applied before anyone is told of any of them
    whatever a record holds, the next one is applied
    if the replica's log begins anew, so does the state, out of sight: compaction may have dropped a tombstone that the
        old one has not seen. The old one stays in force until the new one has come as far
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from ..partitions.environment import Buffer
from ..partitions.raft.messages import Voter
from ..partitions.raft.points import Point
from ..proto import record_batch
from ..proto.errors import LograftError
from ..proto.record_batch import BatchHeader

READ_BYTES = 256 << 10
"""Applied in one turn of the loop while catching up at start."""

Report = Callable[..., None]
"""Takes an event's name and facts for the operator, as `Environment.log` does."""


class CommittedChunk(Protocol):
    """Some committed batches, and the offset that follows them."""

    @property
    def batches(self) -> Sequence[Buffer]: ...
    @property
    def next_offset(self) -> int: ...


class Appending(Protocol):
    """An append under way."""

    @property
    def committed(self) -> asyncio.Future[Any]: ...


class LogEnd(Protocol):
    @property
    def end(self) -> Point: ...


class DecidedReplica(Protocol):
    """What is asked of the local replica of an internal partition: `partitions.replica.Replica`, or a test's."""

    @property
    def log(self) -> LogEnd: ...
    @property
    def voters(self) -> tuple[Voter, ...]: ...
    @property
    def term(self) -> int: ...
    @property
    def leader(self) -> Voter | None: ...
    @property
    def committed(self) -> Point: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def resets(self) -> int:
        """Times its log began anew."""
        ...

    def read_committed(self, offset: int, bytes_max: int) -> CommittedChunk: ...
    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> object: ...
    def append(self, batch: bytes, header: BatchHeader, first_open: int | None) -> Appending: ...
    async def confirm_read(self) -> int: ...


class DecidedState(Protocol):
    """What the records add up to."""

    bad_record_count: int
    """Records that could not be applied, since this process began to apply."""

    def apply_record(self, key: bytes | None, value: bytes | None) -> str | None:
        """Take one record; value None is a tombstone. Never raises. Returns what changed by it, in the state's own
        words, or None."""
        ...

    def begin_anew(self) -> Self:
        """Another one of its kind, without anything in it."""
        ...

    def become(self, other: Self) -> Sequence[str]:
        """Take over what is in `other`, which is used up. Returns what changed by it."""
        ...


State = TypeVar("State", bound=DecidedState)
Listener = Callable[[Sequence[str]], None]
"""Takes what changed, in the words of the state's `apply_record`; must not raise."""


class DecisionLog(Generic[State]):
    """Applies the committed records to `state`, and tells listeners what changed.

    `call_soon` and `report` are those of the environment.
    """

    def __init__(
        self,
        replica: DecidedReplica,
        state: State,
        call_soon: Callable[[Callable[[], None]], None],
        report: Report,
    ) -> None:
        self.state = state
        self.applied_offset = 0
        """Everything before this offset is applied, if need be to the state that is being built anew."""
        self._replica = replica
        self._resets = replica.resets
        self._anew: State | None = None
        """The state of a log that began anew, until it has come as far as the old one."""
        self._anew_from = 0
        """Where the old one stands."""
        self._call_soon = call_soon
        self._report = report
        self._listeners: list[Listener] = []
        self._following = False

    @property
    def seen_offset(self) -> int:
        """Everything before this offset the state has seen, of the log as it is: what compaction may change.

        Nothing, once the log has begun anew: then it will be read from its first record on.
        """
        return self.applied_offset if self._replica.resets == self._resets else 0

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after each batch, or run of batches, that changed something."""
        self._listeners.append(listener)

    def follow(self) -> None:
        """Apply what is committed here, now and from now on, giving way to others between chunks."""
        self._following = True
        self._go_on()

    def stop(self) -> None:
        """Follow no longer. What is applied stays."""
        self._following = False

    def catch_up(self) -> None:
        """Apply all that is committed here, before returning."""
        while self._apply_chunk():
            pass

    def _go_on(self) -> None:
        if not self._following:
            return
        if self._apply_chunk():
            self._call_soon(self._go_on)
        else:
            # Not past what is applied: if the rest could not be read, that would be true at once, again and again.
            # Not called straight from the replica: it may wake its waiters in the midst of something.
            self._replica.on_commit_past(self._replica.committed.offset, lambda: self._call_soon(self._go_on))

    def _apply_chunk(self) -> bool:
        """Apply the next committed batches. False if there are none, or none that can be read now."""
        if self._replica.resets != self._resets:
            self._begin_anew()
        if self._replica.committed.offset <= self.applied_offset:
            return False
        try:
            chunk = self._replica.read_committed(self.applied_offset, READ_BYTES)
        except LograftError as error:
            self._report("decisions_unreadable", offset=self.applied_offset, why=error.message)
            return False
        if chunk.next_offset <= self.applied_offset:
            return False
        changed: dict[str, None] = {}
        state = self.state if self._anew is None else self._anew
        for buffer in chunk.batches:
            for _, batch in record_batch.split(buffer):
                changed.update(dict.fromkeys(self._apply_batch(state, batch)))
        self.applied_offset = chunk.next_offset
        if self._anew is not None:
            if self.applied_offset < self._anew_from:
                return True
            changed = dict.fromkeys(self.state.become(self._anew))
            self._anew = None
        if changed:
            for listener in self._listeners:
                listener(tuple(changed))
        return True

    def _begin_anew(self) -> None:
        self._resets = self._replica.resets
        self._anew_from = max(self._anew_from, self.applied_offset)
        self._anew = self.state.begin_anew()
        self._report("decisions_read_anew", until=self._anew_from)
        self.applied_offset = 0

    def _apply_batch(self, state: State, batch: Buffer) -> list[str]:
        try:
            records = record_batch.decode(batch)
        except LograftError as error:
            # Every broker reads the same bytes, so every broker passes over this batch.
            self.state.bad_record_count += 1
            self._report("decisions_batch_unreadable", after=self.applied_offset, why=error.message)
            return []
        return [
            changed
            for record in records
            if record.offset >= self.applied_offset
            if (changed := state.apply_record(record.key, record.value)) is not None
        ]
