"""The segments of one log, in line.

Invariants
    oldest first, each beginning where the one before it ends; the last one is appended to, all others are closed
    a log has at least one, but for a moment of its reset, or while its beginning is lost
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple, overload

from ..raft.points import Point
from .segment import Segment


class ClosedSegment(NamedTuple):
    """A segment that gets no more items: what retention judges."""

    base_offset: int
    end: Point
    size_bytes: int
    append_time_ms: int
    """Wall clock of the leader that appended its last item, or a later one."""


class StoredSegment(NamedTuple):
    """What of a segment is on this disk, for whoever reads its files."""

    base: Point
    end: Point
    path: str
    size: int
    append_time_before_ms: int
    segment: Segment
    """Which it is: another one may come to stand in its place, under its name."""


class Segments:
    """Who appends, cuts and drops says so here; whoever reads finds them here."""

    def __init__(self) -> None:
        self._line: list[Segment] = []

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._line)

    @overload
    def __getitem__(self, at: int) -> Segment: ...
    @overload
    def __getitem__(self, at: slice) -> list[Segment]: ...
    def __getitem__(self, at: int | slice) -> Segment | list[Segment]:
        return self._line[at]

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._line)

    def at(self, point: Point) -> int:
        """Index of the last segment that begins at or before `point`; -1 if none does."""
        return self._last(lambda segment: segment.base <= point)

    def at_offset(self, offset: int) -> int:
        """The same by offset alone."""
        return self._last(lambda segment: segment.base.offset <= offset)

    def base_offsets(self) -> list[int]:
        return [segment.base.offset for segment in self._line]

    def closed(self) -> list[ClosedSegment]:
        return [
            ClosedSegment(this.base.offset, following.base, this.size, following.append_time_before_ms)
            for this, following in pairwise(self._line)
        ]

    def stored(self, end: Point) -> list[StoredSegment]:
        """All of them, of a log that ends at `end`."""
        ends = [*(segment.base for segment in self._line[1:]), end]
        return [
            StoredSegment(this.base, end, this.path, this.size, this.append_time_before_ms, this)
            for this, end in zip(self._line, ends, strict=True)
        ]

    def hold(self, stored: StoredSegment) -> bool:
        """Is that file still one of these, with all that it held?"""
        at = self.at(stored.base)
        return at >= 0 and self._line[at] is stored.segment and stored.segment.size >= stored.size

    def between(self, base: Point, end: Point) -> list[Segment]:
        """The closed ones that hold just what lies between these points; none if no segments begin there."""
        first, beyond = self.at(base), self.at(end)
        found = self._line[max(first, 0) : beyond]
        return found if found and (found[0].base, self._line[beyond].base) == (base, end) else []

    def take(self, segments: list[Segment]) -> None:
        """Be these."""
        self._line = list(segments)

    def add(self, segment: Segment) -> None:
        self._line.append(segment)

    def replace(self, older: list[Segment], segment: Segment) -> None:
        """Put one in the place of those, which stand next to each other."""
        at = self._line.index(older[0])
        self._line[at : at + len(older)] = [segment]

    def drop_before(self, at: int) -> None:
        del self._line[:at]

    def drop_after(self, at: int) -> None:
        del self._line[at + 1 :]

    def close(self) -> None:
        """Let go of all descriptors. They are in line still."""
        for segment in self._line:
            segment.close()

    def _last(self, is_before: Callable[[Segment], bool]) -> int:
        low, high = 0, len(self._line)
        while low < high:
            middle = (low + high) // 2
            if is_before(self._line[middle]):
                low = middle + 1
            else:
                high = middle
        return low - 1
