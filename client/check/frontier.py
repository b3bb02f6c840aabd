"""How far something was known to be, and since when.

Always
    a frontier only rises, in the order of the history
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import NamedTuple


class Known(NamedTuple):
    value: int
    """How far."""
    who: int
    """Whoever made it known: a number that the keeper of the frontier understands."""


class Frontier:
    """The highest value known before each event of a history. Memory: 24 bytes for each time that it rose."""

    __slots__ = ("_seqs", "_values", "_who")

    def __init__(self) -> None:
        self._seqs, self._values, self._who = array("q"), array("q"), array("q")

    def rise(self, seq: int, value: int, who: int) -> None:
        """From event `seq` on, `value` is known. Events come in their order."""
        if not self._values or value > self._values[-1]:
            self._seqs.append(seq)
            self._values.append(value)
            self._who.append(who)

    def before(self, seq: int) -> Known | None:
        """The highest value known before event `seq`."""
        place = bisect_left(self._seqs, seq) - 1
        return Known(self._values[place], self._who[place]) if place >= 0 else None

    def above(self, seq: int, value: int) -> list[Known]:
        """All steps beyond `value` that were known before event `seq`, highest first."""
        found = []
        for place in range(bisect_left(self._seqs, seq) - 1, -1, -1):
            if self._values[place] <= value:
                break
            found.append(Known(self._values[place], self._who[place]))
        return found

    @property
    def highest(self) -> int | None:
        return self._values[-1] if self._values else None
