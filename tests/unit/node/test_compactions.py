"""Which logs a broker compacts, and by what settings."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from lograft.node.compactions import Compactions
from lograft.node.config import BrokerConfig, BrokerSection, CompactionSection
from lograft.node.controller.topic_rules import internal_settings, is_internal, settings_of
from lograft.node.metrics import Metrics
from lograft.node.replicas import CLUSTER_PARTITION, topic_limits
from lograft.partitions.environment import PartitionId
from lograft.partitions.storage.compaction import CompactionSettings
from lograft.partitions.storage.rewriting import Job, Outcome, Take

SECTION = CompactionSection(dirty_bytes_max=1000, table_bytes_max=1 << 20)
TOPICS = {
    "a" * 32: ("events", {}),
    "b" * 32: ("keyed", {"cleanup.policy": "compact", "delete.retention.ms": "5"}),
    "c" * 32: ("both", {"cleanup.policy": "compact,delete", "retention.ms": "7000"}),
    "d" * 32: ("__offsets", {"cleanup.policy": "delete"}),
}


class Scene:
    def __init__(self) -> None:
        self.config = BrokerConfig(broker=BrokerSection(id=1, data_directory="d"))
        self.asked: dict[PartitionId, tuple[CompactionSettings, int | None]] = {}
        self.stops = 0
        self.ahead_ms = {1: 0.0, 2: 0.0, 3: 0.0}
        self.clocks_asked = 0
        partitions = [CLUSTER_PARTITION, *(PartitionId(topic_id, 0) for topic_id in TOPICS)]
        self.table = {partition: self._replica(partition) for partition in partitions}
        topics = {topic_id: SimpleNamespace(name=name, config=config) for topic_id, (name, config) in TOPICS.items()}
        self.state = SimpleNamespace(topic_by_id=topics.get)

    def _replica(self, partition: PartitionId) -> Any:
        def plan_compaction(settings: CompactionSettings, *, below: int | None) -> None:
            self.asked[partition] = (settings, below)

        voters = [SimpleNamespace(broker_id=each) for each in (1, 2, 3)]
        return SimpleNamespace(partition=partition, plan_compaction=plan_compaction, voters=voters, resets=0)

    def settings(self, topic: Any) -> Any:
        settings = settings_of(topic.config, topic_limits(self.config))
        return internal_settings(settings) if is_internal(topic.name) else settings

    async def work(self, job: Job, take: Take) -> Outcome:
        raise AssertionError("nothing was planned")

    async def stop(self) -> None:
        self.stops += 1

    def tend(self) -> None:
        applied = {CLUSTER_PARTITION: 11, PartitionId("d" * 32, 0): 12}
        environment = SimpleNamespace(monotonic_ms=lambda: 0.0)
        compactions = Compactions(
            self,  # type: ignore[arg-type]
            environment,  # type: ignore[arg-type]
            SECTION,
            self,
            applied.get,
            self.clocks_apart,
            Metrics(),
        )
        asyncio.run(compactions.tend())

    async def clocks_apart(self, brokers: set[int]) -> dict[int, float]:
        self.clocks_asked += 1
        return {broker_id: self.ahead_ms[broker_id] for broker_id in brokers}


def test_what_is_compacted_is_what_asks_for_it_and_all_that_is_internal() -> None:
    scene = Scene()
    scene.tend()
    assert set(scene.asked) == {CLUSTER_PARTITION, *(PartitionId(digit * 32, 0) for digit in "bcd")}
    assert scene.stops == 1


def test_of_an_internal_log_no_more_is_compacted_than_is_applied_here() -> None:
    scene = Scene()
    scene.tend()
    assert scene.asked[CLUSTER_PARTITION][1] == 11 and scene.asked[PartitionId("d" * 32, 0)][1] == 12
    assert scene.asked[PartitionId("b" * 32, 0)][1] is None


def test_topics_say_how_long_tombstones_stay_and_brokers_how_much_is_worth_it() -> None:
    scene = Scene()
    scene.tend()
    keyed, _ = scene.asked[PartitionId("b" * 32, 0)]
    assert (keyed.tombstones_ms, keyed.ages_ms, keyed.dirty_bytes_max, keyed.table_bytes_max) == (
        5,
        None,
        1000,
        1 << 20,
    )
    assert keyed.free_bytes_min == scene.config.disk.replication_stop_free_bytes > 0
    both, _ = scene.asked[PartitionId("c" * 32, 0)]
    assert (both.tombstones_ms, both.ages_ms) == (86_400_000, 7000)


def test_tombstones_stay_while_this_brokers_clock_is_far_from_the_others() -> None:
    scene = Scene()
    scene.tend()
    assert {settings.is_clock_trusted for settings, _ in scene.asked.values()} == {True} and scene.clocks_asked == 1
    scene.ahead_ms |= {2: -3_600_000.0, 3: -3_600_000.0}
    scene.tend()
    assert {settings.is_clock_trusted for settings, _ in scene.asked.values()} == {False}
