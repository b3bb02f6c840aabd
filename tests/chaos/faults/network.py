"""Wires that are cut, slow, dripping, reset: between brokers, and from clients to them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from ..proxy import CLIENTS
from .scene import Fault


class _Partition(Fault):
    """Which ordered pairs of ends are cut."""

    weight = 3

    async def _cuts(self) -> Iterable[tuple[str, str]]:
        raise NotImplementedError

    async def begin(self) -> None:
        self.cuts = list(await self._cuts())
        for sender, receiver in self.cuts:
            self.scene.cluster.proxies.cut(sender, receiver)

    async def end(self) -> None:
        for sender, receiver in self.cuts:
            self.scene.cluster.proxies.wire(sender, receiver).mend()


def both_ways(some: Iterable[str], others: Iterable[str]) -> Iterable[tuple[str, str]]:
    others = list(others)
    for one in some:
        for other in others:
            yield one, other
            yield other, one


class PartitionInHalves(_Partition):
    async def _cuts(self) -> Iterable[tuple[str, str]]:
        minority = self.strike(self.scene.minority())
        return both_ways(self.on, [b.name for b in self.scene.cluster.brokers if b not in minority])


class PartitionLeaderAlone(_Partition):
    """From the other brokers; clients still reach it, unless it is drawn that they do not."""

    async def _cuts(self) -> Iterable[tuple[str, str]]:
        (leader,) = self.strike([await self.scene.a_leader()])
        others = [broker.name for broker in self.scene.cluster.brokers if broker is not leader]
        if self.scene.chance.random() < 0.5:
            others.append(CLIENTS)
        return both_ways(self.on, others)


class PartitionOneWay(_Partition):
    """What one sends does not arrive; what it is sent does, or the other way round."""

    async def _cuts(self) -> Iterable[tuple[str, str]]:
        (one,) = self.strike([await self.scene.a_leader()])
        others = [broker.name for broker in self.scene.cluster.brokers if broker is not one]
        if self.scene.chance.random() < 0.5:
            others = self.scene.chance.sample(others, 1)
        is_mute = self.scene.chance.random() < 0.5
        return [(one.name, other) if is_mute else (other, one.name) for other in others]


class PartitionMajoritiesRing(_Partition):
    """Everybody reaches a majority, each another one: of three, two cannot hear each other; of five, a ring."""

    async def _cuts(self) -> Iterable[tuple[str, str]]:
        ring = [broker.name for broker in self.strike(self.scene.some(len(self.scene.cluster.brokers)))]
        size, near = len(ring), (self.scene.cluster.majority - 1) // 2 or 1
        if size == 3:
            return both_ways(ring[:1], ring[1:2])
        apart = [
            (one, other)
            for (i, one), (j, other) in itertools.combinations(enumerate(ring), 2)
            if min(j - i, size - j + i) > near
        ]
        return [pair for one, other in apart for pair in ((one, other), (other, one))]


class ClientsCutOff(_Partition):
    """From one broker, which the others still reach."""

    weight = 2

    async def _cuts(self) -> Iterable[tuple[str, str]]:
        return both_ways([self.strike(self.scene.some(1))[0].name], [CLIENTS])


class SwizzleClog(Fault):
    """Wires are cut one by one, and mended one by one in another order."""

    async def begin(self) -> None:
        names = [broker.name for broker in self.strike(self.scene.cluster.brokers)]
        self._wires = [pair for one, other in itertools.combinations(names, 2) for pair in ((one, other), (other, one))]
        self._clogging = asyncio.create_task(self._clog())

    async def _clog(self) -> None:
        proxies, chance = self.scene.cluster.proxies, self.scene.chance
        for pair in chance.sample(self._wires, len(self._wires)):
            proxies.cut(*pair)
            await asyncio.sleep(chance.uniform(0.1, 1.0))
        for pair in chance.sample(self._wires, len(self._wires)):
            proxies.wire(*pair).mend()
            await asyncio.sleep(chance.uniform(0.1, 1.0))

    async def end(self) -> None:
        self._clogging.cancel()
        await asyncio.gather(self._clogging, return_exceptions=True)
        for pair in self._wires:
            self.scene.cluster.proxies.wire(*pair).mend()


class _Weather(Fault):
    """Wires between brokers, and from clients, each with a chance of being struck."""

    async def begin(self) -> None:
        names = [broker.name for broker in self.strike(self.scene.some(len(self.scene.cluster.brokers)))]
        self._pairs = [
            pair for pair in itertools.permutations([*names, CLIENTS], 2) if self.scene.chance.random() < 0.6
        ]
        for pair in self._pairs:
            self._trouble(*pair)

    def _trouble(self, sender: str, receiver: str) -> None:
        raise NotImplementedError

    async def end(self) -> None:
        for pair in self._pairs:
            self.scene.cluster.proxies.wire(*pair).mend()


class SlowLinks(_Weather):
    def _trouble(self, sender: str, receiver: str) -> None:
        wire = self.scene.cluster.proxies.wire(sender, receiver)
        wire.delay_s, wire.jitter_s = self.scene.chance.choice([(0.02, 0.02), (0.1, 0.1), (0.3, 0.4)])


class DrippingLinks(_Weather):
    def _trouble(self, sender: str, receiver: str) -> None:
        self.scene.cluster.proxies.wire(sender, receiver).bytes_per_s = self.scene.chance.choice(
            [2_000, 10_000, 50_000]
        )


class ResetLinks(Fault):
    """Connections are reset, or closed one way only, again and again."""

    async def begin(self) -> None:
        self.strike(self.scene.cluster.brokers)
        self._resetting = asyncio.create_task(self._reset())

    async def _reset(self) -> None:
        chance = self.scene.chance
        while True:
            for connection in list(self.scene.cluster.proxies.connections):
                if chance.random() < 0.3:
                    if chance.random() < 0.25:
                        connection.half_close()
                    else:
                        connection.reset()
            await asyncio.sleep(chance.uniform(0.2, 2.0))

    async def end(self) -> None:
        self._resetting.cancel()
        await asyncio.gather(self._resetting, return_exceptions=True)
