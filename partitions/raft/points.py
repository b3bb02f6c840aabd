"""Points, items, and the term journal: where things stand in one replicated log.

A *point* is the place right after an item: (term of the item, log end offset after it, how many zero-width items of
that term the log holds up to there). Points of one log rise strictly, and compare lexicographically.

Invariants
    a term begins with its term start, (T, X, 1), at the log end X that its leader found
    a log holds, of every term, a prefix of what that term's leader appended (log matching)
    hence a log holds a point exactly if its last point of that term is at or past it
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .messages import Voter


class Point(NamedTuple):
    """A place in a replicated log, right after an item."""

    term: int
    offset: int
    """Log end offset there: the offset that the next record would get."""
    rank: int
    """Zero-width items of `term` up to there."""

    def __str__(self) -> str:
        return f"{self.offset}@{self.term}.{self.rank}"


ORIGIN = Point(0, 0, 0)
"""Before the first item of a new log."""


class ItemKind(IntEnum):
    """What an item is. All but RECORDS are zero-width: they take no offset, and fetches leave them out."""

    RECORDS = 0
    TERM_START = 1
    VOTERS = 2
    LOG_START = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the log: a batch of records, or a zero-width item."""

    point: Point
    """The place right after this item."""
    kind: ItemKind
    data: bytes | bytearray | memoryview
    """As stored: one RecordBatch v2, its base offset and term already stamped."""
    voters: tuple[Voter, ...] = ()
    """Of a voter change: the whole new set, which the data says too."""


class TermSpan(NamedTuple):
    """What a log holds of one term."""

    term: int
    zero_width_offsets: tuple[int, ...]
    """Offsets at which the term's zero-width items stand, the term start first; never empty but for a base."""
    end_offset: int
    rank_before: int = 0
    """Zero-width items of this term that lie before the first one listed (a log whose head was cut off)."""

    @property
    def last(self) -> Point:
        return Point(self.term, self.end_offset, self.rank_before + len(self.zero_width_offsets))


class TermJournal:
    """The terms a log holds, from which every question about points is answered. Kafka's leader-epoch cache.

    `base` is the point at which the log begins: ORIGIN for a whole log.
    """

    def __init__(self, base: Point = ORIGIN) -> None:
        self.base = base
        self._spans: list[TermSpan] = []
        if base.term:
            self._spans.append(TermSpan(base.term, (), base.offset, base.rank))

    @property
    def last(self) -> Point:
        return self._spans[-1].last if self._spans else self.base

    @property
    def spans(self) -> tuple[TermSpan, ...]:
        return tuple(self._spans)

    def extend(self, item: Point) -> None:
        """Note the next item, which ends at the point `item`."""
        last = self.last
        if item.term > last.term:
            assert item.offset == last.offset and item.rank == 1, f"{item} after {last}: a term begins with its start"
            self._spans.append(TermSpan(item.term, (item.offset,), item.offset))
            return
        span = self._spans[-1]
        if item.rank > last.rank:
            assert item == (last.term, last.offset, last.rank + 1), f"{item} cannot follow {last}"
            self._spans[-1] = span._replace(zero_width_offsets=(*span.zero_width_offsets, item.offset))
        else:
            assert item.term == last.term and item.rank == last.rank and item.offset > last.offset, (
                f"{item} cannot follow {last}"
            )
            self._spans[-1] = span._replace(end_offset=item.offset)

    def extend_all(self, items: Iterable[Point]) -> None:
        for item in items:
            self.extend(item)

    def last_of(self, term: int) -> Point | None:
        """The last point of `term` in this log, or None if it holds nothing of it."""
        at = bisect_right(self._spans, term, key=lambda span: span.term) - 1
        if at < 0 or self._spans[at].term != term:
            return None
        return self._spans[at].last

    def holds(self, point: Point) -> bool:
        """Does this log hold exactly the item that ends at `point`? True of its own base, unknown (False) below it."""
        if point == self.base:
            return True
        if point < self.base:
            return False
        last = self.last_of(point.term)
        return last is not None and point <= last

    def floor(self, point: Point) -> Point:
        """The greatest point of this log that could also be in a log that ends at `point`.

        Of a term both hold, the shorter end; else this log's last point of the newest term below.
        """
        if point <= self.base:
            return self.base
        at = bisect_right(self._spans, point.term, key=lambda span: span.term) - 1
        if at < 0:
            return self.base
        return min(self._spans[at].last, point) if self._spans[at].term == point.term else self._spans[at].last

    def cut(self, point: Point) -> None:
        """Forget everything after `point`, which the log holds."""
        assert self.holds(point), f"cannot cut to {point}: the log holds {self._spans}"
        if point == self.base and not self.base.term:
            self._spans.clear()
            return
        while self._spans[-1].term > point.term:
            self._spans.pop()
        span = self._spans[-1]
        kept = span.zero_width_offsets[: point.rank - span.rank_before]
        self._spans[-1] = span._replace(zero_width_offsets=kept, end_offset=point.offset)

    def begin_at(self, base: Point) -> None:
        """Forget everything before `base`, which the log holds: it begins there from now on."""
        assert self.holds(base), f"cannot begin at {base}: the log holds {self._spans} from {self.base} on"
        self._spans = [span for span in self._spans if span.term >= base.term]
        if self._spans and self._spans[0].term == base.term:
            span = self._spans[0]
            kept = span.zero_width_offsets[base.rank - span.rank_before :]
            self._spans[0] = span._replace(zero_width_offsets=kept, rank_before=base.rank)
        self.base = base

    def point_after_records(self, end_offset: int, term: int) -> Point:
        """The point right after the batch of `term` whose records end before `end_offset`."""
        at = bisect_right(self._spans, term, key=lambda span: span.term) - 1
        span = self._spans[at]
        assert at >= 0 and span.term == term, f"nothing of term {term} here"
        return Point(term, end_offset, span.rank_before + self._zero_width_before(span, end_offset))

    def term_at(self, offset: int) -> int:
        """The term of the record at `offset`, or of the last item if `offset` is the log end."""
        for span in reversed(self._spans):
            start = span.zero_width_offsets[0] if span.zero_width_offsets and not span.rank_before else self.base.offset
            if start <= offset:
                return span.term
        return self.base.term

    def copy(self) -> TermJournal:
        twin = TermJournal(self.base)
        twin._spans = list(self._spans)
        return twin

    @staticmethod
    def _zero_width_before(span: TermSpan, end_offset: int) -> int:
        # A zero-width item at exactly `end_offset` stands after the records that end there.
        return bisect_right(span.zero_width_offsets, end_offset - 1)
