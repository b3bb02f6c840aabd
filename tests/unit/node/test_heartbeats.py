"""Two brokers' heartbeats, connected in memory; what their replicas hear."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from lograft.node.heartbeats import (
    FRAME_TYPES,
    Heartbeats,
    MalformedHeartbeat,
    decode_pair_message,
    encode_pair_message,
)
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.events import LeaderResigned, PeerHeard, PeerSilent, TermSeen
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.pairs import Heartbeat, HeartbeatReply, Leading, LeadingReply, PairMessage, Sum
from lograft.proto.peer_frames import FrameType

GROUP = PartitionId("a" * 32, 3)
OTHER_GROUP = PartitionId("b" * 32, 0)


class FakeReplica:
    """A replica on broker `broker_id`, of a group that brokers 1 and 2 share."""

    def __init__(self, broker_id: int, leader: int | None = None, term: int = 1) -> None:
        self.partition = GROUP
        self.voters = (Voter(1, "d1", 1), Voter(2, "d2", 1))
        self.learners: tuple[Voter, ...] = ()
        self.voter = self.voters[broker_id - 1]
        self.leader = None if leader is None else self.voters[leader - 1]
        self.term = term
        self.is_stopped = False
        self.heard: list[Any] = []

    @property
    def is_leader(self) -> bool:
        return self.leader == self.voter

    def take(self, event: Any) -> None:
        self.heard.append(event)


class TwoBrokers:
    """Brokers 1 and 2. Time stands until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.cut = False
        self._wire: deque[tuple[int, int, FrameType, bytes]] = deque()
        self.tables: dict[int, dict[PartitionId, Any]] = {1: {}, 2: {}}
        self.heartbeats = {
            own: Heartbeats(
                own,
                self.tables[own],
                lambda to, kind, body, own=own: self._wire.append((own, to, kind, body)),
                silence_ms=500,
            )
            for own in (1, 2)
        }

    def add(self, replica: FakeReplica) -> FakeReplica:
        self.tables[replica.voter.broker_id][replica.partition] = replica
        self.heartbeats[replica.voter.broker_id].opened(replica)  # type: ignore[arg-type]
        return replica

    def meet(self) -> None:
        self.heartbeats[1].session_up(2, "d2", self.now_ms)
        self.heartbeats[2].session_up(1, "d1", self.now_ms)
        self.deliver()

    def deliver(self) -> None:
        while self._wire:
            sender, to, kind, body = self._wire.popleft()
            if not self.cut:
                self.heartbeats[to].receive(sender, kind, body, self.now_ms)

    def pass_time(self, ms: float) -> None:
        for _ in range(int(ms / 100)):
            self.now_ms += 100
            for heartbeats in self.heartbeats.values():
                heartbeats.tick(self.now_ms)
            self.deliver()


def test_a_new_session_is_heard_by_every_replica_also_by_one_that_is_opened_later() -> None:
    brokers = TwoBrokers()
    early = brokers.add(FakeReplica(1))
    brokers.meet()
    late = brokers.add(FakeReplica(2))
    assert (early.heard, late.heard) == ([PeerHeard(2, "d2")], [PeerHeard(1, "d1")])


def test_silence_past_the_limit_is_told_once_and_so_is_its_end() -> None:
    brokers = TwoBrokers()
    replica = brokers.add(FakeReplica(1))
    brokers.meet()
    brokers.pass_time(2_000)
    brokers.cut = True
    brokers.pass_time(400)
    assert replica.heard == [PeerHeard(2, "d2")]
    brokers.pass_time(1_000)
    assert replica.heard == [PeerHeard(2, "d2"), PeerSilent(2)] and not brokers.heartbeats[1].is_heard(2)
    brokers.cut = False
    brokers.pass_time(200)
    assert replica.heard == [PeerHeard(2, "d2"), PeerSilent(2), PeerHeard(2, "d2")]


def test_a_session_that_ends_is_silence_at_once() -> None:
    brokers = TwoBrokers()
    replica = brokers.add(FakeReplica(1))
    brokers.meet()
    brokers.heartbeats[1].session_down(2)
    assert replica.heard == [PeerHeard(2, "d2"), PeerSilent(2)]


def test_a_broker_whose_link_breaks_as_we_speak_to_it_is_silent_in_the_end() -> None:
    def send(broker_id: int, frame_type: FrameType, body: bytes) -> None:
        if frame_type is FrameType.LEADING:
            heartbeats.session_down(broker_id)  # as when no room is left on the control link

    replica = FakeReplica(1, leader=1)
    heartbeats = Heartbeats(1, {GROUP: replica}, send, silence_ms=500)  # type: ignore[dict-item]
    heartbeats.session_up(2, "d2", 0)
    heartbeats.role_changed(replica)  # type: ignore[arg-type]
    for now_ms in range(100, 800, 100):
        heartbeats.tick(now_ms)
    heartbeats.receive(2, *encode_pair_message(HeartbeatReply(8, agrees=False)), 800)
    assert replica.heard[-1] == PeerSilent(2) and not heartbeats.is_heard(2)


def test_a_leader_hears_from_a_broker_that_has_no_such_replica_as_silence_until_it_has_one() -> None:
    brokers = TwoBrokers()
    leader = brokers.add(FakeReplica(1, leader=1))
    brokers.meet()
    brokers.pass_time(200)
    assert leader.heard == [PeerHeard(2, "d2"), PeerSilent(2)]
    follower = brokers.add(FakeReplica(2, leader=None))
    brokers.pass_time(1_000)
    assert len(leader.heard) > 2 and set(leader.heard[2:]) == {PeerHeard(2, "d2")}
    follower.leader = leader.voter
    brokers.heartbeats[2].role_changed(follower)  # type: ignore[arg-type]
    brokers.pass_time(200)
    settled = len(leader.heard)
    brokers.pass_time(5_000)
    assert len(leader.heard) == settled


def test_who_leads_no_more_hears_a_broker_again_that_had_no_such_replica_when_it_led() -> None:
    for waits_ms in (200, 600):  # also once the other side was asked again, and has not answered yet
        brokers = TwoBrokers()
        leader = brokers.add(FakeReplica(1, leader=1))
        brokers.meet()
        brokers.pass_time(waits_ms)
        assert leader.heard[-1] == PeerSilent(2)
        leader.leader = None
        brokers.heartbeats[1].role_changed(leader)  # type: ignore[arg-type]
        assert leader.heard[-1] == PeerHeard(2, "d2")


def test_a_leader_learns_of_a_newer_term() -> None:
    brokers = TwoBrokers()
    leader = brokers.add(FakeReplica(1, leader=1, term=4))
    brokers.add(FakeReplica(2, leader=None, term=6))
    brokers.meet()
    brokers.pass_time(200)
    assert TermSeen(6) in leader.heard


def test_a_resignation_reaches_the_follower() -> None:
    brokers = TwoBrokers()
    leader, follower = brokers.add(FakeReplica(1, leader=1)), brokers.add(FakeReplica(2, leader=1))
    brokers.meet()
    brokers.pass_time(200)
    leader.leader = None
    brokers.heartbeats[1].role_changed(leader)  # type: ignore[arg-type]
    brokers.pass_time(200)
    assert LeaderResigned(1, 1) in follower.heard


MESSAGES: list[PairMessage] = [
    Heartbeat(7, Sum(2, 2**64 - 1)),
    HeartbeatReply(7, agrees=True),
    Leading(((GROUP, 3), (OTHER_GROUP, 2**40))),
    Leading(()),
    LeadingReply(newer=((GROUP, 9),), unknown=(OTHER_GROUP,), behind=(GROUP, OTHER_GROUP)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: PairMessage) -> None:
    assert decode_pair_message(*encode_pair_message(message)) == message


@pytest.mark.parametrize("frame_type", FRAME_TYPES)
@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff" * 20, b"\x93\x01\x02"])
def test_a_body_that_is_none_is_refused(frame_type: FrameType, body: bytes) -> None:
    with pytest.raises(MalformedHeartbeat):
        decode_pair_message(frame_type, body)
