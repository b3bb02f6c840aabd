"""What is done about positions that cannot be fetched: look for the leader, ask around, apply the rule, or give up.

Invariants
    an offset is out of range only once a majority has confirmed the range
    a group that goes on at the end stores that place first: what comes from then on is read, whoever dies meanwhile
    a topic or partition is gone only once that was asked around for
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from ..proto.errors import (
    BrokerUnavailable,
    LograftError,
    NoLeader,
    OffsetOutOfRange,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)
from .connection import Connection, backoff_s
from .metadata import Metadata
from .offsets import OffsetLookup
from .places import unknown_partition
from .position import Position
from .progress import Progress

_STORE_S = 2.0
_log = logging.getLogger("lograft.consumer")


class Mending:
    """Mends one consumer's positions; `progress` is that of its group, if it has one. `give_up_s` is how long it tries;
    None: it waits for the cluster to come back."""

    def __init__(
        self,
        connection: Connection,
        metadata: Metadata,
        progress: Progress | None = None,
        *,
        timeout_s: float,
        give_up_s: float | None = None,
    ) -> None:
        self._environment = connection.environment
        self._metadata = metadata
        self._progress = progress
        self._timeout_s = timeout_s
        self._give_up_s = give_up_s
        self._offsets = OffsetLookup(connection, metadata, timeout_s=timeout_s)

    async def mend(self, positions: Iterable[Position]) -> bool:
        """Mend what is in trouble. False if nobody answers, and it is still."""
        leader = self._metadata.leader_address
        troubled = [
            position
            for position in positions
            if position.troubled is not None or (position.failure is None and leader(*position.topic_partition) is None)
        ]
        if not troubled:
            return True
        tries = max(position.failed_tries for position in troubled)
        await asyncio.sleep(backoff_s(tries, self._environment.chance, longest_s=0.25))
        try:
            await self._metadata.refresh(*{position.topic_partition.topic for position in troubled})
        except LograftError as nobody:
            for position in troubled:
                position.failed_tries += 1
                self._lose_patience(position, nobody)
            return False
        await asyncio.gather(*map(self._mend, troubled))  # together: each may ask around for a second
        return True

    async def _mend(self, position: Position) -> None:
        error = position.troubled  # None: without a leader until now, or sought elsewhere meanwhile
        position.failed_tries += 1
        self._lose_patience(position, error)
        if isinstance(error, OffsetOutOfRange):
            await self.mend_out_of_range(position)
        elif isinstance(error, UnknownTopic | UnknownTopicId | UnknownPartition) or self._is_unheard_of(position):
            await self._mend_unknown(position)
        elif error is not None and not error.retriable:
            position.failure = error
        position.troubled = None

    def _lose_patience(self, position: Position, error: LograftError | None) -> None:
        """Who reads to an end rather than follows does not wait for ever for a cluster that is gone."""
        now = self._environment.now()
        if position.troubled_since is None:
            position.troubled_since = now
        elif self._give_up_s is not None and now - position.troubled_since > self._give_up_s:
            why = error or NoLeader("no leader is known")
            position.failure = BrokerUnavailable(
                f"{position.topic_partition} could not be read for {self._give_up_s:g} s: {why}"
            )

    def _is_unheard_of(self, position: Position) -> bool:
        """It was known, and the metadata has it no more: nobody is left to be fetched from, who would say so."""
        topic, number = position.topic_partition
        view = self._metadata.topics.get(topic)
        return position.topic_id != "" and (view is None or number >= len(view.partitions))

    async def _mend_unknown(self, position: Position) -> None:
        """A broker does not know the partition. It may lag behind; ask around before that is believed."""
        topic, number = position.topic_partition
        try:
            view = await self._metadata.topic(topic, timeout_s=self._timeout_s, fresh=True)
        except UnknownTopic:
            if position.generation:
                return  # whoever granted it will hear of that, and take it back
            position.failure = UnknownTopic(f"topic {topic!r} was deleted, or never was", topic=topic)
            return
        except LograftError:
            return
        if position.generation:
            return
        if position.topic_id and view.topic_id != position.topic_id:
            position.failure = UnknownTopic(f"topic {topic!r} was deleted; another has its name now", topic=topic)
        elif number >= len(view.partitions):
            position.failure = unknown_partition(position.topic_partition, len(view.partitions))

    async def mend_out_of_range(self, position: Position) -> None:
        """The rule is applied only once a majority has confirmed the range: a new leader may not know it yet."""
        partition, version = position.topic_partition, position.version
        try:
            start, end = (await self._offsets.extents([partition]))[partition]
        except LograftError:
            return
        offset = position.fetch_offset
        if position.version != version or offset is None or start <= offset <= end:
            return
        if position.reset == "error":
            position.failure = OffsetOutOfRange(
                f"{partition} holds offsets from {start} up to {end}; {offset} is none of them: seek, or set "
                "auto_offset_reset",
                offset=offset,
                start=start,
                end=end,
            )
            return
        goes_on_at = start if position.reset == "start" else end
        is_stored = position.reset == "end" and self._progress is not None
        if is_stored and (position.offset != offset or not await self._store_place(position, end)):
            return  # until the application has been handed what is there, or the coordinator can be asked again
        _log.warning(
            "%s holds offsets from %d up to %d, and %d is none of them: reading goes on at %d, by auto_offset_reset",
            *(partition, start, end, offset, goes_on_at),
        )
        position.skip_to(goes_on_at)
        if is_stored:
            position.settled_offset = goes_on_at

    async def _store_place(self, position: Position, offset: int) -> bool:
        """False if it could not be stored, or the position was sought or lost meanwhile."""
        assert self._progress is not None
        version = position.version
        try:
            refused = await self._progress.store_places({position: offset}, timeout_s=min(self._timeout_s, _STORE_S))
        except LograftError:
            return False
        return not refused and position.version == version
