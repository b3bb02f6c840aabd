"""A rebalance: the plan that the controller makes, and carrying it out move by move.

Invariants
    each move is a decision of its own, which the brokers carry out whatever becomes of the caller; so a rebalance can
        be left at any moment, and planned anew
    no more than `at_once` moves that copy records are under way
    a partition that was placed otherwise since the plan was made is left as it is
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..proto.errors import InvalidRequest, LograftError, UnknownTopic

if TYPE_CHECKING:
    from .admin import Admin, PartitionDescription

AT_ONCE = 4
_LOOK_INTERVAL_S = 0.5
_LEADERS_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """One partition's brokers as they are and as they should be, the preferred leader first."""

    topic: str
    partition: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    size_bytes: int
    """Of one replica; -1 if not known."""

    @property
    def replicas_moved(self) -> int:
        """How many replicas are copied; 0 if only another leader is preferred."""
        return len({*self.after} - {*self.before})


@dataclass(frozen=True, slots=True)
class BrokerShare:
    """What one broker holds and is preferred for as leader, before and after."""

    broker_id: int
    replicas_before: int
    replicas_after: int
    leaders_before: int
    leaders_after: int


@dataclass(frozen=True, slots=True)
class RebalancePlan:
    """What it takes to have brokers hold and lead equally much. Nothing of it is decided yet."""

    moves: tuple[PlannedMove, ...]
    """Those that copy records first."""
    brokers: tuple[BrokerShare, ...]
    """Those among which is shared out."""
    set_aside: int
    """Partitions left alone: being moved already, without a leader, or with a replica on a dead broker."""

    @property
    def replicas_moved(self) -> int:
        return sum(move.replicas_moved for move in self.moves)

    @property
    def bytes_moved(self) -> int:
        """As far as sizes are known."""
        return sum(move.replicas_moved * max(move.size_bytes, 0) for move in self.moves)


@dataclass(slots=True)
class RebalanceProgress:
    """How far a rebalance has come."""

    waiting: int
    """Moves not begun."""
    under_way: list[PlannedMove] = field(default_factory=list)
    """Decided, and being copied."""
    done: list[PlannedMove] = field(default_factory=list)
    left: list[tuple[PlannedMove, str]] = field(default_factory=list)
    """Moves that were not begun, and why."""
    seen: dict[PlannedMove, PartitionDescription] = field(default_factory=dict)
    """How the partitions under way looked last; those that could be looked at."""
    leaders_awaited: int = 0
    """Partitions that the preferred broker does not lead yet."""


Report = Callable[[RebalanceProgress], None]


async def carry_out(admin: Admin, plan: RebalancePlan, *, at_once: int, report: Report) -> RebalanceProgress:
    """Decide the plan's moves, the next as others are done, and wait for the leaders to follow.

    Leaders that have not changed after a minute without news are no failure: they follow by themselves.
    """
    progress = RebalanceProgress(len(plan.moves))
    loop = asyncio.get_running_loop()
    to_begin = list(reversed(plan.moves))
    while to_begin or progress.under_way:
        while to_begin and len(progress.under_way) < at_once:
            await _begin(admin, to_begin.pop(), progress)
            progress.waiting = len(to_begin)
            report(progress)
        for move in list(progress.under_way):
            if await _is_copied(admin, move, progress.seen):
                progress.under_way.remove(move)
                progress.seen.pop(move, None)
                progress.done.append(move)
        report(progress)
        if progress.under_way:
            await asyncio.sleep(_LOOK_INTERVAL_S)
    news_at, fewest = loop.time(), len(plan.moves) + 1
    while loop.time() - news_at < _LEADERS_PATIENCE_S:
        progress.leaders_awaited = await _not_leading_yet(admin, progress.done)
        if progress.leaders_awaited < fewest:
            news_at, fewest = loop.time(), progress.leaders_awaited
            report(progress)
        if not fewest:
            break
        await asyncio.sleep(_LOOK_INTERVAL_S)
    return progress


async def _begin(admin: Admin, move: PlannedMove, progress: RebalanceProgress) -> None:
    """Have the move decided. One that only prefers another leader is done by that."""
    try:
        found = await _partition(admin, move)
        if found is not None and _placed(found) == move.before:
            await _decide(admin, move)
            (progress.under_way if move.replicas_moved else progress.done).append(move)
        else:
            progress.left.append((move, "it is gone" if found is None else "it was placed otherwise meanwhile"))
    except LograftError as error:
        progress.left.append((move, str(error)))


async def _decide(admin: Admin, move: PlannedMove) -> None:
    try:
        await admin.move_partition(move.topic, move.partition, move.after)
    except InvalidRequest:
        # If the answer to a first try was lost, the second is refused: it is there, or on its way, already.
        found = await _partition(admin, move)
        if found is None or _placed(found) != move.after:
            raise


async def _is_copied(admin: Admin, move: PlannedMove, seen: dict[PlannedMove, PartitionDescription]) -> bool:
    """Do just those vote who are placed? Somebody else may have moved it on: then nothing is left to wait for."""
    try:
        found = await _partition(admin, move)
    except LograftError:
        return False  # asked again
    if found is None or _placed(found) != move.after:
        return True
    seen[move] = found
    return found.leader_id >= 0 and not found.moving and all(replica.voter for replica in found.replicas)


async def _not_leading_yet(admin: Admin, moves: list[PlannedMove]) -> int:
    try:
        topics = {topic.name: topic for topic in await admin.list_topics(internal=True)}
    except LograftError:
        return len(moves)
    count = 0
    for move in moves:
        topic = topics.get(move.topic)
        if topic is not None and move.partition < len(topic.partitions):
            found = topic.partitions[move.partition]
            count += found.leader_id != move.after[0] and _placed(found) == move.after
    return count


async def _partition(admin: Admin, move: PlannedMove) -> PartitionDescription | None:
    try:
        topic = await admin.describe_topic(move.topic)
    except UnknownTopic:
        return None
    return topic.partitions[move.partition] if move.partition < len(topic.partitions) else None


def _placed(found: PartitionDescription) -> tuple[int, ...]:
    return tuple(replica.broker_id for replica in found.replicas if not replica.leaving)
