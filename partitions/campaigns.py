"""Turns for campaigns: how many of one broker's replicas seek to be elected at a time.

When a broker dies, or a thousand partitions are made, the election timers of all of them go off at about the same time.
Were all to campaign at once, every broker would be so busy with votes that its heartbeats come late, the leaders just
elected step down, and all begin anew: elections without end. So each broker lets a few campaign at a time, and the next
one as soon as one of these is over. A turn only ever delays a timer, and time decides nothing about safety.

Invariants
    a replica waits in the queue at most once, and no more once its timer is set anew or stopped
    a turn ends with the campaign, when its leader knows what is committed; at the latest after `turn_ms_max`
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from .environment import Environment, TimerHandle

AT_ONCE = 32
"""Enough to keep disks and links busy, few enough for one turn of the loop."""
TURN_MS_MAX = 1_000.0
"""Nobody answers: others may fare better. Not sooner, or on a busy machine all would campaign at once after all."""


class Campaigns:
    """One a broker; replicas are named by whatever they give as `who`."""

    def __init__(self, env: Environment, *, at_once: int = AT_ONCE, turn_ms_max: float = TURN_MS_MAX) -> None:
        self._env = env
        self._at_once = at_once
        self._turn_ms_max = turn_ms_max
        self._waiting: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()
        self._running: dict[Hashable, TimerHandle] = {}
        self._filling_is_due = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def ask(self, who: Hashable, begin: Callable[[], None]) -> None:
        """Call `begin` when it is the turn of `who`, a little later at the earliest."""
        self._waiting.setdefault(who, begin)
        self._fill_soon()

    def withdraw(self, who: Hashable) -> None:
        """It waits no more."""
        self._waiting.pop(who, None)

    def over(self, who: Hashable) -> None:
        """Its campaign, if it has one, has come to an end."""
        deadline = self._running.pop(who, None)
        if deadline is not None:
            deadline.cancel()
            if self._waiting:
                self._fill_soon()

    def _fill_soon(self) -> None:
        if not self._filling_is_due and len(self._running) < self._at_once:
            self._filling_is_due = True
            self._env.call_soon(self._fill)

    def _fill(self) -> None:
        self._filling_is_due = False
        # Not more than were free when this began: those that are over at once make room for a later turn of the loop.
        for _ in range(self._at_once - len(self._running)):
            if not self._waiting:
                return
            who, begin = self._waiting.popitem(last=False)
            self._begin(who, begin)
        if self._waiting:
            self._fill_soon()

    def _begin(self, who: Hashable, begin: Callable[[], None]) -> None:
        earlier = self._running.pop(who, None)
        if earlier is not None:
            earlier.cancel()
        self._running[who] = self._env.call_later(self._turn_ms_max, lambda: self.over(who))
        begin()
