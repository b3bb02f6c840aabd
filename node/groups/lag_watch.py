"""How far every group coordinated here is behind, in records and in seconds: worked out again and again, for scrapes.

The coordinator knows what its groups stored, the leaders of the partitions know their ends and the time of the record
at any offset; so a coordinator asks each leader once a round about all its groups together.

What always holds
    ages are told by the leader's clock alone, and are never negative
    nothing is confirmed by a round between brokers, as it is where somebody asks: a figure may be a moment old
    a record's time is read once for each place at which a group stands: one that stands still costs no reads
    records that have left the page cache are brought in by the threads meant for that; nothing waits in the loop
    partitions of which the group stored nothing are left out: where it would begin, its members alone know
    a leader that cannot be asked leaves the figures as they were, and ages growing
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec

from ...partitions.cold_reads import read_when_cached
from ...partitions.environment import PartitionId
from ...proto.errors import UNDECODABLE, InvalidRequest, LograftError
from .lag import Calling, LocalReplicas, PartitionReplica, timestamp_at
from .state import GroupFacts

LAG_CALL = "partitions.lag"
ANSWER_MS_MAX = 2_000
INTERVAL_S_MIN = 5.0
INTERVAL_S_PER_OFFSET = 0.0005
"""Of each offset that a group stored: so that the rounds take about a hundredth of a core, however many there are."""
PARTITIONS_PER_CALL = 500
OFFSETS_PER_TURN = 200


class _Asked(NamedTuple):
    topic_id: str
    number: int
    offsets: tuple[int, ...]


class _Told(NamedTuple):
    topic_id: str
    number: int
    start: int
    end: int
    ages_ms: tuple[int, ...]
    """For each offset asked for: how old the record there is; -1 if there is none yet."""


_decode_asked = msgspec.msgpack.Decoder(list[_Asked]).decode
_decode_told = msgspec.msgpack.Decoder(list[_Told]).decode


class PartitionLag(NamedTuple):
    """How far a group is behind in one partition."""

    records: int
    seconds: float
    expired: int
    """Records that were dropped before the group had come to them."""


@dataclass(slots=True)
class TopicLag:
    """The same of a topic."""

    records: int = 0
    records_max: int = 0
    seconds_max: float = 0.0
    expired: int = 0

    def add(self, lag: PartitionLag) -> None:
        self.records += lag.records
        self.records_max = max(self.records_max, lag.records)
        self.seconds_max = max(self.seconds_max, lag.seconds)
        self.expired += lag.expired


@dataclass(slots=True)
class GroupLag:
    """Of one group, by topic name and partition."""

    topics: dict[str, TopicLag] = field(default_factory=dict)
    partitions: dict[PartitionId, PartitionLag] = field(default_factory=dict)


class Coordinating(Protocol):
    """What is asked of `coordinator.Coordinator`."""

    @property
    def number(self) -> int: ...
    @property
    def groups(self) -> Mapping[str, GroupFacts]: ...


class LagWatch:
    """One a broker. `look` is called again and again, `due_s` apart; `carry_out` answers other brokers' looks."""

    def __init__(
        self,
        broker_id: int,
        replicas: LocalReplicas,
        links: Calling,
        led: Callable[[], Sequence[Coordinating]],
        wall_ms: Callable[[], int],
        monotonic_ms: Callable[[], float],
    ) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._led = led
        """The coordinators that coordinate just now."""
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms
        self._found: dict[int, dict[str, GroupLag]] = {}
        """By the coordinator's number, and group."""
        self._looked_ms: float | None = None
        self._offset_count = 0
        self._times: dict[int, dict[PartitionId, dict[int, int]]] = {}
        """By asker: the times of the records at the offsets that it asked for last."""

    # -- what is told ------------------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float:
        """From one look to the next."""
        return max(INTERVAL_S_MIN, INTERVAL_S_PER_OFFSET * self._offset_count)

    def groups(self) -> Iterator[tuple[str, GroupLag]]:
        """Of the groups that this broker coordinates now."""
        for coordinator in self._led():
            known = coordinator.groups
            for name, lag in self._found.get(coordinator.number, {}).items():
                if name in known:
                    yield name, lag

    def age_s(self) -> float | None:
        """Since the last look; None before the first, or while no groups are coordinated here."""
        if self._looked_ms is None or not any(coordinator.groups for coordinator in self._led()):
            return None
        return (self._monotonic_ms() - self._looked_ms) / 1000

    # -- looking -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """One round, over all groups that are coordinated here."""
        began_ms = self._monotonic_ms()
        stored = await self._stored()
        wanted: dict[PartitionId, dict[int, None]] = {}
        for groups in stored.values():
            for offsets in groups.values():
                for partition, offset in offsets:
                    wanted.setdefault(partition, {})[offset] = None
                await asyncio.sleep(0)
        told = await self._ask_leaders(wanted)
        elapsed_s = 0.0 if self._looked_ms is None else (began_ms - self._looked_ms) / 1000
        found: dict[int, dict[str, GroupLag]] = {}
        for number, groups in stored.items():
            before = self._found.get(number, {})
            found[number] = {}
            for name, offsets in groups.items():
                found[number][name] = self._lag_of(offsets, told, before.get(name), elapsed_s)
                await asyncio.sleep(0)
        self._found, self._looked_ms = found, began_ms

    async def _stored(self) -> dict[int, dict[str, list[tuple[PartitionId, int]]]]:
        """By coordinator and group, what is stored."""
        found: dict[int, dict[str, list[tuple[PartitionId, int]]]] = {}
        self._offset_count = 0
        for coordinator in self._led():
            groups = found[coordinator.number] = {}
            for name, group in list(coordinator.groups.items()):
                groups[name] = [(partition, fact.offset) for partition, fact in group.offsets.items()]
                self._offset_count += len(groups[name])
                await asyncio.sleep(0)
        return found

    def _lag_of(
        self,
        offsets: list[tuple[PartitionId, int]],
        told: Mapping[PartitionId, tuple[int, int, Mapping[int, int]]],
        before: GroupLag | None,
        elapsed_s: float,
    ) -> GroupLag:
        lag = GroupLag()
        for partition, offset in offsets:
            topic = self._replicas.state.topic_by_id(partition.topic_id)
            if topic is None:
                continue
            known = told.get(partition)
            if known is not None:
                start, end, ages_ms = known
                records = max(end - max(start, offset), 0)
                age_ms = ages_ms.get(offset, -1)
                here = PartitionLag(records, max(age_ms, 0) / 1000 if records else 0.0, max(start - offset, 0))
            else:
                earlier = None if before is None else before.partitions.get(partition)
                if earlier is None:
                    continue
                here = earlier._replace(seconds=earlier.seconds + elapsed_s) if earlier.records else earlier
            lag.partitions[partition] = here
            lag.topics.setdefault(topic.name, TopicLag()).add(here)
        return lag

    async def _ask_leaders(
        self, wanted: Mapping[PartitionId, Mapping[int, None]]
    ) -> dict[PartitionId, tuple[int, int, Mapping[int, int]]]:
        by_leader: dict[int, list[_Asked]] = {}
        for count, (partition, offsets) in enumerate(wanted.items(), start=1):
            leader = self._replicas.leader_of(partition).broker_id
            if leader is not None:
                by_leader.setdefault(leader, []).append(_Asked(*partition, tuple(offsets)))
            if count % OFFSETS_PER_TURN == 0:
                await asyncio.sleep(0)
        found: dict[PartitionId, tuple[int, int, Mapping[int, int]]] = {}
        for leader, asked in by_leader.items():
            rest = iter(asked)
            while piece := list(islice(rest, PARTITIONS_PER_CALL)):
                offsets_of = {PartitionId(one.topic_id, one.number): one.offsets for one in piece}
                for told in await self._ask(leader, piece):
                    partition = PartitionId(told.topic_id, told.number)
                    ages = dict(zip(offsets_of.get(partition, ()), told.ages_ms, strict=False))
                    found[partition] = told.start, told.end, ages
                await asyncio.sleep(0)
        return found

    async def _ask(self, leader: int, asked: list[_Asked]) -> list[_Told]:
        if leader == self._broker_id:
            return await self._here(self._broker_id, asked)
        try:
            body = msgspec.msgpack.encode(asked)
            return _decode_told(await self._links.call(leader, LAG_CALL, body, timeout_ms=ANSWER_MS_MAX))
        except (LograftError, *UNDECODABLE):
            return []

    # -- as the leader -----------------------------------------------------------------------------------------------

    async def carry_out(self, asker: int, body: bytes) -> bytes:
        """The answer to LAG_CALL: of the partitions asked for, those that are led here. Raises InvalidRequest."""
        try:
            asked = _decode_asked(body)
        except UNDECODABLE as error:
            raise InvalidRequest(f"a {LAG_CALL} could not be read: {error}") from None
        return msgspec.msgpack.encode(await self._here(asker, asked))

    def forget_deleted(self) -> None:
        """Drop what is known of partitions that are no more."""
        state = self._replicas.state
        for known in self._times.values():
            for partition in [partition for partition in known if state.partition(partition) is None]:
                del known[partition]

    async def _here(self, asker: int, asked: list[_Asked]) -> list[_Told]:
        told: list[_Told] = []
        since_turn = 0
        for one in asked:
            partition = PartitionId(one.topic_id, one.number)
            replica = self._replicas.table.get(partition)
            if replica is None or not replica.is_ready:
                continue
            try:
                told.append(await self._told(asker, partition, replica, one.offsets))
            except LograftError:
                continue  # damaged, or led by another by now
            since_turn += len(one.offsets)
            if since_turn >= OFFSETS_PER_TURN:
                since_turn = 0
                await asyncio.sleep(0)
        return told

    async def _told(
        self, asker: int, partition: PartitionId, replica: PartitionReplica, offsets: tuple[int, ...]
    ) -> _Told:
        known = self._times.setdefault(asker, {}).get(partition, {})
        start, end = replica.log_start, replica.committed.offset
        times: dict[int, int] = {}
        ages_ms = []
        for offset in offsets:
            at = max(offset, start)
            if at >= end:
                ages_ms.append(-1)
                continue
            time_ms = times.get(at, known.get(at))
            if time_ms is None:
                time_ms = await read_when_cached(partial(_time_at, replica, at, end))
                await asyncio.sleep(0)  # it may have taken a batch's decoding
            if time_ms >= 0:
                times[at] = time_ms
            ages_ms.append(max(self._wall_ms() - time_ms, 0) if time_ms >= 0 else -1)
        if times:
            self._times[asker][partition] = times
        else:
            self._times[asker].pop(partition, None)
        return _Told(*partition, start, end, tuple(ages_ms))


def _time_at(replica: PartitionReplica, offset: int, end: int, only_cached: bool) -> int:
    return timestamp_at(replica, offset, end, only_cached=only_cached)
