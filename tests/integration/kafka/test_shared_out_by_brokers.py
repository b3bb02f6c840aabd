"""Groups whose partitions the broker shares out (KIP-848): unmodified clients with `group.protocol=consumer`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.brokers import Brokers
from tests.integration.kafka.clients import Confluent, confluent_kafka, until
from tests.integration.kafka.members import Member, coordinator_of, stored

BY_BROKER = {"group.protocol": "consumer"}


def a_member(bootstrap: str, group: str, topic: str, **more: Any) -> Member:
    return Member(bootstrap, group, topic, **(BY_BROKER | more))


def test_members_share_partitions_and_take_over_from_who_leaves(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848", partitions=4)
    for number in range(4):
        Confluent.produce(bootstrap, "k848", [b"%d-%d" % (number, one) for one in range(20)], partition=number)
    one = a_member(bootstrap, "k848-team", "k848")
    two = None
    try:
        until(lambda: one.owned == {0, 1, 2, 3})
        two = a_member(bootstrap, "k848-team", "k848")
        until(lambda: len(one.owned) == len(two.owned) == 2 and one.owned | two.owned == {0, 1, 2, 3})
        until(lambda: stored(brokers, "k848-team", "k848", 4) == [20] * 4)
        assert sorted([*one.values, *two.values]) == sorted(b"%d-%d" % (n, o) for n in range(4) for o in range(20))
        two.stop()
        until(lambda: one.owned == {0, 1, 2, 3})
        assert not one.errors and not two.errors
    finally:
        for member in (one, two):
            if member is not None:
                member.stop()


def read_after_it_was_stored(*members: Member) -> list[bytes]:
    """Values that somebody read though their offset had been stored by then."""
    events = sorted(event for member in members for event in member.events)
    stored_by_then: set[bytes] = set()
    found = []
    for _, what, value in events:
        if what == "stored":
            stored_by_then.add(value)
        elif value in stored_by_then:
            found.append(value)
    return found


def test_partitions_of_a_member_that_is_killed_go_to_those_who_live(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848-killed", partitions=4)
    settings = {"bootstrap.servers": bootstrap, "group.id": "k848-killed", **BY_BROKER}
    script = f"""
from confluent_kafka import Consumer
consumer = Consumer({settings!r})
consumer.subscribe(["k848-killed"], on_assign=lambda _, got: print(len(got), flush=True))
while True:
    consumer.poll(0.1)
"""
    doomed = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    member = None
    try:
        assert doomed.stdout is not None and doomed.stdout.readline() == "4\n"
        member = a_member(bootstrap, "k848-killed", "k848-killed")
        until(lambda: len(member.owned) == 2)
        doomed.kill()
        until(lambda: member.owned == {0, 1, 2, 3})
    finally:
        doomed.kill()
        doomed.wait()
        if member is not None:
            member.stop()


def test_what_was_stored_is_read_by_nobody_again_when_the_coordinator_is_killed(
    brokers: Brokers, bootstrap: str
) -> None:
    brokers.create_topic("k848-failover", partitions=4)
    members = [a_member(bootstrap, "k848-failover", "k848-failover") for _ in range(2)]
    try:
        until(lambda: [len(member.owned) for member in members] == [2, 2])
        had = [set(member.owned) for member in members]
        values = [b"%d" % number for number in range(400)]
        for at in range(0, 200, 50):
            Confluent.produce(bootstrap, "k848-failover", values[at : at + 50], partition=at // 50)
        until(lambda: len([*members[0].values, *members[1].values]) >= 20)
        brokers[coordinator_of(brokers, "k848-failover")].kill()
        for at in range(200, 400, 50):
            Confluent.produce(bootstrap, "k848-failover", values[at : at + 50], partition=at // 50 - 4)
        until(lambda: {*members[0].values, *members[1].values} == {*values}, 60)
        until(lambda: stored(brokers, "k848-failover", "k848-failover", 4) == [100] * 4)
        assert [member.owned for member in members] == had, "nothing moved"
        assert read_after_it_was_stored(*members) == []
    finally:
        for member in members:
            member.stop()


def test_a_static_member_comes_back_under_its_instance_and_a_second_one_of_it_is_refused(
    brokers: Brokers, bootstrap: str
) -> None:
    brokers.create_topic("k848-static", partitions=4)
    first = a_member(bootstrap, "k848-statics", "k848-static", **{"group.instance.id": "one"})
    second = a_member(bootstrap, "k848-statics", "k848-static", **{"group.instance.id": "two"})
    others: list[Member] = []
    try:
        until(lambda: len(first.owned) == len(second.owned) == 2)
        had, theirs = set(first.owned), set(second.owned)
        others.append(a_member(bootstrap, "k848-statics", "k848-static", **{"group.instance.id": "one"}))
        until(lambda: others[0].errors)
        assert "UNRELEASED_INSTANCE_ID" in str(others[0].errors[0]) or "instance" in str(others[0].errors[0])
        first.stop()
        others.append(a_member(bootstrap, "k848-statics", "k848-static", **{"group.instance.id": "one"}))
        until(lambda: others[1].owned == had)
        assert second.owned == theirs
    finally:
        for member in (first, second, *others):
            member.stop()


def test_a_pattern_takes_in_topics_that_come_later(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848-by-pattern-1")
    member = a_member(bootstrap, "k848-pattern", "^k848-by-pattern-.*")
    try:
        until(lambda: member.owned == {0})
        brokers.create_topic("k848-by-pattern-2")
        Confluent.produce(bootstrap, "k848-by-pattern-2", [b"late"])
        until(lambda: member.values == [b"late"])
    finally:
        member.stop()


def test_a_seek_moves_members_that_read(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848-sought")
    Confluent.produce(bootstrap, "k848-sought", [b"one", b"two", b"three"])
    member = a_member(bootstrap, "k848-seekers", "k848-sought")
    try:
        until(lambda: stored(brokers, "k848-seekers", "k848-sought", 1) == [3])
        target = groups_pb.SeekGroupRequest.Target(topic="k848-sought", partition=0, offset=1)
        request = groups_pb.SeekGroupRequest(group="k848-seekers", targets=[target])
        brokers[coordinator_of(brokers, "k848-seekers")].groups.SeekGroup(request, timeout=10)
        until(lambda: member.values == [b"one", b"two", b"three", b"two", b"three"])
        until(lambda: stored(brokers, "k848-seekers", "k848-sought", 1) == [3])
    finally:
        member.stop()


def test_such_groups_and_those_of_classic_members_do_not_mix_and_say_so(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848-mixed")
    for first, second in (({}, BY_BROKER), (BY_BROKER, {})):
        group = f"k848-mixed-{len(first)}"
        member = Member(bootstrap, group, "k848-mixed", **first)
        refused = None
        try:
            until(lambda member=member: member.owned == {0})
            refused = Member(bootstrap, group, "k848-mixed", **second)
            until(lambda refused=refused: refused.errors)
            assert "nconsistent" in str(refused.errors[0]) or "INCONSISTENT" in str(refused.errors[0])
        finally:
            member.stop()
            if refused is not None:
                refused.stop()


def test_groups_are_listed_by_kind_described_and_deleted(brokers: Brokers, bootstrap: str) -> None:
    from confluent_kafka import ConsumerGroupType
    from confluent_kafka.admin import AdminClient

    brokers.create_topic("k848-told", partitions=2)
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def listed(kind: Any) -> set[str]:
        found = admin.list_consumer_groups(types={kind}).result().valid
        return {one.group_id for one in found}

    member = a_member(bootstrap, "k848-watched", "k848-told", **{"client.id": "watcher"})
    try:
        until(lambda: member.owned == {0, 1})
        assert "k848-watched" in listed(ConsumerGroupType.CONSUMER)
        assert "k848-watched" not in listed(ConsumerGroupType.CLASSIC)
        described = admin.describe_consumer_groups(["k848-watched"])["k848-watched"].result()
        (one,) = described.members
        assert (described.state.name, described.type.name, one.client_id) == ("STABLE", "CONSUMER", "watcher")
        assert {place.partition for place in one.assignment.topic_partitions} == {0, 1}
        with pytest.raises(confluent_kafka().KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups(["k848-watched"])["k848-watched"].result()
    finally:
        member.stop()
    described = admin.describe_consumer_groups(["k848-watched"])["k848-watched"].result()
    assert (described.state.name, described.members) == ("EMPTY", [])
    admin.delete_consumer_groups(["k848-watched"])["k848-watched"].result()
    assert "k848-watched" not in listed(ConsumerGroupType.CONSUMER)


def test_native_members_and_such_kafka_clients_share_one_group(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("k848-both", partitions=4)
    member = a_member(bootstrap, "k848-both", "k848-both")
    native = groups_pb.HeartbeatRequest(group="k848-both", member_id="native")
    native.join.topics.append("k848-both")
    native.join.session_timeout_ms = 10_000

    def granted() -> set[int]:
        grants = brokers[coordinator_of(brokers, "k848-both")].groups.Heartbeat(native, timeout=10).grants
        del native.owned[:]
        native.owned.extend(grants)
        return {one.partition for one in grants}

    try:
        until(lambda: member.owned == {0, 1, 2, 3})
        until(lambda: len(granted()) == 2 and len(member.owned) == 2)
        assert granted() | member.owned == {0, 1, 2, 3}
        native.leave = True
        granted()
        until(lambda: member.owned == {0, 1, 2, 3})
    finally:
        member.stop()
