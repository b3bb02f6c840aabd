from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from lograft.client.client import Client
from lograft.client.consumer import Consumer
from lograft.client.offsets import Lag
from lograft.client.records import TopicPartition
from lograft.proto import errors
from lograft.proto.record_batch import Compression, NewRecord, encode, stamp

from tests.unit.client.fake_cluster import FakeCluster, FakePartition

WithCluster = Callable[..., None]
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def fill(cluster: FakeCluster, count: int, *, partition: int = 0, batch: int = 10, topic: str = "t") -> None:
    """Records `partition/offset`, whose timestamps are a second apart."""
    log = cluster.topics[topic].partitions[partition]
    end = log.end + count
    for first in range(log.end, end, batch):
        numbers = range(first, min(first + batch, end))
        records = [NewRecord(number * 1000, None, b"%d/%d" % (partition, number)) for number in numbers]
        log.batches.append(bytes(stamp(encode(records, compression=Compression.LZ4), first, log.term)))
    log.grown.set()
    log.grown = asyncio.Event()


async def until(holds: Callable[[], bool]) -> None:
    """Until something holds that nobody tells of."""
    for _ in range(2_500):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("this took too long")


async def take(consumer: Consumer, count: int) -> list[bytes | None]:
    return [(await consumer.getone()).value for _ in range(count)]


def test_a_record_carries_all_that_is_known_of_it(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 3)
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            records = [await consumer.getone() for _ in range(3)]
        last = records[-1]
        assert (last.topic, last.partition, last.offset, last.timestamp_ms) == ("t", 0, 2, 2000)
        assert (last.key, last.value, last.headers, last.term) == (None, b"0/2", (), 1)

    with_cluster(scenario)


def test_each_partition_is_read_whole_and_in_order_over_leader_changes(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=6)
        for partition in range(6):
            fill(cluster, 200, partition=partition)
        seen: dict[int, list[int]] = {}
        async with (
            Client(cluster.addresses) as client,
            client.consumer("t", auto_offset_reset="earliest", prefetch_bytes=64 << 10) as consumer,
        ):
            count = 0
            async for record in consumer:
                seen.setdefault(record.partition, []).append(record.offset)
                count += 1
                if count % 100 == 0:
                    cluster.hide_hints = count % 200 == 0
                    cluster.move("t", count // 100 % 6, count % 3)
                    if count == 600:
                        for partition in range(6):
                            fill(cluster, 50, partition=partition)
                if count == 1_500:
                    break
        assert seen == {partition: list(range(250)) for partition in range(6)}

    with_cluster(scenario, brokers=3)


def test_latest_means_what_comes_after_entering(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 7, partition=1)
        async with Client(cluster.addresses) as client, client.consumer("t") as consumer:
            fill(cluster, 1, partition=0)
            fill(cluster, 1, partition=1)
            assert sorted(await take(consumer, 2)) == [b"0/0", b"1/7"]

    with_cluster(scenario)


def test_getmany_gives_what_is_there_at_most_as_many_as_asked_and_nothing_on_time_out(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 25, partition=0)
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            got: list[int] = []
            while len(got) < 25:
                some = await consumer.getmany(max_records=7)
                assert set(some) == {T0}
                assert 0 < len(some[T0]) <= 7
                got += [record.offset for record in some[T0]]
            assert got == list(range(25))
            assert await consumer.getmany(timeout_ms=1) == {}
            assert await consumer.getmany(timeout_ms=0) == {}

    with_cluster(scenario)


def test_seeks_drop_what_was_prefetched_and_may_begin_inside_a_batch(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 30)
        async with Client(cluster.addresses) as client, client.consumer() as consumer:
            consumer.assign([T0])
            nonsense: tuple[Any, ...] = (-1, 1 << 63, 1 << 70, "5", 1.5, None)
            for offset in nonsense:
                with pytest.raises(errors.InvalidRequest, match="is no offset to go to"):
                    consumer.seek(T0, offset)
            consumer.seek(T0, 13)
            assert await take(consumer, 2) == [b"0/13", b"0/14"]
            assert await consumer.position(T0) == 15
            consumer.seek(T0, 3)
            assert await consumer.position(T0) == 3
            assert await take(consumer, 1) == [b"0/3"]
            await consumer.seek_to_beginning()
            assert await take(consumer, 1) == [b"0/0"]
            await consumer.seek_to_time(datetime.fromtimestamp(21, UTC), T0)
            assert await take(consumer, 1) == [b"0/20"]
            with pytest.raises(errors.InvalidRequest, match=r"in the future by the clock here; .* use seek_to_end"):
                await consumer.seek_to_time(client._connection.environment.unix_ms() + 61_000)
            await consumer.seek_to_end(T0)
            assert await consumer.lag() == {T0: Lag(0, 0.0)}
            fill(cluster, 2)
            assert await consumer.lag() == {T0: Lag(2, 1.5)}
            assert await take(consumer, 2) == [b"0/30", b"0/31"]

    with_cluster(scenario)


def test_a_seek_in_the_middle_of_iterating_takes_effect_at_the_next_record(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 30)
        seen = []
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                seen.append(record.offset)
                if record.offset == 5:
                    consumer.seek(T0, 27)
                if record.offset == 29:
                    break
        assert seen == [0, 1, 2, 3, 4, 5, 27, 28, 29]

    with_cluster(scenario)


def test_a_paused_partition_hands_nothing_out_until_it_is_resumed(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 5, partition=0)
        fill(cluster, 5, partition=1)
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            consumer.pause(T0)
            assert consumer.paused() == (T0,)
            assert await take(consumer, 5) == [b"1/%d" % number for number in range(5)]
            assert await consumer.getmany(timeout_ms=1) == {}
            consumer.resume(T0)
            assert await take(consumer, 5) == [b"0/%d" % number for number in range(5)]

    with_cluster(scenario)


def test_a_paused_partition_that_has_prefetched_much_keeps_no_other_waiting(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 4_000)
        async with (
            Client(cluster.addresses) as client,
            client.consumer("t", auto_offset_reset="earliest", prefetch_bytes=64 << 10) as consumer,
        ):
            assert await take(consumer, 1) == [b"0/0"]
            await until(lambda: consumer._positions[T0].buffered_bytes > 40 << 10)
            consumer.pause(T0)
            fill(cluster, 3, partition=1)
            assert await take(consumer, 3) == [b"1/0", b"1/1", b"1/2"]
            consumer.resume(T0)
            assert await take(consumer, 3_999) == [b"0/%d" % number for number in range(1, 4_000)]

    with_cluster(scenario)


def test_a_partition_that_fills_every_answer_keeps_no_other_waiting(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        for partition in range(2):
            fill(cluster, 200, partition=partition)
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            await take(consumer, 1)
            await until(lambda: all(position.buffered_bytes for position in consumer._positions.values()))
            seen = [partition for _ in range(10) for partition in await consumer.getmany(max_records=4)]
            assert {T0, T1} == set(seen)

    with_cluster(scenario)


def test_a_damaged_batch_costs_nothing_that_comes_before_it_or_from_elsewhere(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 20, partition=0)
        fill(cluster, 20, partition=1)
        log = cluster.topics["t"].partitions[1]
        damaged = bytearray(log.batches[1])
        damaged[-1] ^= 0xFF
        log.batches[1] = bytes(damaged)
        got: dict[TopicPartition, list[int]] = {T0: [], T1: []}
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            for _ in range(5):
                try:
                    some = await consumer.getmany(timeout_ms=100)
                except errors.CorruptBatch as error:
                    consumer.seek(T1, int(error.facts["next_offset"]))
                    continue
                for partition, records in some.items():
                    got[partition] += [record.offset for record in records]
        assert got == {T0: [*range(20)], T1: [*range(10)]}

    with_cluster(scenario)


def test_prefetching_stays_within_its_bytes(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=4)
        for partition in range(4):
            fill(cluster, 20_000, partition=partition, batch=500)
        async with (
            Client(cluster.addresses) as client,
            client.consumer("t", auto_offset_reset="earliest", prefetch_bytes=64 << 10) as consumer,
        ):
            got = 0
            while got < 80_000:
                got += sum(map(len, (await consumer.getmany()).values()))
                assert sum(p.buffered_bytes for p in consumer._positions.values()) <= 64 << 10
        assert all(request.max_bytes <= 64 << 10 for request in cluster.fetches)

    with_cluster(scenario)


@pytest.mark.parametrize(("reset", "first"), [("earliest", b"0/10"), ("latest", b"0/30")])
def test_an_offset_that_is_not_held_any_more_goes_by_the_rule(
    with_cluster: WithCluster, reset: Any, first: bytes
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 30)
        log = cluster.topics["t"].partitions[0]
        log.start, log.batches = 10, log.batches[1:]
        async with Client(cluster.addresses) as client, client.consumer(auto_offset_reset=reset) as consumer:
            consumer.assign([T0])
            consumer.seek(T0, 3)
            if reset == "latest":
                while await consumer.position(T0) != 30:
                    await consumer.getmany(timeout_ms=5)
                fill(cluster, 1)
            assert await take(consumer, 1) == [first]

    with_cluster(scenario)


def test_an_offset_out_of_range_is_an_error_if_so_wished_and_a_seek_goes_on(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 10)
        async with Client(cluster.addresses) as client, client.consumer(auto_offset_reset="error") as consumer:
            consumer.assign([T0])
            with pytest.raises(errors.InvalidRequest, match="no place to begin in t-0: seek first"):
                await consumer.getone()
            consumer.seek(T0, 99)
            with pytest.raises(errors.OffsetOutOfRange, match="t-0 holds offsets from 0 up to 10; 99 is none"):
                await consumer.getone()
            consumer.seek(T0, 9)
            assert await take(consumer, 1) == [b"0/9"]

    with_cluster(scenario)


def test_a_new_leader_that_does_not_know_the_end_yet_moves_nobody(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 10)
        async with Client(cluster.addresses) as client, client.consumer(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            consumer.seek(T0, 15)  # what the old leader had committed
            position = consumer._positions[T0]
            await client._metadata.refresh("t")
            position.topic_id = cluster.topics["t"].topic_id
            fill(cluster, 10)  # the confirmed end, by the time it is asked for
            await consumer._mending.mend_out_of_range(position)
            assert await consumer.position(T0) == 15
            assert await take(consumer, 1) == [b"0/15"]

    with_cluster(scenario)


def test_a_deleted_topic_is_told_and_one_of_the_same_name_is_not_taken_for_it(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 3)
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            assert await take(consumer, 3)
            cluster.topics["t"].partitions[0].grown.set()
            cluster.topic("t", 1)
            with pytest.raises(errors.UnknownTopic, match="another has its name now"):
                await consumer.getone()
            del cluster.topics["t"]
            with pytest.raises(errors.UnknownTopic):
                await consumer.getone()

    with_cluster(scenario)


def test_a_topic_is_told_to_be_gone_also_if_the_metadata_says_so_before_a_fetch_does(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic("t", 2)
        async with Client(cluster.addresses) as client, client.consumer("t") as consumer:
            consumer.assign([T1])
            cluster.topic("t", 1)
            await client._metadata.refresh("t")
            with pytest.raises(errors.UnknownTopic, match="another has its name now"):
                await consumer.getone()
        cluster.topic("t", 20)
        async with Client(cluster.addresses) as client, client.consumer("t") as consumer:
            del cluster.topics["t"]
            await client._metadata.refresh("t")
            async with asyncio.timeout(5):  # a second for all of them
                for partition in consumer.assignment():
                    with pytest.raises(errors.UnknownTopic, match="was deleted, or never was"):
                        await consumer.getone()
                    consumer.drop(partition)

    with_cluster(scenario)


def test_metadata_that_lags_behind_ends_no_reading(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.consumer("t") as consumer:
            topic = cluster.topics.pop("t")
            await client._metadata.refresh("t")
            asked = cluster.metadata_calls
            await until(lambda: cluster.metadata_calls >= asked + 2)  # by who mends, and then around
            cluster.topics["t"] = topic
            fill(cluster, 1)
            assert await take(consumer, 1) == [b"0/0"]

    with_cluster(scenario, brokers=2)


def test_lag_leaves_out_what_is_taken_away_while_it_is_looked_up(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        fill(cluster, 3)
        async with Client(cluster.addresses) as client, client.consumer(auto_offset_reset="earliest") as consumer:
            waits, goes_on = held_back(client)
            consumer.assign([T0, T1])
            asking = asyncio.ensure_future(consumer.lag())
            await waits.wait()
            consumer.drop(T1)
            goes_on.set()
            assert await asking == {T0: Lag(3, 1.5)}

    with_cluster(scenario)


def test_a_consumer_of_topics_that_nobody_entered_begins_with_its_first_read(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 1)
        async with Client(cluster.addresses) as client:
            consumer = client.consumer("t", auto_offset_reset="earliest")
            async with asyncio.timeout(5):
                assert await take(consumer, 1) == [b"0/0"]

    with_cluster(scenario)


def test_unknown_topics_and_partitions_are_told(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            with pytest.raises(errors.UnknownTopic, match="no topic 'nope'"):
                async with client.consumer("nope"):
                    pass
            async with client.consumer() as consumer:
                consumer.assign([TopicPartition("t", 9)])
                with pytest.raises(errors.UnknownPartition, match="9 is none of them"):
                    await consumer.getone()
                with pytest.raises(errors.InvalidRequest, match="t-0 is not assigned"):
                    consumer.seek(T0, 0)

    with_cluster(scenario)


def held_back(client: Client) -> tuple[asyncio.Event, asyncio.Event]:
    """Metadata calls wait from now on. What is set once one does, and what to set to have them go on."""
    waits, goes_on = asyncio.Event(), asyncio.Event()
    ask = client._metadata._ask_around

    async def ask_later(wanted: list[str], all_topics: bool) -> Any:
        waits.set()
        await goes_on.wait()
        return await ask(wanted, all_topics)

    client._metadata._ask_around = ask_later  # type: ignore[method-assign]
    return waits, goes_on


@pytest.mark.parametrize(
    "replace",
    [
        lambda consumer: consumer.subscribe("new"),
        lambda consumer: consumer.subscribe(pattern="n.w"),
        lambda consumer: consumer.assign([TopicPartition("new", 0)]),
    ],
)
@pytest.mark.parametrize("before", ["old", "nope"])
def test_what_was_being_looked_up_when_another_choice_was_made_is_neither_read_nor_told_of(
    with_cluster: WithCluster, before: str, replace: Callable[[Consumer], None]
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        for name in ("old", "new"):
            cluster.topic(name)
            fill(cluster, 1, topic=name)
        async with Client(cluster.addresses) as client, client.consumer(auto_offset_reset="earliest") as consumer:
            waits, goes_on = held_back(client)
            consumer.subscribe(before)
            await waits.wait()
            replace(consumer)
            goes_on.set()
            assert (await consumer.getone()).topic == "new"
            assert consumer.assignment() == (TopicPartition("new", 0),)

    with_cluster(scenario)


def test_partitions_that_are_added_later_are_read_from_their_start(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        topic = cluster.topic()
        async with Client(cluster.addresses) as client, client.consumer("t") as consumer:
            topic.partitions.append(FakePartition(leader_id=0))
            fill(cluster, 3, partition=1)
            await client._metadata.refresh("t")
            assert await take(consumer, 3) == [b"1/0", b"1/1", b"1/2"]

    with_cluster(scenario)


def test_a_pattern_reads_the_topics_whose_whole_name_matches(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        for name in ("log-a", "log-b", "catalog-c"):
            cluster.topic(name)
            fill(cluster, 1, topic=name)
        async with (
            Client(cluster.addresses) as client,
            client.consumer(pattern="log-.*", auto_offset_reset="earliest") as consumer,
        ):
            assert {(await consumer.getone()).topic for _ in range(2)} == {"log-a", "log-b"}
            assert await consumer.getmany(timeout_ms=1) == {}
            with pytest.raises(errors.InvalidConfig, match="no regular expression"):
                consumer.subscribe(pattern="(")

    with_cluster(scenario)


def test_a_list_of_topics_where_names_are_wanted_is_refused(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        topics: Any = ["t", "u"]
        async with Client(cluster.addresses) as client:
            with pytest.raises(errors.InvalidConfig, match="give names one by one"):
                client.consumer(topics)
            async with client.consumer() as consumer:
                with pytest.raises(errors.InvalidConfig, match="give names one by one"):
                    consumer.subscribe(topics)

    with_cluster(scenario)


def test_what_belongs_to_a_group_is_refused_without_one(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            with pytest.raises(errors.InvalidConfig, match="auto_commit belongs to a group"):
                client.consumer("t", auto_commit=True)
            async with client.consumer("t") as consumer:
                with pytest.raises(errors.InvalidRequest, match="commit: stored offsets belong to a group"):
                    await consumer.commit()
                with pytest.raises(errors.InvalidRequest, match="committed: stored offsets belong to a group"):
                    await consumer.committed(T0)

    with_cluster(scenario)


def test_a_batch_that_is_corrupt_is_told_with_its_place_and_a_seek_passes_it(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 30)
        log = cluster.topics["t"].partitions[0]
        log.batches[1] = log.batches[1][:-1] + bytes([log.batches[1][-1] ^ 1])
        async with Client(cluster.addresses) as client, client.consumer("t", auto_offset_reset="earliest") as consumer:
            assert len(await take(consumer, 10)) == 10
            with pytest.raises(errors.CorruptBatch, match="t-0 at offset 10") as corrupt:
                await consumer.getone()
            consumer.seek(T0, int(corrupt.value.facts["next_offset"]))
            assert await take(consumer, 1) == [b"0/20"]

    with_cluster(scenario)


def test_read_replays_between_pinned_bounds_and_ends(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=3)
        fill(cluster, 25, partition=0)
        fill(cluster, 25, partition=1)

        async def read(*bounds: Any, **chosen: Any) -> list[tuple[int, int]]:
            return sorted([(record.partition, record.offset) async for record in client.read("t", *bounds, **chosen)])

        async with Client(cluster.addresses) as client:
            assert await read() == [(p, o) for p in (0, 1) for o in range(25)]
            assert await read("+3", "-20", partitions=[1]) == [(1, 3), (1, 4)]
            assert await read(7, 9, partitions=[0]) == [(0, 7), (0, 8)]
            assert await read("@4", "@1970-01-01T00:00:07Z", partitions=[0]) == [(0, 4), (0, 5), (0, 6)]
            assert await read("end", partitions=[0]) == []
            assert await read("start", 1_000, partitions=[0]) == [(0, o) for o in range(25)]
            seen = 0
            async for _ in client.read("t", partitions=[0]):
                seen += 1
                if seen == 5:
                    fill(cluster, 5, partition=0)  # not there when the reading began
            assert seen == 25
            with pytest.raises(errors.OffsetOutOfRange):
                await read(99)
            with pytest.raises(errors.UnknownPartition):
                await read(partitions=[7])
            with pytest.raises(errors.InvalidRequest, match="belongs to a group"):
                await read("stored")

    with_cluster(scenario)


def test_a_replay_does_not_wait_for_ever_for_a_cluster_that_is_gone(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        fill(cluster, 1_000, batch=500)
        cluster.answers_max = 1
        async with Client(cluster.addresses, timeout=0.3) as client:
            records = client.read("t")
            await anext(records)
            await cluster.stop()
            with pytest.raises(errors.BrokerUnavailable, match=r"t-0 could not be read for 0\.3 s"):
                async for _ in records:
                    pass

    with_cluster(scenario)
