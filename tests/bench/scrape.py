"""What measuring costs a broker: recording a batch, a scrape of thousands of series, and the rounds in the background.

    python -m tests.bench.scrape [--topics N] [--partitions N] [--groups N] [--wide N]

One broker in this process, with a topic for each few partitions, and groups that have stored offsets. All is told in
CPU time of the thread, as neighbours do not disturb that. Of both pages: series, bytes, CPU, and the longest piece that
was written in one turn of the loop. The same of a look at health and of a round of lag, with `--wide` groups of
`--wide` partitions each; and what recording one produced batch takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from lograft.node.config import load_config
from lograft.node.groups.calls import OffsetToStore
from lograft.node.logs import set_up_logging
from lograft.node.metrics import Metrics
from lograft.node.node import Node
from lograft.node.rpc.produce import append_entry
from lograft.proto.record_batch import NewRecord, encode

from .spine import _free_base_port

BATCHES = 200_000
SCRAPES = 20


class Pieces:
    """Awaits something, and times what it does in each turn of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0

    @types.coroutine
    def of(self, what: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        try:
            while True:
                began = time.thread_time()
                try:
                    wanted = what.send(None)
                finally:
                    took = time.thread_time() - began
                    self.count += 1
                    self.total_s += took
                    self.longest_s = max(self.longest_s, took)
                yield wanted
        except StopIteration as end:
            return end.value


def recording_us() -> float:
    """CPU for all that is recorded of one produced batch that came alone in its request."""
    metrics = Metrics()
    replicated, answered = metrics.traffic.replication_ack_seconds.observe, metrics.traffic.produce_ack_seconds.observe
    began = time.thread_time()
    for _ in range(BATCHES):
        metrics.count_produced("t", 16_384, 16)
        replicated(0.003)
        answered(0.004)
    return (time.thread_time() - began) / BATCHES * 1e6


async def measured(name: str, what: Callable[[], Coroutine[Any, Any, Any]], times: int = SCRAPES) -> Any:
    """Print CPU of each time, and of the longest piece of the middlemost time. Returns what the last one gave."""
    longest, total_s = [], 0.0
    for _ in range(times):
        pieces = Pieces()
        found = await pieces.of(what())
        longest.append(pieces.longest_s)
        total_s += pieces.total_s
        await asyncio.sleep(0.05)
    print(
        f"{name:32} {total_s / times * 1000:7.1f} ms CPU in {pieces.count:4} pieces, the longest "
        f"{median(longest) * 1000:5.2f} ms, in {times} times {max(longest) * 1000:5.2f} ms"
    )
    return found


async def fill(node: Node, topics: int, partitions: int, groups: int, wide: int) -> None:
    controller, batch = node._controller, encode([NewRecord(1, None, b"x" * 100)] * 10)
    assert controller is not None
    names = [(f"topic-{number:04}", max(partitions // topics, 1)) for number in range(topics)]
    if wide:
        names.append(("wide", wide))
    made = {name: (await controller.create_topic(name, os.urandom(16).hex(), count)).topic for name, count in names}
    for name, count in names:
        for number in range(count):
            while True:
                try:
                    append_entry(node._replicas, name, number, "", batch, None, node.metrics)
                    break
                except Exception:
                    await asyncio.sleep(0.05)
        node.metrics.count_fetched(name, 100, 10)

    async def store(group: str, name: str, count: int) -> None:
        entries = [OffsetToStore(name, number, made[name].topic_id, 3, "", 0) for number in range(count)]
        await node._coordinators.of(group).store_offsets(group, "", entries)

    await asyncio.sleep(1)
    for number in range(groups):
        name, count = names[number % topics]
        await store(f"group-{number:04}", name, count)
    for number in range(wide):
        await store(f"wide-{number:04}", "wide", wide)


async def run(given: argparse.Namespace) -> None:
    print(f"load {os.getloadavg()[0]:.1f}; recording one produced batch: {recording_us():.2f} us CPU")
    with TemporaryDirectory() as directory:
        sets = [f"broker.data_directory={Path(directory) / 'data'}", "broker.id=0"]
        base = _free_base_port()
        sets += [f"listen.{name}=127.0.0.1:{base + at}" for at, name in enumerate(("grpc", "peer", "http"))]
        node = Node(load_config(None, {}, sets))
        await node.start()
        try:
            while node.unready() is not None or node._coordinators.partition_count == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await fill(node, given.topics, given.partitions, given.groups, given.wide)
            await measure(node)
        finally:
            await node.stop()


async def measure(node: Node) -> None:
    print(f"{len(node._replicas.table)} replicas, {len(node._replicas.state.topics)} topics")
    await asyncio.sleep(2)
    await measured(f"health, each {node._signs.due_s:.1f} s", node._signs.look)
    await measured("lag, the first round", node._lag_watch.look, 1)
    await measured(f"lag, each {node._lag_watch.due_s:.1f} s", node._lag_watch.look, 5)
    for path, page in (
        ("/metrics", node.metrics.exposition),
        ("/metrics/partitions", node.metrics.partitions_exposition),
    ):
        text = await measured(path, page)
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        print(f"{'':32} {series} series, {len(text) / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=400)
    parser.add_argument("--partitions", type=int, default=800, help="over all those topics")
    parser.add_argument("--groups", type=int, default=200, help="of one topic each")
    parser.add_argument("--wide", type=int, default=0, help="so many groups more, of so many partitions each")
    set_up_logging("warning")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
