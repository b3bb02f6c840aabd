"""When a replica that is placed here no more may be deleted: once the leader of its own partition says so, twice.

Invariants
    absence is no reason: the decisions must name the partition's replicas, this one not among them, and by its number
        it was placed before them; by those that the leader knows as well as by those known here
    the leader lets go only of whom neither the newest voter set of its log nor the committed one names, and whom its
        own decisions do not place; a read-index round that began after the question confirms that it leads
    before the question that counts this replica falls silent, and stays so until the answer: nobody who leads later
        can make it a voter again, for it acknowledges nothing to them
    a question that fails changes nothing, and is asked again
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, Protocol

from ..partitions.environment import PartitionId
from ..partitions.raft.messages import Voter
from ..proto.errors import LograftError, NoLeader


class LeadingReplica(Protocol):
    """What is asked of the leader's replica."""

    @property
    def voters(self) -> tuple[Voter, ...]: ...
    @property
    def committed_voters(self) -> tuple[Voter, ...]: ...
    async def confirm_read(self) -> int: ...


Ask = Callable[[PartitionId, Voter], Awaitable[bool]]
"""Ask the leader of a partition whether it does without an identity. Raises LograftError."""


class Departures:
    """The replicas of this broker that fall silent because they may be about to be deleted."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._silent: set[PartitionId] = set()

    def is_silent(self, partition: PartitionId) -> bool:
        """Must messages for the replica here be dropped?"""
        return partition in self._silent

    async def may_delete(self, partition: PartitionId, identity: Voter) -> bool:
        """Ask whether the replica `identity`, which the decisions do not place any more, may be deleted.

        If so it is silent from now on, until `deleted`.
        """
        assert partition not in self._silent, f"{partition} is being asked about already"
        try:
            # A voter that is still needed must not fall silent for the asking.
            if not await self._ask(partition, identity):
                return False
            self._silent.add(partition)
            if await self._ask(partition, identity):
                return True
        except LograftError:
            pass
        except BaseException:
            self._silent.discard(partition)
            raise
        self._silent.discard(partition)
        return False

    def deleted(self, partition: PartitionId) -> None:
        self._silent.discard(partition)


class Placed(NamedTuple):
    """What is decided about a partition's replicas, as far as the leader knows."""

    placement: Collection[Voter]
    next_number: int
    """Of its topic: all below were given out, and are placed now or never again."""


async def lets_go(replica: LeadingReplica, identity: Voter, placed: Callable[[], Placed]) -> bool:
    """The leader's answer: does the partition do without `identity` for good?

    Raises NotLeader; NoLeader, also if the decision that places it is not known here yet.
    """
    if identity.replica_number >= placed().next_number:
        raise NoLeader(f"the leader has not heard yet of the decision that made {identity}; asked again later")
    if identity in placed().placement:
        return False
    await replica.confirm_read()
    return identity not in (*placed().placement, *replica.voters, *replica.committed_voters)
