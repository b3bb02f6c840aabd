"""Lag of all groups at once: by the leaders' clocks, with no record read twice for a group that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from lograft.node.controller.facts import DeletedTopicFact, delete, put
from lograft.node.groups.facts import OffsetFact
from lograft.node.groups.lag_watch import INTERVAL_S_MIN, LagWatch, PartitionLag
from lograft.node.groups.state import GroupFacts
from lograft.partitions.environment import PartitionId
from lograft.proto.errors import BrokerUnavailable, InvalidRequest

from tests.unit.groups.test_lag import FIRST, NOW_MS, SECOND, THIRD, TOPIC_ID, Broker, FakeReplica, done


@dataclass
class FakeCoordinator:
    number: int = 0
    groups: dict[str, GroupFacts] = field(default_factory=dict)

    def store(self, group: str, **offsets: int) -> None:
        """By the partitions' names, first, second, third."""
        facts = self.groups.setdefault(group, GroupFacts())
        for name, offset in offsets.items():
            partition = {"first": FIRST, "second": SECOND, "third": THIRD}[name]
            facts.offsets[partition] = OffsetFact(offset=offset, stored_ms=0, metadata="")


class Watching(Broker):
    """A broker that coordinates, and leads what `lead` says."""

    def __init__(self, broker_id: int = 1) -> None:
        super().__init__(broker_id)
        self.coordinator = FakeCoordinator()
        self.coordinating = [self.coordinator]
        self.monotonic_ms = 0.0
        self.watch = LagWatch(
            broker_id, self, self, lambda: self.coordinating, lambda: NOW_MS, lambda: self.monotonic_ms
        )

    def lead(self, partition: PartitionId, replica: FakeReplica) -> FakeReplica:
        replica.is_ready = True  # type: ignore[attr-defined]
        return super().lead(partition, replica)

    async def call(self, broker_id: int, method: str, body: bytes = b"", *, timeout_ms: float) -> bytes:
        self.calls.append(broker_id)
        other: Any = self.others.get(broker_id)
        if other is None:
            raise BrokerUnavailable("no link")
        answer: bytes = await other.watch.carry_out(self.broker_id, body)
        return answer

    def look(self, *, after_ms: float = 5_000) -> dict[str, dict[PartitionId, PartitionLag]]:
        self.monotonic_ms += after_ms
        done(self.watch.look())
        return {name: lag.partitions for name, lag in self.watch.groups()}


def test_a_group_is_behind_by_what_it_did_not_store_and_by_the_age_of_the_next_record() -> None:
    here = Watching()
    here.lead(FIRST, FakeReplica([1000, 2000, 3000]))
    here.lead(SECOND, FakeReplica([4000], [5000]))
    here.coordinator.store("g", first=1, second=2)
    here.look()
    ((name, lag),) = here.watch.groups()
    assert name == "g" and lag.partitions == {FIRST: PartitionLag(2, 8.0, 0), SECOND: PartitionLag(0, 0.0, 0)}
    topic = lag.topics["t"]
    assert (topic.records, topic.records_max, topic.seconds_max, topic.expired) == (2, 2, 8.0, 0)


def test_partitions_of_which_nothing_is_stored_are_left_out() -> None:
    here = Watching()
    here.lead(FIRST, FakeReplica([1000]))
    here.lead(SECOND, FakeReplica([1000]))
    here.coordinator.store("g", first=0)
    assert here.look() == {"g": {FIRST: PartitionLag(1, 9.0, 0)}}


def test_records_that_were_dropped_before_they_were_read_are_expired_and_no_lag() -> None:
    here = Watching()
    here.lead(FIRST, FakeReplica([1000, 2000], [3000, 4000], start=2))
    here.coordinator.store("g", first=1)
    assert here.look() == {"g": {FIRST: PartitionLag(2, 7.0, 1)}}


def test_a_group_that_stands_still_grows_older_without_a_read() -> None:
    here = Watching()
    replica = here.lead(FIRST, FakeReplica([1000, 2000, 3000]))
    here.coordinator.store("g", first=1)
    here.coordinator.store("other", first=1)
    here.look()
    assert len(replica.reads) == 1, "both groups stand at the same record"
    here.look()
    assert len(replica.reads) == 1
    here.coordinator.store("g", first=2)
    here.look()
    assert len(replica.reads) == 2


def test_leaders_on_other_brokers_are_asked_once_about_all_groups() -> None:
    here, there = Watching(1), Watching(2)
    here.others[2] = there
    for partition in (FIRST, SECOND):
        there.lead(partition, FakeReplica([1000, 2000]))
        here.leaders[partition] = 2
    here.coordinator.store("g", first=0, second=1)
    here.coordinator.store("other", first=2)
    assert here.look() == {
        "g": {FIRST: PartitionLag(2, 9.0, 0), SECOND: PartitionLag(1, 8.0, 0)},
        "other": {FIRST: PartitionLag(0, 0.0, 0)},
    }
    assert here.calls == [2]


def test_while_a_leader_cannot_be_asked_its_figures_stay_and_grow_older() -> None:
    here = Watching()
    replica = here.lead(FIRST, FakeReplica([1000, 2000]))
    here.lead(SECOND, FakeReplica([1000]))
    here.coordinator.store("g", first=0, second=1)
    here.look()
    replica.is_ready = False  # type: ignore[attr-defined]
    here.leaders[SECOND] = 9  # of which there is no link
    assert here.look(after_ms=3_000) == {"g": {FIRST: PartitionLag(2, 12.0, 0), SECOND: PartitionLag(0, 0.0, 0)}}


def test_only_groups_that_are_coordinated_here_now_are_told_of() -> None:
    here = Watching()
    here.lead(FIRST, FakeReplica([1000]))
    here.coordinator.store("g", first=0)
    here.coordinator.store("deleted", first=0)
    here.look()
    del here.coordinator.groups["deleted"]
    assert [name for name, _ in here.watch.groups()] == ["g"]
    here.coordinating = []
    assert not list(here.watch.groups()) and here.watch.age_s() is None


def test_the_figures_have_an_age() -> None:
    here = Watching()
    here.coordinator.store("g", first=0)
    assert here.watch.age_s() is None
    here.look()
    here.monotonic_ms += 2_500
    assert here.watch.age_s() == 2.5


def test_rounds_are_rarer_where_there_is_much_to_ask() -> None:
    here = Watching()
    assert here.watch.due_s == INTERVAL_S_MIN
    for number in range(20_000):
        here.coordinator.store(f"g{number}", first=0)
    here.look()
    assert here.watch.due_s == pytest.approx(10.0)


def test_times_of_records_of_deleted_topics_are_forgotten() -> None:
    here = Watching()
    here.lead(FIRST, FakeReplica([1000]))
    here.coordinator.store("g", first=0)
    here.look()
    assert here.watch._times[1].keys() == {FIRST}
    here.state.apply(put(DeletedTopicFact(topic_id=TOPIC_ID, name="t", deleted_ms=0)))
    here.state.apply(delete(here.topic))
    here.watch.forget_deleted()
    assert not here.watch._times[1]
    assert here.look() == {"g": {}}


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\xff" * 40])
def test_a_question_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        done(Watching().watch.carry_out(2, body))
