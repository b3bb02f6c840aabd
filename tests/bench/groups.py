"""What a consumer group does on this machine while its members come and go: pauses, losses, duplicates, and its cost.

    python -m tests.bench.groups all
    python -m tests.bench.groups changes    12 partitions, four consumers: one more, one killed, the coordinator killed
    python -m tests.bench.groups scale      200 members share 1,000 partitions: time to stable, CPU of a heartbeat

`changes` runs real consumer processes beside a steady producer. Each process notes when it was handed which offsets;
what follows is worked out from these notes, and from what was stored when one of them was killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import grpc
import lograft
import psutil
from lograft.v1 import groups_service_pb2 as pb
from lograft.v1 import groups_service_pb2_grpc

from .spine import Cluster, a_cluster, show

PARTITIONS = 12
RATE = 240
"""Records a second over all partitions: one each 50 ms in a partition, so that a pause of 200 ms shows."""
SESSION_S = 3.0
GROUP, TOPIC = "bench", "t"
SCALE_MEMBERS, SCALE_PARTITIONS = 200, 1_000


# -- one consumer process ---------------------------------------------------------------------------------------------


async def work(addresses: str, notes: str) -> None:
    """Consume as a member until told to stop, noting what was handed out and what is stored."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with open(notes, "w", buffering=1) as out:  # noqa: ASYNC230  # lines must be on disk when the process is killed
        async with (
            lograft.Client(addresses) as client,
            client.consumer(
                TOPIC,
                group_id=GROUP,
                auto_offset_reset="earliest",
                session_timeout_s=SESSION_S,
                auto_commit=True,
                auto_commit_interval_s=0.5,
            ) as consumer,
        ):
            while not stop.is_set():
                for partition, records in (await consumer.getmany(timeout_ms=100)).items():
                    out.write(f"{time.monotonic()} {partition.partition} {records[0].offset} {records[-1].offset}\n")


class Worker:
    def __init__(self, number: int, addresses: str, directory: str) -> None:
        self.number = number
        self.notes = Path(directory) / f"worker-{number}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.groups", "work", addresses, str(self.notes)],
        )


class Handed(NamedTuple):
    """Records of one partition handed out at once."""

    at: float
    partition: int
    first: int
    last: int
    worker: int


def handed_out(workers: list[Worker]) -> list[Handed]:
    return sorted(
        Handed(float(at), int(partition), int(first), int(last), worker.number)
        for worker in workers
        for at, partition, first, last in (line.split() for line in worker.notes.read_text().splitlines())
    )


# -- changes ----------------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    name: str
    began: float
    ended: float


async def produce_steadily(client: lograft.Client, stop: asyncio.Event) -> list[int]:
    """Records to each partition in turn; how many each got."""
    counts = [0] * PARTITIONS
    async with client.producer(linger_ms=0) as producer:
        due = time.monotonic()
        number = 0
        while not stop.is_set():
            await producer.send(TOPIC, b"%d" % number, partition=number % PARTITIONS)
            counts[number % PARTITIONS] += 1
            number += 1
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return counts


async def wait_for_members(client: lograft.Client, count: int, timeout_s: float = 60.0) -> float:
    """Seconds until the group is stable with so many members, to 0.25 s: asking more often would be felt."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        try:
            group = await client.groups.describe(GROUP)
        except lograft.LograftError:
            await asyncio.sleep(0.25)
            continue
        owned = [one for one in group.partitions if one.member_id]
        if len(group.members) == count and group.state == "stable" and len(owned) == PARTITIONS:
            return time.monotonic() - began
        await asyncio.sleep(0.25)
    raise TimeoutError(f"the group is not stable with {count} members: {group}")


async def changes() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
            await client.admin.create_topic(TOPIC, partitions=PARTITIONS)
            workers = [Worker(number, cluster.addresses, directory) for number in range(4)]
            try:
                await _changes(cluster, client, workers, directory)
            finally:
                for worker in workers:
                    if worker.process.poll() is None:
                        worker.process.kill()


async def _changes(cluster: Cluster, client: lograft.Client, workers: list[Worker], directory: str) -> None:
    await wait_for_members(client, 4)
    stop = asyncio.Event()
    producing = asyncio.create_task(produce_steadily(client, stop))
    await asyncio.sleep(3)
    events = []
    began = time.monotonic()
    await asyncio.sleep(6)
    events.append(Event("nothing happens", began, time.monotonic()))

    began = time.monotonic()
    workers.append(Worker(4, cluster.addresses, directory))
    await wait_for_members(client, 5)
    await asyncio.sleep(3)
    events.append(Event("a fifth consumer joins", began, time.monotonic()))

    began = time.monotonic()
    victim = workers[1]
    victim.process.kill()
    victim.process.wait()
    stored = await _stored(client)
    await wait_for_members(client, 4)
    await asyncio.sleep(3)
    events.append(Event("a consumer is killed with kill -9", began, time.monotonic()))

    coordinator = (await client.groups.describe(GROUP)).coordinator_id
    before = await client.admin.describe_topic(TOPIC)
    led_there = {one.number for one in before.partitions if one.leader_id == coordinator}
    grants = {
        one.partition: (one.member_id, one.generation) for one in (await client.groups.describe(GROUP)).partitions
    }
    began = time.monotonic()
    await asyncio.to_thread(cluster.command, "kill", str(coordinator))
    await wait_for_members(client, 4)
    without_s = time.monotonic() - began
    await asyncio.sleep(3)
    await asyncio.to_thread(cluster.command, "start", str(coordinator))
    await asyncio.sleep(6)
    events.append(Event("the coordinator's broker is killed with kill -9 and started again", began, time.monotonic()))
    after = await _grants(client)

    stop.set()
    counts = await producing
    await _read_to_the_end(client, counts)
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)
            worker.process.wait(20)
    _tell(workers, events, counts, victim, stored, led_there)
    show(
        "coordinator lost",
        answered_for_the_group_again_s=round(without_s, 2),
        partitions_with_the_same_owner_and_grant=sum(after[one] == grant for one, grant in grants.items()),
        of=PARTITIONS,
    )


async def _grants(client: lograft.Client) -> dict[lograft.TopicPartition, tuple[str, int]]:
    return {one.partition: (one.member_id, one.generation) for one in (await client.groups.describe(GROUP)).partitions}


async def _stored(client: lograft.Client) -> dict[int, int]:
    described = await client.groups.describe(GROUP)
    return {one.partition.partition: one.stored_offset or 0 for one in described.partitions}


async def _read_to_the_end(client: lograft.Client, counts: list[int]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        stored = await _stored(client)
        if all(stored.get(number) == count for number, count in enumerate(counts)):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"not all is read: stored {stored}, produced {counts}")


def _tell(
    workers: list[Worker],
    events: list[Event],
    counts: list[int],
    victim: Worker,
    stored: dict[int, int],
    led_there: set[int],
) -> None:
    handed = handed_out(workers)
    times: defaultdict[tuple[int, int], int] = defaultdict(int)
    for one in handed:
        for offset in range(one.first, one.last + 1):
            times[one.partition, offset] += 1
    missing = sum(times[number, offset] == 0 for number, count in enumerate(counts) for offset in range(count))
    read_by_victim = {one.partition for one in handed if one.worker == victim.number}
    twice = [place for place, count in times.items() if count > 1]
    unexplained = [
        (number, offset) for number, offset in twice if number not in read_by_victim or offset < stored.get(number, 0)
    ]
    show(
        "processed",
        records=sum(counts),
        missing=missing,
        read_twice=len(twice),
        read_twice_otherwise_than_after_the_killed_ones_stored_offset=len(unexplained),
    )
    by_partition: defaultdict[int, list[Handed]] = defaultdict(list)
    for one in handed:
        by_partition[one.partition].append(one)
    for event in events:
        stayed: dict[int, float] = {}
        moved: dict[int, float] = {}
        for number, pieces in by_partition.items():
            within = [one for one in pieces if event.began - 0.5 <= one.at <= event.ended]
            pause = max((after.at - before.at for before, after in pairwise(within)), default=float("inf"))
            readers = {one.worker for one in within}
            (moved if len(readers) > 1 else stayed)[number] = round(pause * 1000)
        facts: dict[str, object] = {"event": event.name}
        if "coordinator" in event.name:
            # A partition whose leader died waits for its election, in a group or not.
            facts["stayed_led_elsewhere_ms"] = _spread([ms for one, ms in stayed.items() if one not in led_there])
            facts["stayed_led_by_the_killed_broker_ms"] = _spread(
                [ms for one, ms in stayed.items() if one in led_there]
            )
        else:
            facts["stayed_ms"] = _spread(list(stayed.values()))
        show("longest pause of each partition", **facts, moved_ms=_spread(list(moved.values())))


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"partitions": len(values), "median": statistics.median(values), "worst": max(values)}


# -- scale ------------------------------------------------------------------------------------------------------------


class RawMember:
    """A member that keeps the protocol and fetches nothing, so that the group alone is measured."""

    def __init__(self, stub: groups_service_pb2_grpc.GroupsServiceStub, number: int) -> None:
        self.stub = stub
        self.member_id = f"member-{number}"
        self.owned: dict[tuple[str, int, int], pb.Grant] = {}
        self.released: list[pb.Grant] = []
        self.beats = 0
        self.settled_at = 0.0

    async def live(self) -> None:
        join: pb.HeartbeatRequest.Join | None = pb.HeartbeatRequest.Join(topics=[TOPIC], session_timeout_ms=30_000)
        while True:
            request = pb.HeartbeatRequest(
                group=GROUP,
                member_id=self.member_id,
                join=join,
                owned=self.owned.values(),
                released=self.released,
                max_wait_ms=3_000,
            )
            answer = await self.stub.Heartbeat(request, timeout=20)
            join = None
            self.beats += 1
            owned = {(one.topic_id, one.partition, one.generation): one for one in answer.grants}
            self.released = list(answer.revoked)
            if owned != self.owned:
                self.settled_at = time.monotonic()
            self.owned = owned


async def scale() -> None:
    async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
        # One replica a partition: their replication is not what is measured.
        await client.admin.create_topic(TOPIC, partitions=SCALE_PARTITIONS, replication=1)
        address, broker_id = await _find(cluster)
        process = cluster.processes()[broker_id]
        async with grpc.aio.insecure_channel(address) as channel:
            stub = groups_service_pb2_grpc.GroupsServiceStub(channel)
            members = [RawMember(stub, number) for number in range(SCALE_MEMBERS)]
            await asyncio.sleep(10)
            idle_before = process.cpu_times()
            await asyncio.sleep(10)
            idle = _cpu(process, idle_before) / 10
            began, before = time.monotonic(), process.cpu_times()
            tasks = [asyncio.create_task(member.live()) for member in members]
            try:
                while not _is_settled(members):
                    await asyncio.sleep(0.02)
                    _fail_with(tasks)
                settled_s = max(member.settled_at for member in members) - began
                joining_cpu = _cpu(process, before)
                loads = [len(member.owned) for member in members]
                show(
                    "200 members, 1,000 partitions",
                    join_to_stable_s=round(settled_s, 2),
                    coordinator_cpu_s=round(joining_cpu, 2),
                    least_owned=min(loads),
                    most_owned=max(loads),
                )
                await asyncio.sleep(5)
                beats, before, began = sum(member.beats for member in members), process.cpu_times(), time.monotonic()
                await asyncio.sleep(20)
                seconds = time.monotonic() - began
                count = sum(member.beats for member in members) - beats
                cpu = _cpu(process, before) - idle * seconds
                show(
                    "heartbeats of a stable group",
                    heartbeats_per_s=round(count / seconds, 1),
                    coordinator_cpu_us_each=round(cpu / count * 1e6),
                    coordinator_cpu_percent=round(100 * cpu / seconds, 2),
                    idle_cpu_percent_before=round(100 * idle, 2),
                )
                _fail_with(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _is_settled(members: list[RawMember]) -> bool:
    loads = [len(member.owned) for member in members]
    return sum(loads) == SCALE_PARTITIONS and max(loads) - min(loads) <= 1


def _fail_with(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _cpu(process: psutil.Process, before: object) -> float:
    now = process.cpu_times()
    return (now.user + now.system) - (before.user + before.system)  # type: ignore[attr-defined]


async def _find(cluster: Cluster) -> tuple[str, int]:
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        stub = groups_service_pb2_grpc.GroupsServiceStub(channel)
        for _ in range(100):
            try:
                found = await stub.FindCoordinator(pb.FindCoordinatorRequest(group=GROUP), timeout=5)
                return found.address, found.broker_id
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
    raise TimeoutError("no coordinator")


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        asyncio.run(work(sys.argv[2], sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["all", "changes", "scale"])
    what = parser.parse_args().what
    print(json.dumps({"python": sys.version.split()[0], "cores": os.cpu_count()}), flush=True)
    if what in ("all", "changes"):
        asyncio.run(changes())
    if what in ("all", "scale"):
        asyncio.run(scale())


if __name__ == "__main__":
    main()
