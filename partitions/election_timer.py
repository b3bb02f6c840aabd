"""The one timer of a replica's core: of an election, or of what its leader does at intervals.

Invariants
    it is set once at a time, and does not fire once it was stopped
    where campaigns have turns, an election's waits for its own, and gives it back when the campaign is over
"""

from __future__ import annotations

from collections.abc import Callable

from .campaigns import Campaigns
from .environment import Environment, PartitionId, TimerHandle
from .raft.core import RaftCore, Role


class ElectionTimer:
    """Without `campaigns` it fires whenever it is time."""

    def __init__(
        self,
        environment: Environment,
        campaigns: Campaigns | None,
        partition: PartitionId,
        core: RaftCore,
        fire: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._campaigns = campaigns
        self._partition = partition
        self._core = core
        self._fire = fire
        self._timer: TimerHandle | None = None
        self._stopped = False

    def set(self, delay_ms: float) -> None:
        """Fire so much later, and not when it was set to before; 0: not at all."""
        if self._campaigns is not None:
            self._campaigns.withdraw(self._partition)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms:
            self._timer = self._environment.call_later(delay_ms, self._on_time)

    def end_turn(self) -> None:
        """Unless it still seeks to be elected, or does not know yet what is committed."""
        core = self._core
        if self._campaigns is not None and (
            self._stopped or core.role is Role.FOLLOWER or core.is_ready or not core.is_heard_by_majority
        ):
            self._campaigns.over(self._partition)

    def stop(self) -> None:
        self._stopped = True
        self.set(0)
        self.end_turn()

    def _on_time(self) -> None:
        self._timer = None
        if self._campaigns is None or self._core.is_leader:
            self._fire()
        else:
            self._campaigns.ask(self._partition, self._on_turn)

    def _on_turn(self) -> None:
        self._fire()
        self.end_turn()
