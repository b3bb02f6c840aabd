"""What becomes of bits that flip on the disks of a running cluster: found, repaired, and nothing acknowledged lost?

Three real brokers, three replicas, a steady load, and scrubs that come round every two seconds. Bits flip in files of
all kinds on all brokers, never in the last good copy of anything; half way the brokers are restarted one after another,
for what is read only at a start. In the end every acknowledged record is read back and compared.

    python -m tests.bench.flips [--flips 100] [--pace-s 0.7] [--seed 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lograft
from lograft.partitions.storage.promise_frames import read_rounds
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import verify

from tests.integration.brokers import Broker, Brokers

TOPIC, PARTITIONS = "decaying", 3
KINDS = {"log": 50, "head": 20, "index": 10, "timeindex": 5, "promises": 15}
SETTINGS = "[scrub]\ninterval_ms = 2000\nbytes_per_s = 50000000\n"
REPAIR_S_MAX = 60.0


def show(figure: str, **facts: object) -> None:
    print(json.dumps({"figure": figure, **facts}), flush=True)


@dataclass(slots=True)
class Flip:
    """A bit that was turned, and how to see that it is as it should be again."""

    broker: Broker
    path: Path
    kind: str
    good: bytes
    """Of a log: the item, as it was."""
    at_s: float
    repaired_s: float = -1.0

    def is_repaired(self) -> bool:
        try:
            if self.kind == "promises":
                return is_whole(self.path.read_bytes())
            if self.kind == "head":
                SegmentHead.from_bytes(self.path.read_bytes(), str(self.path))
                return True
            if self.kind == "log":
                return any(self.good in path.read_bytes() for path in self.path.parent.glob("*.log"))
            return not self.path.exists() or self.path.read_bytes() == self.good
        except (OSError, ValueError):
            return False


def is_whole(content: bytes) -> bool:
    reading = read_rounds(content)
    return reading.lost is None and all(found.whole for found in reading.rounds)


def items(content: bytes) -> Iterator[tuple[int, int]]:
    """Position and size of the readable items from the start on."""
    position = 0
    while position < len(content):
        try:
            header = verify(content, position)
        except CorruptBatch:
            return
        yield position, header.size
        position += header.size


class Flipper:
    """Turns bits where another copy is good."""

    def __init__(self, brokers: Brokers, topic_id: str, chance: random.Random) -> None:
        self.flips: list[Flip] = []
        self._brokers = brokers
        self._topic_id = topic_id
        self._chance = chance

    def flip_one(self) -> None:
        """Another try elsewhere, until some bit may be turned."""
        for _ in range(200):
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            broker = self._chance.choice(self._brokers.all)
            flip = self._promises(broker) if kind == "promises" else self._of_partition(broker, kind)
            if flip is not None:
                self.flips.append(flip)
                return

    def look(self) -> None:
        now_s = time.monotonic()
        for flip in self.flips:
            if flip.repaired_s < 0 and flip.is_repaired():
                flip.repaired_s = now_s - flip.at_s

    def _promises(self, broker: Broker) -> Flip | None:
        path = broker.data_directory / "promises.log"
        content = path.read_bytes()
        written = [at for at in range(0, len(content), 97) if content[at]]
        position, bit = self._chance.choice(written), self._chance.randrange(8)
        turned = bytearray(content)
        turned[position] ^= 1 << bit
        reading = read_rounds(bytes(turned))
        # One that the file hides (between two rounds) costs nothing and is never seen; one too many costs the word.
        if not is_whole(content) or reading.lost is not None or is_whole(bytes(turned)):
            return None
        if len(reading.rounds) < len(read_rounds(content).rounds):
            return None
        self._turn(path, position, bit)
        return Flip(broker, path, "promises", b"", time.monotonic())

    def _of_partition(self, broker: Broker, kind: str) -> Flip | None:
        partition = self._chance.randrange(PARTITIONS)
        directory = f"partitions/{self._topic_id}-{partition}"
        paths = sorted((broker.data_directory / directory).glob(f"*.{kind}"))
        if not paths:
            return None
        path = self._chance.choice(paths)
        content = path.read_bytes()
        if not content:
            return None
        position, good = self._chance.randrange(len(content)), content
        if kind == "log":
            found = list(items(content))
            if not found:
                return None
            begin, size = self._chance.choice(found)
            position, good = begin + self._chance.randrange(size), content[begin : begin + size]
            others = [other for other in self._brokers.all if other is not broker]
            if not any(
                good in copy.read_bytes()
                for other in others
                for copy in sorted((other.data_directory / directory).glob("*.log"))
            ):
                return None
        elif kind == "head":
            if not Flip(broker, path, kind, b"", 0.0).is_repaired():
                return None
            if any(flip.kind == "head" and flip.repaired_s < 0 for flip in self.flips):
                return None
        self._turn(path, position, self._chance.randrange(8))
        return Flip(broker, path, kind, good, time.monotonic())

    def _turn(self, path: Path, position: int, bit: int) -> None:
        with path.open("r+b") as file:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1 << bit]))


async def load(client: lograft.Client, acknowledged: dict[int, dict[int, bytes]], is_over: asyncio.Event) -> int:
    """Produce until it is over. Returns how many records failed for good."""
    failed = number = 0
    chance = random.Random(2)
    async with client.producer(linger_ms=2) as producer:
        while not is_over.is_set():
            batch = []
            for _ in range(20):
                value = b"%d:" % number + chance.randbytes(900)
                number += 1
                batch.append((value, await producer.send(TOPIC, value, partition=number % PARTITIONS)))
            for value, delivery in batch:
                try:
                    metadata = await delivery
                    acknowledged[metadata.partition][metadata.offset] = value
                except lograft.LograftError:
                    failed += 1
            await asyncio.sleep(0.02)
    return failed


async def read_back(client: lograft.Client, acknowledged: dict[int, dict[int, bytes]]) -> tuple[int, list[str]]:
    wrong = []
    seen: dict[int, dict[int, bytes]] = defaultdict(dict)
    async for record in client.read(TOPIC, start="start", stop="end"):
        seen[record.partition][record.offset] = record.value or b""
    for partition, values in acknowledged.items():
        for offset, value in values.items():
            if seen[partition].get(offset) != value:
                wrong.append(f"{partition}/{offset}")
    return sum(map(len, seen.values())), wrong


async def measure(options: argparse.Namespace, brokers: Brokers) -> bool:
    acknowledged: dict[int, dict[int, bytes]] = defaultdict(dict)
    async with lograft.Client(",".join(broker.address for broker in brokers.all), timeout=60.0) as client:
        config = {"segment.bytes.max": "262144", "batch.bytes.max": "65536"}
        await client.admin.create_topic(TOPIC, partitions=PARTITIONS, replication=3, config=config)
        topic_id = (await client.admin.describe_topic(TOPIC)).topic_id
        is_over = asyncio.Event()
        loading = asyncio.create_task(load(client, acknowledged, is_over))
        await asyncio.sleep(4)
        flipper = Flipper(brokers, topic_id, random.Random(options.seed))
        began = time.monotonic()
        for number in range(options.flips):
            flipper.flip_one()
            await asyncio.sleep(options.pace_s)
            flipper.look()
            if number == options.flips // 2:
                for broker in brokers.all:
                    await asyncio.to_thread(broker.stop)
                    broker.start()
                    await asyncio.to_thread(brokers.await_ready)
                    flipper.look()
        flipped_s = time.monotonic() - began
        deadline = time.monotonic() + REPAIR_S_MAX
        while any(flip.repaired_s < 0 for flip in flipper.flips) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            flipper.look()
        is_over.set()
        failed = await loading
        count, wrong = await read_back(client, acknowledged)
    by_kind = Counter(flip.kind for flip in flipper.flips)
    repaired = [flip for flip in flipper.flips if flip.repaired_s >= 0]
    by_kind_repaired = Counter(flip.kind for flip in repaired)
    times = sorted(flip.repaired_s for flip in repaired)
    show("flips", total=len(flipper.flips), flipped_in_s=round(flipped_s, 1), **by_kind)
    show("repaired", total=len(repaired), **by_kind_repaired)
    if times:
        show("seconds until repaired", median=round(times[len(times) // 2], 2), most=round(times[-1], 2))
    for flip in flipper.flips:
        if flip.repaired_s < 0:
            show("not repaired", broker=flip.broker.broker_id, path=str(flip.path), kind=flip.kind)
    total = sum(map(len, acknowledged.values()))
    show("read back", acknowledged=total, read=count, wrong=len(wrong), not_acknowledged=failed, first_wrong=wrong[:5])
    return not wrong and len(repaired) == len(flipper.flips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--pace-s", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        brokers = Brokers(Path(directory), settings=SETTINGS)
        try:
            brokers.start()
            fine = asyncio.run(measure(options, brokers))
            events = Counter(
                str(event.get("event"))
                for broker in brokers.all
                for event in broker.events()
                if str(event.get("event")) in ("replica_damaged", "repaired", "promises_decayed", "hole_lost")
            )
            show("events", **events)
        finally:
            brokers.stop()
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
