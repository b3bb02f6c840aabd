"""How much was done when, and the rate that follows. Pure; times are seconds of a clock that all processes here share.

Always
    a rate is what was counted in one window, divided by that window: never the sum of rates over different ones
    what falls on the edge of a window counts whole, and the window is as much wider: a millisecond, and in long runs
    less than a ten-thousandth of it
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MS_PER_S = 1000
_BINS_MAX = 50_000
"""More are put together by two: a run of hours takes no more memory than one of a minute."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end`, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Amount:
    """What was counted in so many seconds."""

    records: int
    bytes: int
    seconds: float

    @property
    def records_per_s(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def mb_per_s(self) -> float:
        """In 10^6 bytes."""
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0


class Timeline:
    """Records and bytes by the millisecond in which they were done, or by some of them."""

    def __init__(self) -> None:
        self._width_ms = 1
        self._bins: dict[int, list[int]] = {}
        self.records = 0
        self.bytes = 0

    def add(self, now: float, records: int, bytes_count: int) -> None:
        self._put(int(now * _MS_PER_S), records, bytes_count)

    def _put(self, when_ms: int, records: int, bytes_count: int) -> None:
        self.records += records
        self.bytes += bytes_count
        number = when_ms // self._width_ms
        bin_ = self._bins.get(number)
        if bin_ is not None:
            bin_[0] += records
            bin_[1] += bytes_count
            return
        self._bins[number] = [records, bytes_count]
        if len(self._bins) > _BINS_MAX:
            self._widen()

    def _widen(self) -> None:
        narrow, self._bins = self._bins, {}
        self._width_ms *= 2
        for number, (records, bytes_count) in narrow.items():
            bin_ = self._bins.setdefault(number // 2, [0, 0])
            bin_[0] += records
            bin_[1] += bytes_count

    def packed(self) -> list[int]:
        """All of it as plain numbers: millisecond, records, bytes in turn."""
        width_ms = self._width_ms
        return [number for when, (records, size) in self._bins.items() for number in (when * width_ms, records, size)]

    def add_packed(self, packed: Sequence[int]) -> None:
        for at in range(0, len(packed), 3):
            self._put(*packed[at : at + 3])

    def within(self, span: Span) -> Amount:
        per_s = _MS_PER_S / self._width_ms
        first, after = math.floor(span.start * per_s), math.floor(span.end * per_s) + 1
        if after <= first:
            return Amount(0, 0, 0.0)
        if after - first < len(self._bins):
            chosen = [self._bins[number] for number in range(first, after) if number in self._bins]
        else:
            chosen = [bin_ for number, bin_ in self._bins.items() if first <= number < after]
        return Amount(sum(one[0] for one in chosen), sum(one[1] for one in chosen), (after - first) / per_s)


def common_window(spans: Iterable[Span]) -> tuple[Span, bool]:
    """The time in which all were at work, and True; if there is none, from the first start to the last end, and False.

    Raises
        ValueError  no spans
    """
    known = list(spans)
    window = Span(max(one.start for one in known), min(one.end for one in known))
    if window.end > window.start:
        return window, True
    return Span(min(one.start for one in known), max(one.end for one in known)), False
