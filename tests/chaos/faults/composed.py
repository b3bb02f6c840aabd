"""Scripts of several faults, each in the place where it hurts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ..cluster import Broker
from .media import cut_power
from .network import both_ways
from .scene import Fault


class PauseKill(Fault):
    """A minority sleeps while records are acknowledged without it; then one of those that have them dies (and loses
    power, where disks are volatile), the rest sleeps, and the sleepers wake: they lack what was acknowledged."""

    LAP_S = 4.0

    async def begin(self) -> None:
        brokers = self.scene.some(len(self.scene.cluster.brokers))
        self.strike(brokers)
        self.stale = brokers[: self.scene.cluster.majority - 1]
        self.pivot, *self.rest = brokers[self.scene.cluster.majority - 1 :]
        self._playing = asyncio.create_task(self._play())

    def _isolate(self, brokers: Sequence[Broker]) -> None:
        for broker in brokers:
            broker.pause()

    def _join(self, brokers: Sequence[Broker]) -> None:
        for broker in brokers:
            broker.resume()

    async def _play(self) -> None:
        self._isolate(self.stale)
        await asyncio.sleep(self.LAP_S)
        if self.pivot.disk.kind == "volatile":
            await cut_power([self.pivot], self.scene.chance)
        self.pivot.kill()
        self._isolate(self.rest)
        self._join(self.stale)
        self.pivot.start()
        await asyncio.sleep(2 * self.LAP_S)

    async def end(self) -> None:
        await asyncio.gather(self._playing, return_exceptions=True)
        self._join(self.stale)
        self._join(self.rest)
        if not self.pivot.is_running:
            self.pivot.start()


class PartKill(PauseKill):
    """The same with cut wires instead of sleep."""

    def _pairs(self, brokers: Sequence[Broker]) -> Iterable[tuple[str, str]]:
        apart = [broker.name for broker in brokers]
        return both_ways(apart, [b.name for b in self.scene.cluster.brokers if b.name not in apart])

    def _isolate(self, brokers: Sequence[Broker]) -> None:
        for pair in self._pairs(brokers):
            self.scene.cluster.proxies.cut(*pair)

    def _join(self, brokers: Sequence[Broker]) -> None:
        for pair in self._pairs(brokers):
            self.scene.cluster.proxies.wire(*pair).mend()
