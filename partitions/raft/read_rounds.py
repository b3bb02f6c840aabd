"""Reads that wait until a leader knows that it still led when they came.

Invariants
    one round at a time: a read that comes during a round waits for the next one, whose probes leave after it came
    an answer counts for the round that it names, and only for the present one
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .messages import Voter
from .progress import majority


class ReadRounds:
    """Of one leader. Reads are tokens of whoever asked."""

    def __init__(self) -> None:
        self.number = 0
        """Of the present round, or the last one."""
        self._in_round: list[int] = []
        self._waiting: list[int] = []
        self._confirmed: set[Voter] = set()

    @property
    def is_under_way(self) -> bool:
        return bool(self._in_round)

    def wait(self, token: int) -> None:
        """Until the next round, which is to begin after this."""
        self._waiting.append(token)

    def begin(self, leader: Voter) -> bool:
        """Begin a round, which `leader` confirms at once. False: one is under way, or nobody waits."""
        if self._in_round or not self._waiting:
            return False
        self._in_round, self._waiting = self._waiting, []
        self.number += 1
        self._confirmed = {leader}
        return True

    def unheard(self, voters: Iterable[Voter]) -> list[Voter]:
        """Those of them who have not confirmed this round."""
        return [voter for voter in voters if voter not in self._confirmed]

    def note(self, voter: Voter, number: int) -> bool:
        """That one follows the leader, as it said in a round. False: that round is over."""
        if number != self.number:
            return False
        self._confirmed.add(voter)
        return True

    def end(self, voters: Sequence[Voter]) -> list[int]:
        """The reads of this round, if a majority of these voters has confirmed it: it is over then."""
        confirmed = sum(voter in self._confirmed for voter in voters)
        if confirmed < majority(len(voters)):
            return []
        ended, self._in_round = self._in_round, []
        return ended

    def give_up(self) -> list[int]:
        """All reads that nobody has answered: they are forgotten here."""
        unanswered = [*self._in_round, *self._waiting]
        self._in_round, self._waiting = [], []
        return unanswered
