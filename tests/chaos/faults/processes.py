"""Broker processes that die, sleep, stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ..cluster import Broker
from .scene import Fault


class _Kill(Fault):
    async def _victims(self) -> Sequence[Broker]:
        raise NotImplementedError

    async def begin(self) -> None:
        self.victims = self.strike(await self._victims())
        for broker in self.victims:
            broker.kill()

    async def end(self) -> None:
        for broker in self.victims:
            if not broker.is_running:
                broker.start()


class KillOne(_Kill):
    weight = 3

    async def _victims(self) -> Sequence[Broker]:
        return self.scene.some(1)


class KillLeader(_Kill):
    weight = 3

    async def _victims(self) -> Sequence[Broker]:
        return [await self.scene.a_leader()]


class KillMajority(_Kill):
    async def _victims(self) -> Sequence[Broker]:
        return self.scene.some(self.scene.cluster.majority)


class KillAll(_Kill):
    weight = 1

    async def _victims(self) -> Sequence[Broker]:
        return self.scene.cluster.brokers


class KillAgainAndAgain(Fault):
    """The same broker, as soon as it is up, or before."""

    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        self._killing = asyncio.create_task(self._kill())

    async def _kill(self) -> None:
        while True:
            self.broker.kill()
            self.broker.start()
            await asyncio.sleep(self.scene.chance.uniform(0.3, 3.0))

    async def end(self) -> None:
        self._killing.cancel()
        await asyncio.gather(self._killing, return_exceptions=True)
        if not self.broker.is_running:
            self.broker.start()


class Pause(Fault):
    """SIGSTOP of a minority, then SIGCONT: it wakes up as if no time had passed."""

    weight = 3

    async def _victims(self) -> Sequence[Broker]:
        return self.scene.minority()

    async def begin(self) -> None:
        self.victims = self.strike(await self._victims())
        for broker in self.victims:
            broker.pause()

    async def end(self) -> None:
        for broker in self.victims:
            broker.resume()


class PauseLeader(Pause):
    async def _victims(self) -> Sequence[Broker]:
        return [await self.scene.a_leader()]


class PauseAll(Pause):
    weight = 1

    async def _victims(self) -> Sequence[Broker]:
        return self.scene.cluster.brokers


class RestartOneByOne(Fault):
    """A rolling restart: each stops cleanly, and the next one only once it is ready again."""

    async def begin(self) -> None:
        self.strike(self.scene.cluster.brokers)
        self._rolling = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        for broker in self.scene.cluster.brokers:
            await asyncio.to_thread(broker.stop)
            broker.start()
            with contextlib.suppress(TimeoutError):
                await self.scene.cluster.await_ready([broker], 20.0)

    async def end(self) -> None:
        await asyncio.gather(self._rolling, return_exceptions=True)


class StopOne(Fault):
    """Cleanly, for a while."""

    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        await asyncio.to_thread(self.broker.stop)

    async def end(self) -> None:
        if not self.broker.is_running:
            self.broker.start()
