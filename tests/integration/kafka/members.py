"""Consumers of confluent-kafka in threads of their own, and what native clients see of their groups."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
from lograft.v1 import common_pb2
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.brokers import Brokers
from tests.integration.kafka.clients import confluent_kafka


def stored(brokers: Brokers, group: str, topic: str, partitions: int) -> list[int]:
    """What native clients see of a group's offsets."""
    wanted = [common_pb2.TopicPartition(topic=topic, partition=number) for number in range(partitions)]
    request = groups_pb.FetchOffsetsRequest(group=group, partitions=wanted)
    for broker in brokers.running:
        try:
            return [one.offset for one in broker.groups.FetchOffsets(request, timeout=5).results]
        except grpc.RpcError:
            continue
    return []  # nobody coordinates just now


def coordinator_of(brokers: Brokers, group: str) -> int:
    """Its broker's id."""
    asked = groups_pb.FindCoordinatorRequest(group=group)
    return int(brokers.running[0].groups.FindCoordinator(asked, timeout=5).broker_id)


class Member:
    """A consumer of confluent-kafka in a thread of its own."""

    def __init__(self, bootstrap: str, group: str, topic: str, **more: Any) -> None:
        self.values: list[bytes] = []
        self.owned: set[int] = set()
        self.errors: list[Any] = []
        self.events: list[tuple[float, str, bytes]] = []
        """When which value was read, and when its offset was stored."""
        self._stop = threading.Event()
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        if more.get("group.protocol") != "consumer":
            settings |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
        self._consumer = confluent_kafka().Consumer(settings | more)
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _on_assign(self, _: Any, places: list[Any]) -> None:
        self.owned |= {place.partition for place in places}

    def _on_revoke(self, _: Any, places: list[Any]) -> None:
        self.owned -= {place.partition for place in places}

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.errors.append(message.error())
                continue
            self.values.append(message.value())
            self.events.append((time.monotonic(), "read", message.value()))
            try:
                self._consumer.commit(message, asynchronous=False)
                self.events.append((time.monotonic(), "stored", message.value()))
            except confluent_kafka().KafkaException as error:
                self.errors.append(error)
        self._consumer.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
