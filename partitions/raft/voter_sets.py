"""Who votes in one replicated log, as of each point at which that changed.

Invariants
    a set counts from the point right after the item that names it, committed or not, until a cut takes the item away
    each set is named whole: what stands before the newest one is needed only if that is cut
    the points rise; the first is the log's base, with the set as of there: nobody, in the log of one who only learns
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from .messages import Voter
from .points import Point


class VoterChange(NamedTuple):
    """From `point` on, `voters` vote."""

    point: Point
    voters: tuple[Voter, ...]


class VoterSets:
    """The sets of one log, from its base on."""

    def __init__(self, base: Point, voters: tuple[Voter, ...]) -> None:
        self._changes = [VoterChange(base, voters)]

    @property
    def newest(self) -> tuple[Voter, ...]:
        return self._changes[-1].voters

    @property
    def changed_at(self) -> Point:
        """The point as of which the newest set counts."""
        return self._changes[-1].point

    def changes_after(self, point: Point) -> tuple[VoterChange, ...]:
        return tuple(change for change in self._changes if change.point > point)

    def may_need(self, voter: Voter, committed: Point) -> bool:
        """Does it vote, or did it until a change that is not known to be committed?

        Only the newest change can be uncommitted, but after a restart it is not known that those before it are not.
        """
        open_changes = self.changes_after(committed)
        return voter in self.newest or (
            bool(open_changes)
            and any(voter in named for named in (self.at(committed), *(each.voters for each in open_changes)))
        )

    def note(self, point: Point, voters: tuple[Voter, ...]) -> None:
        """The item that ends at `point` names a new set."""
        assert point > self.changed_at, f"voters change at {point}, after they changed at {self.changed_at}"
        self._changes.append(VoterChange(point, voters))

    def at(self, point: Point) -> tuple[Voter, ...]:
        """Who votes as far as the items through `point` say."""
        at = bisect_right(self._changes, point, key=lambda change: change.point) - 1
        return self._changes[max(at, 0)].voters

    def cut(self, point: Point) -> None:
        """Forget the changes after `point`: their items are cut away, and the set before them counts again."""
        while len(self._changes) > 1 and self._changes[-1].point > point:
            self._changes.pop()

    def begin_at(self, base: Point) -> None:
        """Forget the changes before `base`, but for the set that they left."""
        self._changes = [VoterChange(base, self.at(base)), *self.changes_after(base)]

    def copy(self) -> VoterSets:
        twin = VoterSets(*self._changes[0])
        twin._changes = list(self._changes)
        return twin
