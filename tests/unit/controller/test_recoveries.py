"""What is decided when a partition's majority is given up: who goes on, who is dead, and that it stays on record."""

from __future__ import annotations

import msgspec
import pytest
from lograft.node.controller.facts import TopicFact, UnreadableFact, decode, encode_value, put
from lograft.node.controller.recoveries import TERM_JUMP, KnownRecoveries
from lograft.node.controller.state import ClusterState
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import InvalidRequest

from .fake_replica import run
from .test_controller import Office, error_of
from .test_moves import an_office_with_topic, brokers_of


async def recover(office: Office, source: Voter, *, term_seen: int = 7) -> TopicFact:
    seen = (await office.controller.describe_topic("orders")).partitions[0]
    return await office.controller.recover_partition(
        "orders", 0, seen, source, term_seen=term_seen, kept_offset=5, lost_offset=9, unknown_brokers=(2,), by="me"
    )


def test_one_fact_names_the_heir_and_ends_every_number_from_before() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        before = (await office.controller.describe_topic("orders")).partitions[0]
        source = before.placement[1]
        topic = await recover(office, source)
        after = topic.partitions[0]
        recovery = after.recovery
        assert recovery is not None and recovery.heir == source._replace(replica_number=4) == after.placement[0]
        assert all(map(after.ended, before.placement)) and not any(map(after.ended, after.placement))
        assert recovery.term == 7 + TERM_JUMP and after.first_voters == before.first_voters
        assert (recovery.number, recovery.source, recovery.kept_offset, recovery.lost_offset) == (1, source, 5, 9)
        assert {*brokers_of(after.placement)} == {1, 2, 3} and topic.next_replica_number == 7
        assert decode(topic.key.encode(), encode_value(topic)) == put(topic)
        again = await recover(office, after.placement[1], term_seen=3)
        second = again.partitions[0].recovery
        assert second is not None and second.number == 2 and second.term > recovery.term
        assert all(map(again.partitions[0].ended, after.placement))

    run(scene())


def test_live_brokers_get_the_new_replicas_and_dead_ones_only_where_the_live_are_too_few() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3, 4, replication=3)
        before = (await office.controller.describe_topic("orders")).partitions[0]
        source, dead = before.placement[2], before.placement[0]
        spare = next(each for each in (1, 2, 3, 4) if each not in brokers_of(before.placement))
        del office.alive[dead.broker_id]
        placed = brokers_of((await recover(office, source)).partitions[0].placement)
        assert placed == [source.broker_id, before.placement[1].broker_id, spare]
        for broker_id in placed[1:]:
            del office.alive[broker_id]
        heir = (await office.controller.describe_topic("orders")).partitions[0].placement[0]
        assert brokers_of((await recover(office, heir)).partitions[0].placement) == placed

    run(scene())


def test_what_was_decided_about_meanwhile_or_lies_on_a_dead_broker_is_refused() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        seen = (await office.controller.describe_topic("orders")).partitions[0]
        await recover(office, seen.placement[0])
        with pytest.raises(InvalidRequest, match="meanwhile"):
            await office.controller.recover_partition(
                "orders",
                0,
                seen,
                seen.placement[0],
                term_seen=1,
                kept_offset=0,
                lost_offset=0,
                unknown_brokers=(),
                by="",
            )
        now = (await office.controller.describe_topic("orders")).partitions[0]
        del office.alive[now.placement[1].broker_id]
        refusal = await error_of(recover(office, now.placement[1]))
        assert "is not alive on the disk" in refusal.message

    run(scene())


def test_a_heir_whose_disk_was_lost_is_placed_anew_and_the_recovery_stays_on_record() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        seen = (await office.controller.describe_topic("orders")).partitions[0]
        topic = await recover(office, seen.placement[0])
        heir = topic.partitions[0].placement[0]
        await office.controller.register_broker(heir.broker_id, "f" * 32)
        after = (await office.controller.describe_topic("orders")).partitions[0]
        assert heir not in after.placement and after.recovery == topic.partitions[0].recovery
        assert not any(map(after.ended, after.placement))

    run(scene())


def test_a_fact_from_before_there_were_recoveries_is_read_and_written_as_it_was() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        topic = await office.controller.describe_topic("orders")
        assert b"recovery" not in encode_value(topic)
        dead = msgspec.structs.replace(
            (await recover(office, topic.partitions[0].placement[0])).partitions[0],
            placement=topic.partitions[0].placement,
        )
        with pytest.raises(UnreadableFact, match="a recovery ended"):
            decode(topic.key.encode(), encode_value(msgspec.structs.replace(topic, partitions=(dead,))))

    run(scene())


def test_each_recovery_is_told_once() -> None:
    async def scene() -> None:
        office = await an_office_with_topic(1, 2, 3)
        state: ClusterState = office.cluster_log.state
        known = KnownRecoveries()
        assert not list(known.new_in(state, ["topic/orders", "broker/1", "topic/absent"]))
        await recover(office, (await office.controller.describe_topic("orders")).partitions[0].placement[0])
        assert [name for name, _, _ in known.new_in(state, ["topic/orders"])] == ["orders"]
        assert not list(known.new_in(state, ["topic/orders"]))

    run(scene())
