from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from lograft.client.client import Client
from lograft.client.coordinator import Coordinator, OffsetToStore
from lograft.client.environment import Environment
from lograft.client.records import TopicPartition
from lograft.proto import errors

from tests.unit.client.conftest import fake_cluster, run
from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.test_consumer import fill

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def now(self) -> float:
        return time.monotonic() + self.added_s


def with_coordinator(
    scenario: Callable[[FakeCluster, Coordinator], Coroutine[Any, Any, None]],
    timeout_s: float = 5.0,
    clock: Clock | None = None,
) -> None:
    environment = Environment(now=(clock or Clock()).now)

    async def whole() -> None:
        async with fake_cluster(3) as cluster:
            cluster.topic(partitions=2)
            fill(cluster, 10)
            async with Client(cluster.addresses, environment=environment) as client:
                await scenario(cluster, Coordinator(client._connection, client._metadata, "g", timeout_s))

    run(whole())


def test_the_coordinator_is_found_once_and_followed_where_a_refusal_points() -> None:
    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        for broker_id in (0, 2, 1):
            cluster.groups.move_to(broker_id)
            assert await coordinator.fetch([T0]) == {}
            assert coordinator.address == cluster.brokers[broker_id].address
        asked = [method for method, _ in cluster.groups.requests]
        assert asked.count("FindCoordinator") == 1
        assert asked.count("FetchOffsets") == 5

    with_coordinator(scenario)


def test_a_coordinator_that_is_gone_is_looked_for_again() -> None:
    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        await coordinator.fetch([T0])
        cluster.groups.move_to(1)
        await cluster.brokers[0].stop()
        assert await coordinator.fetch([T0]) == {}
        cluster.hide_hints = True
        cluster.groups.move_to(2)
        assert await coordinator.fetch([T0]) == {}
        assert coordinator.address == cluster.brokers[2].address

    with_coordinator(scenario)


def test_what_was_not_done_in_time_is_told_with_the_reason() -> None:
    clock, refused_by = Clock(), set[int]()

    def refuse(broker_id: int, *_: Any) -> str:
        refused_by.add(broker_id)
        if len(refused_by) == 3:
            clock.added_s = 60.0
        return "NO_LEADER"

    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        cluster.groups.fault = lambda b, method, r: "hang" if method == "FetchOffsets" else None
        with pytest.raises(errors.RequestTimedOut, match=r"FetchOffsets of group 'g' was not done within 0\.1 s"):
            await coordinator.fetch([T0], timeout_s=0.1)
        cluster.groups.fault = refuse
        with pytest.raises(errors.RequestTimedOut, match=r"within 30 s: no broker could say.*NO_LEADER"):
            await coordinator.fetch([T0], timeout_s=30.0)
        cluster.groups.fault = lambda *_: "NOT_AUTHORIZED"
        with pytest.raises(errors.NotAuthorized):
            await coordinator.fetch([T0])

    with_coordinator(scenario, clock=clock)


def test_an_entry_that_may_succeed_later_is_stored_again_without_the_others() -> None:
    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        groups, store = cluster.groups, cluster.groups.store
        refusals = iter(["NO_LEADER", "OVERLOADED"])

        def refuse_at_first(request: Any) -> Any:
            response = store(request)
            for result in response.results:
                if result.partition == 0 and (reason := next(refusals, None)):
                    result.error.reason, result.error.message = reason, "for now"
            return response

        groups.store = refuse_at_first  # type: ignore[method-assign]
        entries = [OffsetToStore("t", 0, 5, "a"), OffsetToStore("t", 1, 9), OffsetToStore("t", 1, 0, "b")]
        results = await coordinator.store(entries)
        assert results[0] is None
        assert isinstance(results[1], errors.OffsetOutOfRange)
        assert results[2] is None
        assert [store[:3] for store in groups.stores()][3:] == [("t", 0, 5), ("t", 0, 5)]
        stored = await coordinator.fetch()
        assert {partition: found[:2] for partition, found in stored.items()} == {T0: (5, "a"), T1: (0, "b")}

    with_coordinator(scenario)


def test_an_entry_that_is_never_taken_is_told_by_name_when_time_is_up() -> None:
    clock = Clock()

    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        def never(request: Any) -> Any:
            response = store(request)
            response.results[0].error.reason, response.results[0].error.message = "NO_LEADER", "its end is not known"
            clock.added_s += 20.0
            return response

        store = cluster.groups.store
        cluster.groups.store = never  # type: ignore[method-assign]
        (result,) = await coordinator.store([OffsetToStore("t", 0, 5)], timeout_s=30.0)
        assert isinstance(result, errors.RequestTimedOut)
        assert str(result) == "the offset of t-0 was not stored within 30 s: its end is not known"
        assert len(cluster.groups.stores()) == 2

    with_coordinator(scenario, clock=clock)


class OversleptAtWaits(Random):
    """Chance is asked before each wait: from the next turn of the loop on, a minute has gone by."""

    def __init__(self) -> None:
        super().__init__(1)
        self._clock = Clock()
        self.now = self._clock.now

    def random(self) -> float:
        asyncio.get_running_loop().call_soon(self._oversleep)
        return super().random()

    def _oversleep(self) -> None:
        self._clock.added_s += 60.0


def refused_at_first(cluster: FakeCluster, method: str, then: str | None) -> None:
    """The first answer to `method` says that partition 0 has no leader; of what becomes of the others, `then`."""
    answer = getattr(cluster.groups, method)
    asked = 0

    def refuse(request: Any) -> Any:
        nonlocal asked
        asked += 1
        response = answer(request)
        response.results[0].error.reason, response.results[0].error.message = "NO_LEADER", "its end is not known"
        return response

    setattr(cluster.groups, method, refuse)
    cluster.groups.fault = lambda *_: then if asked else None


@pytest.mark.parametrize("cause", ["the wait before the last try took too long", "the last try is not answered"])
def test_a_refusal_is_told_with_the_time_given_also_if(cause: str) -> None:
    slept = OversleptAtWaits()
    environment = Environment(now=slept.now, chance=slept) if "wait" in cause else Environment()
    given_s = 30.0 if "wait" in cause else 0.5

    async def whole() -> None:
        async with fake_cluster(1) as cluster:
            cluster.topic(partitions=2)
            async with Client(cluster.addresses, environment=environment) as client:
                coordinator = Coordinator(client._connection, client._metadata, "g", given_s)
                refused_at_first(cluster, "store", None if "wait" in cause else "hang")
                (result,) = await coordinator.store([OffsetToStore("t", 0, 0)])
                assert isinstance(result, errors.RequestTimedOut)
                assert str(result) == f"the offset of t-0 was not stored within {given_s:g} s: its end is not known"
                cluster.groups.fault = lambda *_: None
                refused_at_first(cluster, "fetch", None if "wait" in cause else "hang")
                with pytest.raises(errors.RequestTimedOut) as raised:
                    await coordinator.fetch([T0])
                assert str(raised.value) == (
                    f"the stored offset of t-0 was not learnt within {given_s:g} s: its end is not known"
                )

    run(whole())


def test_an_unknown_topic_is_told_when_its_offsets_are_asked_for() -> None:
    async def scenario(cluster: FakeCluster, coordinator: Coordinator) -> None:
        with pytest.raises(errors.UnknownTopic):
            await coordinator.fetch([TopicPartition("nope", 0)])

    with_coordinator(scenario)
