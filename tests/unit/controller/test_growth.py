"""A topic gets more partitions and other settings; what it has stays as it is."""

from __future__ import annotations

from collections import Counter

import pytest
from lograft.node.controller.facts import TopicFact
from lograft.node.controller.topic_rules import CONFIG_KEYS, TopicLimits, altered_config
from lograft.proto.errors import (
    BrokerUnavailable,
    InvalidConfig,
    InvalidPartitions,
    InvalidRequest,
    LograftError,
    NotAuthorized,
    UnknownTopic,
    UnknownTopicId,
)

from .fake_replica import directory_of, run
from .test_controller import ID, OTHER_ID, Office, error_of


async def an_office_with_topic(
    *brokers: int, partitions: int = 3, replication: int = 3, limits: TopicLimits | None = None
) -> Office:
    office = await Office.open(*brokers, limits=limits)
    for broker_id in brokers:
        office.alive[broker_id] = directory_of(broker_id)
    await office.controller.create_topic("orders", ID, partitions, replication, {"segment.ms": "5000"})
    return office


def numbers(topic: TopicFact) -> list[int]:
    return [voter.replica_number for partition in topic.partitions for voter in partition.placement]


# -- grow ------------------------------------------------------------------------------------------------------------


def test_a_grown_topic_keeps_its_partitions_and_new_ones_begin_where_they_are_placed_under_numbers_never_given() -> (
    None
):
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        before = await office.controller.describe_topic("orders")
        grown = await office.controller.grow_topic("orders", 7)
        assert grown == await office.controller.describe_topic("orders")
        assert grown.partitions[:3] == before.partitions and len(grown.partitions) == 7
        assert all(partition.first_voters == partition.placement for partition in grown.partitions[3:])
        assert sorted(numbers(grown)) == list(range(1, 22)) and grown.next_replica_number == 22
        assert grown.topic_id == before.topic_id and grown.config == before.config
        leaders = Counter(partition.placement[0].broker_id for partition in grown.partitions)
        assert max(leaders.values()) - min(leaders.values()) <= 1

    run(scene())


def test_new_partitions_go_first_to_a_broker_that_joined_since() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, partitions=6, replication=1)
        office.alive[4] = directory_of(4)
        await office.controller.register_broker(4, directory_of(4))
        grown = await office.controller.grow_topic("orders", 8)
        assert [partition.placement[0].broker_id for partition in grown.partitions[6:]] == [4, 4]

    run(scene())


def test_a_growth_that_is_repeated_because_its_answer_was_lost_succeeds_and_changes_nothing() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        grown = await office.controller.grow_topic("orders", 5, ID, partitions_before=3)
        assert await office.controller.grow_topic("orders", 5, ID, partitions_before=3) == grown
        refusal = await error_of(office.controller.grow_topic("orders", 5, ID, partitions_before=5))
        assert isinstance(refusal, InvalidPartitions), "who saw five asked for no more than there are"

    run(scene())


@pytest.mark.parametrize(
    ("name", "partitions", "topic_id", "kind", "why"),
    [
        ("orders", 3, "", InvalidPartitions, "has 3 partitions and cannot have 3"),
        ("orders", 2, "", InvalidPartitions, "only become more"),
        ("orders", -1, "", InvalidPartitions, "ask for 4 to 1000"),
        ("orders", 1001, "", InvalidPartitions, "ask for 1 to 1000"),
        ("orders", 500, "", InvalidPartitions, "limit of 400"),
        ("absent", 9, "", UnknownTopic, "create it first"),
        ("orders", 9, OTHER_ID, UnknownTopicId, ID),
        ("__offsets", 9, "", NotAuthorized, "internal"),
    ],
)
def test_a_growth_that_cannot_be_is_refused_with_limit_and_remedy(
    name: str, partitions: int, topic_id: str, kind: type[LograftError], why: str
) -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, limits=TopicLimits(cluster_partitions_max=400))
        written = len(office.replica.batches)
        refusal = await error_of(office.controller.grow_topic(name, partitions, topic_id))
        assert isinstance(refusal, kind) and why in refusal.message
        assert len(office.replica.batches) == written

    run(scene())


def test_a_growth_above_what_brokers_hold_or_with_too_few_of_them_is_refused() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, limits=TopicLimits(broker_replicas_max=5))
        refusal = await error_of(office.controller.grow_topic("orders", 6))
        assert isinstance(refusal, InvalidPartitions) and "above its limit of 5" in refusal.message
        del office.alive[2], office.alive[3]
        assert isinstance(await error_of(office.controller.grow_topic("orders", 4)), BrokerUnavailable)

    run(scene())


def test_a_growth_that_is_only_to_be_checked_decides_nothing() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        checked = await office.controller.grow_topic("orders", 5, validate_only=True)
        assert len(checked.partitions) == 5
        assert len((await office.controller.describe_topic("orders")).partitions) == 3

    run(scene())


# -- alter -----------------------------------------------------------------------------------------------------------


def test_altering_sets_some_keys_drops_others_and_leaves_the_rest() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        await office.controller.alter_topic("orders", {"retention.ms": "60000", "retention.bytes": "0123"})
        altered = await office.controller.alter_topic("orders", {"retention.ms": "-1"}, ["segment.ms"])
        assert altered.config == {"retention.bytes": "123", "retention.ms": "-1"}
        assert altered == await office.controller.describe_topic("orders")

    run(scene())


def test_altering_to_what_is_set_already_writes_nothing() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        written = len(office.replica.batches)
        await office.controller.alter_topic("orders", {"segment.ms": "5000"}, ["retention.ms"])
        await office.controller.alter_topic("orders", {"segment.ms": "9000"}, validate_only=True)
        assert len(office.replica.batches) == written

    run(scene())


@pytest.mark.parametrize(
    ("changes", "unset", "kind", "why"),
    [
        ({"retention.hours": "1"}, [], InvalidConfig, "the nearest is"),
        ({}, ["retention.mss"], InvalidConfig, "'retention.ms'"),
        ({"retention.ms": "0"}, [], InvalidConfig, "from 1 to"),
        ({"retention.ms": str(2**63)}, [], InvalidConfig, "or -1 for no limit"),
        ({"segment.bytes.max": str(64 << 10)}, [], InvalidConfig, "would not fit"),
        ({"retention.ms": "1"}, ["retention.ms"], InvalidRequest, "set and unset at once"),
        ({}, [], InvalidRequest, "nothing is to be changed"),
    ],
)
def test_a_setting_that_a_topic_could_not_be_created_with_is_refused_later_too(
    changes: dict[str, str], unset: list[str], kind: type[LograftError], why: str
) -> None:
    with pytest.raises(kind) as refusal:
        altered_config({"segment.ms": "5000"}, changes, unset, TopicLimits())
    assert why in refusal.value.message


def test_internal_and_unknown_topics_are_not_altered() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        alter = office.controller.alter_topic
        assert isinstance(await error_of(alter("__cluster", {"segment.ms": "5000"})), NotAuthorized)
        assert isinstance(await error_of(alter("absent", {"segment.ms": "5000"})), UnknownTopic)
        assert isinstance(await error_of(alter("orders", {"segment.ms": "5000"}, (), OTHER_ID)), UnknownTopicId)

    run(scene())


def test_what_a_later_version_has_set_stays_set() -> None:
    altered = altered_config({"from.the.future": "x"}, {"segment.ms": "5000"}, [], TopicLimits())
    assert altered == {"from.the.future": "x", "segment.ms": "5000"}


def test_every_setting_that_there_is_can_be_unset() -> None:
    assert altered_config({}, {}, CONFIG_KEYS, TopicLimits()) == {}
