"""Where a running broker's measurements are taken: connects the families of `metrics` with what they are read from.

Invariants
    a mistake in measuring is logged, and costs figures; it never ends a broker, as one in any other of its tasks does
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import structlog

from ..partitions.environment import Disk, PartitionId
from ..partitions.replica import Replica
from .groups.calls import Condition
from .groups.coordinators import Coordinators
from .groups.lag_watch import LagWatch
from .metrics import Metrics
from .metrics.families import Row
from .peer.links import PeerLinks
from .replicas import Replicas
from .vital_signs import LedSigns, VitalSigns

if TYPE_CHECKING:
    from .cluster_view import ClusterView
    from .config import BrokerConfig

Place = tuple[str, str]

log = structlog.get_logger("measuring")


class Measuring:
    """One a broker. `look` and `look_at_lag` are called again and again by the node, in the background."""

    def __init__(
        self,
        config: BrokerConfig,
        metrics: Metrics,
        replicas: Replicas,
        links: PeerLinks,
        coordinators: Coordinators,
        signs: VitalSigns,
        lag: LagWatch,
        view: ClusterView,
    ) -> None:
        self._metrics = metrics
        self._replicas = replicas
        self._links = links
        self._coordinators = coordinators
        self._vital = signs
        self._lag = lag
        self._crc_errors_counted = 0
        metrics.broker.name_broker(config.broker.id, config.broker.rack)
        metrics.storage.disk_produce_stop.set(config.disk.produce_stop_free_bytes)
        self._watch_raft()
        self._watch_health(view)
        self._watch_storage()
        self._watch_groups()
        self._watch_partitions()

    async def look(self) -> None:
        """One look at what is unwell; and series of topics that are no more end."""
        await _harmless(self._vital.look())
        if self._replicas.is_caught_up:
            self._metrics.forget_other_topics(self._replicas.state.topics)
        crc_errors = self._links.crc_errors
        self._metrics.storage.crc_errors_of_peers.inc(crc_errors - self._crc_errors_counted)
        self._crc_errors_counted = crc_errors
        self._metrics.broker.count_collections()

    async def look_at_lag(self) -> None:
        """One round over all groups that are coordinated here."""
        await _harmless(self._lag.look())

    def watch_process(
        self,
        *,
        is_ready: Callable[[], bool],
        is_controller: Callable[[], bool],
        uptime_s: Callable[[], float],
        connections: Callable[[], Iterable[Row]],
        disk: Disk,
    ) -> None:
        """What the node itself knows."""
        metrics = self._metrics
        metrics.broker.ready.watch_value(is_ready)
        metrics.broker.uptime.watch_value(uptime_s)
        metrics.health.controller_active.watch_value(is_controller)
        metrics.requests.connections.watch(connections)
        metrics.storage.disk_total_bytes.watch_value(disk.total_bytes)

    def _watch_raft(self) -> None:
        raft, replicas, links = self._metrics.raft, self._replicas, self._links
        raft.watch_counts(replicas.counts)
        raft.partitions.watch_value(lambda: len(replicas.table))
        raft.leaders.watch_value(lambda: len(replicas.led))
        raft.peer_sessions.watch_value(lambda: len(links.sessions))
        raft.peer_connections_refused.watch_value(lambda: links.refused_connections)
        raft.peer_silence_seconds.watch(lambda: [((str(peer),), seconds) for peer, seconds in self._vital.silences_s()])
        raft.peer_round_trip_seconds.watch(
            lambda: [((str(session.broker_id),), session.control.round_trip_ms / 1000) for session in links.sessions]
        )
        raft.peer_received_bytes.watch(
            lambda: [((str(peer),), received) for peer, (received, _) in links.traffic().items()]
        )
        raft.peer_sent_bytes.watch(lambda: [((str(peer),), sent) for peer, (_, sent) in links.traffic().items()])

    def _watch_health(self, view: ClusterView) -> None:
        health, vital = self._metrics.health, self._vital
        health.brokers_registered.watch_value(lambda: len(vital.registered()))
        health.brokers_up.watch_value(vital.up)
        health.leaderless.watch_value(lambda: vital.signs.leaderless)
        health.under_replicated.watch_value(lambda: vital.signs.under_replicated)
        health.at_min_quorum.watch_value(lambda: vital.signs.at_min_quorum)
        health.moves_active.watch_value(lambda: vital.signs.moves_active)
        health.copies.watch_value(lambda: len(view.copying.left_bytes()))
        health.copies_left_bytes.watch_value(lambda: sum(view.copying.left_bytes()))
        health.replica_lag_max.watch(lambda: [((str(peer),), lag) for peer, lag in vital.signs.lag_max.items()])

    def _watch_storage(self) -> None:
        storage, replicas, vital = self._metrics.storage, self._replicas, self._vital
        storage.watch_repairs(replicas.repairs)
        storage.watch_counts(replicas.counts, self._topic_name)
        storage.damaged.watch_value(lambda: sum(replica.is_damaged for replica in replicas.table.values()))
        storage.doubtful.watch_value(lambda: vital.signs.doubtful)
        storage.unopened.watch_value(lambda: len(replicas.unopened))
        storage.open_retries.watch(
            lambda: ((("opened",), replicas.retries.opened), (("failed",), replicas.retries.failed))
        )
        storage.unsynced_bytes.watch_value(lambda: vital.signs.unsynced_bytes)
        storage.disk_free_bytes.watch_value(lambda: replicas.disk_free_bytes)
        storage.disk_produce_stopped.watch_value(lambda: replicas.is_produce_stopped)
        storage.disk_replication_stopped.watch_value(lambda: replicas.is_replication_stopped)
        storage.log_size_bytes.watch(lambda: [((name,), size) for name, (size, _) in self._sizes()])
        storage.log_segments.watch(lambda: [((name,), count) for name, (_, count) in self._sizes()])

    def _sizes(self) -> list[tuple[str, tuple[int, int]]]:
        return [*self._vital.signs.sizes.items()]

    def _topic_name(self, topic_id: str) -> str | None:
        name = self._vital.signs.names.get(topic_id)
        if name is None and (topic := self._replicas.state.topic_by_id(topic_id)) is not None:
            return topic.name  # new since the last look
        return name

    # -- groups ------------------------------------------------------------------------------------------------------

    def _watch_groups(self) -> None:
        groups, led, lag = self._metrics.groups, self._coordinators.led, self._lag
        groups.groups.watch(self._group_states)
        groups.members.watch(
            lambda: (
                ((name,), len(group.members))
                for coordinator in led()
                for name, group in list(coordinator.groups.items())
            )
        )
        groups.rebalances.watch(
            lambda: (((name,), counts.rebalances) for coordinator in led() for name, counts in coordinator.counts())
        )
        groups.offset_stores.watch(
            lambda: (
                ((name, result), count)
                for coordinator in led()
                for name, counts in coordinator.counts()
                for result, count in (("stored", counts.stored), ("refused", counts.refused))
            )
        )
        for family, field in (
            (groups.lag_records, "records"),
            (groups.lag_max_records, "records_max"),
            (groups.lag_seconds, "seconds_max"),
            (groups.expired_records, "expired"),
        ):
            family.watch(partial(self._topic_lags, field))
        groups.lag_age.watch_value(lag.age_s)

    def _group_states(self) -> list[Row]:
        counts = dict.fromkeys(Condition, 0)
        for coordinator in self._coordinators.led():
            for name in coordinator.groups:
                condition = coordinator.condition(name)
                if condition is not None:
                    counts[condition] += 1
        return [((condition.value,), count) for condition, count in counts.items()]

    def _topic_lags(self, field: str) -> Iterator[Row]:
        for name, group in self._lag.groups():
            for topic, lag in group.topics.items():
                yield (name, topic), getattr(lag, field)

    # -- partitions --------------------------------------------------------------------------------------------------

    def _watch_partitions(self) -> None:
        measures = self._metrics.partitions
        for family, value in (
            (measures.is_leader, lambda replica: replica.is_leader),
            (measures.term, lambda replica: replica.term),
            (measures.log_start, lambda replica: replica.log_start),
            (measures.committed, lambda replica: replica.committed.offset),
            (measures.log_end, lambda replica: replica.log_end),
            (measures.size_bytes, lambda replica: replica.log.size_bytes),
            (measures.segments, lambda replica: replica.log.segment_count),
        ):
            family.watch(partial(self._replica_rows, value))
        measures.replicas.watch(lambda: ((place, led.replicas) for place, led in self._led()))
        measures.in_sync.watch(lambda: ((place, led.in_sync) for place, led in self._led()))
        measures.replica_lag.watch(
            lambda: (((*place, str(peer)), lag) for place, led in self._led() for peer, lag in led.lacks)
        )
        measures.group_lag_records.watch(lambda: self._partition_lags("records"))
        measures.group_lag_seconds.watch(lambda: self._partition_lags("seconds"))

    def _replica_rows(self, value: Callable[[Replica], float]) -> Iterator[Row]:
        for partition, replica in list(self._replicas.table.items()):
            place = self._place(partition)
            if place is not None:
                yield place, value(replica)

    def _led(self) -> Iterator[tuple[Place, LedSigns]]:
        for partition, led in self._vital.signs.led.items():
            place = self._place(partition)
            replica = self._replicas.table.get(partition)
            if place is not None and replica is not None and replica.is_leader:
                yield place, led

    def _partition_lags(self, field: str) -> Iterator[Row]:
        for name, group in self._lag.groups():
            for partition, lag in group.partitions.items():
                place = self._place(partition)
                if place is not None:
                    yield (name, *place), getattr(lag, field)

    def _place(self, partition: PartitionId) -> Place | None:
        name = self._topic_name(partition.topic_id)
        return None if name is None else (name, str(partition.number))


async def _harmless(look: Awaitable[None]) -> None:
    try:
        await look
    except Exception:
        log.exception("measuring_failed")
