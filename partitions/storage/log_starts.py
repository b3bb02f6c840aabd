"""Where a log starts, as of each point at which that changed.

Invariants
    the start never moves back: a move to an earlier offset than the newest one says nothing
    a move counts as of its own point, so whoever knows what is committed knows which start is
    no start lies before the base: what is not there cannot be read
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from ..raft.points import Point


class _Move(NamedTuple):
    point: Point
    """Right after the item that moved the start; of the first one, the log's base."""
    start_offset: int


class LogStarts:
    """The moves of one log's start, from its base on."""

    def __init__(self, base: Point, start_offset: int) -> None:
        self._moves = [_Move(base, max(start_offset, base.offset))]

    @property
    def newest(self) -> int:
        """As the newest move says, committed or not."""
        return self._moves[-1].start_offset

    def note(self, point: Point, start_offset: int) -> None:
        """From `point` on the log starts at `start_offset`, unless it starts later already."""
        if start_offset > self.newest:
            self._moves.append(_Move(point, start_offset))

    def at(self, point: Point) -> int:
        """Where the log starts, as far as the items through `point` say."""
        at = bisect_right(self._moves, point, key=lambda move: move.point) - 1
        return self._moves[max(at, 0)].start_offset

    def moved_past(self, offset: int) -> Point:
        """The point as of which the log starts at or after `offset`, which the newest move reached."""
        at = bisect_right(self._moves, offset - 1, key=lambda move: move.start_offset)
        assert at < len(self._moves), f"the log starts at {self.newest}, not yet at {offset}"
        return self._moves[at].point

    def cut(self, point: Point) -> None:
        """Forget the moves after `point`: their items are cut away."""
        while len(self._moves) > 1 and self._moves[-1].point > point:
            self._moves.pop()

    def begin_at(self, base: Point) -> None:
        """Forget the moves before `base`, but for where they left the start."""
        start_offset = max(self.at(base), base.offset)
        later = [move for move in self._moves if move.point > base and move.start_offset > start_offset]
        self._moves = [_Move(base, start_offset), *later]
