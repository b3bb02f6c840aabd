"""Writes measurements out in Prometheus' text format, a few lines in each turn of the loop.

A scrape of thousands of series takes tens of milliseconds. In a thread it would take the interpreter away from the loop
for five milliseconds at a time, again and again; so it is done in the loop, a piece in each turn, by the library's own
writer.

Invariants
    a family's head (HELP and TYPE) is written once, however many pieces its series take
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from .families import Catalogue

SERIES_PER_TURN = 64
"""Half a millisecond or so."""


class _Alone(Collector):
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def written_out(catalogue: Catalogue) -> bytes:
    """All of it. The loop turns in between: a series is as of the moment at which it was written."""
    pieces: list[bytes] = []
    since_turn = 0
    for count, piece in _pieces(catalogue):
        pieces.append(piece)
        since_turn += count
        if since_turn >= SERIES_PER_TURN:
            since_turn = 0
            await asyncio.sleep(0)
    return b"".join(pieces)


def written_out_at_once(catalogue: Catalogue) -> bytes:
    """For tests, and whoever has no loop."""
    return b"".join(piece for _, piece in _pieces(catalogue))


def _pieces(catalogue: Catalogue) -> Iterator[tuple[int, bytes]]:
    """Of a page: how many series, and their text."""
    for collector in catalogue.collectors():
        told = ""
        for metric in collector.collect():
            for first in range(0, len(metric.samples) or 1, SERIES_PER_TURN):
                part = Metric(metric.name, metric.documentation, metric.type)
                part.samples = metric.samples[first : first + SERIES_PER_TURN]
                text = generate_latest(_Alone(part))
                if told == metric.name:
                    text = text.split(b"\n", 2)[2]  # without HELP and TYPE
                told = metric.name
                yield len(part.samples) or 1, text
