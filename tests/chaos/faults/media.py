"""Disks that fill up, fail, dawdle, forget, decay or are empty; and the power that fails."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Sequence

from .. import flips
from ..cluster import Broker
from .scene import Fault


class FullDisk(Fault):
    """Something else takes the space, below the mark at which produce stops, or all of it."""

    needs = ("mount",)
    ends_brokers = True

    def may_begin(self) -> bool:
        return all(broker.disk.kind != "plain" for broker in self.scene.cluster.brokers)

    async def begin(self) -> None:
        count = self.scene.chance.choice([1, 1, len(self.scene.cluster.brokers)])
        leave_bytes = self.scene.chance.choice([6 << 20, 3 << 20, 0])
        for broker in self.strike(self.scene.some(count)):
            await asyncio.to_thread(broker.disk.fill, leave_bytes)

    async def end(self) -> None:
        for broker in self.scene.cluster.brokers:
            broker.disk.relieve()


class _Strace(Fault):
    """System calls of one broker are tampered with while a tracer holds it."""

    needs = ("strace",)
    weight = 2

    def _injection(self) -> str:
        raise NotImplementedError

    async def begin(self) -> None:
        self._tracer: subprocess.Popen[bytes] | None = None
        running = self.scene.some_running(1)
        if not running:
            return
        (self.broker,) = self.strike(running)
        self._tracer = subprocess.Popen(  # noqa: ASYNC220  # starting takes no time
            ["strace", "-f", "-q", "-o", "/dev/null", "-e", f"inject={self._injection()}", "-p", str(self.broker.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )

    async def end(self) -> None:
        if self._tracer is None:
            return
        if self._tracer.poll() is None:
            self._tracer.terminate()
        try:
            await asyncio.to_thread(self._tracer.wait, 5.0)
        except subprocess.TimeoutExpired:
            self._tracer.kill()
            await asyncio.to_thread(self._tracer.wait)


class SyncFails(_Strace):
    """EIO from fdatasync, once: the broker must end itself, and must not have counted what it wrote."""

    ends_brokers = True

    def _injection(self) -> str:
        return f"fdatasync,fsync:error=EIO:when={self.scene.chance.randint(1, 5)}"


class SlowSync(Fault):
    """Each sync of some brokers takes longer."""

    weight = 3

    async def begin(self) -> None:
        sync_s = self.scene.chance.choice([0.05, 0.3, 1.5])
        self.slowed = self.strike(self.scene.some(self.scene.chance.randint(1, len(self.scene.cluster.brokers))))
        for broker in self.slowed:
            broker.disk.slow_down(sync_s)

    async def end(self) -> None:
        for broker in self.slowed:
            broker.disk.slow_down(0)


class WriteFails(_Strace):
    """EIO from one write to a file."""

    ends_brokers = True

    def _injection(self) -> str:
        return f"pwritev,pwritev2,pwrite64:error=EIO:when={self.scene.chance.randint(1, 5)}"


async def cut_power(brokers: Sequence[Broker], chance: random.Random) -> list[dict[str, int]]:
    """Of all of them at once. What each lost, and kept, of what it had not synced."""
    seeds = [chance.randrange(1 << 30) for _ in brokers]
    return await asyncio.gather(
        *(asyncio.to_thread(broker.cut_power, seed) for broker, seed in zip(brokers, seeds, strict=True))
    )


class PowerFailure(Fault):
    """Some brokers, or all, lose power at once: what they did not sync is gone, wholly or page by page."""

    needs = ("fuse",)
    weight = 3

    def may_begin(self) -> bool:
        return all(broker.disk.kind == "volatile" for broker in self.scene.cluster.brokers)

    async def begin(self) -> None:
        size = len(self.scene.cluster.brokers)
        self.victims = self.strike(self.scene.some(self.scene.chance.choice([1, self.scene.cluster.majority, size])))
        await cut_power(self.victims, self.scene.chance)

    async def end(self) -> None:
        for broker in self.victims:
            if not broker.is_running:
                broker.start()


class WipedDisk(Fault):
    """A broker dies, and comes back with an empty disk."""

    hurts_disk = True
    weight = 1

    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        with self.broker.held():
            await asyncio.to_thread(self.broker.disk.wipe)

    async def end(self) -> None:
        if not self.broker.is_running:
            self.broker.start()


class FlippedBits(Fault):
    """In files of all kinds of one running broker."""

    hurts_disk = True

    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        others = [broker.data_directory for broker in self.scene.cluster.brokers if broker is not self.broker]
        self.turned = flips.flip_some(self.broker.data_directory, others, self.scene.chance, count=4)


class FlippedBitsOfStopped(FlippedBits):
    """The same of a broker that was killed: found when it starts."""

    weight = 1

    async def begin(self) -> None:
        (broker,) = self.strike(self.scene.some(1))
        self.broker = broker
        others = [other.data_directory for other in self.scene.cluster.brokers if other is not broker]
        with broker.held():
            self.turned = flips.flip_some(broker.data_directory, others, self.scene.chance, count=4)

    async def end(self) -> None:
        if not self.broker.is_running:
            self.broker.start()
