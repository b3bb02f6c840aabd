"""Brokers die, freeze and come back; what was acknowledged is still there."""

from __future__ import annotations

import threading
import time

import grpc
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Brokers, a_batch, eventually


class SteadyProducer:
    """Sends one record after the other, each to whoever leads, and remembers those that were acknowledged."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._brokers = brokers
        self._topic = topic
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[bytes] = []
        self.longest_silence_s = 0.0

    def __enter__(self) -> SteadyProducer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def has(self, count: int) -> bool:
        return len(self.acknowledged) >= count

    def _run(self) -> None:
        last = time.monotonic()
        for number in range(1_000_000):
            value = b"record %d" % number
            while not self._send(a_batch(value, producer_id=99, producer_epoch=0, base_sequence=number), number):
                if self._stopped.is_set():
                    return
            self.acknowledged.append(value)
            self.longest_silence_s = max(self.longest_silence_s, time.monotonic() - last)
            last = time.monotonic()
            if self._stopped.is_set():
                return

    def _send(self, batch: bytes, first_open: int) -> bool:
        for broker in self._brokers.running:
            try:
                if not broker.produce(self._topic, batch, first_open=first_open).error.reason:
                    return True
            except (grpc.RpcError, ValueError):  # ValueError: the channel to a killed broker is closed
                continue
        time.sleep(0.02)
        return False


def test_killing_the_leader_loses_no_acknowledged_record_and_another_one_takes_over(
    brokers: Brokers, topic: str
) -> None:
    leader = brokers.leader_of(topic)
    with SteadyProducer(brokers, topic) as producer:
        eventually(lambda: producer.has(20))
        leader.kill()
        count = len(producer.acknowledged)
        eventually(lambda: producer.has(count + 20))
    successor = brokers.leader_of(topic)
    assert successor is not leader
    assert producer.longest_silence_s < 5
    found = successor.values(topic)
    # A record under way when the producer stopped may be there too, as the last.
    assert found[: len(producer.acknowledged)] == producer.acknowledged
    assert len(found) <= len(producer.acknowledged) + 1


def test_a_broker_that_comes_back_catches_up_and_can_lead(brokers: Brokers, topic: str) -> None:
    follower = next(broker for broker in brokers.all if broker is not brokers.leader_of(topic))
    follower.kill()
    leader = brokers.leader_of(topic)
    for number in range(5):
        assert not leader.produce(topic, a_batch(b"%d" % number)).error.reason
    brokers.start()
    leader.kill()
    successor = brokers.leader_of(topic)
    assert successor is not leader
    assert successor.values(topic) == [b"%d" % number for number in range(5)]


def test_killing_all_brokers_at_once_keeps_everything(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    values = [b"%d" % number for number in range(20)]
    for value in values:
        assert not leader.produce(topic, a_batch(value)).error.reason
    for broker in brokers.all:
        broker.kill()
    brokers.start()
    assert brokers.leader_of(topic).values(topic) == values


def test_a_clean_stop_of_all_brokers_keeps_everything_and_ends_with_exit_code_0(brokers: Brokers, topic: str) -> None:
    assert not brokers.leader_of(topic).produce(topic, a_batch(b"kept")).error.reason
    assert [broker.stop() for broker in brokers.all] == [0, 0, 0]
    brokers.start()
    assert brokers.leader_of(topic).values(topic) == [b"kept"]


def test_a_frozen_leader_is_replaced_and_serves_nothing_when_it_wakes(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    others = [broker for broker in brokers.all if broker is not leader]
    assert not leader.produce(topic, a_batch(b"before")).error.reason

    def successor() -> int | None:
        metadata = others[0].records.Metadata(pb.MetadataRequest(topics=[topic]), timeout=5)
        leader_id: int = metadata.topics[0].partitions[0].leader_id
        return leader_id + 1 if leader_id not in (-1, leader.broker_id) else None

    query = pb.ListOffsetsRequest.Query(topic=topic, bound=pb.ListOffsetsRequest.BOUND_END)
    asked = pb.ListOffsetsRequest(queries=[query])
    old_channel = leader.records
    leader.pause()
    # They wait at the frozen broker's door: the first that it answers when it wakes.
    waiting = [old_channel.ListOffsets.future(asked, timeout=30) for _ in range(10)]
    try:
        new_leader = brokers[eventually(successor) - 1]
        assert eventually(lambda: not new_leader.produce(topic, a_batch(b"after")).error.reason)
    finally:
        leader.resume()
    for call in waiting:
        (result,) = call.result().results
        assert result.error.reason in ("NOT_LEADER", "NO_LEADER") or result.offset == 2, result
    assert brokers.leader_of(topic).values(topic) == [b"before", b"after"]


def test_without_a_majority_nothing_is_acknowledged_and_with_it_again_all_goes_on(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    for broker in brokers.all:
        if broker is not leader:
            broker.kill()
    result = leader.produce(topic, a_batch(b"perhaps"))
    assert result.error.reason in ("UNKNOWN_OUTCOME", "NO_LEADER", "NOT_LEADER")
    assert result.error.retriable
    brokers.start()
    answering = brokers.leader_of(topic)
    assert eventually(lambda: not answering.produce(topic, a_batch(b"surely")).error.reason)
    assert answering.values(topic) in ([b"perhaps", b"surely"], [b"surely"])
