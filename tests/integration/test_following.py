"""A reader at the end of a partition has what is committed pushed to it; nothing of that is lost when things break."""

from __future__ import annotations

import asyncio
import time

import lograft
from lograft.client.tail import SILENCE_S

from tests.integration.brokers import Brokers


async def is_followed(consumer: lograft.Consumer) -> None:
    """Return once all that is read is pushed."""
    for _ in range(500):
        tails = [fetcher._tail for fetcher in consumer._fetchers.values()]
        if tails and all(tail is not None and tail.is_open and list(tail.followed) for tail in tails):
            return
        await consumer.getmany(timeout_ms=20)
    raise TimeoutError("nothing is pushed")


async def read_through(consumer: lograft.Consumer, value: bytes) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(60):
        while value not in found:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [record.value for record in records if record.value is not None]
    return found


def addresses_of(brokers: Brokers) -> str:
    return ",".join(broker.address for broker in brokers.all)


def test_a_reader_that_is_pushed_to_goes_on_when_its_leader_stands_still_and_misses_nothing(
    brokers: Brokers, topic: str
) -> None:
    leader = brokers.leader_of(topic)

    async def scene() -> None:
        async with (
            lograft.Client(addresses_of(brokers)) as client,
            client.consumer(topic) as consumer,
            client.producer(linger_ms=0) as producer,
        ):
            await consumer.getmany(timeout_ms=500)
            await is_followed(consumer)
            sent = [b"%d" % number for number in range(20)]
            for value in sent:
                await producer.send_and_wait(topic, value)
            assert await read_through(consumer, sent[-1]) == sent
            leader.pause()
            try:
                began = time.monotonic()
                await producer.send_and_wait(topic, b"after")
                assert await read_through(consumer, b"after") == [b"after"]
                assert time.monotonic() - began < SILENCE_S + 10
            finally:
                leader.resume()
            await producer.send_and_wait(topic, b"last")
            assert await read_through(consumer, b"last") == [b"last"]
            await is_followed(consumer)

    asyncio.run(scene())


def test_a_reader_goes_where_it_seeks_pauses_and_resumes_while_it_is_pushed_to(brokers: Brokers, topic: str) -> None:
    partition = lograft.TopicPartition(topic, 0)

    async def scene() -> None:
        async with (
            lograft.Client(addresses_of(brokers)) as client,
            client.consumer(topic) as consumer,
            client.producer(linger_ms=0) as producer,
        ):
            await consumer.getmany(timeout_ms=500)
            await is_followed(consumer)
            sent = [b"%d" % number for number in range(10)]
            for value in sent:
                await producer.send_and_wait(topic, value)
            consumer.seek(partition, 4)
            assert await read_through(consumer, sent[-1]) == sent[4:]
            consumer.pause(partition)
            await producer.send_and_wait(topic, b"paused")
            assert await consumer.getmany(timeout_ms=300) == {}
            consumer.resume(partition)
            assert await read_through(consumer, b"paused") == [b"paused"]
            await is_followed(consumer)

    asyncio.run(scene())


def test_a_slow_reader_is_pushed_no_more_than_it_granted_and_gets_all_of_it_in_the_end(
    brokers: Brokers, topic: str
) -> None:
    prefetch = 64 << 10

    async def scene() -> None:
        async with (
            lograft.Client(addresses_of(brokers)) as client,
            client.consumer(topic, prefetch_bytes=prefetch) as consumer,
            client.producer(linger_ms=0, compression="none") as producer,
        ):
            await consumer.getmany(timeout_ms=500)
            await is_followed(consumer)
            sent = [b"%05d" % number + bytes(5000) for number in range(100)]
            for value in sent:
                await producer.send_and_wait(topic, value)
            await asyncio.sleep(0.3)
            (position,) = consumer._positions.values()
            assert position.buffered_bytes < 2 * prefetch
            assert await read_through(consumer, sent[-1]) == sent

    asyncio.run(scene())
