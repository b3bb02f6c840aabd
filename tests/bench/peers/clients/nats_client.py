"""NATS JetStream by nats-py: one stream, each message acknowledged by the stream's leader once a majority has it."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from ..work import Arrivals, Order, Sampled, Supply, pace_in_thread, ready, values_of

WINDOW = 4000
"""nats-py's default of acknowledgements waited for."""


async def _connect(order: Order) -> tuple[Client, JetStreamContext]:
    connection = await nats.connect(order.servers.split(","))
    return connection, connection.jetstream(publish_async_max_pending=WINDOW, timeout=30)


def produce(order: Order) -> dict[str, float]:
    return uvloop.run(_produce(order))


async def _produce(order: Order) -> dict[str, float]:
    connection, stream = await _connect(order)
    supply = Supply(order)
    await stream.publish(order.topic, supply.warm_up)
    unsettled: deque[asyncio.Future[object]] = deque()
    supply.start()
    while (chunk := supply.next()) is not None:
        for number, value in enumerate(chunk):
            unsettled.append(await stream.publish_async(order.topic, value, wait_stall=30.0))
            while unsettled and unsettled[0].done():
                unsettled.popleft().result()
            if number % 100 == 0:
                await asyncio.sleep(0)
    await asyncio.gather(*unsettled)
    result = supply.produced()
    await connection.close()
    return result


def read(order: Order) -> dict[str, float]:
    return uvloop.run(_read(order))


async def _read(order: Order) -> dict[str, float]:
    connection, stream = await _connect(order)
    records = size = 0
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        nonlocal records, size
        records += 1
        size += len(message.data)
        if records == order.records:
            done.set()

    began = time.monotonic()
    await stream.subscribe(order.topic, ordered_consumer=True, cb=take)
    await asyncio.wait_for(done.wait(), 120)
    seconds = time.monotonic() - began
    await connection.close()
    return {"records": records, "bytes": size, "seconds": seconds}


def one_by_one(order: Order) -> dict[str, float]:
    return uvloop.run(_one_by_one(order))


async def _one_by_one(order: Order) -> dict[str, float]:
    connection, stream = await _connect(order)
    values = values_of(order.record_bytes, 100)
    sampled = Sampled(order.seconds)
    while sampled.goes_on():
        for value in values:
            began = time.monotonic()
            await stream.publish(order.topic, value)
            sampled.add(began)
    await connection.close()
    return sampled.result()


def send_paced(order: Order) -> dict[str, float]:
    return uvloop.run(_send_paced(order))


async def _send_paced(order: Order) -> dict[str, float]:
    connection, stream = await _connect(order)
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[object]] = set()

    def send(value: bytes) -> None:
        task = loop.create_task(stream.publish(order.topic, value))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    await asyncio.to_thread(pace_in_thread(order, lambda value: loop.call_soon_threadsafe(send, value)).join)
    await asyncio.gather(*under_way)
    await connection.close()
    return {}


def listen(order: Order) -> dict[str, float]:
    return uvloop.run(_listen(order))


async def _listen(order: Order) -> dict[str, float]:
    connection, stream = await _connect(order)
    arrivals = Arrivals(order)

    async def take(message: Msg) -> None:
        arrivals.take(message.data)

    await stream.subscribe(order.topic, ordered_consumer=True, cb=take)
    await asyncio.sleep(0.5)
    ready()
    while not arrivals.complete:  # noqa: ASYNC110  # it is a look at the clock too
        await asyncio.sleep(0.05)
    await connection.close()
    return arrivals.result()
