"""A topic that keeps the newest record of each key: real brokers, whose compaction runs in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.proto.record_batch import NewRecord, decode, encode, split

from .brokers import Broker, Brokers, eventually

CONFIG = {
    "cleanup.policy": "compact",
    "delete.retention.ms": "0",
    "segment.bytes.max": "65536",
    "batch.bytes.max": "65536",
}


@pytest.fixture
def compacting(tmp_path: Path) -> Iterator[Brokers]:
    brokers = Brokers(tmp_path, settings="[compaction]\ncheck_interval_ms = 200\n")
    brokers.start()
    yield brokers
    brokers.stop()


def put(leader: Broker, topic: str, records: list[tuple[bytes, bytes | None]]) -> None:
    batch = encode([NewRecord(1_700_000_000_000, key, value) for key, value in records])
    result = leader.produce(topic, batch)
    assert not result.error.reason, result.error


def read_all(leader: Broker, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    found: list[tuple[bytes | None, bytes | None]] = []
    offset = 0
    while True:
        answer = leader.fetch(topic, offset)
        assert not answer.error.reason, answer.error
        found += [(record.key, record.value) for _, batch in split(answer.batches) for record in decode(batch)]
        if answer.next_offset >= answer.committed_offset:
            return found
        offset = answer.next_offset


def test_every_replica_shrinks_to_the_newest_of_each_key_and_a_consumer_reads_these(compacting: Brokers) -> None:
    topic = "keyed"
    topic_id = compacting.create_topic(topic, config=CONFIG).topic_id
    leader = compacting.leader_of(topic)
    for number in range(40):
        put(leader, topic, [(b"key %d" % key, b"%d " % number + b"." * 1000) for key in range(20)])
    put(leader, topic, [(b"key 0", None)])
    put(leader, topic, [(b"last", b"." * 30_000)])
    put(leader, topic, [(b"last", b"." * 40_000)])

    def stored_bytes(broker: Broker) -> int:
        directory = broker.data_directory / "partitions" / f"{topic_id}-0"
        return sum(path.stat().st_size for path in directory.glob("*.log"))

    eventually(lambda: all(stored_bytes(broker) < 200_000 for broker in compacting.running) or None, 60)
    newest = dict(read_all(leader, topic))
    assert {key: value for key, value in newest.items() if value is not None} == {
        **{b"key %d" % key: b"39 " + b"." * 1000 for key in range(1, 20)},
        b"last": b"." * 40_000,
    }
    assert len(read_all(leader, topic)) < 200
    # It is found by every broker at its next start.
    leader.kill()
    leader.start()
    compacting.await_ready()
    assert dict(read_all(compacting.leader_of(topic), topic))[b"last"] == b"." * 40_000
