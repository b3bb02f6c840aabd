"""How far one replica's log goes, how much of that is on its disk, and how much is known to be committed.

Invariants
    base <= committed_synced <= committed <= last, but for a log that was read anew and is shorter than what it held
    what was committed once is so for good: a log that a hole hides for a while knows it again when it has it again
    what follows `committed_synced` can be lost with the memory of a majority, and what comes before cannot
"""

from __future__ import annotations

from .messages import Voter
from .points import ORIGIN, Point, TermJournal
from .voter_sets import VoterSets


class Standing:
    """Of one log, all of which is persisted when this begins. Journal and voter sets become its own."""

    def __init__(self, journal: TermJournal, voter_sets: VoterSets, cleaned_to: int) -> None:
        self.journal = journal
        self.voter_sets = voter_sets
        self.cleaned_to = cleaned_to
        """Below this offset the log lacks tombstones, or bounds, that the whole one had."""
        self.persisted = journal.last
        self.committed = journal.base
        self.committed_synced = journal.base
        """As far as it is known that a majority once held it on disk. No loss of power takes it from the partition."""
        self._committed_once = self._synced_once = ORIGIN
        """The highest committed points of a log that was read anew: a hole may have hidden them for a while."""

    @property
    def last(self) -> Point:
        return self.journal.last

    @property
    def base(self) -> Point:
        return self.journal.base

    @property
    def voters(self) -> tuple[Voter, ...]:
        """By the newest change, committed or not."""
        return self.voter_sets.newest

    def cut(self, point: Point) -> bool:
        """Forget what comes after `point`. Do others vote now?"""
        assert point >= self.committed_synced, f"cutting to {point}, but {self.committed_synced} is committed"
        if point < self.committed:
            self.committed = point
            self._committed_once = min(self._committed_once, point)
        self.journal.cut(point)
        self.persisted = min(self.persisted, point)
        if self.voter_sets.changed_at <= point:
            return False
        self.voter_sets.cut(point)
        return True

    def drop_before(self, base: Point) -> None:
        """The log begins there now."""
        assert base <= self.committed, f"dropping through {base}, but only {self.committed} is committed"
        self.journal.begin_at(base)
        self.voter_sets.begin_at(base)

    def clean_to(self, offset: int) -> None:
        assert offset <= self.committed.offset, f"cleaning to {offset} past {self.committed}"
        self.cleaned_to = max(self.cleaned_to, offset)

    def begin_anew(self, base: Point, voters: tuple[Voter, ...], cleaned_to: int) -> None:
        """Be an empty log that begins at `base`, which is committed; nothing of it is on disk yet."""
        self.journal = TermJournal(base)
        self.voter_sets = VoterSets(base, voters)
        self.cleaned_to = cleaned_to
        self.persisted = ORIGIN
        # What was committed by synced copies is so for good; of the rest this log may hold what the voters lost.
        self._committed_once = min(self._committed_once, max(self._synced_once, self.committed_synced))
        self.committed = self.committed_synced = base

    def read_anew(self, journal: TermJournal, voter_sets: VoterSets, cleaned_to: int, committed: Point) -> None:
        """The log was recovered, and says this now. For `committed` see `LogRecovered`."""
        self.journal = journal
        self.voter_sets = voter_sets
        self.cleaned_to = cleaned_to
        self.persisted = journal.last
        # What was committed is so for good; of this log it is as much as the log shows.
        self._committed_once = max(self._committed_once, min(self.committed, committed))
        self.committed = max(min(self._committed_once, journal.last), journal.base)
        self._synced_once = max(self._synced_once, min(self.committed_synced, committed))
        self.committed_synced = max(min(self._synced_once, self.committed), journal.base)

    def give_up_beyond_hole(self) -> None:
        """What a hole hides does not come back: what is committed is found out anew."""
        self._committed_once = self._synced_once = ORIGIN
