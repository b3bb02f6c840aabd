"""Fetches from one leader, one long poll at a time, ahead of what the application has read.

Invariants
    at most one fetch is under way to a leader, and bytes buffered of it and asked for stay within its share
    what is not handed out for now, because it is paused, takes no room that others need
    an answer is taken in only where the position has not been sought elsewhere since
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from lograft.v1 import broker_service_pb2

from ..proto.errors import LograftError
from .connection import Connection, error_of_partition
from .messages import FetchedPartition
from .position import Position

_WAIT_MS = 500
_ANSWER_S = 5.0
_FETCH_BYTES_MAX = 12 << 20
_PARTITION_BYTES_MIN = 64 << 10


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
        self.task = asyncio.ensure_future(self._run())

    def wake(self) -> None:
        """There may be room, or something to fetch, again. A poll under way that lacks a partition is made anew."""
        self._wakeup.set()
        call = self._call
        if call is not None and not call.done():
            wanted = {position: position.version for position in self._fetchable()}
            if any(self._asked.get(position) != version for position, version in wanted.items()):
                call.cancel()

    def has_room(self) -> None:
        """Some of what was buffered has been handed out."""
        self._wakeup.set()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def _fetchable(self) -> list[Position]:
        return [position for position in self._consumer.positions_at(self.address) if position.is_fetchable]

    async def _run(self) -> None:
        while True:
            request = self._next_request()
            if request is None:
                self._wakeup.clear()
                await self._wakeup.wait()
                continue
            await self._fetch(request)

    def _next_request(self) -> broker_service_pb2.FetchRequest | None:
        positions = self._consumer.positions_at(self.address)
        share = self._consumer.share_bytes()
        buffered = sum(position.buffered_bytes for position in positions)
        if buffered > share // 2:
            for position in positions:
                if position.paused or position.closed:  # for how long nobody knows, and the others wait for its room
                    buffered -= position.buffered_bytes
                    position.drop_prefetched()
            if buffered > share // 2:
                return None
        positions = [position for position in positions if position.is_fetchable]
        if not positions:
            return None
        self._turn += 1
        first = self._turn % len(positions)  # each in turn is the first to be served
        positions = positions[first:] + positions[:first]
        bytes_max = min(share - buffered, _FETCH_BYTES_MAX)
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
            position.committed_offset = max(position.committed_offset, answer.committed_offset)
            position.log_start_offset = max(position.log_start_offset, answer.log_start_offset)
            try:
                position.take_in(batches, answer.next_offset, answer.term)
            except LograftError as error:
                position.failure = error
        self._consumer.arrived()
