"""What compaction costs on this machine: broker CPU and produce latency while a topic's log is compacted, and without.

Three real brokers, three replicas. A topic of one partition is filled with keyed records while nothing is compacted;
then single records are produced to another topic at a steady pace, first in peace, then while all three replicas of the
first topic are compacted, each in its broker's own process.

    python -m tests.bench.compaction [--gigabytes 5] [--keys 100000] [--value-bytes 1000] [--bytes-per-s 52428800]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lograft
import psutil

from tests.integration.brokers import Broker, Brokers

TOPIC, OTHER = "keyed", "other"
PACE_S = 0.01
PEACE_S = 15.0
NEVER_MS = 10**9


def show(figure: str, **facts: object) -> None:
    print(json.dumps({"figure": figure, **facts}), flush=True)


async def fill(client: lograft.Client, options: argparse.Namespace) -> float:
    """Seconds to produce the records, keys drawn at random."""
    chance = random.Random(1)
    block = os.urandom(4 << 20)
    began = time.monotonic()
    left = int(options.gigabytes * (1 << 30))
    async with client.producer(compression="none") as producer:
        while left > 0:
            records = []
            for _ in range(1000):
                at = chance.randrange(len(block) - options.value_bytes)
                key = b"key %d" % chance.randrange(options.keys)
                records.append(lograft.NewRecord(value=block[at : at + options.value_bytes], key=key))
                left -= options.value_bytes
            await producer.send_many(TOPIC, records)
        await producer.flush()
    return time.monotonic() - began


async def produce_until(client: lograft.Client, is_over: Callable[[], bool]) -> list[float]:
    """Milliseconds from sending single records to their acknowledgement, one each `PACE_S`."""
    taken = []
    async with client.producer(linger_ms=0) as producer:
        await producer.send_and_wait(OTHER, b"warm up")
        due = time.monotonic()
        while not is_over():
            began = time.monotonic()
            await producer.send_and_wait(OTHER, b"x" * 1000)
            taken.append((time.monotonic() - began) * 1000)
            due = max(due + PACE_S, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return taken


class Meter:
    """CPU seconds of the brokers and of the processes that compact for them, since it was made."""

    def __init__(self, brokers: Brokers) -> None:
        self._processes = [psutil.Process(broker.process.pid) for broker in brokers.all if broker.process is not None]
        self._before = [self._own(process) for process in self._processes]
        self._helpers: dict[int, float] = {}
        self._began = time.monotonic()

    def look(self) -> None:
        """At the processes that compact, which come and go."""
        for process in self._processes:
            for child in process.children():
                try:
                    self._helpers[child.pid] = self._own(child)
                except psutil.Error:
                    continue

    def report(self) -> dict[str, float]:
        seconds = time.monotonic() - self._began
        used = [self._own(process) - before for process, before in zip(self._processes, self._before, strict=True)]
        return {
            "seconds": round(seconds, 1),
            "cpu_percent_each_broker": round(100 * statistics.mean(used) / seconds, 1),
            "cpu_percent_all_compaction": round(100 * sum(self._helpers.values()) / seconds, 1),
        }

    @staticmethod
    def _own(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)


def latency(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "records": len(ordered),
        "p50_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[len(ordered) * 99 // 100], 2),
        "max_ms": round(ordered[-1], 2),
    }


def compacted(broker: Broker, topic_id: str) -> bool:
    return any(
        event.get("event") == "compacted" and str(event.get("partition", "")).startswith(topic_id)
        for event in broker.events()
    )


def set_compaction(brokers: Brokers, interval_ms: int, bytes_per_s: int) -> None:
    for broker in brokers.all:
        text = broker.config_path.read_text().partition("[compaction]")[0]
        section = f"[compaction]\ncheck_interval_ms = {interval_ms}\nbytes_per_s = {bytes_per_s}\n"
        broker.config_path.write_text(text + section)


def stored_bytes(broker: Broker, topic_id: str) -> int:
    directory = broker.data_directory / "partitions" / f"{topic_id}-0"
    return sum(path.stat().st_size for path in directory.glob("*.log"))


async def measure(options: argparse.Namespace, directory: Path) -> None:
    brokers = Brokers(directory)
    set_compaction(brokers, NEVER_MS, options.bytes_per_s)
    try:
        await asyncio.to_thread(brokers.start)
        config = {"cleanup.policy": "compact", "delete.retention.ms": "0"}
        topic_id = brokers.create_topic(TOPIC, config=config).topic_id
        brokers.create_topic(OTHER)
        addresses = [broker.address for broker in brokers.all]
        async with lograft.Client(addresses) as client:
            seconds = await fill(client, options)
            show("filled", gigabytes=options.gigabytes, seconds=round(seconds, 1), keys=options.keys)
            await asyncio.sleep(2)
            meter, over = Meter(brokers), time.monotonic() + PEACE_S
            taken = await produce_until(client, lambda: time.monotonic() > over)
            show("in peace", **meter.report(), **latency(taken))
        await asyncio.to_thread(brokers.stop)
        set_compaction(brokers, 5_000, options.bytes_per_s)
        before = stored_bytes(brokers[0], topic_id)
        await asyncio.to_thread(brokers.start)
        async with lograft.Client(addresses) as client:
            meter = Meter(brokers)
            looked = time.monotonic()

            def is_over() -> bool:
                nonlocal looked
                if time.monotonic() - looked < 0.5:
                    return False
                looked = time.monotonic()
                meter.look()
                return all(compacted(broker, topic_id) for broker in brokers.all)

            taken = await produce_until(client, is_over)
            show(
                "while compacting",
                **meter.report(),
                **latency(taken),
                megabytes_before=before >> 20,
                megabytes_after=stored_bytes(brokers[0], topic_id) >> 20,
            )
    finally:
        await asyncio.to_thread(brokers.stop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compaction", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--bytes-per-s", type=int, default=50 << 20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(options, Path(directory)))


if __name__ == "__main__":
    main()
