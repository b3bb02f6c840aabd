"""One of the demo's two consumers, a process of its own: reads its partitions as they grow, and puts files together.

Always
    each offset of a partition is seen exactly once and in order, or it is counted as a gap or a duplicate
    what is put together is a digest a file: its lines, in the order of the log

It writes JSON lines: `{"records": n}` as it goes, `{"files": ..., "duplicates": ..., "gaps": ...}` at its end, which
comes once it has read up to the end offsets that it gets on standard input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping

from ..client import Client
from ..records import Record, TopicPartition

_POLL_MS = 100


class Assembly:
    """Files put together from records that are their lines. Pure: records in, digests out."""

    def __init__(self) -> None:
        self.records = 0
        self.duplicates = 0
        self.gaps = 0
        self._next_offset: dict[int, int] = {}
        self._files: dict[str, hashlib._Hash] = {}

    def take(self, partition: int, records: Iterable[Record]) -> None:
        """The next records of one partition."""
        expected = self._next_offset.get(partition, 0)
        for record in records:
            if record.offset < expected:
                self.duplicates += 1
                continue
            self.gaps += record.offset - expected
            expected = record.offset + 1
            self.records += 1
            path = (record.key or b"").decode()
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = hashlib.sha256()
            file.update(record.value or b"")
        self._next_offset[partition] = expected

    def has_reached(self, ends: Mapping[int, int]) -> bool:
        return all(self._next_offset.get(partition, 0) >= end for partition, end in ends.items())

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file as far as it was read, by its path."""
        return {path: file.hexdigest() for path, file in self._files.items()}


def _tell(fact: Mapping[str, object]) -> None:
    print(json.dumps(fact), flush=True)


async def read(addresses: list[str], topic: str, partitions: list[int]) -> None:
    assembly = Assembly()
    told_records = 0
    loop = asyncio.get_running_loop()
    ends: asyncio.Future[dict[int, int]] = loop.create_future()
    threading.Thread(target=_read_ends, args=(loop, ends), daemon=True).start()
    async with Client(addresses, client_id="demo-reader") as client, client.consumer() as consumer:
        mine = [TopicPartition(topic, number) for number in partitions]
        consumer.assign(mine)
        await consumer.seek_to_beginning(*mine)
        while not (ends.done() and assembly.has_reached(ends.result())):
            for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=5000)).items():
                assembly.take(partition.partition, records)
            if assembly.records != told_records:
                told_records = assembly.records
                _tell({"records": told_records})
    _tell({"files": assembly.digests(), "duplicates": assembly.duplicates, "gaps": assembly.gaps})


def _read_ends(loop: asyncio.AbstractEventLoop, ends: asyncio.Future[dict[int, int]]) -> None:
    line = sys.stdin.readline()
    if not line:
        os._exit(1)  # the demo is gone, and nobody wants what is read here any more
    found = {int(number): int(end) for number, end in json.loads(line).items()}
    loop.call_soon_threadsafe(ends.set_result, found)


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1].split(","), sys.argv[2], [int(number) for number in sys.argv[3].split(",")]))
