"""Brokers of different versions: what they say when they cannot talk, and to whom."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from crc32c import crc32c
from lograft.v1 import admin_service_pb2 as admin_pb

from tests.integration.brokers import Broker, Brokers, a_batch, eventually

ANOTHER_VERSION = """
from lograft.node.peer import protocol
protocol.SPOKEN = protocol.ProtocolRange({lowest}, {highest})
from lograft.node.__main__ import main
raise SystemExit(main())
"""


@contextmanager
def speaking(broker: Broker, lowest: int, highest: int) -> Iterator[None]:
    """The same broker, as if of a release that speaks these versions of the peer protocol."""
    broker.stop()
    program = ANOTHER_VERSION.format(lowest=lowest, highest=highest)
    with broker.log_path.open("ab") as log:
        broker.process = subprocess.Popen(
            [sys.executable, "-c", program, "-c", str(broker.config_path)], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        broker.stop()


def reasons(broker: Broker) -> list[str]:
    return list(broker.admin.DescribeCluster(admin_pb.DescribeClusterRequest(), timeout=5).reasons)


def test_broker_without_a_common_version_is_named_with_both_versions_and_the_remedy(brokers: Brokers) -> None:
    expected = "broker 2 is not in touch: broker 2 (lograft "
    with speaking(brokers[2], 3, 4):
        told = eventually(lambda: [reason for reason in reasons(brokers[0]) if reason.startswith(expected)])
    assert "speaks peer protocol 3 to 4, broker 0 (lograft " in told[0] and "speaks 1 to 2, " in told[0]
    assert "upgrade broker 0 to a release that speaks 3, or take broker 2 back to one that speaks 2" in told[0]
    for broker in (brokers[0], brokers[2]):
        whys = [str(event.get("why")) for event in broker.events()]
        assert any("they have none in common" in why for why in whys), "its log says so too"


def test_brokers_of_neighbouring_versions_make_one_cluster_and_tell_what_each_speaks(brokers: Brokers) -> None:
    def spoken() -> dict[int, tuple[int, int]] | None:
        told = brokers[0].admin.DescribeCluster(admin_pb.DescribeClusterRequest(), timeout=5)
        if not told.healthy:
            return None
        return {one.broker_id: (one.peer_protocol_lowest, one.peer_protocol_highest) for one in told.brokers}

    with speaking(brokers[2], 1, 3):
        assert eventually(spoken) == {0: (1, 2), 1: (1, 2), 2: (1, 3)}


def test_broker_that_finds_files_of_a_later_version_ends_with_one_line_and_touches_none_of_them(
    brokers: Brokers, topic: str
) -> None:
    broker = brokers.leader_of(topic)
    assert not broker.produce(topic, a_batch(b"kept")).error.reason
    broker.stop()
    head = next(path for path in broker.data_directory.glob("partitions/*-0/*.head") if path.stat().st_size)
    content = head.read_bytes()
    payload = b"of another layout"
    prefix = struct.pack(">4sHHI", b"LGHD", 9, 0, len(payload))
    head.write_bytes(prefix + crc32c(payload, crc32c(prefix)).to_bytes(4, "big") + payload)
    later = head.read_bytes()
    items = head.with_suffix(".log").read_bytes()
    broker.start()
    assert broker.process is not None and broker.process.wait(timeout=20) == 1
    line = broker.log_path.read_text().splitlines()[-1]
    assert line.startswith(f"lograft: {head} has format 9, this lograft reads up to 1, and changed nothing")
    assert (head.read_bytes(), head.with_suffix(".log").read_bytes()) == (later, items)
    head.write_bytes(content)
    # It is what this test is about, and nothing that the brokers' authors had not thought of.
    broker.log_path.write_text("".join(f"{one}\n" for one in broker.log_path.read_text().splitlines() if one != line))
    brokers.start()
    assert brokers.leader_of(topic).values(topic) == [b"kept"]
