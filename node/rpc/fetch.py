"""One Fetch call: a long poll over many partitions.

Invariants
    only committed batches leave, as stored; the first of a partition may begin before the offset asked for
    at least one batch leaves if there is any, however small the bound; only that one may pass it
    a parked call holds no bytes and no task of its own: a commit, a lost leadership or the deadline wakes it
    what is gathered is taken of the lease at once: of many calls that wake together, most wait for room
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lograft.v1 import broker_service_pb2 as pb

from ...partitions.cold_reads import read_when_cached
from ...proto.errors import LograftError
from ..metrics import Metrics
from .budget import ByteBudget, Lease
from .large_messages import fetched
from .limits import FETCH_BYTES_DEFAULT, FETCH_WAIT_MS_MAX, PARTITIONS_PER_REQUEST_MAX, check_count
from .status import partition_error

if TYPE_CHECKING:
    from ...partitions.environment import Buffer
    from ...partitions.replica import CommitWaiter
    from ..replicas import Replicas


SHARES_PER_TURN = 50
"""Of a fetch of thousands of partitions, in one turn of the loop: a broker that is held up gives up its leads."""


class FetchCall:
    """Carries one Fetch through. `bytes_max` and `wait_ms_max` are the broker's own bounds, and so is `lease`."""

    def __init__(
        self,
        request: pb.FetchRequest,
        replicas: Replicas,
        metrics: Metrics,
        *,
        bytes_max: int,
        wait_ms_max: int,
        lease: Lease | None = None,
    ) -> None:
        check_count(len(request.partitions), PARTITIONS_PER_REQUEST_MAX, "partitions")
        self._replicas = replicas
        self._metrics = metrics
        asked = request.max_bytes if request.max_bytes > 0 else FETCH_BYTES_DEFAULT
        self._bytes_max = min(asked, bytes_max)
        self._bytes_min = min(max(request.min_bytes, 1), self._bytes_max)
        self._wait_ms = min(max(request.max_wait_ms, 0), wait_ms_max, FETCH_WAIT_MS_MAX)
        self._shares = [_Share(asked) for asked in request.partitions]
        self._lease = lease or Lease(ByteBudget(sys.maxsize))
        self._is_crowded = False
        """There is no room for more than what it has."""
        self.size = 0
        """Bytes of batches gathered so far, all of them taken of the lease."""

    async def answer(self) -> bytes:
        """What there is, as soon as it is enough or the wait is over: a FetchResponse on the wire."""
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
        pieces: list[Buffer] = []
        for number, share in enumerate(self._shares, start=1):
            pieces += share.answer()
            if number % SHARES_PER_TURN == 0:
                await asyncio.sleep(0)
        return b"".join(pieces)

    def _is_enough(self) -> bool:
        # A share that has ended is news in itself: the client can act on it while the other partitions have nothing.
        is_full = self.size >= self._bytes_min or self._is_crowded
        return is_full or not self._shares or any(share.has_ended for share in self._shares)

    async def _gather(self) -> None:
        await self._room()
        for number, share in enumerate(self._shares, start=1):
            if number % SHARES_PER_TURN == 0:
                await asyncio.sleep(0)
                await self._room()
            if self._is_crowded or (self.size and self.size >= self._bytes_max):
                return
            before = share.next_offset
            got = await read_when_cached(partial(self._read, share), self._metrics.traffic.cold_reads.add)
            if got:
                self.size += got
                self._lease.take(got)
                self._metrics.count_fetched(share.topic, got, share.next_offset - before)

    def _read(self, share: _Share, only_cached: bool) -> int:
        room = self._bytes_max - self.size
        return share.read(self._replicas, room, is_first=not self.size, only_cached=only_cached)

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
        waiters = [share.on_news(self._replicas, wake) for share in self._shares]
        try:
            await news
        finally:
            timer.cancel()
            for waiter in waiters:
                if waiter is not None:
                    waiter.cancel()


class _Share:
    """One partition's share of a fetch."""

    __slots__ = (
        "_asked",
        "_batches",
        "_bytes_max",
        "_committed",
        "_error",
        "_size",
        "_start",
        "_term",
        "has_ended",
        "next_offset",
        "topic",
    )

    def __init__(self, asked: pb.FetchRequest.Partition) -> None:
        self._asked = asked
        self.topic = asked.topic
        self.has_ended = False
        """Waiting brings it nothing more: it failed, or there is more than fits."""
        self._error: LograftError | None = None
        self._batches: list[Buffer] = []
        self._size = 0
        self._bytes_max = asked.max_bytes if asked.max_bytes > 0 else FETCH_BYTES_DEFAULT
        self.next_offset = asked.offset
        self._committed = self._start = self._term = 0

    def read(self, replicas: Replicas, room: int, *, is_first: bool, only_cached: bool = False) -> int:
        """Add what is there, at most `room` bytes unless it is the answer's first batch. Returns the bytes added.

        With `only_cached` NotInMemory is raised, and nothing added, where it would take a wait for the disk.
        """
        if self.has_ended:
            return 0
        asked = self._asked
        try:
            led = replicas.leading(asked.topic, asked.partition, asked.topic_id)
            bytes_max = min(self._bytes_max - self._size, room)
            chunk = led.replica.read(self.next_offset, bytes_max, only_cached=only_cached)
        except LograftError as error:
            # What was gathered before is committed and stays true; the client meets the error when it asks again.
            self.has_ended = True
            if not self._batches:
                self._error = replicas.with_address(error)
            return 0
        self._committed, self._start, self._term = chunk.committed_offset, chunk.start_offset, chunk.term
        size = sum(map(len, chunk.batches))
        if size > room and not is_first:
            self.has_ended = True
            return 0
        self._batches += chunk.batches
        self._size += size
        self.next_offset = chunk.next_offset
        self.has_ended = self._size >= self._bytes_max
        return size

    def on_news(self, replicas: Replicas, wake: Callable[[], None]) -> CommitWaiter | None:
        asked = self._asked
        try:
            led = replicas.leading(asked.topic, asked.partition, asked.topic_id)
        except LograftError:
            wake()  # lost since it was read
            return None
        return led.replica.on_commit_past(self.next_offset, wake)

    def answer(self) -> list[Buffer]:
        answer = pb.FetchResponse.Partition(
            topic=self._asked.topic,
            partition=self._asked.partition,
            next_offset=self.next_offset,
            committed_offset=self._committed,
            log_start_offset=self._start,
            term=self._term,
        )
        if self._error is not None:
            answer.error.CopyFrom(partition_error(self._error))
        return fetched(answer, self._batches)
