"""Which copies of a leader's log count, and how far a majority of them goes.

Invariants
    one copy for each voter; a copy counts once it is synced, or written where that was asked for
    an item without width, and all before it, is held by a majority only once a majority has synced it
    the own copy counts by what this disk holds, like any other
"""

from __future__ import annotations

from .followers import Followers
from .messages import Voter
from .points import ORIGIN, Point
from .progress import held_by_majority
from .standing import Standing


class Copies:
    """Of the log of `leader`: there are others only while it leads."""

    def __init__(self, leader: Voter, standing: Standing, followers: Followers) -> None:
        self.others_count_written = False
        """Do others' copies count once they are written?"""
        self.own_counts_written = False
        self.must_be_synced = ORIGIN
        """The newest of its items without width; before a majority has that on disk, only disks count."""
        self._leader = leader
        self._standing = standing
        self._followers = followers

    def count_holding(self, point: Point) -> int:
        """Voters known to hold `point`: on disk, or written where that counts."""
        copies = self._written() if self.others_count_written else self._synced()
        return sum(copy >= point for copy in copies)

    def held_by_majority(self) -> tuple[Point, Point]:
        """By what counts, and on disk."""
        held = synced = held_by_majority(self._synced())
        if self.others_count_written and synced >= self.must_be_synced:
            held = max(held, held_by_majority(self._written()))
        return held, synced

    def _synced(self) -> list[Point]:
        own, progress = self._standing.persisted, self._followers.progress
        return [own if voter == self._leader else progress[voter].counted_synced for voter in self._standing.voters]

    def _written(self) -> list[Point]:
        own = self._standing.last if self.own_counts_written else self._standing.persisted
        progress = self._followers.progress
        return [own if voter == self._leader else progress[voter].counted for voter in self._standing.voters]
