"""Who is in touch with whom: the pair of each other broker, ticked, told and listened to on behalf of all replicas.

Invariants
    a replica hears of a broker exactly what that broker's pair says, also a replica opened later, and on which disk
    a leader is summed up in the pairs of the brokers that hold a replica of its group; a follower in its leader's pair
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ..partitions.environment import Buffer, PartitionId
from ..partitions.raft.events import Event, LeaderResigned, PeerHeard, PeerSilent, TermSeen
from ..partitions.raft.pairs import (
    GroupView,
    Heartbeat,
    HeartbeatReply,
    Leading,
    LeadingReply,
    Pair,
    PairEffects,
    PairMessage,
    Sum,
)
from ..partitions.replica import Replica
from ..proto.errors import UNDECODABLE, LograftError
from ..proto.peer_frames import FrameType
from .turns import Turns

_Hash = Annotated[int, Meta(ge=0)]
_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class MalformedHeartbeat(LograftError):
    """A peer sent a heartbeat, or a list, that cannot be read."""

    reason, grpc_status = "MALFORMED_HEARTBEAT", "INVALID_ARGUMENT"


class _WireGroup(NamedTuple):
    topic_id: Annotated[str, Meta(max_length=64)]
    number: _Number
    term: _Number


class _WireHeartbeat(NamedTuple):
    number: _Number
    groups: _Number
    xor: _Hash


class _WireReply(NamedTuple):
    number: _Number
    agrees: bool


class _WireRefusals(NamedTuple):
    newer: tuple[_WireGroup, ...]
    unknown: tuple[_WireGroup, ...]
    behind: tuple[_WireGroup, ...]


FRAME_TYPES = (FrameType.HEARTBEAT, FrameType.HEARTBEAT_REPLY, FrameType.LEADING, FrameType.LEADING_REPLY)


def encode_pair_message(message: PairMessage) -> tuple[FrameType, bytes]:
    """The frame that carries a message of a pair whose groups are PartitionIds."""
    encode = msgspec.msgpack.encode
    match message:
        case Heartbeat():
            return FrameType.HEARTBEAT, encode(_WireHeartbeat(message.number, *message.leads))
        case HeartbeatReply():
            return FrameType.HEARTBEAT_REPLY, encode(_WireReply(message.number, message.agrees))
        case Leading():
            return FrameType.LEADING, encode(_with_terms(message.groups))
        case LeadingReply():
            unknown, behind = (_with_terms((group, 0) for group in some) for some in (message.unknown, message.behind))
            return FrameType.LEADING_REPLY, encode(_WireRefusals(_with_terms(message.newer), unknown, behind))


def decode_pair_message(frame_type: FrameType, body: Buffer) -> PairMessage:
    """Raises MalformedHeartbeat."""
    decode = msgspec.msgpack.decode
    try:
        match frame_type:
            case FrameType.HEARTBEAT:
                heartbeat = decode(body, type=_WireHeartbeat)
                return Heartbeat(heartbeat.number, Sum(heartbeat.groups, heartbeat.xor))
            case FrameType.HEARTBEAT_REPLY:
                reply = decode(body, type=_WireReply)
                return HeartbeatReply(reply.number, reply.agrees)
            case FrameType.LEADING:
                return Leading(_groups(decode(body, type=tuple[_WireGroup, ...])))
            case _:
                refusals = decode(body, type=_WireRefusals)
                unknown, behind = (
                    tuple(group for group, _ in _groups(some)) for some in (refusals.unknown, refusals.behind)
                )
                return LeadingReply(_groups(refusals.newer), unknown, behind)
    except UNDECODABLE as error:
        raise MalformedHeartbeat(f"a {frame_type.name} frame could not be read: {error}") from None


class Heartbeats:
    """The pairs of this broker with each other one that it was ever in session with.

    `replicas` is the live table of this broker's replicas; `send(broker_id, type, body)` goes by the control link.
    """

    def __init__(
        self,
        own_broker_id: int,
        replicas: Mapping[PartitionId, Replica],
        send: Callable[[int, FrameType, bytes], object],
        *,
        silence_ms: float,
        call_soon: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """With `call_soon`, a piece of news that concerns hundreds of replicas reaches them in several turns."""
        self._own_broker_id = own_broker_id
        self._news = None if call_soon is None else Turns[tuple[PartitionId, Event]](call_soon, self._tell_one)
        self._replicas = replicas
        self._send = send
        self._silence_ms = silence_ms
        self._pairs: dict[int, Pair] = {}
        self._in_session: set[int] = set()
        self._directories: dict[int, str] = {}
        """Broker id -> directory id, of those that were ever in session: as of the latest one."""

    def session_up(self, broker_id: int, directory_id: str, now_ms: float) -> None:
        self._in_session.add(broker_id)
        self._directories[broker_id] = directory_id
        pair = self._pair(broker_id)
        self._carry_out(broker_id, pair.begin_session(now_ms))

    def session_down(self, broker_id: int) -> None:
        self._in_session.discard(broker_id)
        self._carry_out(broker_id, self._pair(broker_id).end_session())

    def tick(self, now_ms: float) -> None:
        """Once a heartbeat interval."""
        for broker_id in sorted(self._in_session):
            self._carry_out(broker_id, self._pairs[broker_id].tick(now_ms))

    def receive(self, broker_id: int, frame_type: FrameType, body: Buffer, now_ms: float) -> None:
        """Take a frame of one of FRAME_TYPES. Raises MalformedHeartbeat."""
        message = decode_pair_message(frame_type, body)

        def view(group: object) -> GroupView | None:
            replica = self._replicas.get(group)  # type: ignore[call-overload]
            if replica is None or replica.is_stopped:
                return None
            return GroupView(replica.term, replica.leader is not None and replica.leader.broker_id == broker_id)

        self._carry_out(broker_id, self._pair(broker_id).receive(message, now_ms, view))

    def opened(self, replica: Replica) -> None:
        """A replica that did not hear the sessions begin is told of them now."""
        for broker_id, pair in sorted(self._pairs.items()):
            if pair.heard:
                self._tell([replica.partition], self.heard(broker_id))
        self.role_changed(replica)

    def closed(self, partition: PartitionId) -> None:
        for pair in self._pairs.values():
            pair.forget(partition)

    def role_changed(self, replica: Replica) -> None:
        """Sum the replica up anew: its role, term, leader, or who holds replicas, may have changed."""
        partition, term = replica.partition, replica.term
        leader = None if replica.leader is None else replica.leader.broker_id
        members = {member.broker_id for member in (*replica.voters, *replica.learners)} if replica.is_leader else ()
        for broker_id in {*members, leader} - {None, self._own_broker_id}:
            self._pair(broker_id)
        for broker_id, pair in self._pairs.items():
            if pair.set_leading(partition, term if broker_id in members else None):
                self._tell([partition], self.heard(broker_id))
            pair.set_following(partition, term if broker_id == leader else None)

    def heard(self, broker_id: int) -> PeerHeard:
        """What to tell a replica of a broker that is in touch."""
        return PeerHeard(broker_id, self._directories[broker_id])

    def is_heard(self, broker_id: int) -> bool:
        pair = self._pairs.get(broker_id)
        return broker_id == self._own_broker_id or (pair is not None and pair.heard)

    def _pair(self, broker_id: int) -> Pair:
        pair = self._pairs.get(broker_id)
        if pair is None:
            pair = self._pairs[broker_id] = Pair(silence_ms=self._silence_ms)
        return pair

    def _carry_out(self, broker_id: int, effects: PairEffects) -> None:
        if effects.went_silent:
            self._tell(self._replicas, PeerSilent(broker_id))
        if effects.was_heard_again:
            self._tell(self._replicas, self.heard(broker_id))
        self._tell(effects.silent, PeerSilent(broker_id))  # type: ignore[arg-type]
        if effects.wake:
            self._tell(effects.wake, self.heard(broker_id))  # type: ignore[arg-type]
        for group, term in effects.resigned:
            self._tell([group], LeaderResigned(broker_id, term))  # type: ignore[list-item]
        for group, term in effects.newer:
            self._tell([group], TermSeen(term))  # type: ignore[list-item]
        # Last: a link with no room left ends its session here, and then the broker is silent, whatever was told above.
        for message in effects.send:
            if broker_id in self._in_session:
                self._send(broker_id, *encode_pair_message(message))

    def _tell(self, partitions: Iterable[PartitionId], event: Event) -> None:
        # Whatever a replica is told goes this one way: what is older must not come after what is newer.
        news = [(partition, event) for partition in partitions]
        if self._news is not None:
            self._news.take(news)
        else:
            for one in news:
                self._tell_one(one)

    def _tell_one(self, news: tuple[PartitionId, Event]) -> None:
        # What a replica does on hearing it may open or close others: each is looked up when its turn comes.
        partition, event = news
        replica = self._replicas.get(partition)
        if replica is not None:
            replica.take(event)


def _with_terms(groups: Iterable[tuple[object, int]]) -> tuple[_WireGroup, ...]:
    return tuple(_WireGroup(*group, term) for group, term in groups)  # type: ignore[misc,call-arg]


def _groups(wire: tuple[_WireGroup, ...]) -> tuple[tuple[PartitionId, int], ...]:
    return tuple((PartitionId(group.topic_id, group.number), group.term) for group in wire)
