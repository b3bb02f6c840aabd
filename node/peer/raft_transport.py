"""The way of Raft messages to the other brokers: all that one turn of the loop sends to a broker leaves in few frames.

Always holds
    appends, heads and what mends a log take the bulk link, in the order in which they were sent: no probe overtakes
        the items before it
    all else (votes, replies, read rounds) takes the control link, and is never behind items
    what finds no session or no room is dropped: Raft sends again, at the latest when `take_cut_off` has named who to
"""

from __future__ import annotations

import asyncio

from ...partitions.environment import Buffer, PartitionId
from ...partitions.raft.messages import AppendRequest, HeadOffer, Message, RepairReply
from ...proto.peer_frames import FrameType
from .links import PeerLinks
from .raft_codec import encode_raft, spoken_in

BUNDLE_BYTES = 1 << 20
"""A bundle that has grown to this leaves; only a single larger message makes a larger frame."""


class RaftTransport:
    """The `transport` of a real environment."""

    def __init__(self, links: PeerLinks) -> None:
        self._links = links
        self._control: dict[int, list[list[Buffer]]] = {}
        self._bulk: dict[int, list[list[Buffer]]] = {}
        self._appending: dict[int, set[PartitionId]] = {}
        self._flush_is_due = False
        self._cut_off: set[tuple[int, PartitionId]] = set()
        self.dropped = 0
        """Messages for which there was no room. Those to brokers without a session are not counted."""

    def send(self, partition: PartitionId, message: Message) -> None:
        """Never blocks, never raises. The data of the message's items must not change any more."""
        broker_id = message.to.broker_id
        session = self._links.session(broker_id)
        if session is None:
            return
        way = self._bulk if isinstance(message, AppendRequest | HeadOffer | RepairReply) else self._control
        way.setdefault(broker_id, []).append(encode_raft(partition, spoken_in(session.protocol, message)))
        if way is self._bulk and not isinstance(message, RepairReply):
            self._appending.setdefault(broker_id, set()).add(partition)
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def take_cut_off(self) -> list[tuple[int, PartitionId]]:
        """To whom appends of which partition were dropped, where there is room again; each is named once."""
        again = sorted(entry for entry in self._cut_off if self._has_room(entry[0]))
        self._cut_off.difference_update(again)
        return again

    def _has_room(self, broker_id: int) -> bool:
        # Without a session there is nothing to wait for: the next one begins anew with every partition.
        session = self._links.session(broker_id)
        return session is None or session.bulk.waiting_bytes <= session.bulk.waiting_bytes_max // 2

    def _flush(self) -> None:
        self._flush_is_due = False
        control, self._control = self._control, {}
        bulk, self._bulk = self._bulk, {}
        appending, self._appending = self._appending, {}
        for broker_id, messages in control.items():
            for count, bundle in _bundles(messages):
                if not self._links.send_control(broker_id, FrameType.RAFT, *bundle):
                    self.dropped += count
        for broker_id, messages in bulk.items():
            for count, bundle in _bundles(messages):
                if not self._links.send_bulk(broker_id, FrameType.RAFT, *bundle):
                    self.dropped += count
                    self._cut_off.update((broker_id, partition) for partition in appending.get(broker_id, ()))


def _bundles(messages: list[list[Buffer]]) -> list[tuple[int, list[Buffer]]]:
    """The messages in their order, joined to bundles, each with the number of messages in it."""
    bundles: list[tuple[int, list[Buffer]]] = []
    bundle: list[Buffer] = []
    size = count = 0
    for message in messages:
        message_size = sum(map(len, message))
        if bundle and size + message_size > BUNDLE_BYTES:
            bundles.append((count, bundle))
            bundle, size, count = [], 0, 0
        bundle.extend(message)
        size += message_size
        count += 1
    bundles.append((count, bundle))
    return bundles
