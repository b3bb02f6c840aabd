"""One replica's campaigns: who gave it their votes, who refused, and how often it has failed in a row.

Invariants
    votes and refusals are those of the present campaign; a pre-vote is none of the campaign that follows it
    a vote in doubt counts only where all voters give theirs
"""

from __future__ import annotations

from .messages import Voter
from .progress import majority

BACK_OFF_MAX = 8
"""A failed campaign is repeated after 1 to 2 election timeouts, doubling up to this factor."""

_FAILURES_COUNTED = 10


class Election:
    """As the candidate sees it. Of how many voters it is, it is told each time: that may change meanwhile."""

    def __init__(self) -> None:
        self._votes: dict[Voter, bool] = {}
        """Is it in doubt?"""
        self._refusals: set[Voter] = set()
        self._failures = 0

    def begin(self) -> None:
        """Nobody has voted yet."""
        self._votes = {}
        self._refusals = set()

    def note_vote(self, voter: Voter, *, doubtful: bool) -> None:
        self._votes[voter] = doubtful

    def note_refusal(self, voter: Voter) -> None:
        self._refusals.add(voter)

    def is_won(self, voter_count: int) -> bool:
        """A majority of those who surely kept what they acknowledged; else all voters, and the highest point wins."""
        return self.is_sure(voter_count) or len(self._votes) == voter_count

    def is_sure(self, voter_count: int) -> bool:
        """Is it won without those in doubt?"""
        return sum(not doubtful for doubtful in self._votes.values()) >= majority(voter_count)

    def is_lost(self, voter_count: int) -> bool:
        """Whatever the others say."""
        return len(self._refusals) > voter_count - majority(voter_count)

    @property
    def back_off(self) -> int:
        """By which the next campaign is to be put off, in election timeouts."""
        return min(1 << self._failures, BACK_OFF_MAX)

    def note_failure(self) -> None:
        self._failures = min(self._failures + 1, _FAILURES_COUNTED)

    def forget_failures(self) -> None:
        self._failures = 0
