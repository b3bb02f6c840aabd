"""All decisions in force: what comes of applying the facts of `__cluster` in the order of their offsets.

What always holds
    applying never raises: a record that cannot be read is counted and reported, and the next one is applied
    the state depends on the last record of each key alone, so a compacted log gives the same state as the whole one
    applying a record twice changes nothing the second time
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ...partitions.environment import PartitionId
from ...partitions.raft.messages import Voter
from ..decision_log import Report
from .facts import (
    BrokerFact,
    Change,
    DeletedTopicFact,
    Fact,
    PartitionFact,
    SettingFact,
    TopicFact,
    UnreadableFact,
    decode,
    encode_value,
)


class PlacedReplica(NamedTuple):
    """A replica that a broker should hold: it is placed there, or it was at first."""

    partition: PartitionId
    replica: Voter
    first_voters: tuple[Voter, ...]
    """Of the partition; one who is not among them begins as a learner."""
    topic: TopicFact


class ClusterState:
    """The decisions in force, by name and by id. Its owner alone applies; others read and change nothing."""

    def __init__(self, report: Report | None = None) -> None:
        self.topics: dict[str, TopicFact] = {}
        self.brokers: dict[int, BrokerFact] = {}
        self.deleted_topics: dict[str, DeletedTopicFact] = {}
        """By topic id."""
        self.settings: dict[str, SettingFact] = {}
        """By name: what was decided, and nothing for what has its default."""
        self.unreadable: dict[str, str] = {}
        """Keys whose present value this version cannot read, and why: they are taken, and must not be written over."""
        self.bad_record_count = 0
        """Records that could not be applied, since this process began to apply."""
        self._names_by_id: dict[str, set[str]] = {}
        self._report = report

    def topic(self, name: str) -> TopicFact | None:
        return self.topics.get(name)

    def topic_by_id(self, topic_id: str) -> TopicFact | None:
        names = self._names_by_id.get(topic_id)
        return self.topics[min(names)] if names else None

    def partition(self, partition: PartitionId) -> PartitionFact | None:
        topic = self.topic_by_id(partition.topic_id)
        if topic is None or not 0 <= partition.number < len(topic.partitions):
            return None
        return topic.partitions[partition.number]

    def is_deleted(self, topic_id: str) -> bool:
        """Was this topic deleted by an explicit decision? That it is absent says nothing of the kind."""
        return topic_id in self.deleted_topics

    def replicas_of(self, broker_id: int) -> list[PlacedReplica]:
        """What the broker should hold, by topic name and partition number, whatever directory id it was placed with."""
        return [
            PlacedReplica(PartitionId(topic.topic_id, number), replica, partition.first_voters, topic)
            for _, topic in sorted(self.topics.items())
            if topic.topic_id not in self.deleted_topics
            for number, partition in enumerate(topic.partitions)
            for replica in partition.placement
            if replica.broker_id == broker_id
        ]

    @property
    def partition_count(self) -> int:
        return sum(len(topic.partitions) for topic in self.topics.values())

    def apply_record(self, key: bytes | None, value: bytes | None) -> str | None:
        """Take one record of the log; value None is a tombstone. Returns the key if what stands under it changed."""
        try:
            change = decode(key, value)
        except UnreadableFact as error:
            self.bad_record_count += 1
            if self._report is not None:
                self._report("cluster_fact_unreadable", key=error.key, why=error.why)
            return self._set_aside(error.key, error.why) if error.key is not None else None
        return self.apply(change)

    def apply(self, change: Change) -> str | None:
        """Put or delete one fact. Returns its key if that changed anything."""
        key, fact = change
        old = self._remove(key)
        if fact is not None:
            self._add(fact)
        return None if old == fact else key

    def facts(self) -> Iterator[Fact]:
        """Every fact in force, by key."""
        everything: list[Fact] = [
            *self.topics.values(),
            *self.brokers.values(),
            *self.deleted_topics.values(),
            *self.settings.values(),
        ]
        return iter(sorted(everything, key=lambda fact: fact.key))

    def snapshot(self) -> dict[str, bytes | None]:
        """Key -> value as stored, by key; None for a key whose value cannot be read. Equal of equal states."""
        readable: dict[str, bytes | None] = {fact.key: encode_value(fact) for fact in self.facts()}
        return dict(sorted((readable | dict.fromkeys(self.unreadable)).items()))

    def begin_anew(self) -> ClusterState:
        """Another one without any decision, which reports to the same."""
        return ClusterState(self._report)

    def become(self, other: ClusterState) -> list[str]:
        """Take over the decisions of `other`, which is used up. Returns the keys under which something else stands."""
        before, after = self.snapshot(), other.snapshot()
        self.topics, self.brokers, self.deleted_topics = other.topics, other.brokers, other.deleted_topics
        self.settings, self.unreadable, self._names_by_id = other.settings, other.unreadable, other._names_by_id
        self.bad_record_count += other.bad_record_count
        absent = object()
        keys = sorted(before.keys() | after.keys())
        return [key for key in keys if before.get(key, absent) != after.get(key, absent)]

    def copy(self) -> ClusterState:
        twin = ClusterState()
        twin.topics = dict(self.topics)
        twin.brokers = dict(self.brokers)
        twin.deleted_topics = dict(self.deleted_topics)
        twin.settings = dict(self.settings)
        twin.unreadable = dict(self.unreadable)
        twin._names_by_id = {topic_id: set(names) for topic_id, names in self._names_by_id.items()}
        return twin

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ClusterState) and self.snapshot() == other.snapshot()

    __hash__ = None  # type: ignore[assignment]

    def _add(self, fact: Fact) -> None:
        match fact:
            case TopicFact():
                self.topics[fact.name] = fact
                self._names_by_id.setdefault(fact.topic_id, set()).add(fact.name)
            case BrokerFact():
                self.brokers[fact.broker_id] = fact
            case DeletedTopicFact():
                self.deleted_topics[fact.topic_id] = fact
            case SettingFact():
                self.settings[fact.name] = fact

    def _remove(self, key: str) -> Fact | str | None:
        """Clear the key. Returns what stood under it: a fact, or why it could not be read."""
        if key in self.unreadable:
            return self.unreadable.pop(key)
        kind, _, rest = key.partition("/")
        match kind:
            case "topic":
                topic = self.topics.pop(rest, None)
                if topic is not None:
                    names = self._names_by_id[topic.topic_id]
                    names.discard(topic.name)
                    if not names:
                        del self._names_by_id[topic.topic_id]
                return topic
            case "broker":
                broker = next((broker for broker in self.brokers.values() if broker.key == key), None)
                return self.brokers.pop(broker.broker_id) if broker is not None else None
            case "deleted":
                return self.deleted_topics.pop(rest, None)
            case "setting":
                return self.settings.pop(rest, None)
        return None

    def _set_aside(self, key: str, why: str) -> str | None:
        # The earlier value does not stay in force: a compacted log would no longer hold it.
        old = self._remove(key)
        self.unreadable[key] = why
        return None if old == why else key
