"""How long each broker has been out of sight of this controller, and who is gone by that.

What always holds
    what counts is the time through which this controller looked, look by look: a clock that jumps, or a loop that
        slept, adds no more than a look does
    a controller that takes office knows of no absence: it counts anew
    while it does not see more than half of the brokers nobody's absence counts: it may be the one that is cut off
"""

from __future__ import annotations

from collections.abc import Collection

LOOK_MS_MAX = 2_000.0
"""Between two looks no more than this counts."""


class Absences:
    """Belongs to one broker; asked while that is the controller. Time is an argument: monotonic, in ms."""

    def __init__(self) -> None:
        self._term = 0
        self._looked_ms = 0.0
        self._unseen_ms: dict[int, float] = {}

    def look(self, now_ms: float, term: int, members: Collection[int], alive: Collection[int]) -> dict[int, float]:
        """For how long each of `members` that is not `alive` has been unseen. `term`: of this controller's reign."""
        if term != self._term:
            self._term, self._unseen_ms = term, {}
            elapsed_ms = 0.0
        else:
            elapsed_ms = min(max(now_ms - self._looked_ms, 0.0), LOOK_MS_MAX)
        self._looked_ms = now_ms
        unseen = [broker_id for broker_id in members if broker_id not in alive]
        counts = 2 * len(unseen) < len(members)
        self._unseen_ms = {
            broker_id: self._unseen_ms[broker_id] + elapsed_ms * counts if broker_id in self._unseen_ms else 0.0
            for broker_id in unseen
        }
        return dict(self._unseen_ms) if counts else {}
