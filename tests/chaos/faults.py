"""What can go wrong with a cluster, each kind a small class: it begins, lasts, ends, and leaves things as they were.

A fault draws whom it strikes when it begins. `needs` names the tools without which it is left out. What hurts a disk
for good (`hurts_disk`) may strike one broker at a time, and only once every replica is whole again: the promise is for
a majority of disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

import lograft
from lograft.client.check.history import Recorder

from . import flips, tools
from .cluster import Broker, Cluster
from .proxy import CLIENTS
from .workers import Worker, Workers

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
        try:
            async with asyncio.timeout(CALL_S_MAX):
                topics = await self.client.admin.list_topics(internal=True)
                told = await self.client.admin.describe_cluster()
        except (lograft.LograftError, TimeoutError):
            return False
        return (
            len(self.cluster.running) == len(self.cluster.brokers)
            and told.losses_borne >= 1
            and all(
                not partition.moving
                and partition.leader_id >= 0
                and len(partition.replicas) >= REPLICAS
                and all(replica.voter and replica.state == "OK" for replica in partition.replicas)
                for topic in topics
                for partition in topic.partitions
            )
        )


class Fault:
    """One occurrence of trouble. `on`: whom it struck, for the history."""

    needs: ClassVar[tuple[str, ...]] = ()
    weight: ClassVar[int] = 2
    hurts_disk: ClassVar[bool] = False
    is_moment: ClassVar[bool] = False
    """It is over as soon as it has begun."""
    thins: ClassVar[bool] = False
    """There may be fewer replicas under it than before: no time to hurt a disk."""
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


# Processes ---------------------------------------------------------------------------------------------------------


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


# Network -----------------------------------------------------------------------------------------------------------


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


# Disks -------------------------------------------------------------------------------------------------------------


class FullDisk(Fault):
    """Something else takes the space, below the mark at which produce stops, or all of it."""

    needs = ("mount",)
    ends_brokers = True

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
        self.broker.kill()
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
        broker.kill()
        others = [other.data_directory for other in self.scene.cluster.brokers if other is not broker]
        self.turned = flips.flip_some(broker.data_directory, others, self.scene.chance, count=4)

    async def end(self) -> None:
        if not self.broker.is_running:
            self.broker.start()


# Clocks ------------------------------------------------------------------------------------------------------------


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


# Operators and clients ---------------------------------------------------------------------------------------------


class _Asked(Fault):
    """Something that an operator asks for, for as long as the fault lasts."""

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
    left: list[Callable[[], Awaitable[None]]] = []
    brokers = [broker.broker_id for broker in scene.cluster.brokers]
    left += [partial(scene.client.admin.undrain_broker, broker_id) for broker_id in brokers]
    for topic, partitions in scene.topics.items():
        left += [
            partial(scene.client.admin.move_partition, topic, partition, _turned(brokers, partition)[:REPLICAS])
            for partition in range(partitions)
        ]
    deadline = asyncio.get_running_loop().time() + RESTORE_S_MAX
    while left and asyncio.get_running_loop().time() < deadline:
        again = []
        for ask in left:
            try:
                async with asyncio.timeout(CALL_S_MAX):
                    await ask()
            except lograft.errors.InvalidRequest as error:
                if "already" not in str(error):
                    again.append(ask)  # an earlier move is still under way
            except (lograft.LograftError, TimeoutError):
                again.append(ask)
        left = again
        await asyncio.sleep(0.3)
    scene.is_out_of_order = bool(left)


def _turned(brokers: list[int], by: int) -> list[int]:
    by %= len(brokers)
    return brokers[by:] + brokers[:by]


class KillMembers(Fault):
    """Processes of group members die, and others take their places."""

    weight = 3

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.killed: list[Worker] = []

    async def begin(self) -> None:
        count = self.scene.chance.randint(1, max(len(self.scene.members), 1))
        for worker in self.scene.chance.sample(self.scene.members, min(count, len(self.scene.members))):
            worker.kill(self.scene.history)
            self.on += worker.processes
            self.killed.append(worker)

    async def end(self) -> None:
        for worker in self.killed:
            worker.start()


class PauseMembers(Fault):
    """SIGSTOP, for longer than their sessions or not."""

    async def begin(self) -> None:
        members = [worker for worker in self.scene.members if worker.is_running]
        self.paused = self.scene.chance.sample(members, min(1, len(members)))
        for worker in self.paused:
            assert worker.process is not None
            self.on += worker.processes
            worker.process.send_signal(signal.SIGSTOP)

    async def end(self) -> None:
        for worker in self.paused:
            if worker.is_running:
                assert worker.process is not None
                worker.process.send_signal(signal.SIGCONT)


# Composed ----------------------------------------------------------------------------------------------------------


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


PROCESSES: tuple[type[Fault], ...] = (
    *(KillOne, KillLeader, KillMajority, KillAll, KillAgainAndAgain),
    *(Pause, PauseLeader, PauseAll, RestartOneByOne, StopOne),
)
NETWORK: tuple[type[Fault], ...] = (
    *(PartitionInHalves, PartitionLeaderAlone, PartitionOneWay, PartitionMajoritiesRing, ClientsCutOff),
    *(SwizzleClog, SlowLinks, DrippingLinks, ResetLinks),
)
DISKS: tuple[type[Fault], ...] = (
    *(FullDisk, SyncFails, SlowSync, WriteFails, PowerFailure, WipedDisk, FlippedBits, FlippedBitsOfStopped),
)
OTHERS: tuple[type[Fault], ...] = (
    *(ClockJump, TransferLeadership, MovePartitions, DrainOne, KillMembers, PauseMembers, PauseKill, PartKill),
)
ALL = (*PROCESSES, *NETWORK, *DISKS, *OTHERS)
