"""A broker's data directory is deleted while records flow: how long until everything is on three disks again, what do
producers notice, and is every acknowledged record still there?

    python -m tests.bench.lost_disk [--rate 20] [--records 1024] [--preload 200] [--throttle 50MB/s]

Three real brokers on this machine, three replicas, acknowledged after fsync on a majority. Some megabytes are there
already when the steady load begins. Then one broker gets kill -9, its data directory is deleted, and it is started
again. A latency is that of a batch: from the moment at which it was due, whatever the answers do, to its
acknowledgement. At the end all is read back, and every record is compared, byte for byte, with what was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import lograft

from .spine import Cluster, a_cluster, show

TOPIC, PARTITIONS, REPLICAS = "t", 6, 3
TICK_S = 0.01
"""One batch, to one partition after the other."""
BEFORE_S, AFTER_S = 8.0, 8.0
DOWN_S = 1.0
"""From the kill to the start of the broker with no data directory."""
LOOK_S = 0.1
LOST = 1
"""The broker."""
BLOCK = os.urandom(1 << 20)
HEAD_BYTES = 12


def value_of(batch: int, index: int, size: int) -> bytes:
    """A record: which it is, and random bytes that follow from that."""
    at = (batch * 7919 + index * 104_729) % (len(BLOCK) - size)
    return batch.to_bytes(8, "big") + index.to_bytes(4, "big") + BLOCK[at : at + size - HEAD_BYTES]


@dataclass
class Load:
    """Batches of records, handed over at their times."""

    client: lograft.Client
    record_bytes: int
    batch_records: int
    acknowledged: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """When a batch was due, and how long its acknowledgement took, in seconds."""
    sent: int = 0
    _stop: bool = False

    def values(self) -> tuple[int, list[bytes]]:
        batch, self.sent = self.sent, self.sent + 1
        return batch, [value_of(batch, index, self.record_bytes) for index in range(self.batch_records)]

    async def preload(self, total_bytes: int) -> None:
        async with self.client.producer(compression="none") as producer:
            for _ in range(total_bytes // (self.batch_records * self.record_bytes)):
                batch, values = self.values()
                await producer.send_many(TOPIC, values, partition=batch % PARTITIONS)
                self.acknowledged.add(batch)
            await producer.flush()  # raises if any was not acknowledged

    async def run(self) -> None:
        async with self.client.producer(compression="none") as producer, asyncio.TaskGroup() as group:
            due = time.monotonic()
            while not self._stop:
                await asyncio.sleep(max(due - time.monotonic(), 0))
                batch, values = self.values()
                group.create_task(self._send(producer, batch, values, due))
                due += TICK_S

    async def _send(self, producer: lograft.Producer, batch: int, values: list[bytes], due: float) -> None:
        try:
            await (await producer.send_many(TOPIC, values, partition=batch % PARTITIONS))
        except (lograft.LograftError, lograft.DeliveryErrors):
            self.failed.add(batch)
            return
        self.acknowledged.add(batch)
        self.latencies.append((due, time.monotonic() - due))

    def stop(self) -> None:
        self._stop = True

    def between(self, begin: float, end: float) -> list[float]:
        return [latency * 1000 for due, latency in self.latencies if begin <= due < end]


async def until_whole(client: lograft.Client) -> None:
    """Return once every partition, the cluster's own too, has three voters that keep up."""
    while True:
        try:
            topics = await client.admin.list_topics(internal=True)
            cluster = await client.admin.describe_cluster()
        except lograft.LograftError:
            topics, cluster = [], None
        partitions = [partition for topic in topics for partition in topic.partitions]
        if (
            cluster is not None
            and cluster.losses_borne == 1
            and all(
                sum(replica.voter and replica.state == "OK" for replica in partition.replicas) == REPLICAS
                and not partition.moving
                for partition in partitions
            )
        ):
            return
        await asyncio.sleep(LOOK_S)


async def read_back(client: lograft.Client, load: Load) -> dict[str, int]:
    """Compare what is there with what was acknowledged."""
    seen: dict[int, bytearray] = {}
    altered = doubled = read = 0
    async for record in client.read(TOPIC):
        read += 1
        value = record.value or b""
        batch, index = int.from_bytes(value[:8], "big"), int.from_bytes(value[8:HEAD_BYTES], "big")
        if batch >= load.sent or index >= load.batch_records or value != value_of(batch, index, load.record_bytes):
            altered += 1
            continue
        found = seen.setdefault(batch, bytearray(load.batch_records))
        doubled += found[index]
        found[index] = 1
    whole = bytes(load.batch_records)
    lost = sum(seen.get(batch, whole).count(0) for batch in load.acknowledged)
    acknowledged = len(load.acknowledged) * load.batch_records
    return {"read": read, "acknowledged": acknowledged, "lost": lost, "altered": altered, "doubled": doubled}


def lose_disk(cluster: Cluster, number: int, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    shutil.rmtree(Path(cluster.data) / f"broker-{number}" / "data")


async def measure(rate_mb: float, record_bytes: int, preload_mb: int, throttle: str) -> int:
    batch_records = max(round(rate_mb * 1e6 * TICK_S / record_bytes), 1)
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic(TOPIC, partitions=PARTITIONS, replication=REPLICAS)
        await client.admin.change_cluster_setting("moves.bytes_per_second", throttle)
        load = Load(client, record_bytes, batch_records)
        await load.preload(preload_mb * 1_000_000)
        flow = asyncio.create_task(load.run())
        await asyncio.sleep(2.0)  # until it flows evenly
        pid = cluster.processes()[LOST].pid
        marks = [time.monotonic()]
        await asyncio.sleep(BEFORE_S)
        marks.append(time.monotonic())
        await asyncio.to_thread(lose_disk, cluster, LOST, pid)
        killed = marks[-1]
        held = load.sent * batch_records * record_bytes
        await asyncio.sleep(DOWN_S)
        started = time.monotonic()
        await asyncio.to_thread(cluster.command, "start", str(LOST))
        ready = time.monotonic()
        await until_whole(client)
        marks.append(time.monotonic())
        await asyncio.sleep(AFTER_S)
        marks.append(time.monotonic())
        load.stop()
        await flow
        found = await read_back(client, load)
    lost = found["lost"] + found["altered"]
    print(f"{'':9}{'seconds':>9}{'MB/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for phase, begin, end in zip(("before", "during", "after"), marks, marks[1:], strict=False):
        latencies = load.between(begin, end)
        cut = statistics.quantiles(latencies, n=100)
        sent_mb = len(latencies) * batch_records * record_bytes / 1e6
        print(
            f"{phase:9}{end - begin:>9.1f}{sent_mb / (end - begin):>8.1f}{cut[49]:>9.1f}{cut[98]:>9.1f}"
            f"{max(latencies):>9.1f}"
        )
    print(
        f"full redundancy {marks[2] - killed:.1f} s after the kill, {marks[2] - started:.1f} s after the start of the "
        f"empty broker (which served after {ready - started:.1f} s); the disk had held {held / 1e6:.0f} MB, throttle "
        f"{throttle} for each of the two that send"
    )
    print(
        f"{found['acknowledged']:,} records acknowledged, {found['read']:,} read back: {found['lost']} lost, "
        f"{found['altered']} altered, {found['doubled']} doubled; {len(load.failed) * batch_records} never acknowledged"
    )
    show("lost_disk", to_full_redundancy_s=round(marks[2] - killed, 1), **found)
    return 1 if lost else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0, help="MB/s of records (default 20)")
    parser.add_argument("--records", type=int, default=1024, help="bytes a record (default 1024)")
    parser.add_argument("--preload", type=int, default=200, help="MB there before the load begins (default 200)")
    parser.add_argument("--throttle", default="default", help="moves.bytes_per_second (default: the cluster's default)")
    given = parser.parse_args()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    print(
        f"{os.cpu_count()} CPUs, {memory_gb:.0f} GB, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}; 3 brokers and the producer on this machine; {PARTITIONS} partitions, "
        f"{REPLICAS} replicas, durability fsync, acks=quorum, records of {given.records} bytes, "
        f"{given.rate:g} MB/s asked for, load average at the start {os.getloadavg()[0]:.1f}"
    )
    sys.exit(asyncio.run(measure(given.rate, given.records, given.preload, given.throttle)))


if __name__ == "__main__":
    main()
