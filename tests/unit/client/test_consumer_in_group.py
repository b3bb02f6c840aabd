from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lograft.client.client import Client
from lograft.client.consumer import Consumer
from lograft.client.offsets import Lag
from lograft.client.records import TopicPartition
from lograft.proto import errors

from tests.unit.client.conftest import fake_cluster, run
from tests.unit.client.fake_cluster import FakeCluster, FakePartition
from tests.unit.client.test_consumer import fill, until

T0, T1, T2, T3 = (TopicPartition("t", number) for number in range(4))
Scenario = Callable[[FakeCluster, Client], Coroutine[Any, Any, None]]


def in_group(scenario: Scenario, brokers: int = 1, partitions: int = 2, timeout_s: float = 5.0) -> None:
    """Run a scenario against a fresh cluster with topic "t". No member may have broken a rule in it."""

    async def whole() -> None:
        async with fake_cluster(brokers) as cluster:
            cluster.topic(partitions=partitions)
            async with Client(cluster.addresses, timeout=timeout_s) as client:
                await scenario(cluster, client)
            assert cluster.groups.violations == []

    run(whole())


def reading(client: Client, *topics: str, **settings: Any) -> Consumer:
    """A consumer in group "g" of topic "t", from the start if nothing is stored."""
    return client.consumer(*(topics or ("t",)), group_id="g", **{"auto_offset_reset": "earliest"} | settings)


class Heard:
    """What a consumer's callbacks were told, and a way to wait for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, list[TopicPartition]]] = []
        self._more = asyncio.Event()

    async def on_assign(self, partitions: list[TopicPartition]) -> None:
        self._note("assign", partitions)

    async def on_revoke(self, partitions: list[TopicPartition]) -> None:
        self._note("revoke", partitions)

    def _note(self, what: str, partitions: list[TopicPartition]) -> None:
        self.events.append((what, sorted(partitions)))
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def until(self, what: str, *partitions: TopicPartition, times: int = 1) -> None:
        """Until all of `partitions` were told so often to have been assigned, or revoked."""
        while any(sum(name == what and p in some for name, some in self.events) < times for p in partitions):
            await asyncio.wait_for(self._more.wait(), 5)

    def callbacks(self) -> dict[str, Any]:
        return {"on_assign": self.on_assign, "on_revoke": self.on_revoke}


async def take(consumer: Consumer, count: int) -> list[tuple[int, int]]:
    """Partition and offset of the next records, in order."""
    return [record[1:3] for record in [await consumer.getone() for _ in range(count)]]


async def until_owned(consumer: Consumer, *partitions: TopicPartition) -> None:
    await until(lambda: set(consumer.assignment()) == set(partitions))


@asynccontextmanager
async def ever_reading(consumer: Consumer) -> AsyncIterator[list[tuple[int, int]]]:
    """An application that asks for records all the time; they are noted."""
    seen: list[tuple[int, int]] = []

    async def read() -> None:
        async for record in consumer:
            seen.append(record[1:3])  # noqa: PERF401

    reader = asyncio.ensure_future(read())
    try:
        yield seen
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


# Coming, reading, leaving ------------------------------------------------------------------------------------------


def test_a_member_reads_what_it_is_granted_stores_how_far_it_came_and_the_next_goes_on_there() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5, partition=0)
        fill(cluster, 5, partition=1)
        async with reading(client) as consumer:
            assert sorted(await take(consumer, 10)) == [(p, o) for p in (0, 1) for o in range(5)]
            await consumer.commit()
            assert await consumer.committed(T0) == 5
        assert cluster.groups.stored() == {("t", 0): 5, ("t", 1): 5}
        assert cluster.groups.group().left == [(consumer_id(cluster), "closed")]
        fill(cluster, 2, partition=1)
        async with reading(client) as consumer:
            assert await take(consumer, 2) == [(1, 5), (1, 6)]

    in_group(scenario)


def consumer_id(cluster: FakeCluster) -> str:
    return str(cluster.groups.heartbeats()[0].member_id)


def test_two_members_share_a_topic_and_one_that_leaves_gives_all_to_the_other() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        first, second = Heard(), Heard()
        async with reading(client, **first.callbacks()) as one:
            await first.until("assign", T0, T1, T2, T3)
            async with ever_reading(one) as seen:
                async with reading(client, **second.callbacks()) as two:
                    await second.until("assign", T2, T3)
                    assert (set(one.assignment()), set(two.assignment())) == ({T0, T1}, {T2, T3})
                    assert first.events[-1] == ("revoke", [T2, T3])
                    fill(cluster, 3, partition=3)
                    assert await take(two, 3) == [(3, 0), (3, 1), (3, 2)]
                    await two.commit()
                assert second.events[-1] == ("revoke", [T2, T3])
                await first.until("assign", T2, T3, times=2)
                fill(cluster, 1, partition=3)
                await until(lambda: bool(seen))
                assert seen == [(3, 3)]

    in_group(scenario, partitions=4)


def test_what_the_coordinator_will_not_have_is_told_on_entering() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        with pytest.raises(errors.InvalidSession, match="too short"):
            async with reading(client, session_timeout_s=0):
                pass
        with pytest.raises(errors.InvalidSession, match="1 s to half an hour"):
            reading(client, session_timeout_s=1e9)
        with pytest.raises(errors.InvalidGroup, match="give it in UTF-8"):
            client.consumer("t", group_id="\ud800")
        not_text: Any = 5
        with pytest.raises(errors.InvalidGroup, match="5 is no group's name"):
            client.consumer("t", group_id=not_text)
        with pytest.raises(errors.UnknownTopic, match="'nope'"):
            async with reading(client, "nope"):
                pass
        cluster.topic("__offsets")
        with pytest.raises(errors.InvalidRequest, match="no group shares it: read it without a group"):
            async with reading(client, "t", "__offsets"):
                pass
        cluster.groups.members_max = 0
        with pytest.raises(errors.GroupFull):
            async with reading(client):
                pass

    in_group(scenario)


def test_without_a_coordinator_entering_says_so_in_time() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        cluster.groups.coordinator_id = None
        with pytest.raises(errors.RequestTimedOut, match=r"'g' could not be joined within 1 s: .*nobody coordinates"):
            async with reading(client):
                pass

    in_group(scenario, timeout_s=1.0)


def test_a_subscription_may_change_and_a_pattern_follows_new_topics() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        cluster.topic("log-a")
        async with reading(client, **heard.callbacks()) as consumer, ever_reading(consumer):
            await heard.until("assign", T0, T1)
            consumer.subscribe(pattern="log-.*")
            await heard.until("assign", TopicPartition("log-a", 0))
            await heard.until("revoke", T0, T1)
            cluster.topic("log-b")
            cluster.groups.share_out()
            await heard.until("assign", TopicPartition("log-b", 0))
            with pytest.raises(errors.InvalidRequest, match="name topics"):
                consumer.subscribe()
            with pytest.raises(errors.InvalidRequest, match="member of a group"):
                consumer.assign([T0])
            assert cluster.groups.group().left == []

    in_group(scenario)


def test_a_consumer_may_also_subscribe_once_it_is_open() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 1)
        async with client.consumer(group_id="g", auto_offset_reset="earliest") as consumer:
            consumer.subscribe("t")
            assert await take(consumer, 1) == [(0, 0)]

    in_group(scenario)


# Where reading begins ----------------------------------------------------------------------------------------------


def test_latest_is_stored_at_once_so_that_a_crash_before_the_first_commit_skips_nothing() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 7)
        heard = Heard()
        async with reading(client, auto_offset_reset="latest", **heard.callbacks()):
            await heard.until("assign", T0, T1)
            assert cluster.groups.stored() == {("t", 0): 7, ("t", 1): 0}
        fill(cluster, 2)
        async with reading(client, auto_offset_reset="latest") as consumer:
            assert await take(consumer, 2) == [(0, 7), (0, 8)]

    in_group(scenario)


def test_nothing_stored_is_an_error_if_so_wished_and_a_seek_goes_on() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 3)
        heard = Heard()
        async with reading(client, auto_offset_reset="error", **heard.callbacks()) as consumer:
            await heard.until("assign", T0)
            with pytest.raises(errors.InvalidRequest, match="nothing is stored to begin at in t-0: seek first"):
                await consumer.getone()
            consumer.seek(T0, 2)
            assert await take(consumer, 1) == [(0, 2)]

    in_group(scenario, partitions=1)


def test_partitions_that_are_added_to_a_topic_are_read_from_their_start() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        async with reading(client, auto_offset_reset="latest", **heard.callbacks()) as consumer:
            await heard.until("assign", T0)
            cluster.topics["t"].partitions.append(FakePartition(leader_id=0))
            fill(cluster, 2, partition=1)
            cluster.groups.share_out()
            assert await take(consumer, 2) == [(1, 0), (1, 1)]

    in_group(scenario, partitions=1)


def test_a_stored_offset_that_the_log_does_not_hold_goes_by_the_rule(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 30)
        log = cluster.topics["t"].partitions[0]
        log.start, log.batches = 10, log.batches[1:]
        cluster.groups.seek({("t", 0): 3})
        async with reading(client) as consumer:
            assert await take(consumer, 1) == [(0, 10)]

    in_group(scenario)
    assert "3 is none: reading goes on at 10" in caplog.text.replace("and 3 is none of them", "3 is none")


def test_where_a_group_goes_on_by_the_rule_latest_is_stored_before_it_does() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 30)
        log = cluster.topics["t"].partitions[0]
        log.start, log.batches = 10, log.batches[1:]
        cluster.groups.seek({("t", 0): 3})
        refused = iter(["NO_LEADER", "LOST_GRANT"])
        cluster.groups.fault = lambda _, method, request: next(refused, None) if method == "StoreOffsets" else None
        async with reading(client, auto_offset_reset="latest"):
            await until(lambda: cluster.groups.stored() == {("t", 0): 30})
            fill(cluster, 2)  # and it dies before it has stored anything of these
        async with reading(client, auto_offset_reset="latest", auto_commit=True) as consumer:
            assert await take(consumer, 1) == [(0, 30)]
        assert cluster.groups.stored() == {("t", 0): 31}

    in_group(scenario, partitions=1)


def test_by_the_rule_latest_nothing_is_stored_past_what_is_to_be_handed_out_still() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        async with reading(
            client, auto_offset_reset="latest", auto_commit=True, auto_commit_interval_s=0.01
        ) as consumer:
            await until_owned(consumer, T0)
            consumer.seek(T0, 0)
            assert await take(consumer, 3) == [(0, 0), (0, 1), (0, 2)]
            fill(cluster, 30)
            log = cluster.topics["t"].partitions[0]
            log.start, log.batches = 20, log.batches[2:]
            consumer._positions[T0].fetch_offset = 10  # as if what came since had not been fetched yet
            consumer._positions[T0]._batches.clear()
            consumer._wake_fetchers()
            await until(lambda: consumer._positions[T0].failed_tries > 1)
            # That of the beginning, or if there was time to store them that of the seek, or of what was finished since.
            assert cluster.groups.stored()[("t", 0)] in (10, 0, 1, 2)
            assert await take(consumer, 7) == [(0, offset) for offset in range(3, 10)]
            reading_on = asyncio.ensure_future(take(consumer, 1))
            await until(lambda: cluster.groups.stored() == {("t", 0): 40})
            fill(cluster, 1)
            assert await reading_on == [(0, 40)]

    in_group(scenario, partitions=1)


def test_what_was_stored_for_a_deleted_topic_does_not_count_for_another_of_its_name() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5)
        cluster.groups.seek({("t", 0): 4})
        cluster.topic("t", 1)
        fill(cluster, 2)
        async with reading(client) as consumer:
            assert await take(consumer, 1) == [(0, 0)]

    in_group(scenario, partitions=1)


def test_a_partition_without_a_leader_holds_up_no_other() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 1, partition=0)
        fill(cluster, 1, partition=1)
        cluster.topics["t"].partitions[0].leader_id = 99
        heard = Heard()
        async with reading(client, **heard.callbacks()) as consumer:
            await heard.until("assign", T1)
            assert heard.events == [("assign", [T1])]
            assert await take(consumer, 1) == [(1, 0)]
            cluster.move("t", 0, 0)
            assert await take(consumer, 1) == [(0, 0)]

    in_group(scenario)


# Callbacks ---------------------------------------------------------------------------------------------------------


def test_callbacks_may_call_the_consumer_before_records_come_and_while_the_grant_stands() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 9)
        places: list[int] = []

        async def on_assign(partitions: list[TopicPartition]) -> None:
            assert partitions == [T0] == list(consumer.assignment())
            places.append(await consumer.position(T0))
            consumer.seek(T0, 5)
            await consumer.commit({T0: (4, "here")})
            places.append(await consumer.committed(T0) or -1)
            with pytest.raises(errors.InvalidRequest, match="reading inside on_assign or on_revoke"):
                await consumer.getone()
            with pytest.raises(errors.InvalidRequest, match="close"):
                await consumer.close()
            with pytest.raises(errors.InvalidRequest, match="closing the client inside on_assign"):
                await client.close()

        async def on_revoke(partitions: list[TopicPartition]) -> None:
            await consumer.commit()

        async with reading(client, on_assign=on_assign, on_revoke=on_revoke) as consumer:
            assert await take(consumer, 3) == [(0, 5), (0, 6), (0, 7)]
            assert places == [0, 4]
            assert cluster.groups.group().offsets["t", 0].metadata == "here"
        assert cluster.groups.stored() == {("t", 0): 8}

    in_group(scenario, partitions=1)


def test_what_a_callback_raises_comes_out_of_the_next_read_and_breaks_nothing() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 3)
        called = asyncio.Event()

        def on_assign(partitions: list[TopicPartition]) -> None:  # a plain function does as well
            called.set()
            raise ValueError("mine")

        async with reading(client, on_assign=on_assign) as consumer:
            await called.wait()
            with pytest.raises(ValueError, match="mine"):
                await consumer.getone()
            assert await take(consumer, 3) == [(0, 0), (0, 1), (0, 2)]
            await consumer.commit()
        assert cluster.groups.stored() == {("t", 0): 3}

        async def on_revoke(partitions: list[TopicPartition]) -> None:
            raise ValueError("on leaving")

        with pytest.raises(ValueError, match="on leaving"):
            async with reading(client, on_revoke=on_revoke) as consumer:
                await until_owned(consumer, T0)
        assert len(cluster.groups.group().left) == 2, "it left nevertheless"

    in_group(scenario, partitions=1)


def test_an_iteration_hears_of_a_failed_callback_at_its_next_step_and_can_go_on() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        seen: list[int] = []

        async def on_assign(partitions: list[TopicPartition]) -> None:
            if cluster.groups.stored():
                raise ValueError("mine")

        async with reading(client, on_assign=on_assign) as consumer:
            with pytest.raises(ValueError, match="mine"):
                async for record in consumer:
                    seen.append(record.offset)
                    if record.offset == 3:
                        cluster.topics["t"].partitions.append(FakePartition(leader_id=0))
                        cluster.groups.seek({("t", 1): 0})
                        cluster.groups.share_out()
                        await until(lambda: bool(consumer._to_raise))
            assert seen == [0, 1, 2, 3]
            assert await take(consumer, 1) == [(0, 4)]

    in_group(scenario, partitions=1)


def test_a_callback_that_takes_too_long_is_cancelled_and_told() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 1)

        async def on_assign(partitions: list[TopicPartition]) -> None:
            await asyncio.Event().wait()

        async with reading(client, on_assign=on_assign, max_handling_s=0.1) as consumer:
            with pytest.raises(errors.HandlingTooLong, match=r"on_assign took longer than 0\.1 s"):
                await consumer.getone()
            assert await take(consumer, 1) == [(0, 0)]

    in_group(scenario)


def test_a_callback_that_waits_for_something_cancelled_is_told_and_breaks_nothing() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 3)

        async def on_assign(partitions: list[TopicPartition]) -> None:
            looking_up = asyncio.ensure_future(asyncio.Event().wait())
            looking_up.cancel()
            await looking_up

        async with reading(client, on_assign=on_assign) as consumer:
            with pytest.raises(errors.LograftError, match="on_assign ended because something"):
                await consumer.getone()
            assert await take(consumer, 3) == [(0, 0), (0, 1), (0, 2)]
        assert len(cluster.groups.group().left) == 1

    in_group(scenario, partitions=1)


# Storing -----------------------------------------------------------------------------------------------------------


def test_a_commit_stores_what_moved_since_the_last_and_nothing_else() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5, partition=0)
        cluster.groups.seek({("t", 1): 0})
        async with reading(client) as consumer:
            await take(consumer, 2)
            await consumer.commit()
            await consumer.commit()
            await take(consumer, 1)
            await consumer.commit()
            assert [store[:3] for store in cluster.groups.stores()] == [("t", 0, 2), ("t", 0, 3)]
            consumer.seek(T1, 0)
            await consumer.commit()
            assert len(cluster.groups.stores()) == 2, "it was there already"

    in_group(scenario)


def test_each_offset_that_cannot_be_stored_is_told_by_its_own_error_and_the_others_are_stored() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5, partition=0)
        fill(cluster, 5, partition=1)
        async with reading(client) as consumer:
            await take(consumer, 6)
            with pytest.raises(errors.OffsetOutOfRange, match="t-0 at offset -1"):
                await consumer.commit({T0: -1, T1: 2})
            assert cluster.groups.stored() == {("t", 1): 2}
            with pytest.raises(errors.OffsetOutOfRange, match="t-0 at offset 99"):
                await consumer.commit({T0: 99})
            with pytest.raises(errors.OffsetMetadataTooLarge):
                await consumer.commit({T0: (1, "x" * (1 << 20))})
            with pytest.raises(errors.UnknownPartition):
                await consumer.commit({TopicPartition("t", 7): 1})
            with pytest.raises(errors.UnknownTopic):
                await consumer.commit({TopicPartition("nope", 0): 1})
            for nonsense in (1 << 70, "3", True, (1, b"x"), (1, "\ud800")):
                with pytest.raises(errors.InvalidRequest):
                    await consumer.commit({T0: nonsense})  # type: ignore[dict-item]
            cluster.groups.group().grants.pop(("t", 0))
            with pytest.raises(errors.LostGrant, match="no offset was stored for t-0") as lost:
                await consumer.commit({T0: 3, T1: 3})
            assert lost.value.facts["partitions"] == "t-0"
            assert cluster.groups.stored() == {("t", 1): 3}

    in_group(scenario)


def test_a_store_survives_lost_answers_and_a_coordinator_that_moves() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5)
        faults = iter(["lose", "UNKNOWN_OUTCOME", "NO_LEADER", "OVERLOADED"])
        async with reading(client) as consumer:
            await take(consumer, 3)
            cluster.groups.fault = lambda b, method, r: next(faults, None) if method == "StoreOffsets" else None
            cluster.groups.move_to(1)
            await consumer.commit()
            assert cluster.groups.stored() == {("t", 0): 3}
            cluster.hide_hints = True
            cluster.groups.move_to(2)
            await take(consumer, 1)
            await consumer.commit()
            assert cluster.groups.stored() == {("t", 0): 4}
            cluster.groups.fault = lambda b, method, r: "NO_LEADER" if method == "StoreOffsets" else None
            await take(consumer, 1)
            with pytest.raises(
                errors.RequestTimedOut, match=r"StoreOffsets of group 'g' was not done within 2 s: told"
            ):
                await consumer.commit()
            cluster.groups.fault = lambda b, method, r: None
            await consumer.commit()
            assert cluster.groups.stored() == {("t", 0): 5}

    in_group(scenario, brokers=3, partitions=1, timeout_s=2.0)


def test_a_refusal_that_follows_a_lost_answer_does_not_claim_that_nothing_was_stored() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5)
        tries = 0

        def lost_answer_then_lost_grant(broker_id: int, method: str, request: Any) -> str | None:
            nonlocal tries
            if method != "StoreOffsets":
                return None
            tries += 1
            if tries == 2:
                cluster.groups.group().grants.pop(("t", 0))
            return "lose" if tries == 1 else None

        async with reading(client) as consumer:
            await take(consumer, 3)
            cluster.groups.fault = lost_answer_then_lost_grant
            with pytest.raises(errors.LostGrant, match="may have been stored for t-0: a first try") as lost:
                await consumer.commit()
            assert lost.value.facts["outcome"] == "unknown"
            assert tries == 2
            assert cluster.groups.stored() == {("t", 0): 3}

    in_group(scenario, partitions=1)


# Sought from outside -----------------------------------------------------------------------------------------------


def test_a_seek_of_the_group_drops_what_was_prefetched_and_cannot_be_overwritten_by_what_is_in_hand() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 100)
        heard = Heard()
        async with reading(client, **heard.callbacks()) as consumer:
            in_hand = (await consumer.getmany(max_records=15))[T0]
            generation = cluster.groups.seek({("t", 0): 60})
            await heard.until("assign", T0, times=2)
            with pytest.raises(errors.LostGrant, match="t-0"):
                await consumer.commit()
            await consumer.commit()  # told once; there is nothing to store now
            with pytest.raises(errors.LostGrant, match="t-0"):
                await consumer.commit({T0: in_hand[-1].offset + 1})
            assert cluster.groups.stored() == {("t", 0): 60}
            assert await take(consumer, 2) == [(0, 60), (0, 61)]
            await consumer.commit()
            assert cluster.groups.stores()[-1] == ("t", 0, 62, generation)
            assert cluster.groups.stored() == {("t", 0): 62}
        assert heard.events == [("assign", [T0]), ("assign", [T0]), ("revoke", [T0])]

    in_group(scenario, partitions=1)


def test_an_iteration_goes_over_to_where_the_group_was_sought_at_its_next_step() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 20)
        heard, seen = Heard(), []
        async with reading(client, **heard.callbacks()) as consumer:
            async for record in consumer:
                seen.append(record.offset)
                if record.offset == 4:
                    cluster.groups.seek({("t", 0): 17})
                    await heard.until("assign", T0, times=2)
                    with pytest.raises(errors.LostGrant):
                        await consumer.commit()
                if record.offset == 18:
                    await consumer.commit()
                    break
        assert seen == [0, 1, 2, 3, 4, 17, 18]
        assert cluster.groups.stored() == {("t", 0): 19}

    in_group(scenario, partitions=1)


def test_a_seek_of_the_group_resumes_nothing_that_is_paused() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10, partition=0)
        fill(cluster, 10, partition=1)
        heard = Heard()
        async with reading(client, **heard.callbacks()) as consumer:
            await heard.until("assign", T0, T1)
            consumer.pause(T0)
            cluster.groups.seek({("t", 0): 5})
            await heard.until("assign", T0, times=2)
            assert consumer.paused() == (T0,)
            assert await take(consumer, 10) == [(1, offset) for offset in range(10)]
            consumer.resume(T0)
            assert await take(consumer, 1) == [(0, 5)]

    in_group(scenario)


# Giving up ---------------------------------------------------------------------------------------------------------


def test_what_is_in_hand_is_finished_and_stored_before_its_partition_goes_while_others_go_at_once() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10, partition=3)
        first, second = Heard(), Heard()
        async with reading(client, session_timeout_s=0.4, **first.callbacks()) as one:
            await first.until("assign", T0, T1, T2, T3)
            records = await one.getmany()
            assert list(records) == [T3]
            async with reading(client, **second.callbacks()) as two:
                await second.until("assign", T2)  # not in hand
                beats = len(cluster.groups.heartbeats())
                await until(lambda: len(cluster.groups.heartbeats()) >= beats + 12)  # longer than its session
                assert T3 in one.assignment()
                assert T3 not in two.assignment()
                await one.commit()  # of what was handled, while the grant stands
                assert await one.getmany(timeout_ms=1) == {}
                await second.until("assign", T3)
                assert await two.position(T3) == 10
                assert first.events[1:] == [("revoke", [T2]), ("revoke", [T3])]

    in_group(scenario, partitions=4)


def test_nothing_more_is_handed_out_of_a_partition_that_is_being_given_up() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10, partition=1)
        seen: list[int] = []
        revoked = asyncio.Event()

        async def on_revoke(partitions: list[TopicPartition]) -> None:
            if not revoked.is_set():
                assert partitions == [T1]
                assert await one.position(T1) == 3
                await one.commit()
                revoked.set()

        async with reading(client, on_revoke=on_revoke) as one:

            async def read() -> None:
                async for record in one:
                    seen.append(record.offset)
                    if record.offset == 2:
                        two.subscribe("t")
                        await until(lambda: one._positions[T1].closed)

            async with client.consumer(group_id="g") as two:
                await until_owned(one, T0, T1)
                reader = asyncio.ensure_future(read())
                await revoked.wait()
                assert await take(two, 1) == [(1, 3)]
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
        assert seen == [0, 1, 2]

    in_group(scenario)


def test_a_release_is_told_until_it_was_answered() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        first, second = Heard(), Heard()
        lost: list[Any] = []

        def lose_releases(broker_id: int, method: str, request: Any) -> str | None:
            if method != "Heartbeat" or not request.released or len(lost) == 4:
                return None
            lost.append(request)
            return "UNAVAILABLE" if len(lost) % 2 else "lose"

        async with reading(client, **first.callbacks()) as one, ever_reading(one):
            await first.until("assign", T0, T1)
            cluster.groups.fault = lose_releases
            async with reading(client, **second.callbacks()):
                await second.until("assign", T1)
                await cluster.groups.until(lambda: len(lost) >= 2)
                assert [one.partition for one in lost[-1].released] == [1]

    in_group(scenario)


# Storing by itself -------------------------------------------------------------------------------------------------


async def stored_by_itself(cluster: FakeCluster, consumer: Consumer) -> int | None:
    """What is stored for t-0 after one more round of storing by itself."""
    assert consumer._progress is not None
    await consumer._progress.store_finished(list(consumer._positions.values()))
    return cluster.groups.stored().get(("t", 0))


def test_storing_by_itself_never_passes_the_record_in_hand() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 40)
        async with reading(client, auto_commit=True, auto_commit_interval_s=1000) as consumer:
            await consumer.getone()
            assert await stored_by_itself(cluster, consumer) is None
            await consumer.getone()
            assert await stored_by_itself(cluster, consumer) == 1
            assert len((await consumer.getmany(max_records=3))[T0]) == 3
            assert await stored_by_itself(cluster, consumer) == 2
            assert len((await consumer.getmany(max_records=3))[T0]) == 3
            assert await stored_by_itself(cluster, consumer) == 5
            async for record in consumer:
                assert await stored_by_itself(cluster, consumer) == record.offset
                if record.offset == 9:
                    consumer.seek(T0, 30)
                    assert await stored_by_itself(cluster, consumer) == 9
                if record.offset == 31:
                    break
            await consumer.commit()
            assert await stored_by_itself(cluster, consumer) == 32, "what was committed by hand is not taken back"
            await consumer.getone()
            assert await consumer.getmany(timeout_ms=1, max_records=10)
        assert cluster.groups.stored() == {("t", 0): 40}, "the block ended, and all in it is finished"

    in_group(scenario, partitions=1)


def test_a_block_left_by_an_error_has_not_finished_what_was_in_hand() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        with pytest.raises(ZeroDivisionError):
            async with reading(client, auto_commit=True) as consumer:
                async for record in consumer:
                    if record.offset == 6:
                        raise ZeroDivisionError
        assert cluster.groups.stored() == {("t", 0): 6}

    in_group(scenario, partitions=1)


def test_what_is_finished_is_stored_now_and_then_and_before_a_partition_goes() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5, partition=0)
        fill(cluster, 5, partition=1)
        async with reading(client, auto_commit=True, auto_commit_interval_s=0.01) as one:
            await take(one, 10)
            reader = asyncio.ensure_future(one.getone())
            await cluster.groups.until(lambda: cluster.groups.stored() == {("t", 0): 5, ("t", 1): 5})
            reader.cancel()
        fill(cluster, 3, partition=1)
        heard = Heard()
        async with reading(client, auto_commit=True, auto_commit_interval_s=1000, **heard.callbacks()) as one:
            await take(one, 3)
            async with ever_reading(one), reading(client) as two:
                await until_owned(two, T1)
                assert cluster.groups.stored()["t", 1] == 8
                assert await two.position(T1) == 8

    in_group(scenario)


# Handling too long -------------------------------------------------------------------------------------------------


def test_who_handles_too_long_leaves_is_told_so_once_and_joins_again() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        heard = Heard()
        async with reading(client, max_handling_s=0.15, auto_commit=True, **heard.callbacks()) as consumer:
            await take(consumer, 3)
            await heard.until("revoke", T0)  # it is still with the third
            await cluster.groups.until(lambda: bool(cluster.groups.group().left))
            assert cluster.groups.stored() == {("t", 0): 2}
            assert cluster.groups.group().left == [(consumer.member_id, "handling took longer than 0.15 s")]
            with pytest.raises(errors.HandlingTooLong, match=r"within 0\.15 s.*raise max_handling_s") as told:
                await consumer.getone()
            assert told.value.facts == {"limit_s": "0.15"}
            assert await take(consumer, 1) == [(0, 2)]

    in_group(scenario, partitions=1)


def test_waiting_to_join_is_not_handling() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        cluster.groups.move_to(None)
        asyncio.get_running_loop().call_later(0.5, cluster.groups.move_to, 0)
        async with reading(client, max_handling_s=0.1):
            assert cluster.groups.group().left == []

    in_group(scenario)


def test_a_consumer_that_never_asks_for_records_does_not_hold_partitions_for_ever() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        async with reading(client, max_handling_s=0.1):
            await cluster.groups.until(lambda: bool(cluster.groups.group().left))
            async with reading(client, max_handling_s=1000) as other:
                await until_owned(other, T0, T1)

    in_group(scenario)


def test_waiting_for_records_and_iterating_slowly_is_not_handling_too_long() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        async with reading(client, max_handling_s=0.2, session_timeout_s=0.2) as consumer:
            async for record in consumer:
                await asyncio.sleep(0.05)  # ten of these are more than the limit, and than the session
                if record.offset == 9:
                    break
            assert await consumer.getmany(timeout_ms=400) == {}
            assert cluster.groups.group().left == []
            await consumer.commit()
        assert cluster.groups.stored() == {("t", 0): 10}

    in_group(scenario, partitions=1)


# Trouble -----------------------------------------------------------------------------------------------------------


def test_a_coordinator_that_moves_or_loses_answers_disturbs_nobody() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        async with reading(client, session_timeout_s=2, **heard.callbacks()) as consumer:
            await heard.until("assign", T0, T1)
            for number in range(5):
                cluster.hide_hints = number % 2 == 0
                faults = iter(["lose", "UNKNOWN_OUTCOME", "NO_LEADER"][: number % 4])
                cluster.groups.fault = lambda b, m, r, left=faults: next(left, None)  # type: ignore[misc]
                cluster.groups.move_to(number % 3)
                beats = len(cluster.groups.heartbeats())
                await cluster.groups.until(lambda beats=beats: len(cluster.groups.heartbeats()) > beats + 1)  # type: ignore[misc]
                fill(cluster, 1)
                assert await take(consumer, 1) == [(0, number)]
            await consumer.commit()
            assert heard.events == [("assign", [T0, T1])]

    in_group(scenario, brokers=3)


def test_reading_goes_on_without_a_coordinator_until_the_session_ends_and_again_once_there_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 2)
        heard = Heard()
        async with reading(client, session_timeout_s=0.4, **heard.callbacks()) as consumer:
            assert await take(consumer, 1) == [(0, 0)]
            await consumer.commit()
            cluster.groups.fault = lambda *_: "NO_LEADER"
            cluster.groups.move_to(None)
            assert await take(consumer, 1) == [(0, 1)]
            await heard.until("revoke", T0)
            assert consumer.assignment() == ()
            assert await consumer.getmany(timeout_ms=1) == {}
            with pytest.raises(errors.RequestTimedOut):
                await consumer.commit()
            cluster.groups.fault = lambda *_: None
            cluster.groups.move_to(0)
            assert await take(consumer, 1) == [(0, 1)]
        assert "joins again: no heartbeat was answered for 0.4 s" in caplog.text

    in_group(scenario, partitions=1, timeout_s=0.3)


def test_after_trouble_a_heartbeat_is_answered_at_once_rather_than_parked_past_the_end_of_the_session() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        waits_ms: list[int] = []
        async with reading(client, session_timeout_s=2, **heard.callbacks()) as consumer:
            await heard.until("assign", T0, T1)
            assert consumer._group is not None
            grants = consumer._group.membership._grants

            def out_of_office(broker_id: int, method: str, request: Any) -> str | None:
                assert grants.ends_at is not None
                if grants.ends_at - client._connection.environment.now() > 0.9:
                    return "NO_LEADER"
                if method == "Heartbeat":
                    cluster.groups.fault = lambda *_: None
                    waits_ms.append(request.max_wait_ms)
                return None

            cluster.groups.fault = out_of_office
            cluster.groups.move_to(1)
            await cluster.groups.until(lambda: bool(waits_ms))
            assert waits_ms == [1]
            assert heard.events == [("assign", [T0, T1])]

    in_group(scenario, brokers=2)


def test_a_store_under_way_while_the_session_ends_is_never_rolled_back_by_reading_on() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 100)
        groups, heard = cluster.groups, Heard()
        async with reading(client, session_timeout_s=0.3, **heard.callbacks()) as consumer:
            await take(consumer, 50)
            groups.fault = lambda _, method, request: "NO_LEADER" if method in ("Heartbeat", "StoreOffsets") else None
            groups.group().members[consumer.member_id].heard_at += 60  # the coordinator will have it as a member still
            storing = asyncio.ensure_future(consumer.commit())
            await heard.until("revoke", T0)
            groups.fault = lambda _, method, request: "NO_LEADER" if method == "StoreOffsets" else None
            await heard.until("assign", T0, times=2)
            groups.fault = lambda _, method, request: None
            with pytest.raises(errors.LostGrant, match="t-0"):
                await storing
            assert groups.stored() == {}
            assert await take(consumer, 1) == [(0, 0)]
            await consumer.commit()
            assert groups.stored() == {("t", 0): 1}

    in_group(scenario, partitions=1)


def test_a_coordinator_that_hangs_is_left_for_another_before_the_session_ends() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        async with reading(client, session_timeout_s=1.2, **heard.callbacks()) as consumer:
            await heard.until("assign", T0, T1)
            heard_by_1 = asyncio.Event()

            def note(broker_id: int, method: str, request: Any) -> str | None:
                if method == "Heartbeat" and broker_id == 1:
                    heard_by_1.set()
                return "hang" if method == "Heartbeat" and broker_id == 0 else None

            cluster.groups.fault = note
            cluster.groups.move_to(1)
            await heard_by_1.wait()
            assert set(consumer.assignment()) == {T0, T1}
            assert heard.events == [("assign", [T0, T1])]

    in_group(scenario, brokers=2)


def test_a_member_that_the_coordinator_has_given_up_loses_all_and_joins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5)
        heard = Heard()
        async with reading(client, **heard.callbacks()) as consumer:
            await take(consumer, 2)
            cluster.groups.end_session(consumer.member_id)
            await heard.until("revoke", T0)
            with pytest.raises(errors.LostGrant, match="t-0"):
                await consumer.commit()
            await heard.until("assign", T0, times=2)
            assert await take(consumer, 3) == [(0, 0), (0, 1), (0, 2)]
            await consumer.commit()
            assert len({request.member_id for request in cluster.groups.heartbeats()}) == 1
        assert [what for what, _ in heard.events] == ["assign", "revoke", "assign", "revoke"]
        assert cluster.groups.stored() == {("t", 0): 3}
        assert caplog.text.count("lost its partitions (1), and joins again: its coordinator had ended its session") == 1

    in_group(scenario, partitions=1)


def test_a_zombie_hands_out_nothing_and_stores_nothing_over_who_came_after_it() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 50)
        async with reading(client, session_timeout_s=0.3) as zombie:
            in_hand = (await zombie.getmany(max_records=10))[T0]
            cluster.groups.fault = lambda b, m, request: "hang" if is_of(zombie, request) else None
            async with reading(client) as heir:
                assert await take(heir, 20) == [(0, offset) for offset in range(20)]
                await heir.commit()
                cluster.groups.fault = lambda *_: None
                with pytest.raises(errors.LostGrant, match="t-0"):
                    await zombie.commit({T0: in_hand[-1].offset + 1})
                assert await zombie.getmany(timeout_ms=1) == {}
                assert cluster.groups.stored() == {("t", 0): 20}
                assert await take(heir, 1) == [(0, 20)]

    def is_of(consumer: Consumer, request: Any) -> bool:
        return getattr(request, "member_id", "") == consumer.member_id

    in_group(scenario, partitions=1)


# Static members ----------------------------------------------------------------------------------------------------


def test_a_static_member_that_starts_again_gets_its_partitions_back_without_a_move() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 5, partition=1)
        other, heard = Heard(), Heard()
        async with reading(client, **other.callbacks()) as one, ever_reading(one):
            await other.until("assign", T0, T1)
            async with reading(client, instance_id="blue", **heard.callbacks()) as two:
                await heard.until("assign", T1)
                await take(two, 2)
                await two.commit()
                before = cluster.groups.group().grants["t", 1]
            assert cluster.groups.group().left == []
            async with reading(client, instance_id="blue") as two:
                assert await take(two, 1) == [(1, 2)]
                await two.commit()
                assert cluster.groups.group().grants["t", 1].generation > before.generation
            assert other.events == [("assign", [T0, T1]), ("revoke", [T1])]

    in_group(scenario)


def test_the_newest_process_of_an_instance_wins_and_the_other_fails_for_good() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        heard = Heard()
        async with reading(client, instance_id="blue", **heard.callbacks()) as old:
            await heard.until("assign", T0, T1)
            async with reading(client, instance_id="blue") as new:
                for _ in range(3):
                    with pytest.raises(errors.FencedInstance):
                        await old.getone()
                await heard.until("revoke", T0, T1)
                with pytest.raises(errors.FencedInstance):
                    await old.commit({T0: 0})
                await until_owned(new, T0, T1)

    in_group(scenario)


# Without being a member --------------------------------------------------------------------------------------------


def test_partitions_chosen_by_hand_begin_at_stored_offsets_which_move_only_while_there_are_no_members() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        cluster.groups.seek({("t", 0): 4})
        async with client.consumer(group_id="g", auto_offset_reset="latest") as consumer:
            consumer.assign([T0, T1])
            assert await take(consumer, 2) == [(0, 4), (0, 5)]
            await consumer.commit()
            assert cluster.groups.stored() == {("t", 0): 6, ("t", 1): 0}
            async with reading(client):
                await take(consumer, 1)
                with pytest.raises(errors.GroupNotEmpty):
                    await consumer.commit()
            assert not [beat for beat in cluster.groups.heartbeats() if not beat.member_id]

    in_group(scenario)


def test_a_group_can_be_asked_and_stored_for_without_reading() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        async with client.consumer(group_id="g") as consumer:
            assert await consumer.committed(T0) is None
            await consumer.commit({T0: 7})
            assert await consumer.committed(T0) == 7

    in_group(scenario)


def test_lag_is_told_in_records_and_in_seconds() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10)
        async with reading(client) as consumer:
            await take(consumer, 4)
            assert await consumer.lag() == {T0: Lag(6, 1.5), T1: Lag(0, 0.0)}

    in_group(scenario)


def test_a_replay_may_begin_or_end_where_a_group_has_come_to() -> None:
    async def scenario(cluster: FakeCluster, client: Client) -> None:
        fill(cluster, 10, partition=0)
        fill(cluster, 2, partition=1)
        cluster.groups.seek({("t", 0): 7})

        async def read(*bounds: Any) -> list[tuple[int, int]]:
            return sorted([record[1:3] async for record in client.read("t", *bounds, group_id="g")])

        assert await read("stored", "end") == [(0, 7), (0, 8), (0, 9), (1, 0), (1, 1)]
        assert await read("start", "stored") == [(0, offset) for offset in range(7)]
        assert cluster.groups.stored() == {("t", 0): 7}

    in_group(scenario)
