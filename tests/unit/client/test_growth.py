"""What an operator changes while the cluster runs: partitions, settings, and where replicas are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from lograft.client import rebalance
from lograft.client.client import Client
from lograft.proto import errors

from tests.unit.client.fake_cluster import FakeCluster

WithCluster = Callable[..., None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance, "_LOOK_INTERVAL_S", 0.01)


def test_a_growth_whose_answer_was_lost_is_repeated_and_succeeds(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        cluster.brokers[0].admin_faults.append("carried out, answer lost")
        async with Client(cluster.addresses[:1]) as client:
            assert len((await client.admin.grow_topic("t", 5)).partitions) == 5
            with pytest.raises(errors.InvalidPartitions):
                await client.admin.grow_topic("t", 5)
            with pytest.raises(errors.InvalidPartitions):
                await client.admin.grow_topic("t", 2**40)
            with pytest.raises(errors.UnknownTopic):
                await client.admin.grow_topic("absent", 5)

    with_cluster(scenario)


def test_altering_sets_and_unsets(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic().config = {"segment.ms": "5000"}
        async with Client(cluster.addresses) as client:
            altered = await client.admin.alter_topic("t", {"retention.ms": 60_000}, unset=["segment.ms"])  # type: ignore[dict-item]
            assert altered.config == {"retention.ms": "60000"}

    with_cluster(scenario)


def a_plan(cluster: FakeCluster, count: int = 6) -> None:
    """All partitions of t go from broker 0 to broker 1, and one more is only to be led by another."""
    for partition in cluster.topic(partitions=count + 1).partitions:
        partition.placement = (0,)
    cluster.topics["t"].partitions[count].placement = (0, 1)
    cluster.planned = [("t", number, (0,), (1,)) for number in range(count)] + [("t", count, (0, 1), (1, 0))]


def test_a_rebalance_has_no_more_moves_under_way_than_allowed_and_ends_once_the_leaders_follow(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        a_plan(cluster)
        seen: list[tuple[int, int, int]] = []
        async with Client(cluster.addresses) as client:
            plan = await client.admin.plan_rebalance()
            assert (len(plan.moves), plan.replicas_moved, plan.bytes_moved, plan.set_aside) == (7, 6, 42, 1)
            ended = await client.admin.rebalance(
                plan,
                at_once=2,
                on_progress=lambda now: seen.append((len(now.done), len(now.under_way), now.waiting)),
            )
        assert (len(ended.done), ended.left, ended.leaders_awaited) == (7, [], 0)
        assert all(done + under_way + waiting == 7 for done, under_way, waiting in seen)
        assert cluster.moving_most == 2
        assert [partition.placement for partition in cluster.topics["t"].partitions] == [(1,)] * 6 + [(1, 0)]

    with_cluster(scenario)


def test_what_is_placed_otherwise_by_now_or_refused_or_deleted_is_left_with_the_reason(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        a_plan(cluster, 2)
        cluster.topics["t"].partitions[0].placement = (2,)
        cluster.planned.append(("gone", 0, (0,), (1,)))
        for broker in cluster.brokers.values():
            broker.admin_faults.append("refuse")
        async with Client(cluster.addresses[:1]) as client:
            ended = await client.admin.rebalance()
        assert [(move.topic, move.partition, why) for move, why in ended.left] == [
            ("t", 0, "it was placed otherwise meanwhile"),
            ("t", 1, "broker 9 is not alive"),
            ("gone", 0, "it is gone"),
        ]
        assert cluster.topics["t"].partitions[0].placement == (2,)

    with_cluster(scenario)


def test_a_move_whose_answer_was_lost_counts_as_decided(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        a_plan(cluster, 1)
        cluster.brokers[0].admin_faults.append("carried out, answer lost")
        async with Client(cluster.addresses[:1]) as client:
            ended = await client.admin.rebalance()
        assert len(ended.done) == 2 and not ended.left

    with_cluster(scenario)


def test_a_rebalance_that_is_cancelled_begins_nothing_more(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        a_plan(cluster)
        begun = asyncio.Event()
        async with Client(cluster.addresses) as client:
            task = asyncio.ensure_future(client.admin.rebalance(at_once=1, on_progress=lambda _: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.05)
        assert [partition.placement for partition in cluster.topics["t"].partitions][1:6] == [(0,)] * 5

    with_cluster(scenario)
