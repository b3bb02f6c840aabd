from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from lograft.client import sender
from lograft.client.client import Client
from lograft.client.delivery import DeliveryErrors, DeliveryFailed
from lograft.client.records import NewRecord
from lograft.proto import errors
from lograft.proto.record_batch import BatchHeader, partition_for_key

from tests.unit.client.fake_cluster import FakeCluster

WithCluster = Callable[..., None]


def values(cluster: FakeCluster, topic: str = "t", partition: int = 0) -> list[bytes | None]:
    return [record.value for record in cluster.topics[topic].partitions[partition].records()]


def faults(*fates: str | None) -> Callable[[int, Any, BatchHeader], str | None]:
    """One fate for each batch that comes, in turn; then none."""
    left = list(fates)
    return lambda broker_id, entry, header: left.pop(0) if left else None


def test_an_acknowledgement_names_offset_term_and_durability(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer() as producer:
            first = await producer.send_and_wait("t", b"a", key=b"k", headers={"h": b"1"}, timestamp_ms=17)
            second = await producer.send_and_wait("t", b"b")
        assert (first.topic, first.partition, first.offset, first.timestamp_ms, first.term) == ("t", 0, 0, 17, 1)
        assert second.offset == 1
        assert str(second.durability) == "fsync x 2 of 3"
        record = cluster.topics["t"].partitions[0].records()[0]
        assert (record.key, record.value, record.timestamp_ms) == (b"k", b"a", 17)
        assert record.headers == (("h", b"1"),)

    with_cluster(scenario)


def test_keyed_records_go_where_murmur2_puts_them_and_keyless_stay_together_for_a_batch(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=7)
        keys = [b"key-%d" % number for number in range(50)]
        async with Client(cluster.addresses) as client, client.producer() as producer:
            sent = [await producer.send("t", b"v", key=key) for key in keys]
            keyed = [(await delivery).partition for delivery in sent]
            together = [await producer.send("t", b"x") for _ in range(20)]
            keyless = {(await delivery).partition for delivery in together}
        assert keyed == [partition_for_key(key, 7) for key in keys]
        assert len(keyless) == 1

    with_cluster(scenario, brokers=2)


@pytest.mark.parametrize(
    "fate", ["append, then drop", "drop before", "append, then unknown", "NOT_LEADER", "NO_LEADER", "OVERLOADED"]
)
def test_a_batch_that_fails_on_the_way_is_sent_again_without_loss_duplicate_or_reordering(
    with_cluster: WithCluster, fate: str
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = faults(None, fate, None, fate)
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0, max_batch_bytes=1024) as producer:
            sent = [await producer.send("t", b"%03d" % number * 100) for number in range(30)]
            offsets = [(await delivery).offset for delivery in sent]
        assert offsets == list(range(30))
        assert values(cluster) == [b"%03d" % number * 100 for number in range(30)]

    with_cluster(scenario)


def test_a_batch_without_an_answer_is_sent_again_once_the_answer_is_overdue(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = faults("append, then silent")
        async with Client(cluster.addresses) as client, client.producer() as producer:
            await producer.send("t", b"a")
            delivery = await producer.send("t", b"b")
            await cluster.produced.wait()
            lane = producer._topics["t"].lanes[0]
            lane.abandon()  # what the sweep does when an answer is overdue
            producer._sender.wake(lane)
            assert (await delivery).offset == 1
        assert values(cluster) == [b"a", b"b"]

    with_cluster(scenario)


def test_an_answer_that_comes_twice_settles_once(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = lambda *_: "answer twice"
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            for number in range(10):
                assert (await producer.send_and_wait("t", b"x")).offset == number
            assert producer.in_flight_bytes == 0

    with_cluster(scenario)


def test_records_follow_a_leader_that_moves_by_its_hint_without_asking_for_metadata(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"a")
            asked = cluster.metadata_calls
            cluster.move("t", 0, 1)
            assert (await producer.send_and_wait("t", b"b")).offset == 1
            assert cluster.metadata_calls == asked + 1  # which proves that the new leader can be reached
        assert values(cluster) == [b"a", b"b"]

    with_cluster(scenario, brokers=2)


def test_records_reach_the_new_leader_after_the_old_one_died(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            for partition in (0, 1):
                await producer.send_and_wait("t", b"a", partition=partition)
            await cluster.brokers[0].stop()
            delivery = await producer.send("t", b"b", partition=0)
            cluster.move("t", 0, 1)
            assert (await delivery).offset == 1
        assert values(cluster) == [b"a", b"b"]

    with_cluster(scenario, brokers=2)


def test_sequences_count_records_from_zero_for_each_partition_and_first_open_never_passes_an_unanswered_batch(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        cluster.fault = faults(None, "append, then unknown")
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            for _ in range(3):
                await producer.send_and_wait("t", b"a", partition=0)
            await (await producer.send_many("t", [b"b"] * 4, partition=1))
            await producer.send_and_wait("t", b"b", partition=1)
        by_partition = defaultdict(list)
        for partition, producer_id, sequence, first_open in cluster.seen:
            assert 0 <= producer_id < 1 << 62
            assert first_open is not None and first_open <= sequence
            by_partition[partition].append(sequence)
        assert by_partition == {0: [0, 1, 1, 2], 1: [0, 4]}

    with_cluster(scenario)


def test_whatever_goes_wrong_each_partition_holds_what_was_sent_once_and_in_order(with_cluster: WithCluster) -> None:
    fates = ["append, then drop", "drop before", "append, then unknown", "NO_LEADER", "OVERLOADED", "answer twice"]

    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=4)
        chance = Random(7)

        def fault(broker_id: int, entry: Any, header: BatchHeader) -> str | None:
            if chance.random() < 0.04:
                cluster.move("t", entry.partition, chance.randrange(3))
            return chance.choice(fates) if chance.random() < 0.12 else None

        cluster.fault = fault
        async with (
            Client(cluster.addresses) as client,
            client.producer(linger_ms=0, max_batch_bytes=1024, max_in_flight_bytes=20_000) as producer,
        ):
            sent = [await producer.send("t", b"%05d" % number * 20, partition=number % 4) for number in range(1_500)]
            for number, delivery in enumerate(sent):
                metadata = await delivery
                assert metadata.offset in (-1, number // 4)
            assert producer.in_flight_bytes == 0
        for partition in range(4):
            assert values(cluster, partition=partition) == [
                b"%05d" % number * 20 for number in range(partition, 1_500, 4)
            ]

    with_cluster(scenario, brokers=3)


def test_a_batch_refused_for_good_fails_alone_and_those_behind_it_go_on_under_a_new_producer_id(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.bytes_max = 3_000
        async with (
            Client(cluster.addresses) as client,
            client.producer(linger_ms=0, compression="none", max_batch_bytes=5_000) as producer,
        ):
            await producer.send_and_wait("t", b"before")
            large = await producer.send("t", b"x" * 4_000)
            behind = [await producer.send("t", b"%d" % number * 2_600) for number in range(4)]
            with pytest.raises(DeliveryFailed) as refused:
                await large
            assert [(await delivery).offset for delivery in behind] == [1, 2, 3, 4]
        assert refused.value.outcome == "failed"
        assert isinstance(refused.value.cause, errors.BatchTooLarge)
        assert len({producer_id for _, producer_id, _, _ in cluster.seen}) == 2
        assert values(cluster) == [b"before", *(b"%d" % number * 2_600 for number in range(4))]

    with_cluster(scenario)


async def sent_one_by_one(producer: Any, count: int, partition: int) -> list[Any]:
    """Each leaves its batch behind before the next one comes: nothing lingers."""
    deliveries = []
    for number in range(count):
        deliveries.append(await producer.send("t", b"%d" % number, partition=partition))
        for _ in range(5):
            await asyncio.sleep(0)
    return deliveries


def test_small_batches_wait_for_an_answer_while_some_are_under_way_and_then_go_together(
    with_cluster: WithCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "ANSWER_SOON_S", 60.0)

    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"first")
            cluster.seen.clear()
            cluster.answering.clear()
            deliveries = await sent_one_by_one(producer, 40, partition=0)
            cluster.answering.set()
            assert [(await delivery).offset for delivery in deliveries] == list(range(1, 41))
        assert len(cluster.seen) <= sender.SMALL_REQUESTS_MAX + 2, "one message for a record, or nearly so"

    with_cluster(scenario)


def test_a_partition_that_gives_no_answer_holds_up_no_other(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        cluster.fault = lambda broker_id, entry, header: "append, then silent" if entry.partition == 0 else None
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"first", partition=1)
            stuck = []
            for _ in range(sender.SMALL_REQUESTS_MAX):
                cluster.produced.clear()
                stuck.append(await producer.send("t", b"x", partition=0))
                await cluster.produced.wait()
            healthy = await asyncio.wait_for(producer.send_and_wait("t", b"y", partition=1), 5)
            assert healthy.offset == 1
            cluster.fault = lambda broker_id, entry, header: None
            lane = producer._topics["t"].lanes[0]
            lane.abandon()  # what the sweep does when an answer is overdue
            producer._sender.wake(lane)
            assert [(await delivery).offset for delivery in stuck] == list(range(sender.SMALL_REQUESTS_MAX))

    with_cluster(scenario)


def test_flush_names_every_record_that_nobody_was_told_of(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=1_000) as producer:
            cluster.fault = lambda *_: "CORRUPT_BATCH"
            awaited = await producer.send("t", b"first")
            for number in range(4):
                await producer.send("t", b"v", key=b"key %d" % number)
            with pytest.raises(DeliveryErrors) as failed:
                await producer.flush()
            assert failed.value.count == 5
            assert "5 for t-0 (not appended: told to say CORRUPT_BATCH" in str(failed.value)
            assert "value 'first', key 'key 0', key 'key 1', ..." in str(failed.value)
            with pytest.raises(DeliveryFailed):
                await awaited
            await producer.flush()  # told once

    with_cluster(scenario)


def test_a_failure_that_was_awaited_is_not_told_again_by_flush(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = lambda *_: "INVALID_RECORD"
        async with Client(cluster.addresses) as client, client.producer() as producer:
            with pytest.raises(DeliveryFailed):
                await producer.send_and_wait("t", b"x")
            await producer.flush()

    with_cluster(scenario)


def test_flush_that_runs_out_of_time_says_what_is_still_under_way(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = lambda *_: "append, then silent"
        async with Client(cluster.addresses) as client:
            producer = client.producer()
            await producer.send("t", b"x")
            with pytest.raises(DeliveryErrors, match=r"1 for t-0 \(outcome unknown: still under way after 0\.05 s"):
                await producer.flush(timeout=0.05)
            await producer.close(flush=False)

    with_cluster(scenario)


def test_a_record_given_up_without_an_answer_takes_all_later_ones_with_it_and_the_next_has_a_new_producer_id(
    with_cluster: WithCluster,
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = lambda *_: "append, then silent"
        async with Client(cluster.addresses, timeout=0.3) as client, client.producer(linger_ms=0) as producer:
            first = await producer.send("t", b"a")
            await cluster.produced.wait()
            second = await producer.send("t", b"b")
            for delivery in (first, second):
                with pytest.raises(DeliveryFailed) as failed:
                    await delivery
            assert failed.value.outcome == "unknown"
            cluster.fault = lambda *_: None
            await producer.send_and_wait("t", b"c")
        ids = [producer_id for _, producer_id, _, _ in cluster.seen]
        assert ids[0] != ids[-1]
        assert cluster.seen[-1][2:] == (0, 0)
        assert values(cluster)[-1] == b"c"

    with_cluster(scenario)


def test_send_waits_for_room_and_all_room_is_given_back(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with (
            Client(cluster.addresses) as client,
            client.producer(linger_ms=1, max_in_flight_bytes=10_000) as producer,
        ):
            most = 0
            for _ in range(500):
                await producer.send("t", b"x" * 968)
                most = max(most, producer.in_flight_bytes)
            await producer.send_many("t", [b"y" * 968] * 500)
            await producer.flush()
            assert most == 10_000
            assert producer.in_flight_bytes == 0
        assert len(values(cluster)) == 1_000

    with_cluster(scenario)


@pytest.mark.parametrize("shape", [lambda value: value, NewRecord])
def test_records_that_waited_for_room_go_to_the_topic_that_has_the_name_by_then(
    with_cluster: WithCluster, shape: Callable[[bytes], Any]
) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        old = cluster.topic(partitions=2)
        async with Client(cluster.addresses) as client, client.producer(max_in_flight_bytes=300_000) as producer:
            cluster.answering.clear()
            both = [shape(bytes(200_000)), shape(b"x" * 200_000)]
            sending = asyncio.ensure_future(producer.send_many("t", both, partition=0))
            refused = asyncio.ensure_future(producer.send_many("t", both[1:], partition=1))
            await cluster.produced.wait()
            cluster.topic()
            await client._metadata.refresh("t")
            producer._topic_gone(old.topic_id)  # as another lane may have found
            cluster.answering.set()
            assert [told.count for told in await (await sending)] == [1, 1]
            with pytest.raises(errors.UnknownPartition):
                await refused
            assert producer.in_flight_bytes == 0
        assert values(cluster) == [b"x" * 200_000]

    with_cluster(scenario)


def test_send_many_takes_records_of_any_shape_and_tells_the_ranges_they_went_to(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer() as producer:
            sent = await producer.send_many(
                "t", [b"a", (b"k", b"b"), NewRecord(b"c", headers={"h": None}, timestamp_ms=5), NewRecord(None, b"t")]
            )
            (told,) = await sent
            assert (told.base_offset, told.count, len(sent)) == (0, 4, 4)
        records = cluster.topics["t"].partitions[0].records()
        assert [(record.key, record.value) for record in records] == [
            (None, b"a"),
            (b"k", b"b"),
            (None, b"c"),
            (b"t", None),
        ]
        assert records[2].timestamp_ms == 5

    with_cluster(scenario)


def test_send_many_sends_nothing_if_one_record_cannot_be_sent(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(max_batch_bytes=1024) as producer:
            bad: list[tuple[Any, type[errors.LograftError]]] = [
                ([b"a", "text"], errors.InvalidRecord),
                ([b"a", b"x" * 2_000], errors.BatchTooLarge),
                ([b"a", (b"k", b"v", b"?")], errors.InvalidRecord),
                ([b"a", NewRecord(b"v", headers={"h": "text"})], errors.InvalidRecord),  # type: ignore[dict-item]
                ([b"a", NewRecord(b"v", timestamp_ms=-1)], errors.InvalidRecord),
            ]
            for records, kind in bad:
                with pytest.raises(kind):
                    await producer.send_many("t", records)
            await producer.flush()
        assert values(cluster) == []

    with_cluster(scenario)


def test_bad_records_and_places_are_refused_at_the_call(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(max_batch_bytes=1024) as producer:
            with pytest.raises(errors.InvalidRecord, match=r"bytes or None, not str: encode it first"):
                await producer.send("t", "text")  # type: ignore[arg-type]
            with pytest.raises(errors.InvalidRecord):
                await producer.send("t", b"", key=7)  # type: ignore[arg-type]
            with pytest.raises(errors.BatchTooLarge, match="2032 bytes does not fit in a batch of 1024"):
                await producer.send("t", b"x" * 2_000)
            with pytest.raises(errors.UnknownPartition, match="partitions 0 to 0; 3 is none"):
                await producer.send("t", b"x", partition=3)
            with pytest.raises(errors.UnknownTopic, match="there is no topic 'nope'"):
                await producer.send("nope", b"x")
            assert producer.in_flight_bytes == 0

    with_cluster(scenario)


@pytest.mark.parametrize(
    "settings",
    [
        {"acks": "all"},
        {"compression": "lzma"},
        {"linger_ms": -1},
        {"max_batch_bytes": 1},
        {"max_batch_bytes": 64 << 20},
        {"max_in_flight_bytes": 0},
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(with_cluster: WithCluster, settings: dict[str, Any]) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        async with Client(cluster.addresses) as client:
            with pytest.raises(errors.InvalidConfig, match=next(iter(settings))):
                client.producer(**settings)

    with_cluster(scenario)


def test_records_of_a_deleted_topic_fail_and_one_made_anew_gets_the_next(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"old")
            cluster.topic()
            with pytest.raises(DeliveryFailed) as failed:
                await producer.send_and_wait("t", b"between")
            assert failed.value.outcome == "failed"
            assert isinstance(failed.value.cause, errors.UnknownTopicId)
            await producer.send_and_wait("t", b"new")
        assert values(cluster) == [b"new"]

    with_cluster(scenario)


def test_a_leader_that_was_cut_off_from_the_others_is_left_for_the_new_one(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses, timeout=10) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"before")
            client._metadata._last_good = cluster.brokers[0].address
            cluster.isolated = {0}
            cluster.move("t", 0, 1)
            async with asyncio.timeout(5):
                await producer.send_and_wait("t", b"after")

    with_cluster(scenario, brokers=3)


def test_a_broker_that_lags_behind_in_what_exists_loses_no_records(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = faults("UNKNOWN_TOPIC", "UNKNOWN_PARTITION")
        async with Client(cluster.addresses) as client, client.producer() as producer:
            assert (await producer.send_and_wait("t", b"x")).offset == 0

    with_cluster(scenario)


def test_leaving_the_producer_sends_what_still_lingers(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=60_000) as producer:
            await producer.send("t", b"x")
        assert values(cluster) == [b"x"]
        with pytest.raises(errors.InvalidRequest, match="closed"):
            await producer.send("t", b"y")

    with_cluster(scenario)


def test_closing_without_a_flush_settles_what_lingers_and_gives_its_room_back(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            producer = client.producer(linger_ms=60_000)
            delivery = await producer.send("t", b"x")
            await producer.close(flush=False)
            with pytest.raises(DeliveryFailed, match="closed before") as failed:
                await delivery
            assert failed.value.outcome == "failed"
            assert producer.in_flight_bytes == 0

    with_cluster(scenario)


def test_a_record_that_another_task_sends_while_closing_flushes_is_settled_and_told(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        async with Client(cluster.addresses) as client:
            producer = client.producer(linger_ms=60_000)
            cluster.answering.clear()
            in_time = await producer.send("t", b"x", partition=0)
            closing = asyncio.ensure_future(producer.close())
            await cluster.produced.wait()
            too_late = await producer.send("t", b"y", partition=1)
            cluster.answering.set()
            with pytest.raises(DeliveryErrors, match=r"^1 records .* t-1 \(not appended: the producer was closed"):
                await closing
            assert (await in_time).offset == 0
            assert too_late.done
            assert producer.in_flight_bytes == 0

    with_cluster(scenario)


def test_a_record_whose_topic_is_looked_up_while_the_producer_closes_is_refused(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client:
            producer = client.producer()
            sending = asyncio.ensure_future(producer.send("t", b"x"))
            await asyncio.sleep(0)
            await producer.close()
            with pytest.raises(errors.InvalidRequest, match="closed"):
                await sending

    with_cluster(scenario)


def test_closing_tells_of_records_that_linger_for_a_topic_forgotten_meanwhile(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic(partitions=2)
        async with Client(cluster.addresses) as client:
            producer = client.producer(linger_ms=60_000, max_batch_bytes=1024)
            lingers = await producer.send("t", b"x", partition=1)
            del cluster.topics["t"]
            goes_at_once = await producer.send("t", bytes(600), partition=0)
            await producer.send("t", bytes(600), partition=0)
            with pytest.raises(DeliveryFailed):
                await goes_at_once
            assert not lingers.done
            with pytest.raises(DeliveryErrors) as failed:
                await producer.close()
            assert {failure.partition for failure in failed.value.failures} == {("t", 0), ("t", 1)}
            assert producer.in_flight_bytes == 0

    with_cluster(scenario)


def test_without_idempotence_batches_carry_no_producer_and_keep_their_order(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        cluster.fault = faults(None, "NO_LEADER")
        async with (
            Client(cluster.addresses) as client,
            client.producer(idempotent=False, linger_ms=0, max_batch_bytes=1024) as producer,
        ):
            for number in range(20):
                await producer.send("t", b"%02d" % number * 200)
        assert {(producer_id, first_open) for _, producer_id, _, first_open in cluster.seen} == {(-1, None)}
        assert values(cluster) == [b"%02d" % number * 200 for number in range(20)]

    with_cluster(scenario)


def test_a_cancelled_wait_for_a_delivery_disturbs_no_other(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=30) as producer:
            delivery = await producer.send("t", b"x")

            async def wait() -> int:
                return (await delivery).offset

            impatient, patient = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            impatient.cancel()
            assert await patient == 0

    with_cluster(scenario)


def test_new_partitions_are_written_to_once_metadata_tells_of_them(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        topic = cluster.topic()
        async with Client(cluster.addresses) as client, client.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"x")
            topic.partitions.append(type(topic.partitions[0])(leader_id=0))
            await client._metadata.refresh("t")
            assert (await producer.send_and_wait("t", b"y", partition=1)).offset == 0

    with_cluster(scenario)


def test_who_sends_a_record_now_and_then_hears_of_new_partitions_too(with_cluster: WithCluster) -> None:
    async def scenario(cluster: FakeCluster) -> None:
        topic = cluster.topic(partitions=1)
        async with Client(cluster.addresses) as client, client.producer() as producer:
            await producer.send_and_wait("t", b"v", key=b"k")
            topic.partitions += cluster.topic("other", partitions=6).partitions
            producer._sender.sweep()
            assert not producer._sender._busy, "nothing is under way"
            producer._sender._refreshed_at -= 60
            producer._sender.sweep()
            assert producer._sender._refreshing is not None
            await producer._sender._refreshing
            keys = [b"key-%d" % number for number in range(20)]
            sent = [await producer.send_and_wait("t", b"v", key=key) for key in keys]
        assert [told.partition for told in sent] == [partition_for_key(key, 7) for key in keys]

    with_cluster(scenario)
