"""Families of measurements: prometheus_client's own counters, gauges and histograms, and readings that are taken when
someone asks.

Invariants
    a labelled child is looked up once and kept by whoever records often
    what may have thousands of series (by topic, group, partition) is collected a few at a time; a labelled family of
        the library's collects all of them in one turn of the loop, so only what has few series is one
    nothing is recorded from within a collection of cycles: it may interrupt a thread that holds the same lock
    a counter's name ends in `_total`, and a unit is the last word before that
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

LabelValues = tuple[str, ...]
Row = tuple[LabelValues, float]

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
ROWS_PER_METRIC = 64

disable_created_metrics()  # else each series is there twice, and nothing asks when it began


class Family(NamedTuple):
    """One name with all its series, as the documentation tells of it."""

    name: str
    kind: str
    help_text: str
    labels: tuple[str, ...]
    collector: Collector


class Reading(Collector):
    """Read off when someone asks, as `watch` says; without series until then.

    The rows are made one by one, with turns of the loop in between: they go over a copy of what may change.
    """

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.kind = "counter" if name.endswith("_total") else "gauge"
        self._name = name
        self._help_text = help_text
        self._labels = labels
        self._rows: Callable[[], Iterable[Row]] = tuple

    def watch(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows

    def watch_value(self, value: Callable[[], float | None]) -> None:
        """Of a family without labels; None: there is no such thing just now."""
        assert not self._labels, f"{self._name} has the labels {self._labels}"

        def rows() -> Iterable[Row]:
            found = value()
            return () if found is None else (((), found),)

        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """The family, a few rows at a time: several metrics of one name, one after the other."""
        rows = iter(self._rows())
        while True:
            some = [*islice(rows, ROWS_PER_METRIC)]
            yield self._metric(some)
            if len(some) < ROWS_PER_METRIC:
                return

    def _metric(self, rows: Iterable[Row]) -> Metric:
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = kind(self._name, self._help_text, labels=self._labels)
        for values, value in rows:
            metric.add_metric(values, value)
        return metric


class Histograms(Collector):
    """A histogram for each value of a label of which there may be thousands: topics, say.

    One of the library's with labels would collect all of its series in one go.
    """

    def __init__(self, name: str, help_text: str, label: str, bounds: tuple[float, ...]) -> None:
        self._make = partial(Histogram, name, help_text, registry=None, buckets=bounds)
        self._empty = Metric(name, help_text, "histogram")
        self._label = label
        self._by_value: dict[str, Histogram] = {}

    def labels(self, value: str) -> Histogram:
        histogram = self._by_value.get(value)
        if histogram is None:
            histogram = self._by_value[value] = self._make()
        return histogram

    def remove(self, value: str) -> None:
        self._by_value.pop(value, None)

    def collect(self) -> Iterator[Metric]:
        """The family, one histogram at a time."""
        yield self._empty
        for value, histogram in [*self._by_value.items()]:
            for metric in histogram.collect():
                metric.samples = [one._replace(labels={self._label: value, **one.labels}) for one in metric.samples]
                yield metric


class Catalogue:
    """All families of one page, in the order in which they are told."""

    def __init__(self) -> None:
        self.families: list[Family] = []
        self.foreign: list[Collector] = []
        """prometheus_client's own: of the process, of Python, of its memory."""

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        name = f"lograft_{name}_total"
        counter = Counter(name, help_text, labels, registry=None)
        self.families.append(Family(name, "counter", help_text, labels, counter))
        return counter

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        name = f"lograft_{name}"
        gauge = Gauge(name, help_text, labels, registry=None)
        self.families.append(Family(name, "gauge", help_text, labels, gauge))
        return gauge

    def histogram(
        self, name: str, help_text: str, *labels: str, bounds: tuple[float, ...] = LATENCY_BUCKETS
    ) -> Histogram:
        name = f"lograft_{name}"
        histogram = Histogram(name, help_text, labels, registry=None, buckets=bounds)
        self.families.append(Family(name, "histogram", help_text, labels, histogram))
        return histogram

    def histograms(self, name: str, help_text: str, label: str, *, bounds: tuple[float, ...]) -> Histograms:
        name = f"lograft_{name}"
        histograms = Histograms(name, help_text, label, bounds)
        self.families.append(Family(name, "histogram", help_text, (label,), histograms))
        return histograms

    def reading(self, name: str, help_text: str, *labels: str) -> Reading:
        """A counter if the name ends in `_total`, else a gauge."""
        name = f"lograft_{name}"
        reading = Reading(name, help_text, *labels)
        self.families.append(Family(name, reading.kind, help_text, labels, reading))
        return reading

    def collectors(self) -> Iterator[Collector]:
        yield from (family.collector for family in self.families)
        yield from self.foreign
