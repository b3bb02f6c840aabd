"""RabbitMQ streams by rstream: batches of messages, each confirmed once a majority of the stream's replicas has it."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import uvloop
from rstream import (
    AMQPMessage,
    ConfirmationStatus,
    Consumer,
    ConsumerOffsetSpecification,
    MessageContext,
    OffsetType,
    Producer,
)

from ..work import Arrivals, Order, Sampled, Supply, pace_in_thread, ready, values_of

UNCONFIRMED_MAX = 10_000
"""As RabbitMQ's Java client has it by default; rstream has no bound of its own."""
BATCH_BYTES = 256 << 10
CREDIT = 10
"""Chunks asked for ahead: rstream's default."""


def _place(order: Order) -> dict[str, object]:
    first = urlsplit(order.servers.split(",")[0])
    return {"host": first.hostname, "port": first.port, "username": "guest", "password": "guest"}


class Window:
    """How many messages are unconfirmed; sending waits while they are too many."""

    def __init__(self) -> None:
        self._open = 0
        self._refused = 0
        self._changed = asyncio.Event()

    async def take(self, count: int) -> None:
        await self._at_most(UNCONFIRMED_MAX - count)
        self._open += count

    def confirmed(self, status: ConfirmationStatus) -> None:
        self._open -= 1
        self._refused += not status.is_confirmed
        self._changed.set()

    async def settle(self) -> None:
        await self._at_most(0)
        if self._refused:
            raise SystemExit(f"{self._refused} messages were not confirmed")

    async def _at_most(self, count: int) -> None:
        while self._open > count:
            self._changed.clear()
            await self._changed.wait()


def produce(order: Order) -> dict[str, float]:
    return uvloop.run(_produce(order))


async def _produce(order: Order) -> dict[str, float]:
    supply, window = Supply(order), Window()
    count_max = max(1, min(1000, BATCH_BYTES // order.record_bytes))
    async with Producer(**_place(order)) as producer:
        await producer.send_wait(order.topic, supply.warm_up)
        supply.start()
        while (chunk := supply.next()) is not None:
            for start in range(0, len(chunk), count_max):
                batch = chunk[start : start + count_max]
                await window.take(len(batch))
                await producer.send_batch(order.topic, batch, on_publish_confirm=window.confirmed)
        await window.settle()
        return supply.produced()


def _whole(data: bytes) -> bytes:
    return data


FIRST = ConsumerOffsetSpecification(OffsetType.FIRST, None)


def read(order: Order) -> dict[str, float]:
    return uvloop.run(_read(order))


async def _read(order: Order) -> dict[str, float]:
    records = size = 0
    done = asyncio.Event()

    def take(message: AMQPMessage, context: MessageContext) -> None:
        nonlocal records, size
        records += 1
        size += len(message)  # type: ignore[arg-type]  # bytes, by our decoder
        if records == order.records:
            done.set()

    began = time.monotonic()
    async with Consumer(**_place(order)) as consumer:
        await consumer.subscribe(order.topic, take, decoder=_whole, offset_specification=FIRST, initial_credit=CREDIT)
        await asyncio.wait_for(done.wait(), 120)
        seconds = time.monotonic() - began
    return {"records": records, "bytes": size, "seconds": seconds}


def one_by_one(order: Order) -> dict[str, float]:
    return uvloop.run(_one_by_one(order))


async def _one_by_one(order: Order) -> dict[str, float]:
    values = values_of(order.record_bytes, 100)
    async with Producer(**_place(order)) as producer:
        await producer.send_wait(order.topic, values[0])
        sampled = Sampled(order.seconds)
        while sampled.goes_on():
            for value in values:
                began = time.monotonic()
                await producer.send_wait(order.topic, value)
                sampled.add(began)
        return sampled.result()


def send_paced(order: Order) -> dict[str, float]:
    return uvloop.run(_send_paced(order))


async def _send_paced(order: Order) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[object]] = set()
    async with Producer(**_place(order)) as producer:

        def send(value: bytes) -> None:
            task = loop.create_task(producer.send_wait(order.topic, value))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        await asyncio.to_thread(pace_in_thread(order, lambda value: loop.call_soon_threadsafe(send, value)).join)
        await asyncio.gather(*under_way)
    return {}


def listen(order: Order) -> dict[str, float]:
    return uvloop.run(_listen(order))


async def _listen(order: Order) -> dict[str, float]:
    arrivals = Arrivals(order)

    def take(message: AMQPMessage, context: MessageContext) -> None:
        arrivals.take(message)  # type: ignore[arg-type]  # bytes, by our decoder

    async with Consumer(**_place(order)) as consumer:
        await consumer.subscribe(order.topic, take, decoder=_whole, offset_specification=FIRST, initial_credit=CREDIT)
        await asyncio.sleep(0.5)
        ready()
        while not arrivals.complete:  # noqa: ASYNC110  # it is a look at the clock too
            await asyncio.sleep(0.05)
    return arrivals.result()
