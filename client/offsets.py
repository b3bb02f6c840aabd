"""Ask leaders where partitions begin, end, and stood at a time.

An end is confirmed by a majority after the question was put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from lograft.v1 import broker_service_pb2

from ..proto.errors import (
    InvalidRequest,
    LograftError,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    RequestTimedOut,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s, error_of_partition
from .metadata import Metadata
from .offset_bounds import END, Bound
from .records import TopicPartition

Where = Literal["start", "end"] | int
"""A bound, or unix milliseconds."""

_BOUNDS = {
    "start": broker_service_pb2.ListOffsetsRequest.BOUND_START,
    "end": broker_service_pb2.ListOffsetsRequest.BOUND_END,
}
_ASK_TIMEOUT_S = 5.0


class Extent(NamedTuple):
    """First offset a partition still holds, and its committed end."""

    start: int
    end: int


class OffsetLookup:
    """Offsets by bound or time, asked of each partition's leader, through elections and moves.

    Raises, from every question
        UnknownTopic, UnknownPartition, UnknownTopicId  there is no such partition (any more)
        RequestTimedOut, BrokerUnavailable              no answer within `timeout_s`; names a partition and why
    """

    def __init__(self, connection: Connection, metadata: Metadata, *, timeout_s: float) -> None:
        self._connection = connection
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._now = connection.environment.now

    async def extents(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Extent]:
        """Start and end of each."""
        listed = list(partitions)
        starts, ends = await asyncio.gather(
            self.find(dict.fromkeys(listed, "start")), self.find(dict.fromkeys(listed, "end"))
        )
        return {partition: Extent(starts[partition], ends[partition]) for partition in listed}

    async def find(self, wanted: Mapping[TopicPartition, Where]) -> dict[TopicPartition, int]:
        """The offset of each place. A time after the last record is the end."""
        deadline = self._now() + self._timeout_s
        found: dict[TopicPartition, int] = {}
        attempt = 0
        while True:
            missing = {partition: where for partition, where in wanted.items() if partition not in found}
            if not missing:
                return found
            failures = await self._ask_leaders(missing, found, deadline, final=attempt > 3)
            if not failures:
                continue
            wait_s = backoff_s(attempt, self._connection.environment.chance)
            if self._now() + wait_s > deadline:
                partition, error = next(iter(failures.items()))
                raise RequestTimedOut(f"no offset of {partition} within {self._timeout_s:g} s: {error}") from error
            attempt += 1
            await asyncio.sleep(wait_s)
            try:
                await self._metadata.refresh(*{partition.topic for partition in failures})
            except LograftError:
                continue  # the next round finds out, and counts the time

    async def _ask_leaders(
        self,
        missing: Mapping[TopicPartition, Where],
        found: dict[TopicPartition, int],
        deadline: float,
        *,
        final: bool,
    ) -> dict[TopicPartition, LograftError]:
        """One round. What was found goes into `found`; what may be found later is returned."""
        by_leader: dict[str, list[TopicPartition]] = {}
        for partition in missing:
            leader = await self._metadata.partition_leader(*partition, deadline=deadline)
            by_leader.setdefault(leader, []).append(partition)
        failures: dict[TopicPartition, LograftError] = {}
        rounds = (
            self._ask(leader, {partition: missing[partition] for partition in partitions}, deadline)
            for leader, partitions in by_leader.items()
        )
        for (leader, partitions), answer in zip(by_leader.items(), await asyncio.gather(*rounds), strict=True):
            if isinstance(answer, LograftError):
                failures.update(dict.fromkeys(partitions, answer))
                self._metadata.doubt(leader)
                continue
            for partition, result in zip(partitions, answer, strict=True):
                if isinstance(result, int):
                    found[partition] = result
                    continue
                if isinstance(result, NotLeader | NoLeader):
                    self._metadata.note_not_leader(*partition, result, leader)
                # A broker may lag behind in what exists; that is believed once it was said several times.
                unknown = isinstance(result, UnknownTopic | UnknownTopicId | UnknownPartition)
                if not result.retriable and (final or not unknown):
                    raise result
                failures[partition] = result
        return failures

    async def _ask(
        self, leader: str, wanted: Mapping[TopicPartition, Where], deadline: float
    ) -> list[int | LograftError] | LograftError:
        request = broker_service_pb2.ListOffsetsRequest()
        for partition, where in wanted.items():
            query = request.queries.add(topic=partition.topic, partition=partition.partition)
            if isinstance(where, int):
                query.timestamp_ms = where
            else:
                query.bound = _BOUNDS[where]
        timeout_s = min(_ASK_TIMEOUT_S, deadline - self._now())
        try:
            method = self._connection.broker(leader).ListOffsets
            answer = await self._connection.call(leader, method, request, timeout_s=timeout_s)
        except LograftError as error:
            if not error.retriable:
                raise
            return error
        if len(answer.results) != len(wanted):
            return RequestTimedOut(f"the broker at {leader} answered {len(answer.results)} of {len(wanted)} questions")
        return [
            error_of_partition(result.error) if result.HasField("error") else result.offset for result in answer.results
        ]

    async def resolve(self, bound: Bound, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where a bound of the OFFSETS grammar lies in each partition, now. Counted bounds stop at start and end.

        Raises
            OffsetOutOfRange  an offset that is below the start or beyond the end
            InvalidRequest    `stored`, which needs a group
        """
        listed = list(partitions)
        if bound.base == "stored":
            raise InvalidRequest("a stored offset belongs to a group, and none was given: use start, end, N or @T")
        if bound.base == "time":
            return await self.find(dict.fromkeys(listed, bound.number))
        if bound == END:
            return await self.find(dict.fromkeys(listed, "end"))
        resolved = {}
        for partition, (start, end) in (await self.extents(listed)).items():
            match bound.base:
                case "start":
                    resolved[partition] = min(start + bound.number, end)
                case "end":
                    resolved[partition] = max(end + bound.number, start)
                case _:
                    if not start <= bound.number <= end:
                        raise OffsetOutOfRange(
                            f"{partition} holds offsets from {start} up to {end}; {bound.number} is none of them",
                            offset=bound.number,
                            start=start,
                            end=end,
                        )
                    resolved[partition] = bound.number
        return resolved
