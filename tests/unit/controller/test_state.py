from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from lograft.node.controller.facts import (
    BrokerFact,
    DeletedTopicFact,
    PartitionFact,
    SettingFact,
    TopicFact,
    delete,
    encode_value,
    put,
)
from lograft.node.controller.settings import BYTES_PER_SECOND, GONE_AFTER_MS
from lograft.node.controller.state import ClusterState
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter

from tests.unit.controller.fake_replica import Reports

IDS = ["1" * 32, "2" * 32, "3" * 32]


def a_topic(name: str, topic_id: str, *placements: tuple[int, ...]) -> TopicFact:
    partitions = []
    number = 1
    for placement in placements or ((1,),):
        replicas = tuple(Voter(broker_id, f"{broker_id:032x}", number + at) for at, broker_id in enumerate(placement))
        number += len(placement)
        partitions.append(PartitionFact(placement=replicas, first_voters=replicas))
    return TopicFact(
        name=name, topic_id=topic_id, config={}, partitions=tuple(partitions), next_replica_number=number, created_ms=0
    )


def a_broker(broker_id: int, rack: str = "") -> BrokerFact:
    return BrokerFact(broker_id=broker_id, directory_id=f"{broker_id:032x}", rack=rack, joined_ms=0)


def a_deletion(topic_id: str, name: str = "a") -> DeletedTopicFact:
    return DeletedTopicFact(topic_id=topic_id, name=name, deleted_ms=0)


def a_setting(name: str, value: int) -> SettingFact:
    return SettingFact(name=name, value=value)


FACTS = st.one_of(
    st.builds(a_topic, st.sampled_from("abc"), st.sampled_from(IDS), st.sampled_from([(1,), (1, 2), (3, 1)])),
    st.builds(a_broker, st.integers(0, 3), st.sampled_from(["", "r1"])),
    st.builds(a_deletion, st.sampled_from(IDS), st.sampled_from("abc")),
    st.builds(a_setting, st.sampled_from([BYTES_PER_SECOND, GONE_AFTER_MS]), st.integers(0, 2)),
)
PUTS = FACTS.map(lambda fact: (fact.key.encode(), encode_value(fact)))
TOMBSTONES = FACTS.map(lambda fact: (fact.key.encode(), None))
UNREADABLE = st.tuples(
    FACTS.map(lambda fact: fact.key.encode()) | st.sampled_from([None, b"\xff", b"user/x", b"broker/03"]),
    st.sampled_from([b"", b"{}", b"[1", b"\xff\xfe"]) | FACTS.map(encode_value),
)
LOGS = st.lists(PUTS | TOMBSTONES | UNREADABLE, max_size=40)
Record = tuple[bytes | None, bytes | None]


def state_of(records: list[Record]) -> ClusterState:
    state = ClusterState()
    for key, value in records:
        state.apply_record(key, value)
    return state


@given(LOGS)
def test_a_compacted_log_gives_the_state_that_the_whole_one_gave(log: list[Record]) -> None:
    newest = {key: at for at, (key, _) in enumerate(log)}
    compacted = [(key, value) for at, (key, value) in enumerate(log) if newest[key] == at]
    whole = state_of(log)
    assert state_of(compacted) == whole
    assert state_of([(key, value) for key, value in compacted if value is not None]) == whole


@given(LOGS, LOGS)
def test_applying_records_again_from_any_earlier_place_changes_nothing(
    before: list[Record], after: list[Record]
) -> None:
    assert state_of([*before, *after, *after]) == state_of([*before, *after])
    assert state_of([*before, *after, *before, *after]) == state_of([*before, *after])


@given(LOGS)
def test_the_state_is_found_again_from_its_own_facts_and_by_id_as_by_name(log: list[Record]) -> None:
    state = state_of(log)
    twin = ClusterState()
    for fact in state.facts():
        twin.apply(put(fact))
    assert (twin.topics, twin.brokers, twin.deleted_topics) == (state.topics, state.brokers, state.deleted_topics)
    assert state.copy() == state
    for topic in state.topics.values():
        found = state.topic_by_id(topic.topic_id)
        assert found is not None and found.topic_id == topic.topic_id
    for topic_id in IDS:
        found = state.topic_by_id(topic_id)
        assert found is None or state.topic(found.name) == found


@given(LOGS, LOGS)
def test_a_state_that_becomes_another_holds_all_that_the_other_held_and_nothing_else(
    log: list[Record], another: list[Record]
) -> None:
    state, other, expected = state_of(log), state_of(another), state_of(another)
    before = state.snapshot()
    changed = state.become(other)
    assert state == expected and state.snapshot() == expected.snapshot()
    after = state.snapshot()
    assert changed == sorted(key for key in {*before, *after} if before.get(key, "none") != after.get(key, "none"))


def test_a_change_names_its_key_and_a_repetition_names_none() -> None:
    state = ClusterState()
    assert state.apply(put(a_broker(1))) == "broker/1"
    assert state.apply(put(a_broker(1))) is None
    assert state.apply(put(a_broker(1, rack="r2"))) == "broker/1"
    assert state.apply(delete(a_broker(1))) == "broker/1"
    assert state.apply(delete(a_broker(1))) is None


def test_a_record_that_cannot_be_read_is_counted_and_reported_and_the_next_one_applied() -> None:
    reports = Reports()
    state = ClusterState(reports)
    state.apply_record(b"nonsense", b"{")
    state.apply_record(b"broker/1", encode_value(a_broker(1)))
    assert state.bad_record_count == 1
    assert reports.events == ["cluster_fact_unreadable"]
    assert state.brokers == {1: a_broker(1)}


@given(st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=60)), max_size=8))
@example([(b"quota/7", b"{}"), (b"quota/7", None), (b"broker/1", b'{"of": "a later version"}')])
def test_no_record_of_a_later_version_stops_the_applying_or_touches_what_is_under_other_keys(
    records: list[tuple[bytes | None, bytes | None]],
) -> None:
    state = ClusterState()
    state.apply(put(a_topic("a", IDS[0])))
    for key, value in records:
        state.apply_record(key, value)
    assert state.topic("a") == a_topic("a", IDS[0])


def test_a_fact_of_an_unknown_kind_is_passed_over_and_never_written_over() -> None:
    reports = Reports()
    state = ClusterState(reports)
    assert state.apply_record(b"quota/7", b'{"bytes_per_s": 5}') is None
    assert state.apply_record(b"quota/7", None) is None
    assert reports.events == ["cluster_fact_unreadable"] * 2 and state == ClusterState()
    assert not state.snapshot(), "it stays in the log, and is nothing that this version would write"


def test_a_key_whose_newest_value_cannot_be_read_is_neither_free_nor_its_old_self() -> None:
    state = state_of([(b"topic/a", encode_value(a_topic("a", IDS[0]))), (b"topic/a", b'{"name": "a"}')])
    assert state.topic("a") is None and "topic/a" in state.unreadable
    state.apply(put(a_topic("a", IDS[1])))
    assert state.topic("a") == a_topic("a", IDS[1]) and not state.unreadable


def test_a_topic_made_again_under_its_name_is_found_under_the_new_id_only() -> None:
    state = ClusterState()
    state.apply(put(a_topic("a", IDS[0])))
    state.apply(put(a_topic("a", IDS[1])))
    assert state.topic_by_id(IDS[0]) is None
    assert state.topic_by_id(IDS[1]) == state.topic("a")


def test_a_broker_is_told_every_replica_placed_with_it_and_none_of_a_deleted_topic() -> None:
    state = ClusterState()
    state.apply(put(a_topic("a", IDS[0], (1, 2), (2, 3), (3, 1))))
    state.apply(put(a_topic("b", IDS[1], (1, 2))))
    assert [(placed.partition, placed.replica.replica_number) for placed in state.replicas_of(1)] == [
        (PartitionId(IDS[0], 0), 1),
        (PartitionId(IDS[0], 2), 6),
        (PartitionId(IDS[1], 0), 1),
    ]
    state.apply(put(a_deletion(IDS[0])))
    assert [placed.partition for placed in state.replicas_of(1)] == [PartitionId(IDS[1], 0)]


def test_only_a_delete_record_makes_a_topic_deleted_not_its_absence() -> None:
    state = ClusterState()
    state.apply(put(a_topic("a", IDS[0])))
    state.apply(delete(a_topic("a", IDS[0])))
    assert state.topic_by_id(IDS[0]) is None and not state.is_deleted(IDS[0])
    state.apply(put(a_deletion(IDS[0])))
    assert state.is_deleted(IDS[0])


def test_a_partition_is_found_by_topic_id_and_number_within_its_bounds() -> None:
    state = ClusterState()
    state.apply(put(a_topic("a", IDS[0], (1,), (2,))))
    found = state.partition(PartitionId(IDS[0], 1))
    assert found is not None and found.placement[0].broker_id == 2
    assert state.partition(PartitionId(IDS[0], 2)) is None
    assert state.partition(PartitionId(IDS[0], -1)) is None
    assert state.partition(PartitionId(IDS[1], 0)) is None
