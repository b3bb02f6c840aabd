"""Unmodified clients of Kafka, behind one face: produce values to a topic, read partitions from their start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Read = list[tuple[int, int, bytes]]
"""Partition, offset and value of each record, in the order in which they came."""


def confluent_kafka() -> Any:
    return pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: make venv")


def kafka_python() -> Any:
    return pytest.importorskip("kafka", reason="kafka-python is not installed: make venv")


class Confluent:
    """librdkafka."""

    @staticmethod
    def produce(bootstrap: str, topic: str, values: Iterable[bytes], **options: Any) -> list[int]:
        settings = {"bootstrap.servers": bootstrap, "linger.ms": 5}
        settings["enable.idempotence"] = options.get("idempotent", False)
        settings["compression.type"] = options.get("compression", "none")
        settings["acks"] = options.get("acks", -1)
        producer = confluent_kafka().Producer(settings)
        offsets: list[int] = []
        errors: list[Any] = []

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                offsets.append(message.offset())
            else:
                errors.append(error)

        for value in values:
            producer.produce(topic, value, partition=options.get("partition", 0), on_delivery=delivered)
            producer.poll(0)
        assert producer.flush(30) == 0 and not errors, errors
        return offsets

    @staticmethod
    def read(bootstrap: str, topic: str, partitions: Iterable[int], count: int) -> Read:
        client = confluent_kafka()
        consumer = client.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
        consumer.assign([client.TopicPartition(topic, number, 0) for number in partitions])
        found: Read = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.5):
                assert message.error() is None, message.error()
                found.append((message.partition(), message.offset(), message.value()))
        consumer.close()
        return found


class KafkaPython:
    @staticmethod
    def produce(bootstrap: str, topic: str, values: Iterable[bytes], **options: Any) -> list[int]:
        compression = options.get("compression", "none")
        producer = kafka_python().KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks={-1: "all"}.get(options.get("acks", -1), options.get("acks")),
            enable_idempotence=options.get("idempotent", False),
            compression_type=None if compression == "none" else compression,
            linger_ms=5,
        )
        sent = [producer.send(topic, value, partition=options.get("partition", 0)) for value in values]
        producer.flush(30)
        offsets = [one.get(30).offset for one in sent]
        producer.close()
        return offsets

    @staticmethod
    def read(bootstrap: str, topic: str, partitions: Iterable[int], count: int) -> Read:
        client = kafka_python()
        consumer = client.KafkaConsumer(
            bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, consumer_timeout_ms=200
        )
        places = [client.TopicPartition(topic, number) for number in partitions]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: Read = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            found += [(one.partition, one.offset, one.value) for one in consumer]
        consumer.close()
        return found


class Aiokafka:
    @staticmethod
    def produce(bootstrap: str, topic: str, values: Iterable[bytes], **options: Any) -> list[int]:
        from aiokafka import AIOKafkaProducer

        compression = options.get("compression", "none")

        async def produce() -> list[int]:
            acks = options.get("acks", -1)
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all" if acks == -1 else acks,
                enable_idempotence=options.get("idempotent", False),
                compression_type=None if compression == "none" else compression,
            )
            await producer.start()
            try:
                sent = [await producer.send(topic, value, partition=options.get("partition", 0)) for value in values]
                return [-1 if one is None else one.offset for one in await asyncio.gather(*sent)]
            finally:
                await producer.stop()

        return asyncio.run(produce())

    @staticmethod
    def read(bootstrap: str, topic: str, partitions: Iterable[int], count: int) -> Read:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def read() -> Read:
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
            await consumer.start()
            found: Read = []
            try:
                places = [TopicPartition(topic, number) for number in partitions]
                consumer.assign(places)
                await consumer.seek_to_beginning(*places)
                deadline = time.monotonic() + 30
                while len(found) < count and time.monotonic() < deadline:
                    got = await consumer.getmany(timeout_ms=500)
                    found += [(one.partition, one.offset, one.value) for some in got.values() for one in some]
            finally:
                await consumer.stop()
            return found

        return asyncio.run(read())


CLIENTS = {"confluent-kafka": Confluent, "kafka-python": KafkaPython, "aiokafka": Aiokafka}
every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())


def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found
