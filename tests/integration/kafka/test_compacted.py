"""A compacted log has batches with fewer records than offsets, and with none: clients must get past them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lograft.proto.record_batch import NewRecord, encode, read_header, split

from tests.integration.brokers import Broker, Brokers
from tests.integration.kafka.clients import every_client, until

CONFIG = {
    "cleanup.policy": "compact",
    "delete.retention.ms": "0",
    "segment.bytes.max": "65536",
    "batch.bytes.max": "65536",
}


@pytest.fixture(scope="module")
def compacting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    settings = "[compaction]\ncheck_interval_ms = 200\n"
    brokers = Brokers(tmp_path_factory.mktemp("compacting"), 1, settings=settings, kafka=True)
    brokers.start()
    yield brokers
    brokers.stop()


def put(leader: Broker, topic: str, *records: tuple[bytes, bytes | None]) -> None:
    batch = encode([NewRecord(1_700_000_000_000, key, value) for key, value in records])
    result = leader.produce(topic, batch)
    assert not result.error.reason, result.error


@every_client
def test_a_client_reads_what_is_left_of_a_compacted_log_and_what_comes_after(compacting: Brokers, client: Any) -> None:
    topic = f"compacted-{client.__name__}"
    compacting.create_topic(topic, config=CONFIG)
    leader = compacting.leader_of(topic)
    for number in range(200):
        put(leader, topic, (b"key", b"%d " % number + b"." * 1000), (b"other %d" % number, b"kept"))
    for number in range(200):
        put(leader, topic, (b"other %d" % number, None))
    for _ in range(3):
        put(leader, topic, (b"last", b"." * 50_000))

    def has_emptied_batches() -> bool:
        offset, found = 0, 0
        while True:
            answer = leader.fetch(topic, offset)
            found += sum(read_header(batch).record_count == 0 for _, batch in split(answer.batches))
            if answer.next_offset >= answer.committed_offset:
                return found > 0
            offset = answer.next_offset

    until(has_emptied_batches, 60)
    end = leader.fetch(topic, 0).committed_offset
    put(leader, topic, (b"after", b"the end"))
    seen: list[tuple[int, int, bytes]] = []
    # It is not known how much is left, so read until the last one is there.
    for count in (1, 5, 50, 500):
        seen = client.read(leader.kafka_address, topic, [0], count)
        if seen and seen[-1][1] == end:
            break
    assert seen[-1] == (0, end, b"the end")
