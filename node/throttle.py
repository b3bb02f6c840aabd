"""How much of the backlog each learner may be sent: a broker's bytes a second, shared evenly among those that wait.

Invariants
    over any time no more is given out than the rate allows, and a burst: neither a clock that jumps nor a loop that
        slept gives more
    of those that wait at one moment none gets more than another, however many are partitions of one broker
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

BURST_MS = 250.0
"""What was not asked for is kept for so long."""

Waiting = TypeVar("Waiting", bound=Hashable)


class Throttle:
    """One a broker, of all that it sends to learners that catch up. Time is an argument: monotonic, in ms."""

    def __init__(self) -> None:
        self._shared_ms: float | None = None
        self._left_bytes = 0.0

    def share(self, now_ms: float, bytes_per_second: int, waiting: Iterable[Waiting]) -> dict[Waiting, int]:
        """What each of `waiting` may be sent now."""
        elapsed_ms = 0.0 if self._shared_ms is None else max(now_ms - self._shared_ms, 0.0)
        self._shared_ms = now_ms
        burst_bytes = bytes_per_second * BURST_MS / 1000
        self._left_bytes = min(self._left_bytes + bytes_per_second * elapsed_ms / 1000, burst_bytes)
        served = list(waiting)
        each = int(self._left_bytes // len(served)) if served else 0
        if each == 0:
            return {}
        self._left_bytes -= each * len(served)
        return dict.fromkeys(served, each)
