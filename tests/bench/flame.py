"""Where a leader's CPU goes while records come in: a flame graph, as SVG.

Three brokers, one partition, R=3, fsync; a producer and a reader at a steady rate. The leader's main thread is sampled
(`sampler/sitecustomize.py`).

    python -m tests.bench.flame [--svg docs/images/leader.svg] [--per-second 1000] [--size 100] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import lograft

from .spine import a_cluster

SAMPLER = Path(__file__).parent / "sampler"
WIDTH = 1200
ROW = 16
SHARE_MIN = 0.004
"""What was seen less often is left out."""
COLOURS = {
    "raft/": "#e4a45b",
    "storage/": "#7fb069",
    "partitions/": "#e6c34a",
    "peer/": "#6f9ceb",
    "rpc/": "#d36b6b",
    "proto/": "#b08fd8",
    "node/": "#8fb8c9",
}
OTHER = "#c8c8c8"


@dataclass
class Frame:
    """A function, as called by the one it stands in."""

    name: str
    count: int = 0
    callees: dict[str, Frame] = field(default_factory=dict)

    def add(self, stack: Iterable[str], count: int) -> None:
        frame = self
        frame.count += count
        for name in stack:
            frame = frame.callees.setdefault(name, Frame(name))
            frame.count += count


def read_stacks(lines: Iterable[str], title: str) -> Frame:
    """`outer;inner 12` a line. What all stacks begin with (how the process was started) is left out."""
    stacks = [(stack.split(";"), int(count)) for stack, _, count in (line.rpartition(" ") for line in lines)]
    first, last = min(stack for stack, _ in stacks), max(stack for stack, _ in stacks)
    differing = (depth for depth, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    shared = next(differing, len(first))
    root = Frame(title)
    for stack, count in stacks:
        root.add(stack[shared:], count)
    return root


def svg(root: Frame) -> str:
    """The flame graph: width is CPU, callees stand on their caller."""
    rows: list[str] = []
    depth_max = 0
    todo = [(root, 0.0, 0)]
    while todo:
        frame, left, depth = todo.pop()
        share = frame.count / root.count
        depth_max = max(depth_max, depth)
        x, width = left * WIDTH, share * WIDTH
        colour = next((colour for prefix, colour in COLOURS.items() if frame.name.startswith(prefix)), OTHER)
        shown = frame.name.rpartition("/")[2].replace(".py", "") if depth else frame.name
        text = escape(shown[: int(width / 6.2)]) if width > 30 else ""
        rows.append(
            f'<g><title>{escape(frame.name)}: {100 * share:.1f}%</title><rect x="{x:.1f}" y="{{{depth}}}" '
            f'width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" fill="{colour}"/>'
            f'<text x="{x + 3:.1f}" y="{{{depth}}}" dy="11">{text}</text></g>'
        )
        for callee in sorted(frame.callees.values(), key=lambda callee: callee.name):
            if callee.count / root.count >= SHARE_MIN:
                todo.append((callee, left, depth + 1))
            left += callee.count / root.count
    height = (depth_max + 1) * ROW
    placed = "\n".join(rows)
    for depth in range(depth_max + 1):
        placed = placed.replace(f'"{{{depth}}}"', f'"{height - (depth + 1) * ROW}"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        f'font-size="10">\n{placed}\n</svg>\n'
    )


async def steady(client: lograft.Client, topic: str, per_second: int, size: int, seconds: float) -> None:
    """Records at that rate, whatever the answers do, and a reader of them."""
    async with client.producer(linger_ms=0, compression="none") as producer, client.consumer(topic) as consumer:

        async def listen() -> None:
            while True:
                await consumer.getmany(timeout_ms=1000)

        listening = asyncio.create_task(listen())
        began = time.monotonic()
        value = os.urandom(size)
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            await producer.send(topic, value)
        await producer.flush()
        listening.cancel()


def _written(path: Path) -> list[str]:
    """The lines of the file, once it is there."""
    for _ in range(100):
        if path.exists():
            return path.read_text(encoding="utf-8").splitlines()
        time.sleep(0.1)
    raise TimeoutError(f"the broker did not write {path}")


async def sample(per_second: int, size: int, seconds: float) -> Frame:
    """The leader's stacks while records come in."""
    with tempfile.TemporaryDirectory() as samples:
        os.environ |= {"LOGRAFT_SAMPLES": samples, "PYTHONPATH": str(SAMPLER)}  # for the brokers, not for this process
        async with a_cluster() as cluster, lograft.Client(cluster.addresses) as client:
            await client.admin.create_topic("flame", partitions=1, replication=3)
            await steady(client, "flame", per_second, size, 1.0)
            leader = (await client.admin.describe_topic("flame")).partitions[0].leader_id
            process = (await asyncio.to_thread(cluster.processes))[leader]
            process.send_signal(signal.SIGUSR1)
            used = -sum(process.cpu_times()[:2])
            await steady(client, "flame", per_second, size, seconds)
            used += sum(process.cpu_times()[:2])
            process.send_signal(signal.SIGUSR2)
            lines = await asyncio.to_thread(_written, Path(samples, f"{process.pid}.txt"))
    records = per_second * seconds
    title = f"leader: {per_second:,} records/s of {size} B, {1e6 * used / records:.0f} us of CPU each, all threads"
    return read_stacks(lines, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, default=Path("docs/images/leader.svg"))
    parser.add_argument("--per-second", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    root = asyncio.run(sample(given.per_second, given.size, given.seconds))
    given.svg.parent.mkdir(parents=True, exist_ok=True)
    given.svg.write_text(svg(root), encoding="utf-8")
    print(f"{root.name}; {root.count} samples: {given.svg}")


if __name__ == "__main__":
    main()
