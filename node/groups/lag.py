"""How far readers are behind: ends of partitions, and the next record that waits for a reader, by their leaders' word.

What always holds
    what is told of a partition led here was confirmed by a round that began after it was asked for
    ages are told by the leader's clock alone, and are never negative
    a partition that could not be asked is left out; asking never fails as a whole
    an end that is known only rises, for what is committed stays so
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from ...partitions.chunk import Chunk
from ...partitions.cold_reads import read_when_cached
from ...partitions.environment import Buffer, PartitionId
from ...partitions.raft.points import Point
from ...proto import record_batch
from ...proto.errors import UNDECODABLE, InvalidRequest, LograftError
from ...proto.record_batch import BatchHeader
from ..controller.state import ClusterState
from ..sightings import Leading
from .calls import Unread

UNREAD_CALL = "partitions.unread"
CONFIRM_SECONDS_MAX = 0.7
"""A leader that cannot confirm in so long is left out, while there is still time to tell of the others."""
ANSWER_MS_MAX = 1_000
INFLATED_BYTES_MAX = 16 << 20
"""Of a batch that is decoded for the time of one record; of a larger one the batch's own time is told."""


class PartitionReplica(Protocol):
    """What is asked of the local replica of a partition: `partitions.replica.Replica`, or a test's."""

    @property
    def log_start(self) -> int: ...
    @property
    def committed(self) -> Point: ...
    def read(self, offset: int, bytes_max: int, *, only_cached: bool = False) -> Chunk: ...
    async def confirm_read(self) -> int: ...


class LocalReplicas(Protocol):
    """What is asked of `node.replicas.Replicas`."""

    state: ClusterState

    @property
    def table(self) -> Mapping[PartitionId, Any]: ...
    def leading(self, name: str, number: int, topic_id: str = "") -> Any: ...
    def leader_of(self, partition: PartitionId) -> Leading: ...


class Calling(Protocol):
    """What is asked of `node.peer.links.PeerLinks`."""

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes: ...


class _Asked(NamedTuple):
    topic_id: str
    number: int
    offset: int


class _Told(NamedTuple):
    topic_id: str
    number: int
    unread: Unread


_decode_asked = msgspec.msgpack.Decoder(list[_Asked]).decode
_decode_told = msgspec.msgpack.Decoder(list[_Told]).decode


async def unread_from(replica: PartitionReplica, offset: int, wall_ms: Callable[[], int]) -> Unread:
    """What waits, in a partition led here, for a reader whose next offset is `offset` (or the log's start, if later).

    Raises NotLeader, NoLeader, ReplicaDamaged.
    """
    end = await replica.confirm_read()
    return await _unread(replica, offset, end, wall_ms)


async def _unread(replica: PartitionReplica, offset: int, end: int, wall_ms: Callable[[], int]) -> Unread:
    def read(only_cached: bool) -> int:
        return timestamp_at(replica, max(offset, replica.log_start), end, only_cached=only_cached)

    timestamp_ms = await read_when_cached(read)  # who is behind asks for what left memory long ago
    return Unread(replica.log_start, end, timestamp_ms, max(wall_ms() - timestamp_ms, 0) if timestamp_ms >= 0 else 0)


def timestamp_at(replica: PartitionReplica, offset: int, end: int, *, only_cached: bool = False) -> int:
    """Of the record at `offset`, or the first after it and before `end`; -1 if there is none.

    With `only_cached` NotInMemory is raised where it would take a wait for the disk.
    """
    while offset < end:
        chunk = replica.read(offset, 1, only_cached=only_cached)
        for batch in chunk.batches:
            header = record_batch.read_header(batch)
            if header.base_offset >= offset and header.record_count == header.width:
                return header.base_timestamp_ms
            # The reader stands in the midst of the batch, or records were compacted away: only the records can tell.
            found = _timestamp_within(batch, header, offset)
            if found is not None:
                return found
        if chunk.next_offset <= offset:
            break
        offset = chunk.next_offset
    return -1


def _timestamp_within(batch: Buffer, header: BatchHeader, offset: int) -> int | None:
    """Of the batch's first record at or after `offset`; None if it has none."""
    try:
        columns = record_batch.decode_columns(batch, inflated_bytes_max=INFLATED_BYTES_MAX)
    except LograftError:
        return header.base_timestamp_ms  # nobody will read these records either, but how old they are is known
    for at, timestamp_ms in zip(columns.offsets, columns.timestamps_ms, strict=True):
        if at >= offset:
            return timestamp_ms
    return None


class Lag:
    """Knows ends that it heard of, and asks leaders."""

    def __init__(self, broker_id: int, replicas: LocalReplicas, links: Calling, wall_ms: Callable[[], int]) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._wall_ms = wall_ms
        self._ends: dict[PartitionId, int] = {}
        """Committed ends, as leaders told of them."""

    def known_end(self, partition: PartitionId) -> int:
        """A lower bound of the partition's committed end, known here without asking; 0 if nothing is."""
        replica = self._replicas.table.get(partition)
        here = 0 if replica is None else replica.committed.offset
        return max(here, self._ends.get(partition, 0))

    def forget_deleted(self) -> None:
        """Drop what is known of partitions that are no more."""
        state = self._replicas.state
        self._ends = {partition: end for partition, end in self._ends.items() if state.partition(partition) is not None}

    async def unread(self, wanted: Mapping[PartitionId, int]) -> dict[PartitionId, Unread]:
        """What waits for a reader who has come to these offsets, by partition. Who could not be asked is missing."""
        by_leader: dict[int, dict[PartitionId, int]] = {}
        for partition, offset in wanted.items():
            leader = self._replicas.leader_of(partition).broker_id
            if leader is not None:
                by_leader.setdefault(leader, {})[partition] = offset
        found: dict[PartitionId, Unread] = {}
        for told in await asyncio.gather(*(self._ask(leader, asked) for leader, asked in by_leader.items())):
            found.update(told)
        for partition, unread in found.items():
            self._ends[partition] = max(self._ends.get(partition, 0), unread.committed_offset)
        return found

    async def carry_out(self, body: bytes) -> bytes:
        """The answer to UNREAD_CALL: of the partitions asked for, those that are led here. Raises InvalidRequest."""
        try:
            asked = {PartitionId(one.topic_id, one.number): one.offset for one in _decode_asked(body)}
        except UNDECODABLE as error:
            raise InvalidRequest(f"a {UNREAD_CALL} could not be read: {error}") from None
        told = await self._here(asked)
        return msgspec.msgpack.encode([(*partition, unread) for partition, unread in told.items()])

    async def _ask(self, leader: int, asked: Mapping[PartitionId, int]) -> dict[PartitionId, Unread]:
        if leader == self._broker_id:
            return await self._here(asked)
        body = msgspec.msgpack.encode([(*partition, offset) for partition, offset in asked.items()])
        try:
            told = _decode_told(await self._links.call(leader, UNREAD_CALL, body, timeout_ms=ANSWER_MS_MAX))
        except (LograftError, *UNDECODABLE):
            return {}
        return {PartitionId(one.topic_id, one.number): one.unread for one in told}

    async def _here(self, asked: Mapping[PartitionId, int]) -> dict[PartitionId, Unread]:
        """Of the partitions asked for, those led here."""
        leading = {partition: led for partition in asked if (led := self._led(partition)) is not None}
        confirmed = await asyncio.gather(*(self._confirmed_end(replica) for replica in leading.values()))
        found: dict[PartitionId, Unread] = {}
        for (partition, replica), end in zip(leading.items(), confirmed, strict=True):
            if end is None:
                continue
            try:
                found[partition] = await _unread(replica, asked[partition], end, self._wall_ms)
            except LograftError:
                continue
            # Each may have taken a batch's decoding; heartbeats and clients must not wait for a thousand of them.
            await asyncio.sleep(0)
        return found

    def _led(self, partition: PartitionId) -> PartitionReplica | None:
        topic = self._replicas.state.topic_by_id(partition.topic_id)
        if topic is None:
            return None
        try:
            return self._replicas.leading(topic.name, partition.number, topic.topic_id).replica
        except LograftError:
            return None

    async def _confirmed_end(self, replica: PartitionReplica) -> int | None:
        try:
            async with asyncio.timeout(CONFIRM_SECONDS_MAX):
                return await replica.confirm_read()
        except (LograftError, TimeoutError):
            return None
