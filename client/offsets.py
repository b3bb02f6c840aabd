"""Ask leaders where partitions begin, end, and stood at a time, and how far behind a reader is.

An end is confirmed by a majority after the question was put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

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


class UnreadFrom(NamedTuple):
    """The next record for a reader that has come to this offset."""

    offset: int


Where = Literal["start", "end"] | int | UnreadFrom
"""A bound, unix milliseconds, or a reader."""

_BOUNDS = {
    "start": broker_service_pb2.ListOffsetsRequest.BOUND_START,
    "end": broker_service_pb2.ListOffsetsRequest.BOUND_END,
}
_ASK_TIMEOUT_S = 5.0


class Extent(NamedTuple):
    """First offset a partition still holds, and its committed end."""

    start: int
    end: int


class Lag(NamedTuple):
    """How far a reader is behind: records between its place and the committed end, and the age of the next of them.

    Seconds are by the clock of the partition's leader; 0 if there is nothing to read.
    """

    records: int
    seconds: float


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

    async def find(
        self, wanted: Mapping[TopicPartition, Where], found: dict[TopicPartition, int] | None = None
    ) -> dict[TopicPartition, int]:
        """The offset of each place. A time after the last record is the end. What was found goes into `found` as well,
        also if an error is raised because of another."""
        results: dict[TopicPartition, Any] = {}
        offsets = {} if found is None else found
        try:
            await self._answer(wanted, results)
        finally:
            offsets.update({partition: result.offset for partition, result in results.items()})
        return offsets

    async def lags(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Lag]:
        """How far a reader that has come to `offsets` is behind."""
        results: dict[TopicPartition, Any] = {}
        await self._answer({partition: UnreadFrom(offset) for partition, offset in offsets.items()}, results)
        return {
            partition: Lag(max(0, result.offset - offsets[partition]), max(0, result.age_ms) / 1000)
            for partition, result in results.items()
        }

    async def _answer(self, wanted: Mapping[TopicPartition, Where], found: dict[TopicPartition, Any]) -> None:
        """Put an answer for each into `found`, within the time there is."""
        deadline = self._now() + self._timeout_s
        attempt = 0
        while True:
            missing = {partition: where for partition, where in wanted.items() if partition not in found}
            if not missing:
                return
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
        found: dict[TopicPartition, Any],
        deadline: float,
        *,
        final: bool,
    ) -> dict[TopicPartition, LograftError]:
        """One round. What was found goes into `found`; what may be found later is returned."""
        by_leader: dict[str, list[TopicPartition]] = {}
        failures: dict[TopicPartition, LograftError] = {}
        for partition in missing:
            leader = await self._leader(partition, deadline)
            if leader is None:
                self._metadata.doubt()
                failures[partition] = NoLeader(f"{partition} has no leader known to any broker that answered")
            else:
                by_leader.setdefault(leader, []).append(partition)
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
                if not isinstance(result, LograftError):
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

    async def _leader(self, partition: TopicPartition, deadline: float) -> str | None:
        """Its address; None if there is none now. One partition without a leader holds up no others."""
        topic, number = partition
        view = await self._metadata.topic(topic, timeout_s=deadline - self._now())
        if not 0 <= number < len(view.partitions):
            raise UnknownPartition(
                f"topic {topic!r} has partitions 0 to {len(view.partitions) - 1}; {number} is none of them",
                topic=topic,
                partition=number,
            )
        return self._metadata.leader_address(topic, number)

    async def _ask(
        self, leader: str, wanted: Mapping[TopicPartition, Where], deadline: float
    ) -> list[Any] | LograftError:
        request = broker_service_pb2.ListOffsetsRequest()
        for partition, where in wanted.items():
            query = request.queries.add(topic=partition.topic, partition=partition.partition)
            if isinstance(where, UnreadFrom):
                query.unread_from = where.offset
            elif isinstance(where, int):
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
        return [error_of_partition(result.error) if result.HasField("error") else result for result in answer.results]

    async def resolve(
        self,
        bound: Bound,
        partitions: Iterable[TopicPartition],
        stored: Mapping[TopicPartition, int] | None = None,
    ) -> dict[TopicPartition, int]:
        """Where a bound of the OFFSETS grammar lies in each partition, now. Counted bounds stop at start and end.

        `stored` is what a group has stored; a partition that it leaves out begins at its start. What the log does not
        hold any more, or not yet, is its start, or its end.

        Raises
            OffsetOutOfRange  an offset that is below the start or beyond the end
            InvalidRequest    `stored`, and no group was named
        """
        listed = list(partitions)
        if bound.base == "stored" and stored is not None:
            extents = await self.extents(listed)
            return {
                partition: min(max(stored.get(partition, start), start), end)
                for partition, (start, end) in extents.items()
            }
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
