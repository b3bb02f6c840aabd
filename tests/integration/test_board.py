"""The sightings board helps where it is, and is missed nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, eventually


@pytest.fixture
def boardless(tmp_path: Path) -> Iterator[Brokers]:
    """Three brokers, two of which take no part in the board: it never has a quorum."""
    brokers = Brokers(tmp_path)
    for broker in brokers.all[1:]:
        with broker.config_path.open("a") as config:
            config.write("\n[board]\nenabled = false\n")
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.stop()


def events(broker: Broker, name: str) -> int:
    return sum(event["event"] == name for event in broker.events())


def test_every_member_has_the_boards_quorum_also_after_it_started_again(brokers: Brokers) -> None:
    for broker in brokers.all:
        eventually(lambda broker=broker: events(broker, "board.quorum_gained"))  # type: ignore[misc]
    times = events(brokers[2], "board.quorum_gained")
    brokers[2].kill()
    brokers.start()
    eventually(lambda: events(brokers[2], "board.quorum_gained") == times + 1)


def test_without_the_board_topics_are_made_written_read_and_deleted(boardless: Brokers) -> None:
    topic = boardless.create_topic("works", partitions=3)
    assert sorted(partition.leader_id for partition in topic.partitions) == [0, 1, 2]
    for partition in range(3):
        leader = boardless.leader_of("works", partition)
        assert not leader.produce("works", a_batch(b"before"), partition=partition).error.reason

    # Leaders change, and everyone is told who leads and where, without the board.
    boardless[2].kill()
    for partition in range(3):
        leader = boardless.leader_of("works", partition)
        assert not leader.produce("works", a_batch(b"between"), partition=partition).error.reason
        other = next(broker for broker in boardless.running if broker is not leader)
        refused = other.produce("works", a_batch(b"astray"), partition=partition).error
        assert (refused.reason, refused.leader.broker_id) == ("NOT_LEADER", leader.broker_id)
        assert refused.leader.address == leader.address
    boardless.start()
    eventually(lambda: len(boardless[2].records.Metadata(pb.MetadataRequest(), timeout=5).brokers) == 3)
    for partition in range(3):
        leader = boardless.leader_of("works", partition)
        assert leader.values("works", partition) == [b"before", b"between"]

    boardless[2].admin.DeleteTopic(admin_pb.DeleteTopicRequest(name="works"), timeout=20)
    for broker in boardless.all:
        metadata = broker.records.Metadata(pb.MetadataRequest(topics=["works"]), timeout=5)
        assert list(metadata.unknown_topics) == ["works"]
    assert not events(boardless[0], "board.quorum_gained")
