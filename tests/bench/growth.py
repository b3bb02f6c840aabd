"""A cluster grows from 1 broker to 3 to 5 and shrinks to 3 again while records go in and out.

For each step: seconds until every partition has all its replicas again, produce latency, and what the clients were
told. In the end every record is looked for where it was acknowledged.

    python -m tests.bench.growth [--rate 500] [--size 1000] [--preload-mb 50]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import lograft
import psutil

from .steady_load import Phase, SteadyLoad

LOGRAFT = [sys.executable, "-P", "-m", "lograft.client.cli.main"]
TOPIC = "steady"
BROKERS_MOST = 5
WHOLE_SECONDS_MAX = 300.0


class Cluster:
    """A local cluster of real broker processes, as a user makes and changes it by the command line."""

    def __init__(self, data: str, base_port: int) -> None:
        self.address = f"127.0.0.1:{base_port}"
        self._data = data
        self._base_port = base_port
        # The cluster is found as the last one started, from a directory that has none.
        self._environment = {**os.environ, "XDG_STATE_HOME": f"{data}-state"}
        self._environment.pop("LOGRAFT_BROKERS", None)

    async def run(self, *words: str) -> str:
        def run() -> str:
            done = subprocess.run(
                [*LOGRAFT, *words],
                capture_output=True,
                text=True,
                timeout=600,
                env=self._environment,
                cwd=os.path.dirname(self._data),
            )
            if done.returncode:
                raise RuntimeError(f"lograft {' '.join(words)}: {done.stderr or done.stdout}")
            return done.stdout

        return await asyncio.to_thread(run)

    async def up(self, brokers: int) -> None:
        await self.run("up", "-n", str(brokers), "--detach", "--data", self._data, "--base-port", str(self._base_port))

    async def down(self) -> None:
        await self.run("down", "--data", self._data)


@asynccontextmanager
async def a_cluster(brokers: int) -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(f"{directory}/cluster", free_base_port())
        await cluster.up(brokers)
        try:
            yield cluster
        finally:
            await cluster.down()


def free_base_port() -> int:
    while True:
        base = random.randrange(20000, 50000, 100)
        taken = {connection.laddr.port for connection in psutil.net_connections() if connection.laddr}
        if not taken.intersection(range(base, base + 10 * BROKERS_MOST)):
            return base


async def await_whole(client: lograft.Client, brokers: int) -> None:
    """Until so many brokers are alive, and every partition has all its replicas where they should be."""
    deadline = time.monotonic() + WHOLE_SECONDS_MAX
    while True:
        cluster = await client.admin.describe_cluster()
        topics = await client.admin.list_topics(internal=True)
        members = [broker for broker in cluster.brokers if not broker.removed]
        internal = [topic for topic in topics if topic.internal]
        if (
            cluster.healthy
            and len(members) == brokers
            and all(broker.alive for broker in members)
            and cluster.losses_borne == (min(brokers, 3) - 1) // 2
            and all(topic.replication == min(brokers, 3) for topic in internal)
            and not any(partition.moving for topic in topics for partition in topic.partitions)
        ):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not whole after {WHOLE_SECONDS_MAX:.0f} s: {cluster.reasons}")
        await asyncio.sleep(0.1)


async def grow_and_shrink(
    cluster: Cluster,
    client: lograft.Client,
    load: SteadyLoad,
    *,
    calm_seconds: float,
    report: Callable[[Phase], None] = lambda _: None,
) -> list[Phase]:
    """1 -> 3 -> 5 -> 3 brokers, and what each step took."""
    phases: list[Phase] = []

    async def step(name: str, what: Awaitable[None]) -> None:
        phase = Phase(name, time.monotonic())
        await what
        phase.ended = time.monotonic()
        phases.append(phase)
        report(phase)

    async def add_two(brokers: int) -> None:
        await cluster.run("broker", "add")
        await cluster.run("broker", "add")
        await await_whole(client, brokers)

    async def copy_everywhere() -> None:
        for topic in await client.admin.list_topics():
            for partition in topic.partitions:
                to = [(partition.number + shift) % 3 for shift in range(3)]
                await client.admin.move_partition(topic.name, partition.number, to)
        await await_whole(client, 3)

    async def rebalance(brokers: int) -> None:
        await cluster.run("cluster", "rebalance", "--yes")
        await await_whole(client, brokers)

    async def take_two_away() -> None:
        await asyncio.gather(*(cluster.run("broker", "drain", number) for number in ("4", "3")))
        await asyncio.gather(*(cluster.run("broker", "remove", number, "--wait") for number in ("4", "3")))
        await await_whole(client, 3)

    await step("before, 1 broker", asyncio.sleep(calm_seconds))
    await step("1 -> 3 brokers", add_two(3))
    await step("1 -> 3 copies", copy_everywhere())
    await step("calm, 3 brokers", asyncio.sleep(calm_seconds))
    await step("3 -> 5 brokers", add_two(5))
    await step("rebalance over 5", rebalance(5))
    await step("calm, 5 brokers", asyncio.sleep(calm_seconds))
    await step("5 -> 3 brokers", take_two_away())
    await step("rebalance over 3", rebalance(3))
    await step("after, 3 brokers", asyncio.sleep(calm_seconds))
    return phases


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=500.0, help="records a second")
    parser.add_argument("--size", type=int, default=1000, help="bytes of a record")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--preload-mb", type=int, default=50, help="what is there already, and is copied too")
    parser.add_argument("--calm-seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    async with a_cluster(1) as cluster, lograft.Client(cluster.address) as client:
        await client.admin.create_topic(TOPIC, partitions=chosen.partitions)
        await client.admin.create_topic("ballast", partitions=chosen.partitions)
        async with client.producer(compression="none") as producer:
            for _ in range(chosen.preload_mb):
                await producer.send_many("ballast", [os.urandom(10_000) for _ in range(100)])
        load = SteadyLoad(client, TOPIC, chosen.rate, chosen.size)
        print(json.dumps(vars(chosen)), flush=True)
        async with load:
            phases = await grow_and_shrink(
                cluster,
                client,
                load,
                calm_seconds=chosen.calm_seconds,
                report=lambda phase: print(f"{phase.name}: {phase.seconds:.1f} s", file=sys.stderr, flush=True),
            )
        for phase in phases:
            print(json.dumps(load.figures(phase)), flush=True)
        wrongs = await load.wrongs()
        print(
            json.dumps(
                {
                    "acknowledged": len(load.acknowledged),
                    "handed to the group": len(load.consumed),
                    "errors": load.errors[:5],
                    "error_count": len(load.errors),
                    "wrong": wrongs[:5],
                    "wrong_count": len(wrongs),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main())
