"""Families of measurements, as Prometheus knows them: counters, gauges and histograms that are recorded, and some that
are read off when someone asks.

Of our own, and not prometheus_client's: a count here is an addition, without a lock, as all of it happens in one loop
(what threads observe is marked); and a family gives its lines one by one, so that whoever writes out thousands of them
can let the loop turn in between.

Invariants
    a labelled child is looked up once and kept by whoever records often; recording is a few dozen nanoseconds
    lines are made of a copy of what there was: what is recorded, added or forgotten meanwhile harms nothing
    a counter's name ends in `_total`, and a unit is the last word before that
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from threading import Lock
from typing import Protocol

from prometheus_client.registry import Collector

LabelValues = tuple[str, ...]
Row = tuple[LabelValues, float]

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)


class Described(Protocol):
    """What the documentation tells of a family."""

    name: str
    kind: str
    help_text: str
    labels: tuple[str, ...]


class Family:
    """One name, with all its series."""

    kind = "gauge"

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels

    def lines(self) -> Iterator[str]:
        """HELP and TYPE, then one series after the other; each piece ends with a line break."""
        yield head(self.name, self.help_text, self.kind)
        yield from self._series()

    def _series(self) -> Iterator[str]:
        raise NotImplementedError


class Count:
    """One series of a counter, or of a gauge that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class Counter(Family):
    """Only rises. Without labels it is one series: `add`. With labels, `of` gives a series to be kept."""

    kind = "counter"

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        super().__init__(name, help_text, *labels)
        self._counts: dict[LabelValues, Count] = {}
        self._only = Count() if labels else self.of()

    def of(self, *values: str) -> Count:
        count = self._counts.get(values)
        if count is None:
            assert len(values) == len(self.labels), f"{self.name} has the labels {self.labels}, not {values}"
            count = self._counts[values] = Count()
        return count

    def add(self, amount: float = 1) -> None:
        self._only.value += amount

    def forget(self, *values: str) -> None:
        self._counts.pop(values, None)

    def _series(self) -> Iterator[str]:
        for values, count in list(self._counts.items()):
            yield f"{self.name}{label_text(self.labels, values)} {number(count.value)}\n"


class Gauge(Counter):
    """As a counter, but for what also falls."""

    kind = "gauge"

    def set(self, value: float) -> None:
        self._only.value = value


class Distribution:
    """One series of a histogram."""

    __slots__ = ("bounds", "counts", "lock", "sum")

    def __init__(self, bounds: tuple[float, ...], lock: Lock | None) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.lock = lock

    def observe(self, value: float) -> None:
        if self.lock is not None:
            with self.lock:
                self.counts[bisect_left(self.bounds, value)] += 1
                self.sum += value
            return
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histogram(Family):
    """How often values fell below each of `bounds`. `from_threads`: observed in others than the loop's own, too."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        help_text: str,
        *labels: str,
        bounds: tuple[float, ...] = LATENCY_BUCKETS,
        from_threads: bool = False,
    ) -> None:
        super().__init__(name, help_text, *labels)
        self._bounds = bounds
        self._bound_texts = (*map(number, bounds), "+Inf")
        self._lock = Lock() if from_threads else None
        self._distributions: dict[LabelValues, Distribution] = {}
        self.observe = (Distribution(bounds, None) if labels else self.of()).observe

    def of(self, *values: str) -> Distribution:
        distribution = self._distributions.get(values)
        if distribution is None:
            assert len(values) == len(self.labels), f"{self.name} has the labels {self.labels}, not {values}"
            distribution = self._distributions[values] = Distribution(self._bounds, self._lock)
        return distribution

    def forget(self, *values: str) -> None:
        self._distributions.pop(values, None)

    def _series(self) -> Iterator[str]:
        for values, distribution in list(self._distributions.items()):
            counts, total = list(accumulate(distribution.counts)), distribution.sum
            shown = label_text(self.labels, values)
            begin = f"{shown[:-1]}," if shown else "{"
            pieces = [
                f'{self.name}_bucket{begin}le="{bound}"}} {count}\n'
                for bound, count in zip(self._bound_texts, counts, strict=True)
            ]
            yield "".join([*pieces, f"{self.name}_sum{shown} {total!r}\n{self.name}_count{shown} {counts[-1]}\n"])


class Reading(Family):
    """Read off when someone asks, as `watch` says; without series until then.

    The rows are made one by one, with turns of the loop in between: they go over a copy of what may change.
    """

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        super().__init__(name, help_text, *labels)
        self.kind = "counter" if name.endswith("_total") else "gauge"
        self._rows: Callable[[], Iterable[Row]] = tuple

    def watch(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows

    def watch_value(self, value: Callable[[], float | None]) -> None:
        """Of a family without labels; None: there is no such thing just now."""
        assert not self.labels, f"{self.name} has the labels {self.labels}"

        def rows() -> Iterable[Row]:
            found = value()
            return () if found is None else (((), found),)

        self._rows = rows

    def _series(self) -> Iterator[str]:
        name, labels = self.name, self.labels
        for values, value in self._rows():
            yield f"{name}{label_text(labels, values)} {number(value)}\n"


class Foreign:
    """The families of one of prometheus_client's own collectors: of the process, of Python, of its memory."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def lines(self) -> Iterator[str]:
        for metric in self._collector.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            yield head(name, metric.documentation, metric.type)
            for sample in metric.samples:
                shown = label_text(tuple(sample.labels), tuple(sample.labels.values()))
                yield f"{sample.name}{shown} {number(sample.value)}\n"


class Catalogue:
    """All families of one page, in the order in which they are told."""

    def __init__(self) -> None:
        self.families: list[Family] = []
        self.foreign: list[Foreign] = []

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        family = Counter(f"lograft_{name}_total", help_text, *labels)
        self.families.append(family)
        return family

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        family = Gauge(f"lograft_{name}", help_text, *labels)
        self.families.append(family)
        return family

    def histogram(
        self,
        name: str,
        help_text: str,
        *labels: str,
        bounds: tuple[float, ...] = LATENCY_BUCKETS,
        from_threads: bool = False,
    ) -> Histogram:
        family = Histogram(f"lograft_{name}", help_text, *labels, bounds=bounds, from_threads=from_threads)
        self.families.append(family)
        return family

    def reading(self, name: str, help_text: str, *labels: str) -> Reading:
        """A counter if the name ends in `_total`, else a gauge."""
        family = Reading(f"lograft_{name}", help_text, *labels)
        self.families.append(family)
        return family

    def lines(self) -> Iterator[str]:
        for family in self.families:
            yield from family.lines()
        for foreign in self.foreign:
            yield from foreign.lines()


def head(name: str, help_text: str, kind: str) -> str:
    shown = help_text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {shown}\n# TYPE {name} {kind}\n"


def label_text(labels: tuple[str, ...], values: LabelValues) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{label}="{escaped(value)}"' for label, value in zip(labels, values, strict=True)]) + "}"


def escaped(value: str) -> str:
    """As it may stand between quotes: what clients call a group must not become a line of its own."""
    if value.isalnum():
        return value
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return "NaN" if value != value else repr(float(value))
