"""Where reading begins in a partition: at the offset that its group stored, else by rule.

Invariants
    a group that begins at the end stores that place before a record is handed out: what comes from then on is read,
        even if the first to read it dies before it has stored anything
    a position that was sought or closed meanwhile is left as it is
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal

from ..proto.errors import InvalidRequest, LograftError, UnknownPartition
from .connection import Connection
from .metadata import Metadata
from .offsets import OffsetLookup
from .position import Position
from .progress import Progress
from .records import TopicPartition

_PATIENCE_S = 1.0
"""For leaders to answer, before those partitions whose leaders did are given their place."""


class Places:
    """Finds places for one consumer's positions; `progress` is that of its group, if it has one."""

    def __init__(
        self, connection: Connection, metadata: Metadata, progress: Progress | None, *, timeout_s: float
    ) -> None:
        self._metadata = metadata
        self._progress = progress
        self._timeout_s = timeout_s
        self._offsets = OffsetLookup(connection, metadata, timeout_s=timeout_s)
        self._quick = OffsetLookup(connection, metadata, timeout_s=min(timeout_s, _PATIENCE_S))

    async def find(self, positions: Iterable[Position]) -> None:
        """Give each position that has no place yet its own.

        Raises
            InvalidRequest                  nothing is stored, and the rule is that this is an error
            UnknownTopic, UnknownPartition  there is no such thing
            RequestTimedOut, BrokerUnavailable
        """
        listed = list(positions)
        await self._identify(listed)
        if self._progress is not None:
            await self.find_stored(listed)
        await self._find_by_rule(listed, self._offsets)

    async def find_stored(self, positions: Iterable[Position]) -> None:
        """Give those a place for which the group has stored one."""
        assert self._progress is not None
        versions = _unplaced(positions)
        if not versions:
            return
        stored = await self._progress.coordinator.fetch([position.topic_partition for position in versions])
        for position, version in versions.items():
            found = stored.get(position.topic_partition)
            if found is None or (found.topic_id and found.topic_id != position.topic_id):
                continue
            if position.version == version:
                position.begin_at(found.offset)

    async def find_each(self, positions: Sequence[Position]) -> dict[Position, LograftError]:
        """Give each position its place, as far as that can be done soon. The others are returned, with the reason."""
        try:
            await self._learn_of(positions)
            await self._identify(positions)
            if self._progress is not None:
                await self.find_stored(positions)
            await self._find_by_rule(positions, self._quick)
        except LograftError as error:
            left = list(_unplaced(positions))
            if len(left) <= 1 or error.retriable:
                return dict.fromkeys(left, error)
            failures: dict[Position, LograftError] = {}
            for found in await asyncio.gather(*(self.find_each([position]) for position in left)):
                failures |= found
            return failures
        return {}

    async def _learn_of(self, positions: Iterable[Position]) -> None:
        """Topics and partitions that are new since the brokers were last asked."""
        unheard = set()
        for topic, number in (position.topic_partition for position in positions):
            view = self._metadata.topics.get(topic)
            if view is None or number >= len(view.partitions):
                unheard.add(topic)
        if unheard:
            await self._metadata.refresh(*unheard)

    async def _identify(self, positions: Iterable[Position]) -> None:
        for position in positions:
            if position.topic_id:
                continue
            topic, number = position.topic_partition
            view = await self._metadata.topic(topic, timeout_s=self._timeout_s)
            if not 0 <= number < len(view.partitions):
                raise unknown_partition(position.topic_partition, len(view.partitions))
            position.topic_id = view.topic_id

    async def _find_by_rule(self, positions: Iterable[Position], lookup: OffsetLookup) -> None:
        versions = _unplaced(positions)
        for position in versions:
            if position.reset == "error":
                what = "no place to begin in" if self._progress is None else "nothing is stored to begin at in"
                raise InvalidRequest(f"{what} {position.topic_partition}: seek first, or set auto_offset_reset")
        found: dict[TopicPartition, int] = {}
        failure: LograftError | None = None
        try:
            await lookup.find({p.topic_partition: _bound(p.reset) for p in versions}, found)
        except LograftError as error:
            failure = error  # those that were found are given their place nevertheless
        placed = {
            position: found[position.topic_partition]
            for position, version in versions.items()
            if position.topic_partition in found and position.version == version
        }
        ends = {position: offset for position, offset in placed.items() if position.reset == "end"}
        refused = await self._progress.store_places(ends) if ends and self._progress is not None else {}
        for position, offset in placed.items():
            if position not in refused and position.version == versions[position]:
                position.begin_at(offset)
        if failure is not None:
            raise failure
        for why in refused.values():
            raise why


def _unplaced(positions: Iterable[Position]) -> dict[Position, int]:
    """Those without a place, and their versions: an answer counts only for the version for which it was asked."""
    return {position: position.version for position in positions if not position.is_placed and not position.closed}


def _bound(reset: str) -> Literal["start", "end"]:
    return "start" if reset == "start" else "end"


def unknown_partition(partition: TopicPartition, count: int) -> UnknownPartition:
    """There is no such partition: the topic has `count`."""
    return UnknownPartition(
        f"topic {partition.topic!r} has partitions 0 to {count - 1}; {partition.partition} is none of them",
        topic=partition.topic,
        partition=partition.partition,
    )
