"""When followers hear what is committed, where no items are on their way that would tell them: of many logs at once.

Invariants
    what was noted is told once, at most `delay_ms` later, together with all that was noted meanwhile
    a log of which nothing is committed costs nothing

A follower needs the committed point to apply what it holds and to drop what is old, not to acknowledge: it can wait. A
message for each commit would be as much work as replication itself where records come one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .environment import Environment
from .raft.events import TellCommitted

if TYPE_CHECKING:
    from .replica import Replica

DELAY_MS = 50.0


class CommitNews:
    """One a broker."""

    def __init__(self, environment: Environment, *, delay_ms: float = DELAY_MS) -> None:
        self._environment = environment
        self._delay_ms = delay_ms
        self._due: dict[Replica, None] = {}

    def note(self, replica: Replica) -> None:
        """Its followers are to hear what it has committed."""
        if not self._due:
            self._environment.call_later(self._delay_ms, self._tell)
        self._due[replica] = None

    def _tell(self) -> None:
        due, self._due = self._due, {}
        for replica in due:
            replica.take(TellCommitted())
