from __future__ import annotations

import asyncio
from typing import Any

from lograft.node.peer.raft_codec import decode_raft_bundle
from lograft.node.peer.raft_transport import BUNDLE_BYTES, RaftTransport
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import AppendRequest, CampaignNow, Voter
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.proto import record_batch
from lograft.proto.peer_frames import FrameType

HERE = Voter(1, "a" * 32, 1)


class Links:
    """Links that keep what they are given; broker 9 is never in session, and nothing fits after `room` frames."""

    def __init__(self, room: int = 100) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.room = room

    protocol = 2

    def session(self, broker_id: int) -> object | None:
        return None if broker_id == 9 else self

    def send_control(self, broker_id: int, frame_type: FrameType, *buffers: Any) -> bool:
        return self._send("control", broker_id, buffers)

    def send_bulk(self, broker_id: int, frame_type: FrameType, *buffers: Any) -> bool:
        return self._send("bulk", broker_id, buffers)

    def _send(self, way: str, broker_id: int, buffers: Any) -> bool:
        if len(self.sent) == self.room:
            return False
        self.sent.append((way, broker_id, b"".join(buffers)))
        return True


def to(broker_id: int) -> Voter:
    return Voter(broker_id, "b" * 32, 1)


def partition(number: int) -> PartitionId:
    return PartitionId("c" * 32, number)


def an_append(broker_id: int, size: int) -> AppendRequest:
    prev = Point(1, 0, 1)
    batch = record_batch.encode(
        [record_batch.NewRecord(timestamp_ms=0, key=None, value=bytes(size), headers=())],
        compression=record_batch.Compression.NONE,
    )
    item = Item(Point(1, 1, 1), ItemKind.RECORDS, bytes(record_batch.stamp(batch, 0, 1)))
    return AppendRequest(HERE, to(broker_id), 1, 1, prev, prev, ORIGIN, (item,), 1)


def sent_by(links: Links, *sends: tuple[PartitionId, Any]) -> RaftTransport:
    async def one_turn() -> RaftTransport:
        transport = RaftTransport(links)  # type: ignore[arg-type]
        for where, message in sends:
            transport.send(where, message)
        assert not links.sent, "nothing leaves before the turn of the loop is over"
        await asyncio.sleep(0)
        return transport

    return asyncio.run(one_turn())


def test_all_that_one_turn_sends_to_a_broker_leaves_in_one_frame_a_link() -> None:
    links = Links()
    campaign = [(partition(number), CampaignNow(HERE, to(2), 1)) for number in range(50)]
    items = [(partition(number), an_append(2, 100)) for number in range(50)]
    sent_by(
        links, *(one for pair in zip(campaign, items, strict=True) for one in pair), (partition(0), an_append(3, 9))
    )
    assert [(way, broker_id) for way, broker_id, _ in links.sent] == [("control", 2), ("bulk", 2), ("bulk", 3)]
    assert decode_raft_bundle(links.sent[0][2]) == campaign
    assert decode_raft_bundle(links.sent[1][2]) == items


def test_bundles_stay_small_enough_that_a_ping_need_not_wait_for_all_of_them() -> None:
    links = Links()
    items = [(partition(number), an_append(2, 300 << 10)) for number in range(9)]
    sent_by(links, *items)
    assert len(links.sent) == 3 and all(len(body) <= BUNDLE_BYTES for _, _, body in links.sent)
    assert [one for _, _, body in links.sent for one in decode_raft_bundle(body)] == items


def test_what_finds_no_session_or_no_room_is_dropped() -> None:
    links = Links(room=1)
    items = [(partition(number), an_append(2, 600 << 10)) for number in range(3)]
    transport = sent_by(links, (partition(0), CampaignNow(HERE, to(9), 1)), *items)
    assert len(links.sent) == 1 and transport.dropped == 2
