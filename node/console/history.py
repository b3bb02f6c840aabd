"""What was measured lately, for the charts: bounded rings of samples, and the rates between them. Pure.

Invariants
    samples of one series are in the order of their times; the oldest gives way
    at most so many series are kept; of more, those that came first
    a count that went back (a topic deleted and made anew, records forgotten) is no negative rate, but none
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

SAMPLES_MAX = 360
SERIES_MAX = 300
RATE_OVER_MS = 10_000


class History:
    """Series of samples by name; each sample is a time and as many numbers as the series has. None: not known then."""

    def __init__(self, *, samples_max: int = SAMPLES_MAX, series_max: int = SERIES_MAX) -> None:
        self._series: dict[str, deque[tuple[int, tuple[float | None, ...]]]] = {}
        self._samples_max = samples_max
        self._series_max = series_max

    def add(self, name: str, at_ms: int, *numbers: float | None) -> None:
        series = self._series.get(name)
        if series is None:
            if len(self._series) >= self._series_max:
                return
            series = self._series[name] = deque(maxlen=self._samples_max)
        if not series or series[-1][0] < at_ms:
            series.append((at_ms, numbers))

    def keep_only(self, names: Collection[str], *, of: str = "") -> None:
        """Forget the series of what is there no more, among those whose names begin with `of`."""
        self._series = {
            name: series for name, series in self._series.items() if name in names or not name.startswith(of)
        }

    def columns(self, name: str) -> list[list[float | None]]:
        """Times, then each of the numbers, as charts take them."""
        series = self._series.get(name)
        if not series:
            return []
        width = min(len(numbers) for _, numbers in series)
        columns: list[list[float | None]] = [[at_ms for at_ms, _ in series]]
        return columns + [[numbers[column] for _, numbers in series] for column in range(width)]

    def rate(self, name: str, column: int = 0, *, over_ms: int = RATE_OVER_MS) -> float | None:
        """Increase a second over the last `over_ms` or the least beyond that; None: not known."""
        series = self._series.get(name)
        if not series or len(series) < 2:
            return None
        last_ms, last = series[-1]
        older = [sample for sample in series if last_ms - sample[0] >= over_ms]
        at_ms, numbers = older[-1] if older else series[0]
        return per_second(at_ms, numbers[column], last_ms, last[column])

    def rates(self, name: str, column: int = 0) -> list[list[float | None]]:
        """Times, and the increase a second up to each of them."""
        columns = self.columns(name)
        if len(columns) <= column + 1 or len(columns[0]) < 2:
            return []
        times, counts = columns[0], columns[column + 1]
        between = zip(times, counts, times[1:], counts[1:], strict=False)
        return [times[1:], [per_second(*samples) for samples in between]]


def per_second(from_ms: float | None, before: float | None, to_ms: float | None, after: float | None) -> float | None:
    if before is None or after is None or from_ms is None or to_ms is None or to_ms <= from_ms or after < before:
        return None
    return (after - before) * 1000 / (to_ms - from_ms)


def total(numbers: Sequence[float | None]) -> float | None:
    """None if any is not known: a sum that left one out would look like less."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
