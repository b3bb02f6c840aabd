from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lograft.node.controller.facts import BrokerFact, DeletedTopicFact, decode, encode_value
from lograft.node.controller.state import ClusterState
from lograft.node.decision_log import READ_BYTES, DecisionLog

from tests.unit.controller.fake_replica import FakeClusterReplica, Reports, run, turn_the_loop


def a_record(broker_id: int, rack: str = "") -> tuple[bytes, bytes]:
    fact = BrokerFact(broker_id=broker_id, directory_id="d", rack=rack, joined_ms=0)
    return fact.key.encode(), encode_value(fact)


def a_cluster_log(replica: FakeClusterReplica, reports: Reports | None = None) -> DecisionLog[ClusterState]:
    reports = reports if reports is not None else Reports()
    return DecisionLog(replica, ClusterState(reports), asyncio.get_running_loop().call_soon, reports)


def test_what_is_committed_before_and_after_it_follows_is_applied_in_order() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        replica.keep_committed(a_record(1), a_record(2))
        cluster_log = a_cluster_log(replica)
        cluster_log.follow()
        await turn_the_loop()
        assert sorted(cluster_log.state.brokers) == [1, 2] and cluster_log.applied_offset == 2
        replica.keep_committed(a_record(1, rack="r9"))
        replica.keep_committed((b"broker/2", None))
        await turn_the_loop()
        assert [broker.rack for broker in cluster_log.state.brokers.values()] == ["r9"]
        assert cluster_log.applied_offset == 4

    run(scene())


def test_a_follower_follows_on_and_so_does_a_leader_that_lost_its_leadership() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        cluster_log = a_cluster_log(replica)
        cluster_log.follow()
        replica.lose_leadership(to=2)
        await turn_the_loop()
        replica.keep_committed(a_record(1))
        await turn_the_loop()
        assert sorted(cluster_log.state.brokers) == [1]

    run(scene())


def test_nothing_is_applied_before_it_is_committed() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica(auto_commit=False)
        cluster_log = a_cluster_log(replica)
        cluster_log.follow()
        replica._keep(bytes(a_batch(a_record(1))))
        cluster_log.catch_up()
        assert not cluster_log.state.brokers and cluster_log.applied_offset == 0

    run(scene())


def a_batch(*records: tuple[bytes | None, bytes | None]) -> bytearray:
    replica = FakeClusterReplica()
    replica.keep_committed(*records)
    return replica.batches[0]


def test_listeners_hear_of_a_batch_once_all_of_it_is_applied_and_of_nothing_that_changed_nothing() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        cluster_log = a_cluster_log(replica)
        heard: list[tuple[Sequence[str], list[str]]] = []
        cluster_log.on_change(lambda keys: heard.append((keys, sorted(cluster_log.state.deleted_topics))))
        deletion = DeletedTopicFact(topic_id="e" * 32, name="t", deleted_ms=0)
        replica.keep_committed(a_record(1), (deletion.key.encode(), encode_value(deletion)))
        cluster_log.catch_up()
        replica.keep_committed(a_record(1))
        cluster_log.catch_up()
        assert heard == [(("broker/1", deletion.key), ["e" * 32])]

    run(scene())


def test_a_broken_batch_is_reported_and_passed_over() -> None:
    async def scene() -> None:
        replica, reports = FakeClusterReplica(), Reports()
        broken = a_batch(a_record(1))
        broken[-1] ^= 0xFF
        replica.keep_committed_bytes(bytes(broken))
        replica.keep_committed(a_record(2), (b"user/anna", b"{}"), (None, None))
        cluster_log = a_cluster_log(replica, reports)
        cluster_log.catch_up()
        assert sorted(cluster_log.state.brokers) == [2]
        assert cluster_log.applied_offset == 4 and cluster_log.state.bad_record_count == 3
        assert reports.events == ["decisions_batch_unreadable", "cluster_fact_unreadable", "cluster_fact_unreadable"]

    run(scene())


def test_a_replica_that_cannot_be_read_now_is_read_on_at_the_next_commit() -> None:
    async def scene() -> None:
        replica, reports = FakeClusterReplica(), Reports()
        replica.keep_committed(a_record(1))
        replica.unreadable = True
        cluster_log = a_cluster_log(replica, reports)
        cluster_log.follow()
        await turn_the_loop()
        assert reports.events == ["decisions_unreadable"] and cluster_log.applied_offset == 0, (
            "tried once, not for ever"
        )
        replica.unreadable = False
        replica.keep_committed(a_record(2))
        await turn_the_loop()
        assert sorted(cluster_log.state.brokers) == [1, 2]

    run(scene())


def test_a_long_log_is_applied_in_turns_so_that_others_get_theirs() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        for broker_id in range(6):
            replica.keep_committed(a_record(broker_id, rack="x" * READ_BYTES))
        cluster_log = a_cluster_log(replica)
        cluster_log.follow()
        assert 0 < cluster_log.applied_offset < 6
        await turn_the_loop()
        assert cluster_log.applied_offset == 6

    run(scene())


def test_after_stop_nothing_more_is_applied() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        cluster_log = a_cluster_log(replica)
        cluster_log.follow()
        cluster_log.stop()
        replica.keep_committed(a_record(1))
        await turn_the_loop()
        assert cluster_log.applied_offset == 0

    run(scene())


def test_two_brokers_that_applied_the_same_log_hold_the_same_decisions() -> None:
    async def scene() -> None:
        replica = FakeClusterReplica()
        steadily, late = a_cluster_log(replica), a_cluster_log(replica)
        for broker_id in (3, 1, 2, 3):
            replica.keep_committed(a_record(broker_id, rack=f"r{len(replica.batches)}"))
            steadily.catch_up()
        late.catch_up()
        assert late.state == steadily.state
        assert all(decode(key.encode(), value)[1] is not None for key, value in late.state.snapshot().items())

    run(scene())
