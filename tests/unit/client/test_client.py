from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from lograft.client.client import Client
from lograft.client.connection import parse_addresses
from lograft.client.delivery import DeliveryErrors
from lograft.client.records import TopicPartition
from lograft.proto import errors

from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.test_consumer import until

WithCluster = Callable[..., None]


@pytest.mark.parametrize("bad", ["", "localhost", "a:b", ":9600", "h:0", "h:70000", []])
def test_an_address_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(errors.InvalidConfig, match=r"127\.0\.0\.1:9600"):
        parse_addresses(bad)


def test_addresses_may_be_given_as_text_or_list_each_counts_once() -> None:
    assert parse_addresses("a:1, b:2,a:1") == ("a:1", "b:2")
    assert parse_addresses(["[::1]:9600"]) == ("[::1]:9600",)


def test_a_bootstrap_that_fails_names_every_address_and_why(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        gone = cluster.addresses
        await cluster.stop()
        with pytest.raises(errors.BrokerUnavailable) as failed:
            async with Client(gone, timeout=5):
                pass
        for address in gone:
            assert f"{address} (as given): broker at {address}: " in str(failed.value)

    with_cluster(scenario, brokers=2)


def test_one_living_address_is_enough_to_begin(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        await cluster.brokers[0].stop()
        async with Client(cluster.addresses) as client:
            assert client._metadata.cluster_id == "c"
            assert len(client._metadata.brokers) == 2

    with_cluster(scenario, brokers=2)


def test_a_broker_that_none_has_heard_from_is_asked_where_it_was_before_or_not_at_all(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=1)
        cluster.move("t", 0, 1)
        address, other = cluster.addresses
        async with Client(address) as client:
            metadata = client._metadata
            cluster.unheard = {1}
            await metadata.refresh("t")
            assert metadata.leader_address("t", 0) == other
        async with Client(address) as client:
            metadata = client._metadata
            await metadata.refresh("t")
            assert metadata.leader_address("t", 0) is None
            assert metadata.addresses() == [address]

    with_cluster(scenario, brokers=2)


def test_a_broker_that_knows_no_leader_is_not_the_one_to_be_asked_again(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=1)
        async with Client(cluster.addresses) as client:
            metadata = client._metadata
            await metadata.topic("t", timeout_s=5)
            # Cut off from the others it still answers us: that it alone is alive, and that nobody leads.
            cluster.isolated = {0}
            cluster.move("t", 0, 1)
            metadata.topics["t"].partitions[0].leader_id = -1
            metadata._last_good = cluster.brokers[0].address
            await metadata.refresh("t")
            assert metadata.leader_address("t", 0) is None
            await metadata.refresh("t")
            assert metadata.leader_address("t", 0) == cluster.brokers[1].address

    with_cluster(scenario, brokers=3)


def test_brokers_that_are_cut_off_together_are_not_asked_in_turn_for_ever(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=1)
        async with Client(cluster.addresses) as client:
            metadata = client._metadata
            await metadata.topic("t", timeout_s=5)
            cluster.isolated = {0, 1}
            cluster.move("t", 0, 2)
            metadata.topics["t"].partitions[0].leader_id = -1
            metadata._last_good = cluster.brokers[0].address
            asked = 0
            while metadata.leader_address("t", 0) is None and asked < 10:
                await metadata.refresh("t")
                asked += 1
            assert asked <= 3

    with_cluster(scenario, brokers=5)


def test_a_dead_broker_is_not_asked_before_each_answer_of_one_that_knows_no_leader(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=1)
        async with Client(cluster.addresses) as client:
            metadata = client._metadata
            await metadata.topic("t", timeout_s=5)
            await cluster.brokers[2].stop()
            cluster.isolated = {0, 1}
            dead, before = cluster.addresses[2], 0
            for _ in range(12):
                await metadata.refresh("t")
                before += metadata.addresses()[0] == dead
            assert 1 <= before <= 5

    with_cluster(scenario, brokers=3)


def test_those_who_refresh_at_once_share_the_calls(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        names = [cluster.topic(f"t{number}").name for number in range(20)]
        async with Client(cluster.addresses) as client:
            before = cluster.metadata_calls
            await asyncio.gather(*(client._metadata.topic(name, timeout_s=5) for name in names))
            assert cluster.metadata_calls - before <= 2

    with_cluster(scenario)


def test_news_of_an_older_term_is_not_believed(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.move("t", 0, 1)
        async with Client(cluster.addresses) as client:
            metadata = client._metadata
            await metadata.refresh("t")
            stale = errors.NotLeader("x", leader_id=0, leader_address=cluster.addresses[0], term=1)
            assert not metadata.note_not_leader("t", 0, stale, "elsewhere")
            assert metadata.leader_address("t", 0) == cluster.addresses[1]
            cluster.topics["t"].partitions[0].leader_id, cluster.topics["t"].partitions[0].term = 0, 1
            await metadata.refresh("t")
            assert metadata.leader_address("t", 0) == cluster.addresses[1]

    with_cluster(scenario, brokers=2)


def test_a_creation_whose_answer_was_lost_is_recognised(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.brokers[0].admin_faults.append("carried out, answer lost")
        async with Client(cluster.addresses) as client:
            topic = await client.admin.create_topic("t", partitions=4)
            assert len(topic.partitions) == 4
            assert topic.topic_id == cluster.topics["t"].topic_id
            with pytest.raises(errors.TopicExists, match="'t' already"):
                await client.admin.create_topic("t", partitions=4)
            again = await client.admin.create_topic("t", partitions=9, exist_ok=True)
            assert again == topic

    with_cluster(scenario)


def test_a_deletion_whose_answer_was_lost_is_recognised_and_a_second_one_refused(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.brokers[0].admin_faults.append("carried out, answer lost")
        async with Client(cluster.addresses) as client:
            await client.admin.delete_topic("t")
            assert cluster.topics == {}
            with pytest.raises(errors.UnknownTopic):
                await client.admin.delete_topic("t")

    with_cluster(scenario)


def test_admin_asks_another_broker_when_one_is_gone(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        async with Client(cluster.addresses) as client:
            await cluster.brokers[0].stop()
            assert [topic.name for topic in await client.admin.list_topics()] == []
            assert (await client.admin.describe_cluster()).healthy

    with_cluster(scenario, brokers=2)


def test_a_refusal_carries_its_kind_and_facts_over_the_wire(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        async with Client(cluster.addresses) as client:
            with pytest.raises(errors.InvalidPartitions) as refused:
                await client.admin.create_topic("t", partitions=-3)
            assert refused.value.facts == {"partitions": "-3"}

    with_cluster(scenario)


def test_leadership_moves_on_request(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            assert await client.admin.transfer_leadership("t", 0, 1) == 2

    with_cluster(scenario, brokers=2)


def test_a_closed_client_says_so(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            consumer = client.consumer("t")
            await consumer.__aenter__()
            producer = client.producer(linger_ms=60_000)
            await producer.send("t", b"x")
        assert len(cluster.topics["t"].partitions[0].records()) == 1  # flushed on the way out
        with pytest.raises(errors.InvalidRequest, match="closed"):
            await consumer.getone()
        with pytest.raises(errors.InvalidRequest, match="closed"):
            await client.admin.list_topics()

    with_cluster(scenario)


def fails_to_revoke(partitions: list[TopicPartition]) -> None:
    raise ValueError("mine")


async def leaves_trouble_behind(cluster: FakeCluster, client: Client) -> None:
    """Two producers with a record each that will be refused, and a member whose callback will fail."""
    cluster.topic(partitions=2)
    cluster.fault = lambda *_: "INVALID_RECORD"
    consumer = client.consumer("t", group_id="g", on_revoke=fails_to_revoke)
    await consumer.__aenter__()
    await until(lambda: len(consumer.assignment()) == 2)
    for partition in (0, 1):
        await client.producer(linger_ms=60_000).send("t", b"%d" % partition, partition=partition)


def test_closing_a_client_tells_of_all_that_failed(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        with pytest.raises(DeliveryErrors, match=r"^2 records") as failed:
            async with Client(cluster.addresses) as client:
                await leaves_trouble_behind(cluster, client)
        assert [failure.partition for failure in failed.value.failures] == [("t", 0), ("t", 1)]
        assert failed.value.__notes__ == ["closing failed otherwise as well: ValueError('mine')"]

    with_cluster(scenario)


def test_an_error_that_leaves_a_clients_block_is_told_with_what_failed_in_closing(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        with pytest.raises(ZeroDivisionError) as failed:
            async with Client(cluster.addresses) as client:
                await leaves_trouble_behind(cluster, client)
                raise ZeroDivisionError
        undelivered, revoking = failed.value.__notes__
        assert "closing the client failed as well" in undelivered and "2 records were not delivered" in undelivered
        assert "ValueError('mine')" in revoking

    with_cluster(scenario)


def test_importing_lograft_loads_nothing_heavy() -> None:
    program = "import sys, lograft; print([m for m in ('grpc', 'aiokafka', 'asyncio', 'uvloop') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lograft_shows_what_applications_use() -> None:
    import lograft
    import lograft.sync

    for name in lograft.__all__:
        assert getattr(lograft, name) is not None
    assert lograft.sync.Client is not lograft.Client
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        lograft.Nothing  # noqa: B018
