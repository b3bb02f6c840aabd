"""What faults act upon, and what a fault is.

A fault draws whom it strikes when it begins. `needs` names the tools without which it is left out. What hurts a disk
for good (`hurts_disk`) may strike one broker at a time, and only once every replica is whole again: the promise is for
a majority of disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable
from typing import ClassVar

import lograft
from lograft.client.admin import PartitionDescription
from lograft.client.check.history import Recorder

from .. import tools
from ..cluster import Broker, Cluster
from ..workers import Worker, Workers

CALL_S_MAX = 8.0
RESTORE_S_MAX = 30.0
REPLICAS = 3


class Scene:
    """What faults act upon."""

    def __init__(
        self,
        cluster: Cluster,
        workers: Workers,
        client: lograft.Client,
        chance: random.Random,
        topics: dict[str, int],
        history: Recorder,
    ) -> None:
        self.history = history
        self.cluster, self.workers, self.client, self.chance, self.topics = cluster, workers, client, chance, topics
        self.is_out_of_order = False
        """An operator moved or drained something, and it is not as it was."""
        self.members: list[Worker] = []
        """Processes that may be killed: members of groups."""

    def some(self, count: int) -> list[Broker]:
        return self.chance.sample(self.cluster.brokers, count)

    def some_running(self, count: int) -> list[Broker]:
        running = self.cluster.running
        return self.chance.sample(running, min(count, len(running)))

    def minority(self) -> list[Broker]:
        return self.some(self.chance.randint(1, self.cluster.majority - 1))

    async def a_leader(self) -> Broker:
        """Of some partition of ours, or of the cluster's own decisions; if nobody knows, anybody."""
        topic = self.chance.choice([*self.topics, "__cluster", "__offsets"])
        partition = self.chance.randrange(self.topics.get(topic, 1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_S_MAX / 2):
                leader = await self.cluster.leader_of(topic, partition, self.client)
                if leader is not None:
                    return leader
        return self.some(1)[0]

    async def is_whole(self) -> bool:
        """Every replica of every partition votes, keeps up and is undamaged."""
        return not await self.failings()

    async def failings(self) -> list[str]:
        """What keeps it from being whole."""
        try:
            async with asyncio.timeout(CALL_S_MAX):
                topics = await self.client.admin.list_topics(internal=True)
                told = await self.client.admin.describe_cluster()
        except (lograft.LograftError, TimeoutError) as error:
            return [f"no answer: {error!r}"]
        stopped = [broker.name for broker in self.cluster.brokers if broker not in self.cluster.running]
        failings = [f"stopped: {', '.join(stopped)}"] if stopped else []
        if told.losses_borne < 1:
            failings.append("no loss can be borne")
        failings += (
            f"{topic.name}/{partition.number}: {found}"
            for topic in topics
            for partition in topic.partitions
            if (found := ", ".join(_failings_of(partition)))
        )
        return failings


def _failings_of(partition: PartitionDescription) -> Iterable[str]:
    if partition.moving:
        yield "moving"
    if partition.leader_id < 0:
        yield "no leader"
    if len(partition.replicas) < REPLICAS:
        yield f"on {sorted(replica.broker_id for replica in partition.replicas)} only"
    for replica in partition.replicas:
        if not replica.voter or replica.state != "OK":
            yield f"broker {replica.broker_id} {'votes' if replica.voter else 'does not vote'} and is {replica.state}"


class Fault:
    """One occurrence of trouble. `on`: whom it struck, for the history."""

    needs: ClassVar[tuple[str, ...]] = ()
    weight: ClassVar[int] = 2
    hurts_disk: ClassVar[bool] = False
    thins: ClassVar[bool] = False
    """There may be fewer replicas under it than before: no time to hurt a disk."""
    asks_to_end: ClassVar[bool] = False
    """It ends by asking the cluster for something."""
    ends_brokers: ClassVar[bool] = False
    """Brokers may end by themselves under it, as they should."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.on: list[str] = []

    @classmethod
    def name(cls) -> str:
        return "".join(f" {mark.lower()}" if mark.isupper() else mark for mark in cls.__name__).strip()

    @classmethod
    def why_not(cls) -> str | None:
        """Why it cannot happen on this machine."""
        return next((why for tool in cls.needs if (why := tools.missing(tool)) is not None), None)

    def may_begin(self) -> bool:
        return True

    async def begin(self) -> None:
        raise NotImplementedError

    async def end(self) -> None:
        return

    def strike(self, brokers: Iterable[Broker]) -> list[Broker]:
        struck = list(brokers)
        self.on = [broker.name for broker in struck]
        return struck
