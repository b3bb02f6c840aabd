"""Somebody who changes the cluster while it works: moves, drains, transfers, grows, trims.

Everything here may fail, and then nothing is said of it; what is demanded is only that nobody else notices.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lograft import Client
from lograft.proto.errors import LograftError

from tests.simulation.world.clients import ClientProcess

if TYPE_CHECKING:
    from tests.simulation.world.world import World


class Operating(ClientProcess):
    def __init__(self, world: World, name: str, topic: str, trimmed: str) -> None:
        super().__init__(world, name)
        self.topic = topic
        self.trimmed = trimmed
        self.made = 0
        self.done = 0
        """What succeeded."""

    async def work(self, client: Client) -> None:
        while not self.is_stopping:
            what = self.random.choice(
                (self._transfer, self._transfer, self._move, self._move, self._trim, self._drain, self._grow)
            )
            try:
                await what(client)
                self.done += 1
                self.world.trace.note("operator", f"{what.__name__} done")
            except LograftError as error:
                self.world.trace.note("operator", f"{what.__name__} {error!r}")
            await asyncio.sleep(self.random.expovariate(1 / 2.0))

    def _partition(self) -> tuple[str, int]:
        topic = self.random.choice((self.topic, self.topic, self.trimmed))
        return topic, self.random.randrange(self.world.topics[topic])

    async def _transfer(self, client: Client) -> None:
        topic, number = self._partition()
        await client.admin.transfer_leadership(topic, number, self.random.choice(list(self.world.machines)))

    async def _move(self, client: Client) -> None:
        topic, number = self._partition()
        brokers = self.random.sample(list(self.world.machines), 3)
        await client.admin.move_partition(topic, number, brokers)

    async def _trim(self, client: Client) -> None:
        end = self.random.randint(0, 200)
        await client.admin.trim_topic(self.trimmed, end)

    async def _drain(self, client: Client) -> None:
        one = self.random.choice(list(self.world.machines))
        await client.admin.drain_broker(one)
        await asyncio.sleep(self.random.uniform(0.5, 5.0))
        await client.admin.undrain_broker(one)

    async def _grow(self, client: Client) -> None:
        self.made += 1
        name = f"{self.name}-{self.incarnation}-{self.made}"
        await client.admin.create_topic(name, partitions=1)
        await client.admin.grow_topic(name, self.random.randint(2, 4))
        await asyncio.sleep(self.random.uniform(0.0, 3.0))
        await client.admin.delete_topic(name)
