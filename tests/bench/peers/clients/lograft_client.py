"""lograft by its own Python client."""

from __future__ import annotations

import asyncio
import time

import lograft
import uvloop

from ..work import IN_FLIGHT_BYTES, Arrivals, Order, Sampled, Supply, pace_in_thread, ready, values_of


def produce(order: Order) -> dict[str, float]:
    return uvloop.run(_produce(order))


async def _produce(order: Order) -> dict[str, float]:
    supply = Supply(order)
    topic = order.topic
    async with (
        lograft.Client(order.servers) as client,
        client.producer(compression="none", max_in_flight_bytes=IN_FLIGHT_BYTES) as producer,
    ):
        await producer.send_and_wait(topic, supply.warm_up)
        supply.start()
        while (chunk := supply.next()) is not None:
            if order.way == "send_many":
                await producer.send_many(topic, chunk)
            else:
                for value in chunk:
                    await producer.send(topic, value)
        await producer.flush()
        return supply.produced()


def read(order: Order) -> dict[str, float]:
    return uvloop.run(_read(order))


async def _read(order: Order) -> dict[str, float]:
    records = size = 0
    async with lograft.Client(order.servers) as client:
        began = time.monotonic()
        async with client.consumer(order.topic, auto_offset_reset="earliest", max_poll_records=10_000) as consumer:
            while records < order.records:
                for found in (await consumer.getmany(timeout_ms=5000)).values():
                    records += len(found)
                    for record in found:
                        size += len(record.value or b"")
            seconds = time.monotonic() - began
    return {"records": records, "bytes": size, "seconds": seconds}


def one_by_one(order: Order) -> dict[str, float]:
    return uvloop.run(_one_by_one(order))


async def _one_by_one(order: Order) -> dict[str, float]:
    values = values_of(order.record_bytes, 100)
    async with lograft.Client(order.servers) as client, client.producer(compression="none", linger_ms=0) as producer:
        sampled = Sampled(order.seconds)
        while sampled.goes_on():
            for value in values:
                began = time.monotonic()
                await producer.send_and_wait(order.topic, value)
                sampled.add(began)
        return sampled.result()


def send_paced(order: Order) -> dict[str, float]:
    return uvloop.run(_send_paced(order))


async def _send_paced(order: Order) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[object]] = set()
    async with lograft.Client(order.servers) as client, client.producer(compression="none", linger_ms=0) as producer:

        def send(value: bytes) -> None:
            task = loop.create_task(producer.send(order.topic, value))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        await asyncio.to_thread(pace_in_thread(order, lambda value: loop.call_soon_threadsafe(send, value)).join)
        await asyncio.gather(*under_way)
        await producer.flush()
    return {}


def listen(order: Order) -> dict[str, float]:
    return uvloop.run(_listen(order))


async def _listen(order: Order) -> dict[str, float]:
    async with (
        lograft.Client(order.servers) as client,
        client.consumer(order.topic, auto_offset_reset="earliest") as consumer,
    ):
        arrivals = Arrivals(order)
        await consumer.getmany(timeout_ms=500)
        ready()
        while not arrivals.complete:
            for found in (await consumer.getmany(timeout_ms=1000)).values():
                for record in found:
                    arrivals.take(record.value or b"")
        return arrivals.result()
