"""What the spine does on this machine: three brokers, three replicas, acknowledged after fsync on a majority.

One Python producer through gRPC, random payload, no compression, 12 partitions. Each figure stands beside the bare pipe
of the same run, because machines differ and so does one machine from hour to hour.

    python -m tests.bench.spine all                 everything, a table and a line of JSON each
    python -m tests.bench.spine throughput|latency|failover|memory|idle
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import lograft
import psutil

from .bare_pipe import measure

PARTITIONS = 12
LOGRAFT = [sys.executable, "-m", "lograft.client.cli.main"]


class Cluster:
    """A local cluster of three real broker processes, made by the command line."""

    def __init__(self, data: str, base_port: int) -> None:
        self.data = data
        self.address = f"127.0.0.1:{base_port}"
        self.addresses = ",".join(f"127.0.0.1:{base_port + 10 * number}" for number in range(3))
        self._base_port = base_port

    def command(self, *words: str) -> str:
        where = [] if words[0] == "cluster" else ["--data", self.data]
        environment = {**os.environ, "LOGRAFT_BROKERS": self.addresses}
        done = subprocess.run([*LOGRAFT, *words, *where], capture_output=True, text=True, timeout=90, env=environment)
        if done.returncode:
            raise RuntimeError(f"lograft {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def up(self) -> None:
        self.command("up", "--detach", "--base-port", str(self._base_port))

    def processes(self) -> dict[int, psutil.Process]:
        found = json.loads(self.command("status", "-o", "json"))
        return {broker["broker_id"]: psutil.Process(broker["pid"]) for broker in found["brokers"] if broker["pid"]}


@asynccontextmanager
async def a_cluster() -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(f"{directory}/cluster", _free_base_port())
        await asyncio.to_thread(cluster.up)
        try:
            yield cluster
        finally:
            await asyncio.to_thread(cluster.command, "down")


def _free_base_port() -> int:
    while True:
        base = random.randrange(20000, 50000, 40)
        taken = {connection.laddr.port for connection in psutil.net_connections() if connection.laddr}
        if not taken.intersection(range(base, base + 40)):
            return base


def show(figure: str, **facts: object) -> None:
    print(json.dumps({"figure": figure, **facts}), flush=True)


def values_of(size: int, count: int) -> list[bytes]:
    """Random payloads, cut from one random block at random places so that making them is cheap."""
    block = os.urandom(max(4 << 20, 2 * size))
    return [block[at : at + size] for at in (random.randrange(len(block) - size) for _ in range(count))]


async def produce(
    client: lograft.Client, topic: str, size: int, total_bytes: int, *, one_by_one: bool
) -> tuple[int, float]:
    """Records and seconds until everything is acknowledged."""
    chunk = max(1, min(2000, (1 << 20) // size))
    pool = [values_of(size, chunk) for _ in range(4)]
    count = 0
    async with client.producer(compression="none") as producer:
        await producer.send_and_wait(topic, b"warm up")
        began = time.monotonic()
        while count * size < total_bytes:
            values = pool[(count // chunk) % len(pool)]
            if one_by_one:
                for value in values:
                    await producer.send(topic, value)
            else:
                await producer.send_many(topic, values)
            count += len(values)
        await producer.flush()
        seconds = time.monotonic() - began
    return count, seconds


async def consume(client: lograft.Client, topic: str, count: int) -> float:
    """Seconds to read `count` records from the start."""
    got = 0
    began = time.monotonic()
    async with client.consumer(topic, auto_offset_reset="earliest", max_poll_records=10_000) as consumer:
        while got < count:
            for records in (await consumer.getmany(timeout_ms=5000)).values():
                got += len(records)
    return time.monotonic() - began


async def throughput(rounds: int) -> None:
    for size, total in ((100, 60 << 20), (1024, 400 << 20), (16 << 10, 600 << 20)):
        produced, one_by_one, read, pipe = [], [], [], []
        for _ in range(rounds):
            rate = await asyncio.to_thread(_pipe)
            pipe.append(rate / 1e6)
            async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
                for topic, single in (("batches", False), ("single", True)):
                    await client.admin.create_topic(topic, partitions=PARTITIONS, replication=3)
                    part = total // 4 if single else total
                    count, seconds = await produce(client, topic, size, part, one_by_one=single)
                    (one_by_one if single else produced).append(count / seconds)
                    if not single:
                        read.append(count / await consume(client, topic, count))
        median = statistics.median
        show(
            "throughput",
            record_bytes=size,
            rounds=rounds,
            send_many_records_per_s=round(median(produced)),
            send_many_mb_per_s=round(median(produced) * size / 1e6, 1),
            send_records_per_s=round(median(one_by_one)),
            read_records_per_s=round(median(read)),
            read_mb_per_s=round(median(read) * size / 1e6, 1),
            bare_pipe_mb_per_s=round(median(pipe), 1),
            of_the_bare_pipe=round(median([p * size / 1e6 / b for p, b in zip(produced, pipe, strict=True)]), 2),
            spread_mb_per_s=[round(p * size / 1e6, 1) for p in produced],
            spread_bare_pipe=[round(b, 1) for b in pipe],
        )


def _pipe() -> float:
    return measure(frame_bytes=64 << 10, files=PARTITIONS, total_bytes=512 << 20, in_flight_bytes=64 << 20)


async def paced(client: lograft.Client, topic: str, per_second: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds from when a record was due to its acknowledgement, and to the consumer's hands.

    At a steady rate whatever the answers do (no coordinated omission); records of about 150 B.
    """
    arrived: list[float] = []
    acknowledged: list[float] = []
    total = int(per_second * seconds)

    async with client.producer(linger_ms=0, compression="none") as producer:
        await producer.send_and_wait(topic, b"warm up")
        async with client.consumer(topic, auto_offset_reset="latest") as consumer:
            await consumer.getmany(timeout_ms=500)

            async def listen() -> None:
                while len(arrived) < total:
                    for records in (await consumer.getmany(timeout_ms=1000)).values():
                        now = time.monotonic()
                        arrived.extend(now - float(record.value.split(b" ")[0]) for record in records)

            async def send(due: float) -> None:
                await producer.send_and_wait(topic, b"%.6f %s" % (due, os.urandom(70).hex().encode()))
                acknowledged.append(time.monotonic() - due)

            listener = asyncio.create_task(listen())
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for number in range(total):
                    due = began + number / per_second
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    group.create_task(send(due))
            await asyncio.wait_for(listener, 30)
    return acknowledged, arrived


async def latency(per_second: int = 500, seconds: int = 20) -> None:
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic("latency", partitions=PARTITIONS, replication=3)
        acknowledged, arrived = await paced(client, "latency", per_second, seconds)
    for name, found in (("acknowledged", acknowledged), ("end_to_end", arrived)):
        cut = statistics.quantiles([value * 1000 for value in found], n=100)
        show(
            "latency",
            of=name,
            per_second=per_second,
            p50_ms=round(cut[49], 2),
            p99_ms=round(cut[98], 2),
            records=len(found),
        )


async def failover(rounds: int = 10) -> None:
    """The longest time without an acknowledgement around a `kill -9` of the leader."""
    gaps: list[float] = []
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic("failover", partitions=1, replication=3)
        async with client.producer(linger_ms=0, compression="none") as producer:
            await producer.send_and_wait("failover", b"warm up")
            for _ in range(rounds):
                stamps: list[float] = []

                async def send() -> None:
                    await producer.send_and_wait("failover", b"x" * 100)
                    stamps.append(time.monotonic())  # noqa: B023

                description = await client.admin.describe_topic("failover")
                leader = description.partitions[0].leader_id
                async with asyncio.TaskGroup() as group:
                    for number in range(600):
                        if number == 100:
                            process = cluster.processes()[leader]
                            process.kill()
                        group.create_task(send())
                        await asyncio.sleep(0.005)
                stamps.sort()
                gaps.append(max(later - earlier for earlier, later in pairwise(stamps)))
                await asyncio.to_thread(cluster.command, "start", str(leader))
                await asyncio.to_thread(cluster.command, "cluster", "health", "-w", "-e")
    show("failover", rounds=rounds, p50_s=round(statistics.median(gaps), 3), worst_s=round(max(gaps), 3),
         all_s=[round(gap, 3) for gap in gaps])  # fmt: skip


async def memory(total_bytes: int = 2 << 30) -> None:
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic("memory", partitions=PARTITIONS, replication=3)
        count, _ = await produce(client, "memory", 1024, total_bytes, one_by_one=False)
        after_produce = {number: process.memory_info().rss for number, process in cluster.processes().items()}
        await consume(client, "memory", count)
        after_read = {number: process.memory_info().rss for number, process in cluster.processes().items()}
    show("memory", through_bytes=total_bytes, rss_mb={n: round(rss / 1e6) for n, rss in after_produce.items()},
         rss_mb_after_reading={n: round(rss / 1e6) for n, rss in after_read.items()})  # fmt: skip


async def idle(partitions: int = 300, seconds: int = 20) -> None:
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic("idle", partitions=partitions, replication=3)
        await asyncio.sleep(15)
        processes = cluster.processes()
        before = {number: sum(process.cpu_times()[:2]) for number, process in processes.items()}
        await asyncio.sleep(seconds)
        used = {number: sum(process.cpu_times()[:2]) - before[number] for number, process in processes.items()}
    show("idle", partitions=partitions, replication=3,
         cpu_percent_of_a_core={n: round(100 * cpu / seconds, 2) for n, cpu in used.items()})  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["all", "throughput", "latency", "failover", "memory", "idle"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    show(
        "machine",
        cpus=os.cpu_count(),
        python=platform.python_version(),
        system=platform.release(),
        setting="3 brokers on one machine, R=3, fsync on a majority before the acknowledgement, one producer process",
    )
    todo = {
        "throughput": lambda: throughput(given.rounds),
        "latency": latency,
        "failover": failover,
        "memory": memory,
        "idle": idle,
    }
    for name in todo if given.what == "all" else [given.what]:
        asyncio.run(todo[name]())


if __name__ == "__main__":
    main()
