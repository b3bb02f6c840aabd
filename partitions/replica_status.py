"""What an operator would ask of one replica, and of those that follow it.

Invariants
    it is what was so at one moment: nothing in it changes afterwards
"""

from __future__ import annotations

from dataclasses import dataclass

from .environment import PartitionId
from .raft.core import RaftCore, Role
from .raft.messages import Voter
from .raft.points import Point
from .storage.log import PartitionLog


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    voter: Voter
    votes: bool
    heard: bool
    match: Point
    counts: bool
    held_bytes: int | None
    """Of a learner: how much of the log it holds, about."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What an operator would ask of one replica."""

    partition: PartitionId
    voter: Voter
    role: Role
    term: int
    leader: Voter | None
    ready: bool
    start_offset: int
    end: Point
    committed: Point
    persisted: Point
    size_bytes: int
    durability: str
    unsynced_bytes: int
    doubtful: bool
    damaged: bool
    repair: str
    """What of its log is being repaired, or why it cannot be; empty if all that was read of it could be read."""
    word: Point
    """What it once held, and votes by until its log end has reached it; the origin if there is no such thing."""
    voters: tuple[Voter, ...]
    voters_committed: tuple[Voter, ...]
    """Who votes by the newest change that is known to be committed."""
    followers: tuple[FollowerStatus, ...]
    """Of a leader; else empty."""


def status_of(
    core: RaftCore,
    log: PartitionLog,
    *,
    committed: Point,
    start_offset: int,
    durability: str,
    unsynced_bytes: int,
    repair: str,
) -> ReplicaStatus:
    """What the core and the log do not know is said by the replica."""
    return ReplicaStatus(
        partition=log.partition,
        voter=core.voter,
        role=core.role,
        term=core.term,
        leader=core.leader,
        ready=core.is_ready,
        start_offset=start_offset,
        end=core.last,
        committed=committed,
        persisted=core.persisted,
        size_bytes=log.size_bytes,
        durability=durability,
        unsynced_bytes=unsynced_bytes,
        doubtful=core.doubtful,
        damaged=core.damaged,
        repair=repair,
        word=core.word,
        voters=core.voters,
        voters_committed=core.voter_sets.at(core.committed),
        followers=_followers(core, log),
    )


def _followers(core: RaftCore, log: PartitionLog) -> tuple[FollowerStatus, ...]:
    return tuple(
        FollowerStatus(
            voter=progress.voter,
            votes=progress.voter in core.voters,
            heard=core.is_heard(progress.voter),
            match=progress.match,
            counts=progress.counted >= progress.match,
            held_bytes=None if progress.voter in core.voters else log.size_to(progress.match),
        )
        for progress in core.progress.values()
    )
