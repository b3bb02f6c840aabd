"""Reads all that is stored here, slowly and again and again, to find decay while another replica can still repair it.

Invariants
    one log at a time, at no more than a number of bytes per second, whatever there is to read
    each log comes round once an interval; the first time at a moment drawn by chance, so that brokers do not do it
        together
    what is found is the replica's to repair; the promises are read against what this process knows, and written anew
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from ..partitions.environment import PartitionId
from ..partitions.storage.promises import Promises
from .config import ScrubSection
from .replicas import Replicas

LOOKS_PER_INTERVAL = 20
LOOK_S_MAX = 10.0


class Scrubber:
    """One a broker. `scrub_what_is_due` is called at an interval."""

    def __init__(
        self,
        replicas: Replicas,
        promises: Promises,
        section: ScrubSection,
        monotonic_ms: Callable[[], float],
        random: Random,
    ) -> None:
        self.bytes_read = 0
        self.logs_read = 0
        self._replicas = replicas
        self._promises = promises
        self._section = section
        self._monotonic_ms = monotonic_ms
        self._random = random
        self._due_ms: dict[PartitionId, float] = {}
        self._promises_due_ms = monotonic_ms() + section.interval_ms * random.random()

    @property
    def look_s(self) -> float:
        """Between two looks at what is due."""
        return min(self._section.interval_ms / 1000 / LOOKS_PER_INTERVAL, LOOK_S_MAX)

    async def scrub_what_is_due(self) -> None:
        now_ms, interval_ms = self._monotonic_ms(), self._section.interval_ms
        if now_ms >= self._promises_due_ms:
            self._promises_due_ms = now_ms + interval_ms
            await self._promises.scrub()
        table = self._replicas.table
        for gone in [partition for partition in self._due_ms if partition not in table]:
            del self._due_ms[gone]
        for partition in sorted(table):
            due_ms = self._due_ms.setdefault(partition, now_ms + interval_ms * self._random.random())
            replica = table.get(partition)
            if now_ms >= due_ms and replica is not None:
                self._due_ms[partition] = self._monotonic_ms() + interval_ms
                self.bytes_read += await replica.scrub(self._pace)
                self.logs_read += 1

    async def _pace(self, size: int) -> None:
        await asyncio.sleep(size / self._section.bytes_per_s)
