"""Compacts the logs here whose topics ask for it, one at a time, replica by replica.

Invariants
    every replica compacts its own log, whoever leads
    of an internal partition nothing is compacted that the state built from it here has not seen yet: it would miss the
        tombstones that went
    a log that is compacted takes turns with the others, however busy it is
    no tombstone is dropped for its age unless this broker's clock may be trusted, as for retention
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ..partitions.compactor import compact
from ..partitions.environment import Environment, PartitionId
from ..partitions.replica import Replica
from ..partitions.storage.compaction import CompactionSettings
from ..partitions.storage.rewriting import Job, Outcome, Take
from ..partitions.storage.segment import DamagedLog
from .config import CompactionSection
from .controller.topic_rules import COMPACT_AND_DELETE, TopicSettings, internal_settings, settings_of
from .metrics import Metrics
from .replicas import CLUSTER_PARTITION, Replicas, topic_limits
from .retention import is_clock_trusted

CLUSTER_TOPIC = "__cluster"
CLOCKS_ASKED_MS = 60_000.0
"""What other brokers' clocks said counts for so long."""


class Worker(Protocol):
    """What is asked of `CompactionProcess`."""

    def work(self, job: Job, take: Take) -> Awaitable[Outcome]: ...
    async def stop(self) -> None: ...


class Compactions:
    """One a broker. `tend` is called at an interval.

    `seen_offset` says how far the state built from an internal partition has come; None for any other partition.
    `clocks_apart` asks brokers how far their clocks are ahead of this one's.
    """

    def __init__(
        self,
        replicas: Replicas,
        environment: Environment,
        section: CompactionSection,
        worker: Worker,
        seen_offset: Callable[[PartitionId], int | None],
        clocks_apart: Callable[[set[int]], Awaitable[Mapping[int, float]]],
        metrics: Metrics,
    ) -> None:
        self._replicas = replicas
        self._environment = environment
        self._section = section
        self._worker = worker
        self._seen_offset = seen_offset
        self._clocks_apart = clocks_apart
        self._metrics = metrics
        self._ahead_ms: Mapping[int, float] = {}
        self._asked_ms: float | None = None
        """When other brokers were asked for their clocks."""

    async def tend(self) -> None:
        """Compact every log here for which it is time, once."""
        try:
            for partition in sorted(self._replicas.table):
                settings = self._settings_of(partition)
                replica = self._replicas.table.get(partition)
                if replica is not None and settings is not None:
                    trusted = await self._is_clock_trusted(replica)
                    settings = settings._replace(is_clock_trusted=trusted)
                    below = self._seen_offset(partition)
                    await compact(self._environment, replica, settings, self._measured(partition), below=below)
        finally:
            await self._worker.stop()

    async def stop(self) -> None:
        await self._worker.stop()

    def _measured(self, partition: PartitionId) -> Callable[[Job, Take], Awaitable[Outcome]]:
        """The worker's work, and what it took."""
        topic = self._replicas.state.topic_by_id(partition.topic_id)
        name = CLUSTER_TOPIC if topic is None else topic.name

        async def work(job: Job, take: Take) -> Outcome:
            began, outcome, result = time.monotonic(), None, "given_up"
            self._metrics.compaction.began()
            try:
                outcome = await self._worker.work(job, take)
                result = "done"
            except DamagedLog:
                result = "damaged"
                raise
            finally:
                self._metrics.compaction.ended(name, result, time.monotonic() - began)
            self._metrics.compaction.count(
                bytes_read=outcome.bytes_read,
                bytes_before=sum(segment.bytes_before for segment in outcome.segments),
                bytes_after=sum(segment.size_bytes for segment in outcome.segments),
                records=outcome.records,
                records_dropped=outcome.records_dropped,
            )
            return outcome

        return work

    async def _is_clock_trusted(self, replica: Replica) -> bool:
        brokers = [voter.broker_id for voter in replica.voters]
        now_ms = self._environment.monotonic_ms()
        if self._asked_ms is None or now_ms - self._asked_ms > CLOCKS_ASKED_MS:
            table = self._replicas.table.values()
            self._ahead_ms = await self._clocks_apart({voter.broker_id for each in table for voter in each.voters})
            self._asked_ms = self._environment.monotonic_ms()
        return is_clock_trusted(self._replicas.config.broker.id, brokers, self._ahead_ms)

    def _settings_of(self, partition: PartitionId) -> CompactionSettings | None:
        """None: it is not compacted."""
        topic = self._replicas.state.topic_by_id(partition.topic_id)
        if partition == CLUSTER_PARTITION:
            settings = internal_settings(settings_of({}, topic_limits(self._replicas.config)))
        elif topic is not None:
            settings = self._replicas.settings(topic)
        else:
            return None
        return self._asked_by(settings) if settings.is_compacted else None

    def _asked_by(self, settings: TopicSettings) -> CompactionSettings:
        forgets = settings.cleanup_policy == COMPACT_AND_DELETE and settings.retention_ms >= 0
        return CompactionSettings(
            tombstones_ms=settings.delete_retention_ms,
            segment_bytes_max=settings.segment_bytes_max,
            ages_ms=settings.retention_ms if forgets else None,
            dirty_bytes_max=self._section.dirty_bytes_max,
            table_bytes_max=self._section.table_bytes_max,
            index_interval_bytes=self._replicas.config.replica.index_interval_bytes,
            # It may take what produce is refused: what it does makes room. Not what votes and deletions need.
            free_bytes_min=self._replicas.config.disk.replication_stop_free_bytes,
        )
