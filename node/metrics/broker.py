"""The broker process itself: what it is, whether it serves, and whether its loop keeps up."""

from __future__ import annotations

import platform
from collections import deque
from importlib.metadata import version

from .families import Catalogue


class BrokerMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue, loop_kind: str) -> None:
        build = catalogue.gauge("build_info", "1, with what this broker is made of.", "version", "python", "loop")
        build.labels(version("lograft"), platform.python_version(), loop_kind).set(1)
        self._info = catalogue.gauge("broker_info", "1, with which broker this is.", "broker", "rack")
        self.uptime = catalogue.reading("uptime_seconds", "Since this process began to be a broker.")
        self.ready = catalogue.reading("ready", "1: ready for clients, as /readyz says.")
        self.loop_lag = catalogue.histogram(
            "event_loop_lag_seconds",
            "How late a timer fires that is due about ten times a second: what holds up everything in this process.",
        )
        pauses = catalogue.histogram(
            "gc_pause_seconds", "Pauses in which Python looked for cycles of dead objects, by generation.", "generation"
        )
        self._collections: deque[tuple[int, float]] = deque()
        self._pauses = [pauses.labels(str(generation)) for generation in range(3)]

    def name_broker(self, broker_id: int, rack: str) -> None:
        self._info.labels(str(broker_id), rack).set(1)

    def collected(self, generation: int, seconds: float) -> None:
        """A collection of cycles is over. It may have interrupted anything, also whoever held the histogram's lock."""
        self._collections.append((generation, seconds))

    def count_collections(self) -> None:
        """Count those that are over since this was last called: every few seconds, and before a page is written."""
        while self._collections:
            generation, seconds = self._collections.popleft()
            self._pauses[generation].observe(seconds)
