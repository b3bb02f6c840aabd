"""A replica of `__cluster` in memory: what is appended is committed when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.proto import record_batch
from lograft.proto.errors import LograftError, NotLeader, ReplicaDamaged, UnknownOutcome
from lograft.proto.record_batch import BatchHeader, Compression, NewRecord

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(coroutine)


async def turn_the_loop() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


def voters(*broker_ids: int) -> tuple[Voter, ...]:
    return tuple(Voter(broker_id, directory_of(broker_id), 1) for broker_id in broker_ids)


def directory_of(broker_id: int, disk: int = 0) -> str:
    return f"{broker_id:016x}{disk:016x}"


class FakeAppending(NamedTuple):
    committed: asyncio.Future[object]


class FakeChunk(NamedTuple):
    batches: Sequence[memoryview]
    next_offset: int


class FakeLog:
    def __init__(self) -> None:
        self.end = ORIGIN


class FakeClusterReplica:
    """Leads from the start, ready, with an empty log; `auto_commit` commits each append at once."""

    def __init__(self, *, auto_commit: bool = True, brokers: Sequence[int] = (1, 2, 3)) -> None:
        self.auto_commit = auto_commit
        self.log = FakeLog()
        self.voters = voters(*brokers)
        self.term = 1
        self.leader: Voter | None = self.voters[0]
        self.committed = Point(1, 0, 1)
        self.is_leader = self.is_ready = True
        self.batches: list[bytearray] = []
        self.unreadable = False
        self.resets = 0
        self.log.end = self.committed
        self._unfinished: list[tuple[int, asyncio.Future[object]]] = []
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def append(self, batch: bytes, header: BatchHeader, first_open: int | None) -> FakeAppending:
        if not self.is_leader:
            raise NotLeader("another broker leads")
        assert first_open is None and not header.has_producer
        self._keep(batch)
        committed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._unfinished.append((self.log.end.offset, committed))
        if self.auto_commit:
            self.commit()
        return FakeAppending(committed)

    def keep_committed(self, *records: tuple[bytes | None, bytes | None]) -> None:
        """Records that some controller appended, committed here."""
        new = [NewRecord(0, key, value) for key, value in records]
        self._keep(record_batch.encode(new, compression=Compression.NONE))
        self.commit()

    def keep_committed_bytes(self, batch: bytes) -> None:
        self._keep(batch)
        self.commit()

    def commit(self) -> None:
        """A majority holds everything."""
        self.committed = self.log.end
        for _, future in self._unfinished:
            future.set_result(None)
        self._unfinished.clear()
        woken = [callback for offset, callback in self._waiting if offset < self.committed.offset]
        self._waiting = [waiter for waiter in self._waiting if waiter[0] >= self.committed.offset]
        for callback in woken:
            callback()

    def lose_leadership(self, to: int | None = None, *, cut: bool = False) -> None:
        """What is unfinished stays in the log, unless the new leader's log differs there (`cut`)."""
        self.is_leader = self.is_ready = False
        self.term += 1
        self.leader = None if to is None else Voter(to, directory_of(to), 1)
        unfinished, self._unfinished = self._unfinished, []
        for _, future in unfinished:
            future.set_exception(UnknownOutcome("leadership was lost"))
        waiting, self._waiting = self._waiting, []
        for _, callback in waiting:
            callback()
        if cut:
            while self.log.end.offset > self.committed.offset:
                self.log.end = self.log.end._replace(offset=record_batch.read_header(self.batches.pop()).base_offset)

    def win_leadership(self, *, ready: bool = True) -> None:
        self.term += 1
        self.leader = self.voters[0]
        self.is_leader = True
        self.log.end = Point(self.term, self.log.end.offset, 1)
        if ready:
            self.become_ready()

    def become_ready(self) -> None:
        self.is_ready = True
        self.commit()

    def read_committed(self, offset: int, bytes_max: int) -> FakeChunk:
        if self.unreadable:
            raise ReplicaDamaged("stored bytes are unreadable")
        batches: list[memoryview] = []
        size = 0
        for batch in self.batches:
            header = record_batch.read_header(batch)
            if offset < header.next_offset <= self.committed.offset and (not batches or size < bytes_max):
                batches.append(memoryview(batch))
                size += len(batch)
        next_offset = record_batch.read_header(batches[-1]).next_offset if batches else offset
        return FakeChunk(batches, next_offset)

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> object:
        if self.committed.offset > offset:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._waiting.append((offset, callback))
        return callback

    async def confirm_read(self) -> int:
        if not self.is_leader:
            raise NotLeader("another broker leads")
        await asyncio.sleep(0)
        return self.committed.offset

    def _keep(self, batch: bytes) -> None:
        stamped = record_batch.stamp(batch, self.log.end.offset, self.term)
        self.batches.append(stamped)
        self.log.end = Point(self.term, record_batch.read_header(stamped).next_offset, 1)


class Reports(list[tuple[str, dict[str, object]]]):
    """What an operator would have seen."""

    def __call__(self, event: str, **facts: object) -> None:
        self.append((event, facts))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self]


class Alive(dict[int, str]):
    """Live brokers by id, with their directories."""

    @classmethod
    def of(cls, *broker_ids: int) -> Alive:
        return cls({broker_id: directory_of(broker_id) for broker_id in broker_ids})

    def alive_brokers(self) -> dict[int, str]:
        return self


async def error_of(awaitable: Coroutine[Any, Any, object]) -> LograftError:
    """The error that the call ends in."""
    try:
        result = await awaitable
    except LograftError as error:
        return error
    raise AssertionError(f"no error, but {result!r}")
