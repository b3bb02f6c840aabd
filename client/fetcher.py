"""Reads from one leader, ahead of what the application has read: by fetches, one long poll at a time, up to the end of
what is committed; from there on what is committed is pushed (`Tail`), where the broker can do that.

Invariants
    at most one fetch is under way to a leader; bytes buffered of it, asked for and granted stay within its share
    what is pushed is not fetched; what cannot be pushed, or not any more, is fetched, and a fetch tells what ails it
    what is not handed out for now, because it is paused, takes no room that others need
    an answer is taken in only where the position has not been sought elsewhere since
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from lograft.v1 import broker_service_pb2

from ..proto.errors import BrokerUnavailable, LograftError
from ..proto.record_batch import Buffer
from .connection import Connection, error_of_partition
from .messages import FetchedPartition
from .position import Position
from .tail import Tail

_WAIT_MS = 500
_ANSWER_S = 5.0
_FETCH_BYTES_MAX = 12 << 20
_PARTITION_BYTES_MIN = 64 << 10
_BULK_BYTES = 512 << 10
"""Of what is pushed at once, with more to come: fetches carry as much at less cost."""
_GRANTED_BYTES_MAX = 16 << 20
"""A broker counts no more than its own bound (64 MiB): what is granted beyond that would be waited for in vain."""
_FOLLOWED_MAX = 2_000
"""Partitions pushed in one call; a broker takes more, and the others are fetched."""
_TAIL_AGAIN_S = 1.0
_TAIL_REFUSED_S = 30.0
"""A broker that did not agree may be an older one: it is asked again after this long."""

_Answer = broker_service_pb2.FetchResponse.Partition | broker_service_pb2.StreamResponse


class Fetching(Protocol):
    """What a fetcher asks of its consumer."""

    def positions_at(self, address: str) -> list[Position]:
        """Those whose leader is at `address`."""

    def share_bytes(self) -> int:
        """What one leader may have buffered."""

    def arrived(self) -> None:
        """Records, or failures, are there to hand out."""

    def troubled(self, position: Position, error: LograftError, address: str) -> None:
        """A fetch did not work."""


class LeaderFetcher:
    """Fetches what the broker at `address` leads, until it is closed."""

    def __init__(self, connection: Connection, consumer: Fetching, address: str) -> None:
        self.address = address
        self._connection = connection
        self._consumer = consumer
        self._wakeup = asyncio.Event()
        self._call: asyncio.Future[list[FetchedPartition]] | None = None
        self._asked: dict[Position, int] = {}
        self._turn = 0
        self._tail: Tail | None = None
        self._tail_again_at = 0.0
        self._at_end: dict[Position, int] = {}
        """Those that were read to the end of what is committed, with their versions at that time."""
        self._awaits_room = False
        self._mistake: BaseException | None = None
        self.task = asyncio.ensure_future(self._run())

    def wake(self) -> None:
        """There may be room, or something to fetch, again. A poll under way that lacks a partition is made anew."""
        self._wakeup.set()
        wanted = {position: position.version for position in self._fetchable()}
        tail = self._tail
        if tail is not None and tail.is_open:
            tail.leave_all_but(wanted)
            wanted = {position: version for position, version in wanted.items() if not tail.follows(position)}
        lacks = any(self._asked.get(position) != version for position, version in wanted.items())
        if lacks and self._call is not None and not self._call.done():
            self._call.cancel()

    def has_room(self) -> None:
        """Some of what was buffered has been handed out."""
        if self._awaits_room:
            self._wakeup.set()
            if self._tail is not None and self._tail.is_open:
                self._grant(self._tail)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def _fetchable(self) -> list[Position]:
        return [position for position in self._consumer.positions_at(self.address) if position.is_fetchable]

    async def _run(self) -> None:
        try:
            while True:
                if self._mistake is not None:
                    raise self._mistake
                self._awaits_room = False
                self._follow()
                request = self._next_request()
                if request is None:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                    continue
                await self._fetch(request)
        finally:
            if self._tail is not None:
                self._tail.close()

    def _next_request(self) -> broker_service_pb2.FetchRequest | None:
        positions = self._consumer.positions_at(self.address)
        share = self._consumer.share_bytes()
        buffered = self._buffered(positions, share)
        tail = self._tail
        granted = 0
        if tail is not None and tail.is_open:
            granted = max(0, tail.outstanding_bytes)
            positions = [position for position in positions if not tail.follows(position)]
        positions = [position for position in positions if position.is_fetchable]
        if not positions or buffered > share // 2:
            return None
        self._turn += 1
        first = self._turn % len(positions)  # each in turn is the first to be served
        positions = positions[first:] + positions[:first]
        bytes_max = min(max(share - buffered - granted, _PARTITION_BYTES_MIN), _FETCH_BYTES_MAX)
        each = max(_PARTITION_BYTES_MIN, bytes_max // min(len(positions), 4))
        self._asked = {position: position.version for position in positions}
        return broker_service_pb2.FetchRequest(
            max_wait_ms=_WAIT_MS,
            min_bytes=1,
            max_bytes=bytes_max,
            partitions=[
                broker_service_pb2.FetchRequest.Partition(
                    topic=position.topic_partition.topic,
                    partition=position.topic_partition.partition,
                    topic_id=position.topic_id,
                    offset=position.fetch_offset,
                    max_bytes=each,
                )
                for position in positions
            ],
        )

    def _buffered(self, positions: list[Position], share: int) -> int:
        """Bytes buffered; where they are too many, what is not handed out for now makes room."""
        buffered = sum(position.buffered_bytes for position in positions)
        if buffered > share // 2:
            for position in positions:
                if position.paused or position.closed:  # for how long nobody knows, and the others wait for its room
                    buffered -= position.buffered_bytes
                    position.drop_prefetched()
            self._awaits_room = buffered > share // 2
        return buffered

    # What is pushed ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Have pushed what was read to its end, and nothing that is not to be read any more."""
        tail = self._tail
        if tail is None:
            self._open_tail()
            return
        if not tail.is_open:
            return
        fetchable = self._fetchable()
        tail.leave_all_but(fetchable)
        count = len(list(tail.followed))
        for position in fetchable:
            version = self._at_end.pop(position, None)
            if version == position.version and not tail.follows(position) and count < _FOLLOWED_MAX:
                tail.follow(position)
                count += 1
        self._at_end.clear()
        self._grant(tail)

    def _open_tail(self) -> None:
        if self._at_end and self._connection.environment.now() >= self._tail_again_at:
            self._tail = Tail(
                lambda: self._connection.stream(self.address),
                take_in=self._take_in_pushed,
                arrived=self._pushed,
                changed=self._tail_changed,
            )
            self._tail.task.add_done_callback(self._tail_done)
        else:
            self._at_end.clear()

    def _tail_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._mistake = task.exception()
            self._wakeup.set()

    def _grant(self, tail: Tail) -> None:
        """Let the broker have some of the room; once half of it is spent, lest each record cost a grant."""
        share = self._consumer.share_bytes()
        wanted = min(share // 4, _GRANTED_BYTES_MAX)
        if tail.outstanding_bytes > wanted // 2:
            if tail.outstanding_bytes > share // 2:  # as there are more leaders now; credit cannot be taken back
                self._end_tail(again_in_s=0.0)
            return
        buffered = self._buffered(self._consumer.positions_at(self.address), share)
        if buffered <= share // 2:
            tail.grant(wanted - tail.outstanding_bytes)

    def _take_in_pushed(self, position: Position, part: broker_service_pb2.StreamResponse) -> None:
        if part.HasField("error"):
            self._consumer.troubled(position, error_of_partition(part.error), self.address)
            return
        self._take_in_batches(position, part, part.batches)
        tail = self._tail
        if tail is not None and len(part.batches) >= _BULK_BYTES and part.next_offset < part.committed_offset:
            tail.leave(position)
            self._wakeup.set()

    def _pushed(self) -> None:
        self._consumer.arrived()
        if self._tail is not None and self._tail.is_open:
            self._grant(self._tail)

    def _tail_changed(self) -> None:
        """It can be used, or not any more: what is to be fetched is not what it was."""
        tail = self._tail
        if tail is not None and tail.has_ended:
            if tail.is_silent and tail.was_agreed:
                error = BrokerUnavailable(f"the broker at {self.address} says nothing", address=self.address)
                for position in self._fetchable():
                    self._consumer.troubled(position, error, self.address)
            self._end_tail(again_in_s=_TAIL_AGAIN_S if tail.was_agreed else _TAIL_REFUSED_S)
        self._wakeup.set()
        if self._call is not None:
            self._call.cancel()

    def _end_tail(self, *, again_in_s: float) -> None:
        if self._tail is not None:
            tail, self._tail = self._tail, None
            tail.close()
        self._tail_again_at = self._connection.environment.now() + again_in_s
        self._wakeup.set()

    # What is fetched -----------------------------------------------------------------------------------------------

    async def _fetch(self, request: broker_service_pb2.FetchRequest) -> None:
        try:
            method = self._connection.fetch(self.address)
            timeout_s = _WAIT_MS / 1000 + _ANSWER_S
            self._call = asyncio.ensure_future(
                self._connection.call(self.address, method, request, timeout_s=timeout_s)
            )
            fetched = await self._call
        except asyncio.CancelledError:
            if self._call is not None and self._call.cancelled() and not self._is_cancelled():
                return  # by `wake`: ask anew
            if self._call is not None:
                self._call.cancel()
            raise
        except LograftError as error:
            for position, version in self._asked.items():
                if position.version == version:
                    self._consumer.troubled(position, error, self.address)
            return
        finally:
            self._call = None
        self._take_in(fetched)

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _take_in(self, fetched: list[FetchedPartition]) -> None:
        asked = {tuple(position.topic_partition): position for position in self._asked}
        for answer, batches in fetched:
            position = asked.get((answer.topic, answer.partition))
            if position is None or position.version != self._asked[position]:
                continue
            if answer.HasField("error"):
                self._consumer.troubled(position, error_of_partition(answer.error), self.address)
                continue
            self._take_in_batches(position, answer, batches)
            if position.fetch_offset is not None and position.fetch_offset >= answer.committed_offset:
                self._at_end[position] = position.version
        self._consumer.arrived()

    @staticmethod
    def _take_in_batches(position: Position, answer: _Answer, batches: Buffer) -> None:
        position.committed_offset = max(position.committed_offset, answer.committed_offset)
        position.log_start_offset = max(position.log_start_offset, answer.log_start_offset)
        try:
            position.take_in(batches, answer.next_offset, answer.term)
        except LograftError as error:
            position.failure = error
