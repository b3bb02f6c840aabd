"""Is it slower than before? Each figure beside the bare pipe of the same run, in under two minutes.

The bare pipe (`bare_pipe.py`) writes and syncs as much on three nodes, and does nothing else. Both change with the
machine and with the hour; their ratio does so less, and the CPU that a record costs less again.

    python -m tests.bench.quick [-o json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import lograft
import psutil
from lograft.client.bench.machine import this_machine

from .peers import pipe
from .spine import PARTITIONS, Cluster, a_cluster, consume, paced, produce

SETTING = f"3 brokers on this machine, R=3, fsync on a majority before the acknowledgement, {PARTITIONS} partitions"
KIB_BYTES = 120 << 20
SMALL_BYTES = 30 << 20
PIPE_BYTES = 256 << 20
PER_SECOND = 1000
SECONDS = 6.0
ONE_BY_ONE_S = 4.0


@dataclass
class Figure:
    """What was measured of one piece of work."""

    work: str
    found: str
    of_the_pipe: float
    """MB/s of its MB/s; of a latency, how many times its p50, one frame of that size at a time."""
    brokers_us: float
    """CPU of all three brokers a record, all threads, in microseconds."""
    client_us: float


@dataclass
class Pipe:
    """What the bare pipe did before and after."""

    mb_per_s: list[float]
    one_by_one_ms: list[float]

    @classmethod
    def measure(cls) -> Pipe:
        it = cls([], [])
        it.again()
        return it

    def again(self) -> None:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
            self.mb_per_s.append(pipe.produce(Path(directory), PIPE_BYTES)["mb_per_s"])
            self.one_by_one_ms.append(pipe.one_by_one(Path(directory), 100, 2.0)["p50_ms"])


class Cpu:
    """CPU seconds of the brokers and of this process, from when it was made."""

    def __init__(self, brokers: list[psutil.Process]) -> None:
        self._brokers = brokers
        self._began = self._now()

    def _now(self) -> tuple[float, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        return sum(sum(broker.cpu_times()[:2]) for broker in self._brokers), own.ru_utime + own.ru_stime

    def each_us(self, records: int) -> tuple[float, float]:
        brokers, own = self._now()
        return (
            round(1e6 * (brokers - self._began[0]) / records, 2),
            round(1e6 * (own - self._began[1]) / records, 2),
        )


async def figures(bare: Pipe) -> list[Figure]:
    pipe_mb, pipe_ms = statistics.mean(bare.mb_per_s), statistics.mean(bare.one_by_one_ms)
    found: list[Figure] = []
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        brokers = await asyncio.to_thread(_brokers, cluster)

        async def topic(name: str, partitions: int = PARTITIONS) -> str:
            await client.admin.create_topic(name, partitions=partitions, replication=3)
            return name

        def throughput(work: str, count: int, size: int, seconds: float, cpu: Cpu) -> None:
            rate = count * size / seconds / 1e6
            text = f"{count / seconds:,.0f} records/s, {rate:.0f} MB/s"
            found.append(Figure(work, text, round(rate / pipe_mb, 2), *cpu.each_us(count)))

        def latency(work: str, seconds: list[float], records: int, cpu: tuple[float, float]) -> None:
            cut = statistics.quantiles([1000 * one for one in seconds], n=100)
            text = f"p50 {cut[49]:.2f} ms, p99 {cut[98]:.2f} ms"
            found.append(Figure(work, text, round(cut[49] / pipe_ms, 1), *cpu))

        for work, size, total in (("1 KiB", 1024, KIB_BYTES), ("100 B", 100, SMALL_BYTES)):
            name = await topic(f"produced-{size}")
            await produce(client, name, size, total // 10, one_by_one=False)
            cpu = Cpu(brokers)
            count, seconds = await produce(client, name, size, total, one_by_one=False)
            throughput(f"produce {work}, send_many", count, size, seconds, cpu)
            cpu = Cpu(brokers)
            throughput(f"catch-up read {work}", count, size, await consume(client, name, count), cpu)
        for partitions in (1, PARTITIONS):
            name = await topic(f"paced-{partitions}", partitions)
            await paced(client, name, PER_SECOND, 1.0)
            cpu = Cpu(brokers)
            acknowledged, arrived = await paced(client, name, PER_SECOND, SECONDS)
            each = cpu.each_us(len(arrived))
            what = f"{PER_SECOND:,}/s of 150 B, linger 0, {partitions} partition{'s' * (partitions > 1)}"
            latency(f"{what}: end to end", arrived, len(arrived), each)
            latency(f"{what}: acknowledged", acknowledged, len(arrived), each)
        name = await topic("one-by-one", 1)
        await _one_by_one(client, name, 0.5)
        cpu = Cpu(brokers)
        answered = await _one_by_one(client, name, ONE_BY_ONE_S)
        latency("100 B one by one, acknowledged", answered, len(answered), cpu.each_us(len(answered)))
    return found


def _brokers(cluster: Cluster) -> list[psutil.Process]:
    return list(cluster.processes().values())


async def _one_by_one(client: lograft.Client, topic: str, seconds: float) -> list[float]:
    found: list[float] = []
    value = os.urandom(100)
    async with client.producer(linger_ms=0, compression="none") as producer:
        await producer.send_and_wait(topic, value)
        ends = time.monotonic() + seconds
        while (began := time.monotonic()) < ends:
            await producer.send_and_wait(topic, value)
            found.append(time.monotonic() - began)
    return found


@contextmanager
def _said(what: str) -> Iterator[None]:
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr)
    yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    given = parser.parse_args()
    machine = this_machine()
    with _said("the bare pipe"):
        bare = Pipe.measure()
    with _said("lograft"):
        found = asyncio.run(figures(bare))
    with _said("the bare pipe once more"):
        bare.again()
    if given.output == "json":
        print(
            json.dumps(
                {
                    "machine": asdict(machine),
                    "setting": SETTING,
                    "bare_pipe": asdict(bare),
                    "figures": [asdict(figure) for figure in found],
                }
            )
        )
        return
    print(f"{machine.cpus} CPUs ({machine.model}), {machine.system}, {machine.python}, load before: {machine.load}")
    print(f"{SETTING}; one Python client; random values, no compression")
    pipes = "; ".join(
        f"{rate:.0f} MB/s of 64 KiB frames, {one:.2f} ms a 100 B frame alone (p50)"
        for rate, one in zip(bare.mb_per_s, bare.one_by_one_ms, strict=True)
    )
    print(f"bare pipe before; after: {pipes}. Ratios are to the first.")
    print(f"\n{'':54}{'found':34}{'of the pipe':>12}{'brokers':>12}{'client':>12}")
    for figure in found:
        ratio = f"{figure.of_the_pipe:g}" + (" x" if "p50" in figure.found else "")
        print(f"{figure.work:54}{figure.found:34}{ratio:>12}{figure.brokers_us:>9,.4g} us{figure.client_us:>9,.4g} us")
    print("\nus: CPU a record, of all three brokers and of the client. In the paced works the client also reads.")


if __name__ == "__main__":
    main()
