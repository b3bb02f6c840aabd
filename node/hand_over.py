"""A broker that is about to stop hands over what it leads, so that nobody has to find out by silence that it is gone.

Invariants
    leadership goes to a voter that keeps up, on a broker that said it takes over; until it does, this broker leads on
    the others get about equally many; of those that have equally many, the first in the order of placement is chosen
    a broker that did not take over in time is asked for nothing more
    what nobody can take over is kept, and costs no time
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from ..partitions.environment import PartitionId
from ..partitions.raft.messages import Voter
from ..proto.errors import LograftError

TAKE_OVER_CALL = "leadership.take_over"
"""Asked of another broker: would it lead what it is handed? b"\\x01" if so."""
ANSWER_MS_MAX = 300
TRANSFER_MS_MAX = 1_000
AT_ONCE = 8
"""Hand-overs under way at a time: each partition's pause is that of its own, and few share the disks meanwhile."""


class LeadingReplica(Protocol):
    """What is asked of a replica that leads."""

    partition: PartitionId

    @property
    def voter(self) -> Voter: ...
    @property
    def voters(self) -> tuple[Voter, ...]: ...
    @property
    def is_leader(self) -> bool: ...
    def keeps_up(self, voter: Voter) -> bool: ...
    async def transfer_leadership(self, broker_id: int, timeout_ms: int = ...) -> None: ...


Led = TypeVar("Led", bound=LeadingReplica)


class HandedOver(NamedTuple):
    """What came of it."""

    partitions: int
    kept: tuple[PartitionId, ...]
    """Nobody took these over."""


async def hand_over(
    led: Iterable[Led],
    placement: Callable[[Led], Sequence[Voter]],
    takes_over: Callable[[int], Awaitable[bool]],
) -> HandedOver:
    """Hand every leadership of `led` to another broker that can take it."""
    round_ = _Round(placement, takes_over)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(replica: Led) -> PartitionId | None:
        async with turns:
            return None if await round_.hand_over(replica) else replica.partition

    kept = await asyncio.gather(*(one(replica) for replica in led))
    left = tuple(partition for partition in kept if partition is not None)
    return HandedOver(len(kept) - len(left), left)


class _Round(Generic[Led]):
    def __init__(
        self, placement: Callable[[Led], Sequence[Voter]], takes_over: Callable[[int], Awaitable[bool]]
    ) -> None:
        self._placement = placement
        self._takes_over = takes_over
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._failed: set[int] = set()
        self._given: Counter[int] = Counter()

    async def hand_over(self, replica: Led) -> bool:
        tried: set[int] = set()
        while replica.is_leader:
            broker_id = await self._next(replica, tried)
            if broker_id is None:
                return False
            tried.add(broker_id)
            self._given[broker_id] += 1
            try:
                await replica.transfer_leadership(broker_id, TRANSFER_MS_MAX)
            except LograftError:
                self._given[broker_id] -= 1
                if replica.is_leader:
                    self._failed.add(broker_id)
        return True  # whoever took it over

    async def _next(self, replica: Led, tried: set[int]) -> int | None:
        """Who gets it: of those that can, the one that got least so far."""
        placed = [voter for voter in self._placement(replica) if voter in replica.voters]
        order = [*placed, *(voter for voter in replica.voters if voter not in placed)]
        able = [
            voter.broker_id
            for voter in order
            if voter != replica.voter and voter.broker_id not in tried | self._failed and replica.keeps_up(voter)
        ]
        willing = [broker_id for broker_id in able if await self._is_willing(broker_id)]
        return min(willing, key=lambda broker_id: self._given[broker_id], default=None)

    async def _is_willing(self, broker_id: int) -> bool:
        """Asked once of each broker."""
        if broker_id not in self._asked:
            self._asked[broker_id] = asyncio.ensure_future(self._takes_over(broker_id))
        return await self._asked[broker_id]
