"""What is there to read of many partitions, as soon as it is enough: a long poll, whichever door it came by.

Invariants
    only committed batches leave, as stored; the first of a partition may begin before the offset asked for
    at least one batch leaves if there is any, however small the bound; only that one may pass it
    a parked fetch holds no bytes and no task of its own: a commit, a lost leadership or the deadline wakes it
    what is gathered is taken of the lease at once: of many fetches that wake together, most wait for room
    each answer says where its partition ends: a client takes one that has nothing and no more to come for read
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..partitions.cold_reads import read_when_cached
from ..proto.errors import LograftError
from .metrics import Metrics
from .rpc.budget import ByteBudget, Lease

if TYPE_CHECKING:
    from ..partitions.commit_waiters import CommitWaiter
    from ..partitions.environment import Buffer
    from .replicas import Led, Replicas


BYTES_PER_TURN = 1 << 20
"""Read in one turn of the loop: those who produce wait for the next one, several times a record."""
SHARES_PER_TURN = 50
"""Of a fetch of thousands of partitions, in one turn of the loop: a broker that is held up gives up its leads."""


class AskedPartition(Protocol):
    """What is asked of one partition."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def topic_id(self) -> str:
        """Empty: any topic of that name."""
        ...

    @property
    def offset(self) -> int: ...


class Fetching:
    """Gathers what `shares` are to have: `bytes_max` at most, and `bytes_min` unless `wait_ms` are over."""

    def __init__(
        self,
        shares: Sequence[Share],
        replicas: Replicas,
        metrics: Metrics,
        *,
        bytes_max: int,
        bytes_min: int,
        wait_ms: int,
        lease: Lease | None = None,
    ) -> None:
        self.shares = shares
        self.size = 0
        """Bytes of batches gathered so far, all of them taken of the lease."""
        self._replicas = replicas
        self._metrics = metrics
        self._bytes_max = bytes_max
        self._bytes_min = min(max(bytes_min, 1), bytes_max)
        self._wait_ms = wait_ms
        self._lease = lease or Lease(ByteBudget(sys.maxsize))
        self._is_crowded = False
        """There is no room for more than what it has."""

    async def gather(self) -> None:
        """Return once there is enough, or the wait is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self._wait_ms / 1000
        await self._gather()
        parked = False
        while not self._is_enough() and loop.time() < deadline:
            parked = True
            await self._news(loop, deadline)
            await self._gather()
        if parked:
            self._metrics.traffic.fetch_wait_seconds.observe(loop.time() - began)
        await self._look_at_the_rest()

    def _is_enough(self) -> bool:
        # A share that has ended is news in itself: the client can act on it while the other partitions have nothing.
        is_full = self.size >= self._bytes_min or self._is_crowded
        return is_full or not self.shares or any(share.has_ended for share in self.shares)

    async def _gather(self) -> None:
        await self._room()
        turn_ends = self.size + BYTES_PER_TURN
        for number, share in enumerate(self.shares, start=1):
            if number % SHARES_PER_TURN == 0:
                await asyncio.sleep(0)
                await self._room()
            while not self._is_full():
                if not await self._read(share) or share.is_at_end:
                    break
                if self.size >= turn_ends:
                    await asyncio.sleep(0)
                    await self._room()
                    turn_ends = self.size + BYTES_PER_TURN
            if self._is_full() or share.is_left_out:  # what is asked for behind it would be read in vain as well
                return

    async def _read(self, share: Share) -> int:
        """Bytes more of it."""

        def read(only_cached: bool) -> int:
            room = self._bytes_max - self.size
            return share.read(self._replicas, room, is_first=not self.size, only_cached=only_cached)

        before = share.next_offset
        got = await read_when_cached(read, self._metrics.traffic.cold_reads.inc)
        if got:
            self.size += got
            self._lease.take(got)
            self._metrics.count_fetched(share.topic, got, share.next_offset - before)
        return got

    def _is_full(self) -> bool:
        return self._is_crowded or (self.size > 0 and self.size >= self._bytes_max)

    async def _look_at_the_rest(self) -> None:
        """At those that were not reached."""
        for number, share in enumerate(self.shares, start=1):
            if share.is_unread:
                share.look(self._replicas)
            if number % SHARES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _room(self) -> None:
        """Others may have taken it since this call looked: many that were parked wake at once."""
        if not self.size:
            await self._lease.room()
        elif self._lease.is_full:
            self._is_crowded = True  # who holds something does not wait: two of them might, each for the other

    async def _news(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Return when a partition may have more, or at the deadline."""
        news: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not news.done():
                news.set_result(None)

        timer = loop.call_at(deadline, wake)
        waiters = [share.on_news(self._replicas, wake) for share in self.shares]
        try:
            await news
        finally:
            timer.cancel()
            for waiter in waiters:
                if waiter is not None:
                    waiter.cancel()


class Share:
    """One partition's share of a fetch."""

    __slots__ = (
        "asked",
        "batches",
        "bytes_max",
        "committed_offset",
        "error",
        "has_ended",
        "is_left_out",
        "next_offset",
        "size",
        "start_offset",
        "term",
        "topic",
    )

    def __init__(self, asked: AskedPartition, bytes_max: int) -> None:
        self.asked = asked
        self.topic = asked.topic
        self.bytes_max = bytes_max
        self.has_ended = False
        """Waiting brings it nothing more: it failed, or there is more than fits."""
        self.is_left_out = False
        """Its next batch does not fit beside what the others brought."""
        self.error: LograftError | None = None
        self.batches: list[Buffer] = []
        self.size = 0
        self.next_offset = asked.offset
        self.committed_offset = self.start_offset = -1
        self.term = 0

    @property
    def is_unread(self) -> bool:
        """Nobody looked at it: where it ends is not known."""
        return self.committed_offset < 0 and self.error is None

    @property
    def is_at_end(self) -> bool:
        return self.next_offset >= self.committed_offset

    def led(self, replicas: Replicas) -> Led:
        """The replica to read from, or raise why it is not to be."""
        return replicas.leading(self.asked.topic, self.asked.partition, self.asked.topic_id)

    def read(self, replicas: Replicas, room: int, *, is_first: bool, only_cached: bool = False) -> int:
        """Add what is there, at most `room` bytes unless it is the answer's first batch. Returns the bytes added.

        With `only_cached` NotInMemory is raised, and nothing added, where it would take a wait for the disk.
        """
        if self.has_ended:
            return 0
        try:
            replica = self.led(replicas).replica
            bytes_max = min(self.bytes_max - self.size, room, BYTES_PER_TURN)
            chunk = replica.read(self.next_offset, bytes_max, only_cached=only_cached)
        except LograftError as error:
            # What was gathered before is committed and stays true; the client meets the error when it asks again.
            self.has_ended = True
            if not self.batches:
                self.error = replicas.with_address(error)
            return 0
        self.committed_offset, self.start_offset, self.term = chunk.committed_offset, chunk.start_offset, chunk.term
        size = sum(map(len, chunk.batches))
        if size > room and not is_first:
            self.has_ended = self.is_left_out = True
            return 0
        self.batches += chunk.batches
        self.size += size
        self.next_offset = chunk.next_offset
        self.has_ended = self.size >= self.bytes_max
        return size

    def look(self, replicas: Replicas) -> None:
        """Note where it begins and ends, without reading any of it."""
        try:
            replica = self.led(replicas).replica
            replica.require_ready()
        except LograftError as error:
            self.has_ended, self.error = True, replicas.with_address(error)
            return
        self.committed_offset = min(replica.committed.offset, replica.log.end.offset)
        self.start_offset, self.term = replica.log_start, replica.term

    def on_news(self, replicas: Replicas, wake: Callable[[], None]) -> CommitWaiter | None:
        try:
            led = self.led(replicas)
        except LograftError:
            wake()  # lost since it was read
            return None
        return led.replica.on_commit_past(self.next_offset, wake)
