"""How fast replicas are copied, and how long that will still take: a leader's figures, look by look.

Invariants
    a rate is that of the last few seconds; nothing is said before two looks have been taken
    the time left follows from how the rest shrinks, not from what is sent: what comes in meanwhile counts against it
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ..partitions.environment import PartitionId
from ..partitions.raft.messages import Voter

UNKNOWN = -1
WINDOW_MS = 8_000.0


class CopyView(NamedTuple):
    """How far one replica has been copied."""

    bytes_done: int
    bytes_total: int
    """Of the leader's log now."""
    bytes_per_second: int
    """UNKNOWN at first."""
    time_left_ms: int
    """UNKNOWN at first, and while the rest does not shrink."""


class _Look(NamedTuple):
    at_ms: float
    done: int
    left: int


class Copying:
    """Of the partitions that a broker leads. Time is an argument: monotonic, in ms."""

    def __init__(self) -> None:
        self._looks: dict[tuple[PartitionId, Voter], deque[_Look]] = {}

    def look(self, now_ms: float, held: dict[tuple[PartitionId, Voter], tuple[int, int]]) -> None:
        """Once a second: of each replica that is being copied, the bytes it holds, and those there are."""
        self._looks = {key: self._looks.get(key, deque()) for key in held}
        for key, (done, total) in held.items():
            looks = self._looks[key]
            looks.append(_Look(now_ms, done, max(total - done, 0)))
            while looks[0].at_ms < now_ms - WINDOW_MS:
                looks.popleft()

    def left_bytes(self) -> list[int]:
        """Of each replica that lacked something at the last look: how much."""
        return [looks[-1].left for looks in self._looks.values() if looks[-1].left]

    def view(self, partition: PartitionId, voter: Voter, done: int, total: int) -> CopyView:
        looks = self._looks.get((partition, voter))
        if not looks or looks[-1].at_ms <= looks[0].at_ms:
            return CopyView(done, total, UNKNOWN, UNKNOWN)
        first, last = looks[0], looks[-1]
        elapsed_ms = last.at_ms - first.at_ms
        # A session that began anew knows less for a moment than the one before.
        rate = round(max(last.done - first.done, 0) * 1000 / elapsed_ms)
        shrunk_per_ms = (first.left - last.left) / elapsed_ms
        left = max(total - done, 0)
        return CopyView(done, total, rate, round(left / shrunk_per_ms) if shrunk_per_ms > 0 else UNKNOWN)
