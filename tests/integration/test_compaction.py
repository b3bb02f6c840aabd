"""A topic that keeps the newest record of each key: real brokers, whose compaction runs in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lograft.node.controller.facts import OFFSETS_TOPIC_ID
from lograft.proto.record_batch import NewRecord, decode, encode, split

from .brokers import Broker, Brokers, eventually
from .test_groups import Group

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


PARTITIONS = 40


@pytest.mark.long
def test_stored_offsets_and_decisions_are_compacted_and_found_again_by_a_broker_that_restarts(tmp_path: Path) -> None:
    settings = (
        "[compaction]\ncheck_interval_ms = 200\ndirty_bytes_max = 1\n"
        "[replica]\nsegment_bytes_max = 65536\n[limits]\nbatch_bytes_max = 65536\n"
    )
    brokers = Brokers(tmp_path, settings=settings)
    brokers.start()
    try:
        topic = brokers.create_topic("read", partitions=PARTITIONS)
        group = Group(brokers, "readers", topic)  # type: ignore[arg-type]
        leader_of_all = [brokers.leader_of("read", number) for number in range(PARTITIONS)]
        for number, leader in enumerate(leader_of_all):
            assert not leader.produce("read", encode([NewRecord(1, b"", b"x")] * 9), partition=number).error.reason
        wanted = {}
        for turn in range(80):
            wanted = {number: ((turn + number) % 10, os.urandom(30).hex()) for number in range(PARTITIONS)}
            entries = [
                {"topic": "read", "partition": number, "offset": offset, "metadata": note}
                for number, (offset, note) in wanted.items()
            ]
            results = group.ask("StoreOffsets", entries=entries).results
            assert {result.error.reason for result in results} <= {""}, results
        eventually(lambda: all(has_compacted(broker, OFFSETS_TOPIC_ID) for broker in brokers.all) or None, 60)
        assert group.stored() == wanted
        for broker in brokers.all:
            broker.kill()
        brokers.start()
        assert group.stored() == wanted
        # What the one that did not coordinate replayed is the same.
        group.coordinator.stop()
        assert group.stored() == wanted
    finally:
        brokers.stop()


def has_compacted(broker: Broker, topic_id: str) -> bool:
    return any(
        event.get("event") == "compacted" and str(event["partition"]).startswith(topic_id) and event["dropped"]
        for event in broker.events()
    )


def helpers_of(broker: Broker) -> list[psutil.Process]:
    assert broker.process is not None
    return [
        child
        for child in psutil.Process(broker.process.pid).children()
        if "lograft.node.compaction_process" in " ".join(child.cmdline())
    ]


@pytest.mark.long
def test_whoever_is_killed_while_a_log_is_compacted_nothing_is_lost_and_nothing_is_left_over(tmp_path: Path) -> None:
    # So slow that it is surely met at work.
    brokers = Brokers(tmp_path, settings="[compaction]\ncheck_interval_ms = 200\nbytes_per_s = 300000\n")
    brokers.start()
    try:
        topic_id = brokers.create_topic("keyed", config=CONFIG).topic_id
        leader = brokers.leader_of("keyed")
        for number in range(40):
            put(leader, "keyed", [(b"key %d" % key, b"%d " % number + b"." * 1000) for key in range(20)])
        put(leader, "keyed", [(b"last", b"." * 60_000)])
        put(leader, "keyed", [(b"last", b"." * 50_000)])
        (helper,) = eventually(lambda: helpers_of(leader), 30)
        assert "lograft_compaction_running" in leader.http("/metrics")[1]
        helper.kill()
        eventually(lambda: any(event["event"] == "compaction_given_up" for event in leader.events()), 30)
        assert leader.is_running
        helper = eventually(lambda: helpers_of(leader), 30)[0]
        leader.kill()
        eventually(lambda: not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE, 10)
        leader.start()
        brokers.await_ready()
        for broker in brokers.all:
            eventually(lambda broker=broker: has_compacted(broker, topic_id), 60)  # type: ignore[misc]
            eventually(lambda broker=broker: not leftovers(broker, topic_id), 60)  # type: ignore[misc]
        newest = dict(read_all(brokers.leader_of("keyed"), "keyed"))
        assert {key: value[:3] for key, value in newest.items() if value and key != b"last"} == {
            b"key %d" % key: b"39 " for key in range(20)
        }
        # Of one that was not killed: the log of one that was may tell of what its last process did.
        text = next(broker for broker in brokers.all if broker is not leader).http("/metrics")[1]
        assert metric(text, 'lograft_compactions_total{result="done"}') > 0
        before, after = (metric(text, f"lograft_compaction_{which}_bytes_total") for which in ("before", "after"))
        assert before > after > 0 and metric(text, "lograft_compaction_dropped_records_total") > 0
    finally:
        brokers.stop()


def leftovers(broker: Broker, topic_id: str) -> list[str]:
    directory = broker.data_directory / "partitions" / f"{topic_id}-0"
    return [path.name for path in directory.iterdir() if path.name.endswith((".new", ".replacement"))]


def metric(text: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))
