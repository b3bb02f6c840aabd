"""What the cluster looks like from here: each leader's word about its partitions, asked of every broker in session.

Invariants
    nobody but a partition's leader is believed about its replicas, and of two the one of the higher term; that its log
        is damaged each broker says itself
    a broker that does not answer in time leaves gaps, which the view names; it never fails
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from ..partitions.environment import PartitionId
from ..partitions.raft.messages import Voter
from ..partitions.replica_status import FollowerStatus, ReplicaStatus
from ..proto.errors import UNDECODABLE, LograftError
from .copying import Copying, CopyView
from .peer.links import PeerLinks
from .replicas import Replicas

STATUS_CALL = "partitions.status"
DAMAGE_CALL = "partitions.damage"
ANSWER_MS_MAX = 1_000


class ReplicaView(NamedTuple):
    """One replica of a partition, as its leader sees it."""

    broker_id: int
    votes: bool
    match_offset: int
    """Log end known to be the leader's; -1 where nothing is known in this session."""
    state: str
    """OK, BEHIND, UNREACHABLE, DOUBTFUL, DAMAGED."""
    directory_id: str
    replica_number: int
    copying: CopyView | None = None
    """Of one without a vote: how much of the log it holds."""

    @property
    def voter(self) -> Voter:
        return Voter(self.broker_id, self.directory_id, self.replica_number)


class PartitionView(NamedTuple):
    """One partition, as its leader sees it. Who votes is told once committed: the rest could be undone."""

    topic_id: str
    number: int
    leader_id: int
    term: int
    start_offset: int
    committed_offset: int
    size_bytes: int
    replicas: tuple[ReplicaView, ...]

    @property
    def partition(self) -> PartitionId:
        return PartitionId(self.topic_id, self.number)

    @property
    def voters(self) -> tuple[Voter, ...]:
        return tuple(replica.voter for replica in self.replicas if replica.votes)

    def is_whole(self, replication: int) -> bool:
        """Are all `replication` replicas voters that keep up?"""
        return sum(replica.votes and replica.state == "OK" for replica in self.replicas) >= replication


class DamagedReplica(NamedTuple):
    """A replica whose log has a hole, as its own broker knows it: it needs no leader to be told of."""

    topic_id: str
    number: int
    broker_id: int
    repair: str
    """What is being repaired, or why it cannot be."""

    @property
    def partition(self) -> PartitionId:
        return PartitionId(self.topic_id, self.number)


_decode_damage = msgspec.msgpack.Decoder(tuple[DamagedReplica, ...]).decode
_decode = msgspec.msgpack.Decoder(tuple[PartitionView, ...]).decode


class ClusterView:
    """Answers what this broker leads, and asks the others."""

    def __init__(self, broker_id: int, replicas: Replicas, links: PeerLinks, monotonic_ms: Callable[[], float]) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._links = links
        self._monotonic_ms = monotonic_ms
        self.copying = Copying()
        self._committed_before: dict[PartitionId, int] = {}
        """At the last look: a replica that has not come so far since then is behind, not merely on its way."""

    def look(self) -> None:
        """Once a second."""
        self._committed_before = {replica.partition: replica.committed.offset for replica in self._replicas.led}
        held = {}
        for replica in self._replicas.learning:
            status = replica.status()
            for follower in status.followers:
                if follower.held_bytes is not None:
                    held[replica.partition, follower.voter] = follower.held_bytes, status.size_bytes
        self.copying.look(self._monotonic_ms(), held)

    def committed_before(self, partition: PartitionId) -> int:
        """What was committed at the last look, of a partition led here; 0 if it was not."""
        return self._committed_before.get(partition, 0)

    def of_this_broker(self) -> tuple[PartitionView, ...]:
        """The partitions led here."""
        return tuple(
            view_of(
                replica.status(),
                self.copying,
                self._committed_before.get(replica.partition, 0),
                {filling: placed for placed, filling in self._replicas.filled_places(replica).items()},
            )
            for replica in self._replicas.led
        )

    def encoded(self) -> bytes:
        """The answer to STATUS_CALL."""
        return msgspec.msgpack.encode(self.of_this_broker())

    async def of_all(self) -> dict[PartitionId, PartitionView]:
        """What all leaders in session say, this broker's own partitions included."""
        own = self.of_this_broker()
        others, damaged = await asyncio.gather(
            asyncio.gather(*(self._ask(session.broker_id) for session in self._links.sessions)), self.damage()
        )
        return with_damage(newest([own, *others]), damaged)

    def encoded_damage(self) -> bytes:
        """The answer to DAMAGE_CALL."""
        return msgspec.msgpack.encode(self._damage_here())

    def _damage_here(self) -> tuple[DamagedReplica, ...]:
        return tuple(
            DamagedReplica(*replica.partition, self._broker_id, replica.status().repair or "it is about to be repaired")
            for replica in self._replicas.table.values()
            if replica.is_damaged
        )

    async def damage(self) -> list[DamagedReplica]:
        """The replicas of all brokers in session that cannot be read to their end."""
        others = await asyncio.gather(*(self._ask_damage(session.broker_id) for session in self._links.sessions))
        return sorted([*self._damage_here(), *(one for told in others for one in told)])

    async def _ask_damage(self, broker_id: int) -> tuple[DamagedReplica, ...]:
        try:
            return _decode_damage(await self._links.call(broker_id, DAMAGE_CALL, timeout_ms=ANSWER_MS_MAX))
        except (LograftError, *UNDECODABLE):
            return ()

    async def _ask(self, broker_id: int) -> tuple[PartitionView, ...]:
        try:
            return _decode(await self._links.call(broker_id, STATUS_CALL, timeout_ms=ANSWER_MS_MAX))
        except (LograftError, *UNDECODABLE):
            return ()


def view_of(
    status: ReplicaStatus, copying: Copying, committed_before: int, names: Mapping[Voter, Voter]
) -> PartitionView:
    """What its leader tells of a partition. A replica with less than `committed_before` is behind.

    `names`: voters that fill others' places -> under whose names they are told. Whoever knows of a newer placement than
    the leader does so finds that the leader has yet to act on it.
    """
    voters = status.voters_committed

    def seen(follower: FollowerStatus) -> ReplicaView:
        return ReplicaView(
            follower.voter.broker_id,
            follower.voter in voters,
            follower.match.offset if follower.match.term else -1,
            _state(status, follower.heard, follower.counts, follower.match.offset, committed_before),
            *names.get(follower.voter, follower.voter)[1:],
            None
            if follower.held_bytes is None
            else copying.view(status.partition, follower.voter, follower.held_bytes, status.size_bytes),
        )

    own_name = names.get(status.voter, status.voter)
    own = ReplicaView(own_name.broker_id, status.voter in voters, status.end.offset, "OK", *own_name[1:])
    told = {status.voter, *(follower.voter for follower in status.followers)}
    untold = (names.get(voter, voter) for voter in voters if voter not in told)
    leaving = (ReplicaView(voter.broker_id, True, -1, "BEHIND", *voter[1:]) for voter in untold)
    return PartitionView(
        *status.partition,
        status.voter.broker_id,
        status.term,
        status.start_offset,
        status.committed.offset,
        status.size_bytes,
        (own, *map(seen, status.followers), *leaving),
    )


def newest(views: Iterable[Iterable[PartitionView]]) -> dict[PartitionId, PartitionView]:
    """Of each partition the view of the highest term."""
    found: dict[PartitionId, PartitionView] = {}
    for told in views:
        for view in told:
            known = found.get(view.partition)
            if known is None or known.term < view.term:
                found[view.partition] = view
    return found


def with_damage(
    views: dict[PartitionId, PartitionView], damaged: Iterable[DamagedReplica]
) -> dict[PartitionId, PartitionView]:
    """The same; what a broker says of its own log counts more than what a leader sees of it."""
    for one in damaged:
        view = views.get(one.partition)
        if view is not None:
            replicas = tuple(
                replica._replace(state="DAMAGED") if replica.broker_id == one.broker_id else replica
                for replica in view.replicas
            )
            views[one.partition] = view._replace(replicas=replicas)
    return views


def _state(status: ReplicaStatus, heard: bool, counts: bool, match: int, committed_before: int) -> str:
    if not heard:
        return "UNREACHABLE"
    if not counts:
        return "DOUBTFUL"
    return "BEHIND" if match < committed_before else "OK"
