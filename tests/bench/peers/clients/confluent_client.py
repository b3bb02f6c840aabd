"""Kafka by confluent-kafka (librdkafka): acks=all and idempotent, as its documentation has it for safe delivery."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from ..work import IN_FLIGHT_BYTES, PARTITIONS, Arrivals, Order, Sampled, Supply, pace, ready, values_of

FLUSH_SECONDS_MAX = 120.0


def _producer(order: Order, **settings: Any) -> Producer:
    return Producer(
        {
            "bootstrap.servers": order.servers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "none",
            "queue.buffering.max.kbytes": IN_FLIGHT_BYTES >> 10,
            "queue.buffering.max.messages": 1_000_000,  # the bound is to be bytes, as with the others
            "socket.nagle.disable": True,
            **settings,
        }
    )


class Failures:
    def __init__(self) -> None:
        self.first: str | None = None

    def take(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self.first is None:
            self.first = str(error)

    def check(self, left: int) -> None:
        if self.first is not None or left:
            raise SystemExit(f"not delivered: {self.first or f'{left} records within {FLUSH_SECONDS_MAX:g} s'}")


def produce(order: Order) -> dict[str, float]:
    failures = Failures()
    # Delivery reports of failed records alone: the quickest way to know that none was lost.
    producer = _producer(order, **{"delivery.report.only.error": True, "on_delivery": failures.take})
    supply = Supply(order)
    producer.produce(order.topic, supply.warm_up)
    failures.check(producer.flush(FLUSH_SECONDS_MAX))
    supply.start()
    while (chunk := supply.next()) is not None:
        (_send_batch if order.way == "produce_batch" else _send_each)(producer, order.topic, chunk)
        producer.poll(0)
    left = producer.flush(FLUSH_SECONDS_MAX)
    result = supply.produced()
    failures.check(left)
    return result


def _send_each(producer: Producer, topic: str, chunk: list[bytes]) -> None:
    for value in chunk:
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.005)


def _send_batch(producer: Producer, topic: str, chunk: list[bytes]) -> None:
    left = [{"value": value} for value in chunk]
    while True:
        try:
            taken = producer.produce_batch(topic, left)
        except BufferError:
            taken = 0
        if taken == len(left):
            return
        if taken:
            left = [{"value": each["value"]} for each in left if "_error" in each]
        producer.poll(0.005)


def _consumer(order: Order, **settings: Any) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": order.servers,
            "group.id": f"bench-{order.topic}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "socket.nagle.disable": True,
            # By default it sleeps for a second once it holds 64 MB or 100,000 records, and is measured by that.
            "fetch.queue.backoff.ms": 10,
            **settings,
        }
    )
    consumer.assign([TopicPartition(order.topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    return consumer


def read(order: Order) -> dict[str, float]:
    began = time.monotonic()
    consumer = _consumer(order)
    records = size = 0
    while records < order.records:
        found = consumer.consume(10_000, 1.0 if not records else 0.05)
        for message in found:
            if message.error() is not None:
                raise SystemExit(str(message.error()))
            size += len(message.value() or b"")
        records += len(found)
    seconds = time.monotonic() - began
    consumer.close()
    return {"records": records, "bytes": size, "seconds": seconds}


def one_by_one(order: Order) -> dict[str, float]:
    done: list[KafkaError | None] = []
    producer = _producer(order, **{"linger.ms": 0, "on_delivery": lambda error, message: done.append(error)})
    values = values_of(order.record_bytes, 100)
    sampled = Sampled(order.seconds)
    while sampled.goes_on():
        for value in values:
            began = time.monotonic()
            producer.produce(order.topic, value)
            while not done:
                producer.poll(1.0)
            sampled.add(began)
            if (error := done.pop()) is not None:
                raise SystemExit(str(error))
    return sampled.result()


def send_paced(order: Order) -> dict[str, float]:
    failures = Failures()
    producer = _producer(order, **{"linger.ms": 0, "delivery.report.only.error": True, "on_delivery": failures.take})
    pace(order, lambda value: producer.produce(order.topic, value))
    failures.check(producer.flush(FLUSH_SECONDS_MAX))
    return {}


def listen(order: Order) -> dict[str, float]:
    consumer = _consumer(order)
    arrivals = Arrivals(order)
    consumer.poll(0.5)
    ready()
    while not arrivals.complete:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            arrivals.take(message.value() or b"")
    consumer.close()
    return arrivals.result()
