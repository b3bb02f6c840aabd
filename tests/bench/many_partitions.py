"""What a thousand partitions cost: three brokers, three replicas of each, on one machine.

    python -m tests.bench.many_partitions [--partitions N] [--idle-s S] [--kills N]

In turn: how long the topic takes to be made, and to take a record in every partition; what each broker uses when nobody
wants anything of it (CPU seconds from the kernel, so that a shared machine does not disturb them; memory, descriptors,
threads); `kill -9` of a broker, twice each time: until the others lead all of its partitions, as one of them says
when asked ten times a second and for nothing else; and as a producer notices (one record to every partition, from the
moment of the kill, all acknowledged), whose work takes part of the same processors; how long that broker takes to come
back; a clean stop of all three, and a start of all three until every partition takes a record.

Leaderships go back to where they belong before each kill, so each kill takes about a third of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import lograft
import psutil
from lograft.client.cli import processes
from lograft.client.cli.local_cluster import LocalBroker, LocalCluster
from lograft.v1 import broker_service_pb2, broker_service_pb2_grpc

from .spine import _free_base_port, show

TOPIC = "many"
LOOK_INTERVAL_S = 0.05
WATCH_INTERVAL_S = 0.1
STEP_S_MAX = 180.0


class Brokers:
    """Broker processes of this machine, started and ended one by one, each step timed from outside."""

    def __init__(self, directory: Path, count: int = 3, more_config: str = "") -> None:
        self.cluster = LocalCluster.new(directory, count, _free_base_port())
        self.cluster.prepare(more_config=more_config)

    @property
    def all(self) -> list[LocalBroker]:
        return self.cluster.brokers

    def process(self, broker: LocalBroker) -> psutil.Process:
        assert broker.process is not None, f"broker {broker.broker_id} was never started"
        return psutil.Process(broker.process.pid)

    async def start(self, *brokers: LocalBroker) -> float:
        """Seconds until they all say that they are ready."""
        began = time.monotonic()
        for broker in brokers:
            self.cluster.launch(broker)
        for broker in brokers:
            while not await asyncio.to_thread(_is_ready, broker):
                check_in_time(began, f"broker {broker.broker_id} is not ready")
                if not broker.is_running:
                    raise RuntimeError("\n".join(broker.last_words()))
                await asyncio.sleep(LOOK_INTERVAL_S)
        return time.monotonic() - began

    async def end(self, how: signal.Signals, *brokers: LocalBroker) -> float:
        """Seconds until they are gone."""
        began = time.monotonic()
        for broker in brokers:
            assert broker.process is not None
            processes.send_signal(broker.process, how)
        while any(broker.is_running for broker in brokers):
            for broker in brokers:
                processes.how_it_ended(broker.process)
            check_in_time(began, "a broker does not end")
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@asynccontextmanager
async def some_brokers(count: int = 3, more_config: str = "", directory: str | None = None) -> AsyncIterator[Brokers]:
    """Not started yet; whatever is left of them is stopped, and their data deleted."""
    with TemporaryDirectory(dir=directory) as made:
        brokers = Brokers(Path(made) / "cluster", count, more_config)
        try:
            yield brokers
        finally:
            for broker in brokers.all:
                if broker.is_running:
                    await brokers.end(signal.SIGKILL, broker)


def _is_ready(broker: LocalBroker) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{broker.ports.http}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def check_in_time(began: float, what: str) -> None:
    if time.monotonic() - began > STEP_S_MAX:
        raise RuntimeError(f"{what} after {STEP_S_MAX:.0f} s")


def cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def usage(process: psutil.Process) -> dict[str, object]:
    memory = process.memory_info()
    return {
        "rss_mb": round(memory.rss / 1e6),
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
    }


def percentiles_s(found: Sequence[float]) -> dict[str, float]:
    ordered = sorted(found)
    return {
        "p50_s": round(ordered[len(ordered) // 2], 2),
        "p99_s": round(ordered[int(len(ordered) * 0.99)], 2),
        "worst_s": round(ordered[-1], 2),
    }


async def until(what: str, is_so: Callable[[lograft.TopicDescription], bool], client: lograft.Client) -> float:
    """Seconds until the topic, as the brokers describe it, is so."""
    began = time.monotonic()
    while True:
        try:
            if is_so(await client.admin.describe_topic(TOPIC)):
                return time.monotonic() - began
        except lograft.LograftError:
            pass
        check_in_time(began, what)
        await asyncio.sleep(LOOK_INTERVAL_S)


async def one_record_each(producer: lograft.Producer, partitions: int) -> list[float]:
    """Seconds until each partition acknowledged a record, all sent now."""
    began = time.monotonic()

    async def send(partition: int) -> float:
        await producer.send_and_wait(TOPIC, b"x" * 100, partition=partition)
        return time.monotonic() - began

    return list(await asyncio.gather(*map(send, range(partitions))))


def where_they_belong(topic: lograft.TopicDescription) -> bool:
    return all(one.leader_id == one.replicas[0].broker_id for one in topic.partitions)


async def measure_idle(brokers: Brokers, seconds: float) -> None:
    running = {broker.broker_id: brokers.process(broker) for broker in brokers.all}
    before = {number: cpu_s(process) for number, process in running.items()}
    began = time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    show(
        "idle",
        seconds=round(passed),
        cpu_percent_of_a_core={n: round(100 * (cpu_s(p) - before[n]) / passed, 2) for n, p in running.items()},
        brokers={n: usage(p) for n, p in running.items()},
        load=os.getloadavg()[0],
    )


async def measure_kill(brokers: Brokers, victim: LocalBroker, partitions: int, *, produces: bool) -> None:
    survivors = [broker for broker in brokers.all if broker is not victim]
    async with (
        lograft.Client(",".join(broker.address for broker in survivors), timeout=STEP_S_MAX) as client,
        client.producer(linger_ms=0, compression="none") as producer,
    ):
        if produces:
            await one_record_each(producer, partitions)  # connected, and knows who leads
        topic = await client.admin.describe_topic(TOPIC)
        led = sum(one.leader_id == victim.broker_id for one in topic.partitions)
        before = {broker.broker_id: cpu_s(brokers.process(broker)) for broker in survivors}
        await brokers.end(signal.SIGKILL, victim)
        if produces:
            found: dict[str, object] = {"a_record_in_each": percentiles_s(await one_record_each(producer, partitions))}
        else:
            found = {"all_led_s": round(await all_led_s(survivors[0], victim), 2)}
        cpu = {b.broker_id: round(cpu_s(brokers.process(b)) - before[b.broker_id], 2) for b in survivors}
        show("kill -9", broker=victim.broker_id, led=led, **found,
             cpu_s_of_the_others=cpu, load=os.getloadavg()[0])  # fmt: skip
        ready_s = await brokers.start(victim)
        whole_s = await until(
            "leaderships are not back",
            lambda topic: sum(one.leader_id == victim.broker_id for one in topic.partitions) >= led * 0.9,
            client,
        )
        show("start after kill -9", broker=victim.broker_id, ready_s=round(ready_s, 2),
             leads_again_s=round(ready_s + whole_s, 2),
             cpu_s=round(cpu_s(brokers.process(victim)), 2), load=os.getloadavg()[0])  # fmt: skip


async def all_led_s(asked: LocalBroker, victim: LocalBroker) -> float:
    """Seconds until `asked` says of every partition that a broker other than `victim` leads it."""
    began = time.monotonic()
    request = broker_service_pb2.MetadataRequest(topics=[TOPIC])
    async with grpc.aio.insecure_channel(asked.address) as channel:
        broker = broker_service_pb2_grpc.BrokerServiceStub(channel)
        while True:
            metadata = await broker.Metadata(request, timeout=STEP_S_MAX)
            if all(one.leader_id not in (-1, victim.broker_id) for one in metadata.topics[0].partitions):
                return time.monotonic() - began
            check_in_time(began, "not every partition is led")
            await asyncio.sleep(WATCH_INTERVAL_S)


async def run(partitions: int, idle_s: float, kills: int) -> None:
    async with some_brokers() as brokers:
        addresses = ",".join(brokers.cluster.addresses)
        await brokers.start(*brokers.all)
        empty = {broker.broker_id: usage(brokers.process(broker)) for broker in brokers.all}
        show("before", brokers=empty)
        async with lograft.Client(addresses, timeout=STEP_S_MAX) as client:
            began = time.monotonic()
            before = sum(cpu_s(brokers.process(broker)) for broker in brokers.all)
            await client.admin.create_topic(TOPIC, partitions=partitions, replication=3)
            made_s = time.monotonic() - began
            async with client.producer(linger_ms=0, compression="none") as producer:
                await one_record_each(producer, partitions)
            used = sum(cpu_s(brokers.process(broker)) for broker in brokers.all) - before
            show("create", partitions=partitions, made_s=round(made_s, 2),
                 a_record_in_each_s=round(time.monotonic() - began, 2), cpu_s_of_all_brokers=round(used, 1),
                 load=os.getloadavg()[0])  # fmt: skip
            settled_s = await until("leaderships are not where they belong", where_they_belong, client)
            show("leaderships handed to where they belong", seconds=round(settled_s, 1))
        await asyncio.sleep(5)
        await measure_idle(brokers, idle_s)
        for number in range(kills):
            for produces in (False, True):
                await measure_kill(brokers, brokers.all[number % 3], partitions, produces=produces)
        stopped_s = await brokers.end(signal.SIGTERM, *brokers.all)
        show("clean stop of all", seconds=round(stopped_s, 2), load=os.getloadavg()[0])
        began = time.monotonic()
        ready_s = await brokers.start(*brokers.all)
        async with lograft.Client(addresses, timeout=STEP_S_MAX) as client:
            await until("not every partition is led", lambda t: all(p.leader_id >= 0 for p in t.partitions), client)
            led_s = time.monotonic() - began
            async with client.producer(linger_ms=0, compression="none") as producer:
                await one_record_each(producer, partitions)
        used_s = {b.broker_id: round(cpu_s(brokers.process(b)), 2) for b in brokers.all}
        show("start of all", ready_s=round(ready_s, 2), all_led_s=round(led_s, 2),
             a_record_in_each_s=round(time.monotonic() - began, 2), cpu_s=used_s, load=os.getloadavg()[0])  # fmt: skip
        await asyncio.sleep(10)
        await measure_idle(brokers, idle_s)
        broker = brokers.all[0]
        stopped_s = await brokers.end(signal.SIGTERM, broker)
        show("clean stop of one", seconds=round(stopped_s, 2), load=os.getloadavg()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    show("machine", cpus=os.cpu_count(), python=platform.python_version(), system=platform.release(),
         setting="3 brokers on one machine, R=3, fsync on a majority", load=os.getloadavg()[0])  # fmt: skip
    # Told to end, it does not leave its brokers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asyncio.run(run(given.partitions, given.idle_s, given.kills))


if __name__ == "__main__":
    main()
