"""Who leads one partition, as one replica knows it: what may be asked of this one, and how it hands over.

Invariants
    who is refused hears why, and who leads, if that is known
    a hand-over ends when another leads in a newer term, or its time is over; this replica leads on if it still can
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..proto.errors import NoLeader, NotLeader, ReplicaDamaged
from .environment import Environment, PartitionId, ReplicaConfig
from .raft.core import RaftCore
from .raft.events import AskLeader, Event, TransferAbandoned, TransferTo


class Leading(Protocol):
    """The replica that leads, or does not."""

    partition: PartitionId

    @property
    def is_stopped(self) -> bool: ...
    def take(self, event: Event) -> None: ...


class Leadership:
    """Of one replica."""

    def __init__(self, environment: Environment, core: RaftCore, config: ReplicaConfig, replica: Leading) -> None:
        self._environment = environment
        self._core = core
        self._config = config
        self._replica = replica
        self._handing_over: list[tuple[int, asyncio.Future[None]]] = []
        """Each with the term in which it began."""
        self._awaits_leader = False
        """The leader does not know yet that this log is not what it was."""

    def require(self) -> None:
        """Raises NotLeader, NoLeader, ReplicaDamaged."""
        if self._core.damaged:
            raise ReplicaDamaged(f"stored bytes of {self._replica.partition} are unreadable here; ask another replica")
        if self._replica.is_stopped or not self._core.is_leader:
            raise self.refusal()

    def require_ready(self) -> None:
        """Raises NotLeader, NoLeader (it does not know yet what is committed), ReplicaDamaged."""
        self.require()
        if not self._core.is_ready:
            raise NoLeader(
                f"the new leader of {self._replica.partition} does not know yet what is committed; try again"
            )

    def require_no_transfer(self) -> None:
        """Raises NoLeader: what is proposed now would only be in its successor's way."""
        if self._core.transfer_target is not None:
            raise NoLeader(
                f"leadership of {self._replica.partition} is being handed over; try again", term=self._core.term
            )

    def refusal(self) -> NotLeader | NoLeader:
        """To whoever asks a replica that does not lead."""
        core, partition = self._core, self._replica.partition
        leader = core.leader
        if leader is None or leader == core.voter:
            return NoLeader(f"{partition} has no leader that this broker knows; try again")
        return NotLeader(f"{partition} is led by broker {leader.broker_id}", leader_id=leader.broker_id, term=core.term)

    async def transfer(self, broker_id: int, timeout_ms: int) -> None:
        """Hand it to the voter on `broker_id`. Raises NotLeader, NoLeader (it did not take over in time)."""
        core, replica = self._core, self._replica
        self.require()
        if broker_id == core.voter.broker_id:
            return
        handed_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handing_over.append((core.term, handed_over))
        deadline = self._environment.call_later(timeout_ms, lambda: _resolve(handed_over))
        try:
            replica.take(TransferTo(broker_id))
            await handed_over
        finally:
            deadline.cancel()
            self._handing_over = [one for one in self._handing_over if one[1] is not handed_over]
            replica.take(TransferAbandoned())
        leader = core.leader
        if leader is None or leader.broker_id != broker_id:
            raise NoLeader(f"broker {broker_id} did not take over {replica.partition} within {timeout_ms} ms")

    def note_leader(self) -> None:
        """Another leader may be known now."""
        if self._core.leader is not None:
            for term, handed_over in self._handing_over:
                if self._core.term > term:
                    _resolve(handed_over)

    def ask_leader(self) -> None:
        """What is it to send, now that this log is not what it was?"""
        self._awaits_leader = True
        self._ask()

    def ask_leader_later(self) -> None:
        self._awaits_leader = True
        self._environment.call_later(self._config.election_timeout_ms, self._ask)

    def leader_heard(self) -> None:
        """It knows."""
        self._awaits_leader = False

    def _ask(self) -> None:
        """Until something comes of it: messages can be lost."""
        if self._awaits_leader and not self._replica.is_stopped and not self._core.is_leader:
            self._replica.take(AskLeader())
            self._environment.call_later(self._config.election_timeout_ms, self._ask)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
