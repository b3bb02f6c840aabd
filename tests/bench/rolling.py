"""What producers notice of a broker that is restarted, cleanly or by kill -9, under a steady load.

    python -m tests.bench.rolling [--rate RECORDS_A_SECOND] [--record-bytes N] [--partitions N] [--rounds N]

Three brokers, three replicas, fsync on a majority. One idempotent producer sends to all partitions in turn at a steady
rate. In each round every broker is restarted once by `lograft restart N` (leaderships are handed over) and once by
`lograft kill N; lograft start N` (the others find out by silence). A pause is the longest time without an
acknowledgement of a partition that the broker led, from the command on until the cluster is whole again; the pauses a
partition has without any event are given beside it. At the end every partition is read: each acknowledged record is
there once, in order. The exit code is 1 if an acknowledgement failed or a record is missing or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from itertools import pairwise, product
from typing import NamedTuple

import lograft
import psutil

from .spine import Cluster, a_cluster, show

TOPIC = "t"
QUIET_S = 6.0
"""Of load without an event: before everything, and after each event, in which leaderships come back too."""
DURABILITY, REPLICAS = "fsync", 3


class Acknowledged(NamedTuple):
    sent: float
    at: float
    partition: int


class Event(NamedTuple):
    kind: str
    led: tuple[int, ...]
    """Partitions that the broker led."""
    began: float
    whole: float
    """The cluster is at full redundancy again."""
    ended: float


class Load:
    """Sends a record to each partition in turn, at a steady rate, and notes what becomes of each."""

    def __init__(self, client: lograft.Client, partitions: int, rate: float, record_bytes: int) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.failed: list[str] = []
        self.sent: dict[int, list[bytes]] = defaultdict(list)
        self._client = client
        self._partitions = partitions
        self._rate = rate
        self._filling = os.urandom(record_bytes)
        self._size = record_bytes

    async def run(self, stop: asyncio.Event) -> None:
        async with self._client.producer(linger_ms=0, compression="none") as producer:
            due = time.monotonic()
            number = 0
            waiting = set()
            while not stop.is_set():
                partition = number % self._partitions
                value = (b"%d " % number + self._filling)[: self._size]
                sent = time.monotonic()
                delivery = await producer.send(TOPIC, value, partition=partition)
                self.sent[partition].append(b"%d" % number)
                task = asyncio.ensure_future(self._note(delivery, sent, partition))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                number += 1
                due += 1 / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await producer.flush()
            await asyncio.gather(*waiting)

    async def _note(self, delivery: lograft.Delivery, sent: float, partition: int) -> None:
        try:
            await delivery
        except lograft.LograftError as error:
            self.failed.append(str(error))
        else:
            self.acknowledged.append(Acknowledged(sent, time.monotonic(), partition))

    def longest_gaps_ms(self, partitions: tuple[int, ...], begin: float, end: float) -> list[float]:
        """Of each partition, the longest time without an acknowledgement that overlaps the span."""
        times: dict[int, list[float]] = defaultdict(list)
        for one in self.acknowledged:
            times[one.partition].append(one.at)
        longest = []
        for partition in partitions:
            at = sorted(times[partition])
            gaps = [after - before for before, after in pairwise(at) if after >= begin and before <= end]
            longest.append(max(gaps, default=end - begin) * 1000)
        return longest

    def latencies_ms(self, begin: float, end: float) -> list[float]:
        return [(one.at - one.sent) * 1000 for one in self.acknowledged if begin <= one.sent < end]


async def led_by(client: lograft.Client, broker_id: int) -> tuple[int, ...]:
    topic = await client.admin.describe_topic(TOPIC)
    return tuple(one.number for one in topic.partitions if one.leader_id == broker_id)


async def until_whole(client: lograft.Client) -> None:
    while True:
        try:
            if (await client.admin.describe_cluster()).healthy:
                return
        except lograft.LograftError:
            pass
        await asyncio.sleep(0.1)


async def one_event(cluster: Cluster, client: lograft.Client, kind: str, broker_id: int) -> Event:
    led = await led_by(client, broker_id)
    began = time.monotonic()
    if kind == "hand-over":
        await asyncio.to_thread(cluster.command, "restart", str(broker_id))
    else:
        await asyncio.to_thread(cluster.command, "kill", str(broker_id))
        await asyncio.to_thread(cluster.command, "start", str(broker_id))
    await until_whole(client)
    whole = time.monotonic()
    await asyncio.sleep(QUIET_S)
    return Event(kind, led, began, whole, time.monotonic())


async def read_back(client: lograft.Client, load: Load) -> list[str]:
    """What is wrong with what is stored, in words."""
    found: dict[int, list[bytes]] = defaultdict(list)
    async for record in client.read(TOPIC):
        found[record.partition].append(record.value.partition(b" ")[0])
    wrong = []
    for partition, sent in sorted(load.sent.items()):
        if found[partition] != sent:
            there = found[partition]
            missing, doubled = len({*sent} - {*there}), len(there) - len({*there})
            wrong.append(
                f"partition {partition}: {len(sent)} sent, {missing} missing, {doubled} doubled, or out of order"
            )
    return wrong


def quantiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    percentiles = statistics.quantiles(values, n=100)
    return {
        "p50_ms": round(percentiles[49], 2),
        "p99_ms": round(percentiles[98], 1),
        "max_ms": round(max(values), 1),
    }


async def main(partitions: int, rate: float, record_bytes: int, rounds: int) -> int:
    show(
        "setting",
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB",
        load_of_machine=round(os.getloadavg()[0], 2),
        brokers=3,
        replicas=REPLICAS,
        durability=f"{DURABILITY} on a majority",
        partitions=partitions,
        records_a_second=rate,
        record_bytes=record_bytes,
    )
    events: list[Event] = []
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        await client.admin.create_topic(TOPIC, partitions=partitions, replication=REPLICAS)
        load, stop = Load(client, partitions, rate, record_bytes), asyncio.Event()
        loading = asyncio.create_task(load.run(stop))
        await until_whole(client)
        await asyncio.sleep(2)
        quiet_began = time.monotonic()
        await asyncio.sleep(QUIET_S)
        quiet_ended = time.monotonic()
        for kind, broker_id in product(("hand-over", "kill -9") * rounds, range(3)):
            events.append(await one_event(cluster, client, kind, broker_id))  # one after the other
        stop.set()
        await loading
        wrong = await read_back(client, load)
    everywhere = tuple(range(partitions))
    quiet = load.longest_gaps_ms(everywhere, quiet_began, quiet_ended)
    show(
        "without any event",
        longest_gap_median_ms=round(statistics.median(quiet), 1),
        longest_gap_worst_ms=round(max(quiet), 1),
        **quantiles(load.latencies_ms(quiet_began, quiet_ended)),
    )
    for kind in ("hand-over", "kill -9"):
        those = [event for event in events if event.kind == kind]
        pauses = [pause for event in those for pause in load.longest_gaps_ms(event.led, event.began, event.whole)]
        during = [ms for event in those for ms in load.latencies_ms(event.began, event.whole)]
        after = [ms for event in those for ms in load.latencies_ms(event.whole, event.ended)]
        show(
            f"restart by {kind}",
            restarts=len(those),
            pauses_of_led_partitions=len(pauses),
            pause_median_ms=round(statistics.median(pauses), 1) if pauses else None,
            pause_worst_ms=round(max(pauses), 1) if pauses else None,
            whole_again_after_s=round(statistics.median(event.whole - event.began for event in those), 1),
            **{f"during_{name}": figure for name, figure in quantiles(during).items()},
            **{f"after_{name}": figure for name, figure in quantiles(after).items()},
        )
    show(
        "acknowledgements",
        records=len(load.acknowledged),
        failed=len(load.failed),
        first_failure=load.failed[0] if load.failed else None,
        wrong_when_read_back=wrong or None,
    )
    return 1 if load.failed or wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=600, help="records a second, over all partitions")
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.partitions, given.rate, given.record_bytes, given.rounds)))
