"""Three whole replicas in one process: real disks, and a network that is a function call later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from lograft.partitions.environment import PartitionId, ReplicaConfig
from lograft.partitions.flusher import Flusher
from lograft.partitions.raft.events import PeerHeard, PeerSilent
from lograft.partitions.raft.messages import Message, Voter
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.replica import Replica
from lograft.partitions.replica_counts import ReplicaCounts
from lograft.partitions.storage.promises import Promises
from lograft.proto.record_batch import BatchHeader, Compression, NewRecord, encode, read_header

PARTITION = PartitionId("a" * 32, 0)


class Network:
    """Delivers between replicas by broker id, unless a test has cut one off."""

    def __init__(self) -> None:
        self.replicas: dict[int, Replica] = {}
        self.is_cut: Callable[[Message], bool] = lambda _: False

    def send(self, partition: PartitionId, message: Message) -> None:
        asyncio.get_running_loop().call_soon(self._deliver, message)

    def _deliver(self, message: Message) -> None:
        if not self.is_cut(message) and message.to.broker_id in self.replicas:
            self.replicas[message.to.broker_id].receive(message)


class Watch:
    """A ReplicaObserver that lets a test wait until something is true."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def role_changed(self, replica: Replica) -> None:
        self._changed.set()

    def committed(self, replica: Replica) -> None:
        self._changed.set()

    def logged(self, event: str, **facts: object) -> None:
        """An environment's log: what is done in the background ends with a word to the operator."""
        self._changed.set()

    async def until(self, is_true: Callable[[], bool], *, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not is_true():
                self._changed.clear()
                await self._changed.wait()


class Trio:
    def __init__(self, root: Path, count: int, segment_bytes_max: int, boot_id: str | None = None) -> None:
        self.root = root
        self.boot_id = boot_id
        self.segment_bytes_max = segment_bytes_max
        self.count = count
        self.network = Network()
        self.watch = Watch()
        self.counts: dict[int, ReplicaCounts] = {broker_id: ReplicaCounts() for broker_id in range(count)}
        self._closing: list[Callable[[], object]] = []

    async def start(self) -> None:
        config = ReplicaConfig(
            election_timeout_ms=200, election_stagger_ms=20, segment_bytes_max=self.segment_bytes_max
        )
        promises = {}
        for broker_id in range(self.count):
            directory = self.root / str(broker_id)
            directory.mkdir(exist_ok=True)
            environment = RealEnvironment(str(directory))
            environment.random = Random(broker_id)
            environment.transport = self.network
            if self.boot_id is not None:
                environment.disk.boot_id = self.boot_id
            environment.log = self.watch.logged
            promises[broker_id] = (environment, await Promises.open(environment, str(directory)))
        voters = tuple(Voter(broker_id, word.directory_id, 1) for broker_id, (_, word) in promises.items())
        for broker_id, (environment, word) in promises.items():
            flusher = Flusher(environment)
            self.network.replicas[broker_id] = await Replica.open(
                environment=environment,
                promises=word,
                flusher=flusher,
                directory=str(self.root / str(broker_id)),
                partition=PARTITION,
                voter=voters[broker_id],
                first_voters=voters,
                config=config,
                observer=self.watch,
                counts=self.counts[broker_id],
            )
            self._closing += [flusher.drain, word.close, environment.disk.stop]
        for broker_id, replica in self.network.replicas.items():
            for other in range(self.count):
                if other != broker_id:
                    replica.take(PeerHeard(other, voters[other].directory_id))

    async def stop(self) -> None:
        for replica in self.network.replicas.values():
            await replica.stop()
        for close in self._closing:
            found = close()
            if asyncio.iscoroutine(found):
                await found

    async def leader(self) -> Replica:
        """Whoever leads and serves, once somebody does."""
        await self.watch.until(lambda: any(replica.is_ready for replica in self.network.replicas.values()))
        return next(replica for replica in self.network.replicas.values() if replica.is_ready)

    def cut_off(self, replica: Replica) -> None:
        """Nothing goes to or from it, and both sides have noticed."""
        gone = replica.voter.broker_id
        self.network.is_cut = lambda message: gone in (message.to.broker_id, message.sender.broker_id)
        for broker_id, other in self.network.replicas.items():
            if broker_id != gone:
                other.take(PeerSilent(gone))
                replica.take(PeerSilent(broker_id))

    def join(self) -> None:
        """Everybody hears everybody again."""
        self.network.is_cut = lambda _: False
        for broker_id, replica in self.network.replicas.items():
            for other in self.network.replicas:
                if other != broker_id:
                    replica.take(PeerHeard(*self.network.replicas[other].voter[:2]))


@asynccontextmanager
async def a_trio(
    root: Path, count: int = 3, *, segment_bytes_max: int = 1 << 20, boot_id: str | None = None
) -> AsyncIterator[Trio]:
    """`boot_id`: of the machines, if another than that of the one that runs this."""
    trio = Trio(root, count, segment_bytes_max, boot_id)
    await trio.start()
    try:
        yield trio
    finally:
        await trio.stop()


def a_batch(*values: bytes, producer_id: int = -1, sequence: int = -1) -> tuple[bytes, BatchHeader]:
    records = [NewRecord(1_700_000_000_000, None, value) for value in values]
    epoch = 0 if producer_id >= 0 else -1
    batch = encode(
        records,
        compression=Compression.NONE,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    return batch, read_header(batch)
