"""What this broker saw of elections: each leadership it gained or lost, lately, and why as far as it can tell.

Invariants
    bounded: the oldest entry gives way to the newest
    only of this broker's own replicas; the others are asked for theirs, and it is told who did not answer
    nothing is decided by it
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from ..partitions.environment import PartitionId
from ..partitions.replica import Replica
from ..proto.errors import UNDECODABLE, LograftError
from .peer.links import PeerLinks

ROLES_CALL = "roles.changes"
ANSWER_MS_MAX = 1_000
KEPT_MAX = 500
"""By each broker."""


class RoleChange(NamedTuple):
    """A replica began to lead, or ceased to."""

    at_ms: int
    """Unix milliseconds, by this broker's clock."""
    broker_id: int
    topic_id: str
    number: int
    term: int
    leads: bool
    other_id: int
    """Who led before, or leads now; -1: nobody known here."""
    why: str
    """Began: `first` (nobody was known to lead before), `silent` (who led is out of touch), `handed_over` (who led is
    in touch: it handed over or resigned), `again` (it led before). Ceased: `superseded` (another leads), `resigned`."""


class ToldChanges(NamedTuple):
    """What all brokers in session said, newest first, and who did not answer."""

    changes: list[RoleChange]
    unheard: list[int]


_decode = msgspec.msgpack.Decoder(tuple[RoleChange, ...]).decode


class RoleChanges:
    """The ring of this broker (a `ReplicasWatcher`), and the way to those of the others."""

    def __init__(
        self,
        broker_id: int,
        links: PeerLinks,
        is_in_touch: Callable[[int], bool],
        wall_ms: Callable[[], int],
    ) -> None:
        self._broker_id = broker_id
        self._links = links
        self._is_in_touch = is_in_touch
        self._wall_ms = wall_ms
        self._changes: deque[RoleChange] = deque(maxlen=KEPT_MAX)
        self._led: dict[PartitionId, int] = {}
        """Who was last known to lead."""
        self._leading: set[PartitionId] = set()

    # -- what is watched (ReplicasWatcher) ---------------------------------------------------------------------------

    def opened(self, replica: Replica) -> None:
        pass

    def closed(self, partition: PartitionId) -> None:
        self._led.pop(partition, None)
        self._leading.discard(partition)

    def role_changed(self, replica: Replica) -> None:
        leader = replica.leader
        self.note(replica.partition, replica.term, replica.is_leader, None if leader is None else leader.broker_id)

    def note(self, partition: PartitionId, term: int, leads: bool, leader_id: int | None) -> None:
        """It leads or does not, and `leader_id` is believed to."""
        before = self._led.get(partition)
        if leads != (partition in self._leading):
            if leads:
                self._leading.add(partition)
                why, other_id = self._why_it_leads(before), before
            else:
                self._leading.discard(partition)
                other_id = None if leader_id == self._broker_id else leader_id
                why = "resigned" if other_id is None else "superseded"
            other_id = -1 if other_id is None else other_id
            change = RoleChange(self._wall_ms(), self._broker_id, *partition, term, leads, other_id, why)
            self._changes.append(change)
        if leads:
            self._led[partition] = self._broker_id
        elif leader_id is not None:
            self._led[partition] = leader_id

    def _why_it_leads(self, before: int | None) -> str:
        if before is None:
            return "first"
        if before == self._broker_id:
            return "again"
        return "handed_over" if self._is_in_touch(before) else "silent"

    # -- telling -----------------------------------------------------------------------------------------------------

    def encoded(self) -> bytes:
        """The answer to ROLES_CALL."""
        return msgspec.msgpack.encode(tuple(self._changes))

    async def of_all(self) -> ToldChanges:
        """This broker's, and those of all brokers in session."""
        asked = [session.broker_id for session in self._links.sessions]
        told = await asyncio.gather(*(self._ask(broker_id) for broker_id in asked))
        unheard = [broker_id for broker_id, changes in zip(asked, told, strict=True) if changes is None]
        return ToldChanges(newest_first([self._changes, *(changes or () for changes in told)]), unheard)

    async def _ask(self, broker_id: int) -> tuple[RoleChange, ...] | None:
        try:
            return _decode(await self._links.call(broker_id, ROLES_CALL, timeout_ms=ANSWER_MS_MAX))
        except (LograftError, *UNDECODABLE):
            return None  # such as a broker of an earlier version, which keeps none


def newest_first(told: Iterable[Iterable[RoleChange]]) -> list[RoleChange]:
    """All of them; those of one moment by partition and term."""
    changes = {change for of_one in told for change in of_one}
    return sorted(changes, key=lambda change: (-change.at_ms, change.topic_id, change.number, -change.term))
