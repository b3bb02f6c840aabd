"""Compacts the logs here whose topics ask for it, one at a time, replica by replica.

Invariants
    every replica compacts its own log, whoever leads
    of an internal partition nothing is compacted that the state built from it here has not seen yet: it would miss the
        tombstones that went
    a log that is compacted takes turns with the others, however busy it is
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from ..partitions.compactor import compact
from ..partitions.environment import Environment, PartitionId
from ..partitions.storage.compaction import CompactionSettings
from ..partitions.storage.rewriting import Job, Outcome, Take
from .config import CompactionSection
from .controller.topic_rules import COMPACT_AND_DELETE, TopicSettings, internal_settings, settings_of
from .replicas import CLUSTER_PARTITION, Replicas, topic_limits


class Worker(Protocol):
    """What is asked of `CompactionProcess`."""

    def work(self, job: Job, take: Take) -> Awaitable[Outcome]: ...
    async def stop(self) -> None: ...


class Compactions:
    """One a broker. `tend` is called at an interval.

    `seen_offset` says how far the state built from an internal partition has come; None for any other partition.
    """

    def __init__(
        self,
        replicas: Replicas,
        environment: Environment,
        section: CompactionSection,
        worker: Worker,
        seen_offset: Callable[[PartitionId], int | None],
    ) -> None:
        self._replicas = replicas
        self._environment = environment
        self._section = section
        self._worker = worker
        self._seen_offset = seen_offset

    async def tend(self) -> None:
        """Compact every log here for which it is time, once."""
        try:
            for partition in sorted(self._replicas.table):
                settings = self._settings_of(partition)
                replica = self._replicas.table.get(partition)
                if replica is not None and settings is not None:
                    below = self._seen_offset(partition)
                    await compact(self._environment, replica, settings, self._worker.work, below=below)
        finally:
            await self._worker.stop()

    async def stop(self) -> None:
        await self._worker.stop()

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
