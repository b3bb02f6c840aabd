"""Where a partition begins, ends and was at a time: ListOffsets, OffsetForLeaderEpoch.

Invariants
    an end is confirmed by a majority after the question came
    between two searches for a time, each of which may decode a batch, the loop turns
    leader epochs are terms; what a term held, its leader's own log says
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...proto.errors import InvalidRequest, LograftError, RequestTimedOut
from ..replicas import Led, Replicas
from ..rpc.limits import CALL_SECONDS_MAX, PARTITIONS_PER_REQUEST_MAX, check_count
from ..time_search import first_at, latest_of, noting_damage
from .errors import NONE, partition_code
from .fetch_requests import check_term
from .requests import Call

if TYPE_CHECKING:
    from ...partitions.raft.points import TermJournal
    from ...partitions.replica import Replica

QUERIES_PER_TURN = 50
LATEST, EARLIEST, OF_LATEST_TIME, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5


class OffsetRequests:
    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._searching = asyncio.Lock()
        """One at a time: those that waited for the same round would all search in one turn of the loop."""

    async def list_offsets(self, request: Any, call: Call) -> dict[str, Any]:
        queries = [(topic.name, one) for topic in request.topics for one in topic.partitions]
        found: list[dict[str, Any]] = []
        for at in range(0, len(queries), QUERIES_PER_TURN):
            found += await asyncio.gather(*(self._listed(*query) for query in queries[at : at + QUERIES_PER_TURN]))
        return {"topics": _by_topic(request.topics, "name", found)}

    async def offset_for_leader_epoch(self, request: Any, call: Call) -> dict[str, Any]:
        queries = [(topic.topic, one) for topic in request.topics for one in topic.partitions]
        found = []
        for number, query in enumerate(queries, start=1):
            found.append(self._end_of_term(*query))
            if number % QUERIES_PER_TURN == 0:
                await asyncio.sleep(0)
        return {"topics": _by_topic(request.topics, "topic", found)}

    async def _listed(self, topic: str, query: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"partition_index": query.partition_index, "error_code": NONE}
        try:
            led = self._replicas.leading(topic, query.partition_index)
            check_term(led, getattr(query, "current_leader_epoch", -1))
            async with asyncio.timeout(CALL_SECONDS_MAX):
                offset, timestamp_ms = await self._found(led, query.timestamp)
        except TimeoutError:
            return told | {"error_code": partition_code(RequestTimedOut(""))}
        except LograftError as error:
            return told | {"error_code": partition_code(error)}
        term = led.replica.log.journal.term_at(offset) if offset >= 0 else -1
        return told | {"offset": offset, "timestamp": timestamp_ms, "leader_epoch": term}

    async def _found(self, led: Led, timestamp: int) -> tuple[int, int]:
        """Offset and time; -1 where there is none."""
        replica = led.replica
        match timestamp:
            case _ if timestamp >= 0:
                end = await replica.confirm_read()
                async with self._turn(replica):
                    offset, timestamp_ms = first_at(replica.log, timestamp, replica.log_start, end)
                return (offset, timestamp_ms) if timestamp_ms >= 0 or offset < end else (-1, -1)
            case 0 | -1:
                return await replica.confirm_read(), -1
            case -2 | -4:
                replica.require_ready()  # an older leader may have moved it, and this one not know yet
                return replica.log_start, -1
            case -3:
                end = await replica.confirm_read()
                async with self._turn(replica):
                    return latest_of(replica.log, replica.log_start, end)
            case -5:
                return -1, -1  # nothing is kept elsewhere
        raise InvalidRequest(f"{timestamp} is neither a time nor one of -1 to -5")

    @asynccontextmanager
    async def _turn(self, replica: Replica) -> AsyncIterator[None]:
        """One search at a time, by whoever leads still."""
        async with self._searching:
            await asyncio.sleep(0)
            replica.require_ready()
            with noting_damage(replica):
                yield

    def _end_of_term(self, topic: str, query: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"partition": query.partition, "error_code": NONE}
        try:
            led = self._replicas.leading(topic, query.partition)
            check_term(led, query.current_leader_epoch)
            led.replica.require_ready()
        except LograftError as error:
            return told | {"error_code": partition_code(error)}
        term, end = end_of_term(led.replica.log.journal, query.leader_epoch)
        return told | {"leader_epoch": term, "end_offset": end}


def end_of_term(journal: TermJournal, term: int) -> tuple[int, int]:
    """The newest term up to `term` that the log holds something of, and where it ended; (-1, -1) if that is not known.

    As Kafka has it: a term later than all is unknown, and one before all ended where the first that is held begins.
    """
    spans = journal.spans
    if term < 0 or not spans or term > spans[-1].term:
        return -1, -1
    below = [span for span in spans if span.term <= term]
    if below:
        return below[-1].term, below[-1].end_offset
    first = spans[0]
    return term, first.zero_width_offsets[0] if first.zero_width_offsets else journal.base.offset


def check_partitions(topics: Any) -> None:
    """Raises InvalidRequest."""
    check_count(sum(len(topic.partitions) for topic in topics), PARTITIONS_PER_REQUEST_MAX, "partitions")


def _by_topic(topics: Any, field: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers, in the request's order, as the request has them."""
    answers = iter(found)
    return [{field: getattr(topic, field), "partitions": [next(answers) for _ in topic.partitions]} for topic in topics]
