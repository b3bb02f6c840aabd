"""What a big log costs: 10 GB in one broker, restarted, searched by time, read cold, and read while a producer goes on.

    python -m tests.bench.big_log [--gb N] [--partitions N] [--directory DIR] [--backfill-s S]

One broker, one topic with R=1, 16 KiB records without compression, fsync before each acknowledgement. In turn:

    fill       how fast it was filled, and what the broker uses then
    restart    seconds from the start of the process until it is ready, and until a record of each partition was read:
               after a clean stop and after `kill -9` in the midst of producing; page cache dropped before each
    seek       ListOffsets by time, of points of time all over the log: the first time it is asked, and again
    cold read  the page cache of the log is dropped (POSIX_FADV_DONTNEED), and all of it read by one process
    backfill   a producer sends 100 records/s of 1 KiB one by one, alone and while a reader catches up on cold data, in
               turn, and at last on data in memory: its p50, p99 and worst latency, the broker's CPU and memory, and how
               long one fsync takes

It needs N GB of disk under DIR (the system's place for temporary files), and removes them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import lograft
import psutil
from lograft.client.cli.local_cluster import LocalBroker

from .many_partitions import Brokers, cpu_s, some_brokers
from .spine import show, values_of

TOPIC = "big"
RECORD_BYTES = 16 << 10
RATE = 100.0
PRODUCED_BYTES = 1 << 10


async def fill(client: lograft.Client, partitions: int, total_bytes: int) -> None:
    pool = values_of(RECORD_BYTES, 512)
    async with client.producer(compression="none", linger_ms=5) as producer:
        sent = 0
        while sent < total_bytes:
            await producer.send_many(TOPIC, pool)
            sent += RECORD_BYTES * len(pool)
        await producer.flush()


def drop_page_cache(directory: Path) -> int:
    """Bytes that were let go of; what is not synced stays."""
    os.sync()
    size = 0
    for path in directory.rglob("*.log"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size += os.fstat(descriptor).st_size
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return size


async def read_one_of_each(client: lograft.Client, partitions: int) -> None:
    async def one(partition: int) -> None:
        async for _ in client.read(TOPIC, start="start", partitions=[partition]):
            return

    await asyncio.gather(*map(one, range(partitions)))


async def measure_restart(brokers: Brokers, how: signal.Signals, partitions: int) -> None:
    broker = brokers.all[0]
    async with lograft.Client(broker.address) as client, client.producer(compression="none") as producer:
        # In the midst of something: a mark that lags behind, a segment half full.
        sending = asyncio.create_task(producer.send_many(TOPIC, values_of(RECORD_BYTES, 2000)))
        await asyncio.sleep(0.5 if how is signal.SIGKILL else 3.0)
        ended_s = await brokers.end(how, broker)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    size = drop_page_cache(Path(broker.directory))
    began = time.monotonic()
    ready_s = await brokers.start(broker)
    async with lograft.Client(broker.address) as client:
        await read_one_of_each(client, partitions)
        served_s = time.monotonic() - began
    show("restart", after=how.name, gb=round(size / 1e9, 2), ended_s=round(ended_s, 2), ready_s=round(ready_s, 2),
         served_s=round(served_s, 2), cpu_s=round(cpu_s(brokers.process(broker)), 2),
         load=os.getloadavg()[0])  # fmt: skip


async def measure_seek(brokers: Brokers, began_s: float, ended_s: float, partitions: int, count: int = 200) -> None:
    async with lograft.Client(brokers.all[0].address) as client, client.consumer() as consumer:
        all_of = [lograft.TopicPartition(TOPIC, partition) for partition in range(partitions)]
        consumer.assign(all_of)
        for asked in ("first time", "again"):
            dice = random.Random(7)
            took: list[float] = []
            for _ in range(count):
                when_ms = round(1000 * dice.uniform(began_s, ended_s))
                began = time.monotonic()
                await consumer.seek_to_time(when_ms, dice.choice(all_of))
                took.append(time.monotonic() - began)
            show("seek by time", asked=asked, **in_ms(took), load=os.getloadavg()[0])


def in_ms(took_s: list[float]) -> dict[str, float]:
    ordered = sorted(took_s)
    return {
        "count": len(ordered),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 1),
        "worst_ms": round(1000 * ordered[-1], 1),
    }


async def read_all(client: lograft.Client, until: Callable[[], bool], bytes_max: int) -> int:
    """Bytes of records read from the start on."""
    size = 0
    async with client.consumer(TOPIC, auto_offset_reset="earliest", max_poll_records=10_000) as consumer:
        while size < bytes_max and not until():
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                size += sum(len(record.value or b"") for record in records)
    return size


async def measure_cold_read(brokers: Brokers, total_bytes: int) -> None:
    broker = brokers.all[0]
    process = brokers.process(broker)
    drop_page_cache(Path(broker.directory))
    async with lograft.Client(broker.address) as client:
        began, cpu = time.monotonic(), cpu_s(process)
        size = await read_all(client, lambda: False, total_bytes)
        seconds = time.monotonic() - began
    show("cold read", gb=round(size / 1e9, 2), mb_per_s=round(size / seconds / 1e6, 1),
         broker_cpu_s_per_gb=round((cpu_s(process) - cpu) / (size / 1e9), 2),
         rss_mb=round(process.memory_info().rss / 1e6), load=os.getloadavg()[0])  # fmt: skip


async def produce_one_by_one(client: lograft.Client, seconds: float) -> list[float]:
    """Latencies at a steady rate, whatever the answers do: from when each was due."""
    took: list[float] = []
    async with client.producer(linger_ms=0, compression="none") as producer:
        value = os.urandom(PRODUCED_BYTES)
        await producer.send_and_wait("fresh", value)

        async def send(due: float) -> None:
            await producer.send_and_wait("fresh", value)
            took.append(time.monotonic() - due)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds * RATE)):
                due = began + number / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(send(due))
    return took


async def backfill(address: str, total_bytes: int) -> None:
    """The reader, in a process of its own, until it is ended."""
    async with lograft.Client(address) as client:
        while True:
            size = await read_all(client, lambda: False, total_bytes)
            print(size, flush=True)


def fsyncs(broker: LocalBroker) -> tuple[float, float]:
    """How many the broker made, and the seconds they took together."""
    with urllib.request.urlopen(broker.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line[:1] != "#")}
    return found["lograft_fsync_seconds_count"], found["lograft_fsync_seconds_sum"]


async def measure_backfill(brokers: Brokers, total_bytes: int, seconds: float) -> None:
    broker = brokers.all[0]
    process = brokers.process(broker)
    async with lograft.Client(broker.address) as client:
        await client.admin.create_topic("fresh", partitions=1, replication=1)
        for phase in ("alone", "cold backfill", "alone", "cold backfill", "alone", "warm backfill"):
            reader = None
            if phase != "alone":
                if phase == "cold backfill":
                    drop_page_cache(Path(broker.directory))
                reader = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.bench.big_log", "--backfill", broker.address, str(total_bytes)
                )
                await asyncio.sleep(2)
            peak = 0
            read, cpu, syncs = process.io_counters().read_bytes, cpu_s(process), await asyncio.to_thread(fsyncs, broker)
            producing = asyncio.create_task(produce_one_by_one(client, seconds))
            while not producing.done():
                peak = max(peak, process.memory_info().rss)
                await asyncio.sleep(0.1)
            took = await producing
            if reader is not None:
                reader.kill()
                await reader.wait()
            read, cpu = process.io_counters().read_bytes - read, cpu_s(process) - cpu
            after = await asyncio.to_thread(fsyncs, broker)
            count, sum_s = after[0] - syncs[0], after[1] - syncs[1]
            show("producer", phase=phase, **in_ms(took), rss_mb_peak=round(peak / 1e6),
                 read_from_disk_mb_per_s=round(read / seconds / 1e6, 1), broker_cpu_percent=round(100 * cpu / seconds),
                 fsync_mean_ms=round(1000 * sum_s / max(count, 1), 2), load=os.getloadavg()[0])  # fmt: skip


async def run(total_bytes: int, partitions: int, directory: str | None, backfill_s: float) -> None:
    async with some_brokers(1, directory=directory) as brokers:
        broker = brokers.all[0]
        free = shutil.disk_usage(brokers.cluster.directory).free
        if free < 2 * total_bytes:
            raise SystemExit(
                f"{free >> 30} GB of disk are free; for {total_bytes >> 30} GB take a place with twice that"
            )
        await brokers.start(broker)
        began_s = time.time()
        async with lograft.Client(broker.address) as client:
            await client.admin.create_topic(TOPIC, partitions=partitions, replication=1)
            began, cpu = time.monotonic(), cpu_s(brokers.process(broker))
            await fill(client, partitions, total_bytes)
            seconds = time.monotonic() - began
        process = brokers.process(broker)
        show("fill", gb=round(total_bytes / 1e9, 2), partitions=partitions,
             mb_per_s=round(total_bytes / seconds / 1e6, 1),
             cpu_s=round(cpu_s(process) - cpu, 1), rss_mb=round(process.memory_info().rss / 1e6),
             descriptors=process.num_fds(), load=os.getloadavg()[0])  # fmt: skip
        ended_s = time.time()
        for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            await measure_restart(brokers, how, partitions)
        await measure_seek(brokers, began_s, ended_s, partitions)
        await measure_cold_read(brokers, total_bytes)
        await measure_backfill(brokers, total_bytes, backfill_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--directory", help="where the data goes meanwhile")
    parser.add_argument("--backfill-s", type=float, default=20.0)
    parser.add_argument("--backfill", nargs=2, metavar=("ADDRESS", "BYTES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.backfill:
        asyncio.run(backfill(given.backfill[0], int(given.backfill[1])))
        return
    show("machine", cpus=os.cpu_count(), python=platform.python_version(), system=platform.release(),
         memory_gb=round(psutil.virtual_memory().total / 1e9), setting="one broker, R=1, fsync",
         load=os.getloadavg()[0])  # fmt: skip
    # Told to end, it does not leave its broker behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asyncio.run(run(round(given.gb * 1e9), given.partitions, given.directory, given.backfill_s))


if __name__ == "__main__":
    main()
