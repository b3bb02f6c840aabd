"""Latencies in a log-linear histogram, the layout of HdrHistogram with three significant digits. Pure.

Always
    a value is told within 0.1% of what it was, whatever its size
    merging histograms of several processes gives what one process would have counted
    the least and the greatest value are exact
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_BITS = 11
_FINE = 1 << _BITS
"""Below this every value has a bucket of its own; above, each doubling has half as many."""
_HALF = _FINE >> 1

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
"""What is told of a distribution beside its greatest value."""


def bucket_of(value: int) -> int:
    """The number of the bucket that counts `value`."""
    shift = max(0, value.bit_length() - _BITS)
    return shift * _HALF + (value >> shift)


def highest_in(bucket: int) -> int:
    """The greatest value that the bucket counts."""
    shift = max(0, bucket // _HALF - 1)
    return ((bucket - shift * _HALF + 1) << shift) - 1


class Histogram:
    """Counts of whole microseconds, as many as there are."""

    __slots__ = ("_counts", "count", "max_us", "min_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.min_us = 0
        self.max_us = 0

    def record(self, seconds: float, count: int = 1) -> None:
        """Count a duration `count` times. A clock that reads a hair less than before gives 0."""
        value = max(0, round(seconds * 1e6))
        bucket = bucket_of(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.min_us = min(self.min_us, value) if self.count else value
        self.max_us = max(self.max_us, value)
        self.count += count

    def percentile_us(self, percent: float) -> int:
        """What `percent` of the values do not exceed; 0 if there are none."""
        wanted = max(1, math.ceil(round(percent * self.count / 100, 6)))  # 99.9% of 1,000 are 999, whatever floats say
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(highest_in(bucket), self.max_us)
        return self.max_us

    def summary_ms(self) -> dict[str, float | int]:
        """The usual percentiles in milliseconds, and how many values they are of."""
        told = {name: self.percentile_us(percent) / 1000 for name, percent in PERCENTILES.items()}
        return {**told, "max": self.max_us / 1000, "count": self.count}

    def add(self, other: Histogram) -> None:
        """Take in all that another has counted."""
        self.add_packed(other.packed())

    def packed(self) -> list[int]:
        """All of it as plain numbers: least, greatest, then bucket and count in turn. Empty if nothing was counted."""
        if not self.count:
            return []
        return [self.min_us, self.max_us, *(number for pair in self._counts.items() for number in pair)]

    def add_packed(self, packed: Sequence[int]) -> None:
        """Take in what another's `packed` gave."""
        if not packed:
            return
        least, greatest, *pairs = packed
        self.min_us = min(self.min_us, least) if self.count else least
        self.max_us = max(self.max_us, greatest)
        for bucket, count in _pairs(pairs):
            self._counts[bucket] = self._counts.get(bucket, 0) + count
            self.count += count


def _pairs(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)
