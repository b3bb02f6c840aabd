"""What operators do meanwhile: leaders transferred, partitions moved, brokers drained; and clocks that are set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import lograft

from .scene import CALL_S_MAX, REPLICAS, RESTORE_S_MAX, Fault, Scene


class ClockJump(Fault):
    """The wall clock of one broker, by milliseconds to years, once or to and fro."""

    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        self._moving = asyncio.create_task(self._move())

    async def _move(self) -> None:
        chance = self.scene.chance
        while True:
            self.broker.set_clock(chance.choice([-1, 1]) * chance.choice([2, 60, 3600, 86400, 20 * 365 * 86400]))
            await asyncio.sleep(chance.choice([1.0, 100.0]))

    async def end(self) -> None:
        self._moving.cancel()
        await asyncio.gather(self._moving, return_exceptions=True)
        self.broker.set_clock(0)


class _Asked(Fault):
    """Something that an operator asks for, for as long as the fault lasts."""

    asks_to_end = True

    async def begin(self) -> None:
        self.scene.is_out_of_order = True
        self._asking = asyncio.create_task(self._ask_all())

    async def _ask_all(self) -> None:
        while True:
            with contextlib.suppress(lograft.LograftError, TimeoutError):
                async with asyncio.timeout(CALL_S_MAX):
                    await self._ask()
            await asyncio.sleep(self.scene.chance.uniform(0.3, 2.0))

    async def _ask(self) -> None:
        raise NotImplementedError

    async def end(self) -> None:
        self._asking.cancel()
        await asyncio.gather(self._asking, return_exceptions=True)

    def a_partition(self) -> tuple[str, int]:
        topic = self.scene.chance.choice(list(self.scene.topics))
        return topic, self.scene.chance.randrange(self.scene.topics[topic])


class TransferLeadership(_Asked):
    async def _ask(self) -> None:
        to = self.scene.chance.choice(self.scene.cluster.brokers).broker_id
        await self.scene.client.admin.transfer_leadership(*self.a_partition(), to)


class MovePartitions(_Asked):
    """Placed on other brokers, on fewer, on more."""

    thins = True

    async def _ask(self) -> None:
        brokers = [broker.broker_id for broker in self.scene.some(len(self.scene.cluster.brokers))]
        count = self.scene.chance.choice([len(brokers), min(3, len(brokers)), 3 if len(brokers) > 3 else 2])
        await self.scene.client.admin.move_partition(*self.a_partition(), brokers[:count])

    async def end(self) -> None:
        await super().end()
        await restore_order(self.scene)


class DrainOne(_Asked):
    async def begin(self) -> None:
        (self.broker,) = self.strike(self.scene.some(1))
        await super().begin()

    async def _ask(self) -> None:
        await self.scene.client.admin.drain_broker(self.broker.broker_id)

    async def end(self) -> None:
        await super().end()
        await restore_order(self.scene)


async def restore_order(scene: Scene) -> None:
    """Nobody is drained, and every partition is on as many brokers as before: what comes next may take one of them."""
    if not scene.is_out_of_order:
        return
    brokers = [broker.broker_id for broker in scene.cluster.brokers]
    left: list[Callable[[], Awaitable[None]]] = [
        partial(scene.client.admin.undrain_broker, broker_id) for broker_id in brokers
    ]
    for topic, partitions in scene.topics.items():
        left += [
            partial(_place, scene, topic, partition, _turned(brokers, partition)[:REPLICAS])
            for partition in range(partitions)
        ]
    deadline = asyncio.get_running_loop().time() + RESTORE_S_MAX
    while left and asyncio.get_running_loop().time() < deadline:
        again = []
        for ask in left:
            try:
                async with asyncio.timeout(CALL_S_MAX):
                    await ask()
            except (lograft.LograftError, TimeoutError):
                again.append(ask)
        left = again
        await asyncio.sleep(0.3)
    scene.is_out_of_order = bool(left)


async def _place(scene: Scene, topic: str, partition: int, brokers: list[int]) -> None:
    """Have it placed there, in any order.

    Raises
        InvalidRequest  an earlier move to elsewhere is still under way
    """
    try:
        await scene.client.admin.move_partition(topic, partition, brokers)
    except lograft.errors.InvalidRequest:
        described = await scene.client.admin.describe_topic(topic)
        if {one.broker_id for one in described.partitions[partition].replicas if not one.leaving} != {*brokers}:
            raise


def _turned(brokers: list[int], by: int) -> list[int]:
    by %= len(brokers)
    return brokers[by:] + brokers[:by]
