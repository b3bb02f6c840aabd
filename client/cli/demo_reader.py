"""One of the demo's consumers, a process of its own: a member of a group that writes down what it does with records.

Always
    what was handled is in the ledger before its offset is stored, and what is stored is in it after that

It tells `{"records": n, "partitions": n}` in JSON lines as it goes, and leaves the group once its standard input ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...proto.errors import LostGrant
from ..client import Client
from ..consumer import Consumer
from ..records import Record, TopicPartition
from .demo_ledger import LedgerWriter

_POLL_MS = 100
_RECORDS_AT_ONCE = 5_000
_STORE_EVERY_S = 0.25


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


class _Member:
    """Reads, writes down, stores."""

    def __init__(self, client: Client, topic: str, group: str, session_timeout_s: float, ledger: LedgerWriter) -> None:
        self._ledger = ledger
        self._topic = topic
        self._unstored: dict[TopicPartition, int] = {}
        self._records = 0
        self._told: tuple[int, int] = (0, 0)
        self._consumer: Consumer = client.consumer(
            topic,
            group_id=group,
            auto_offset_reset="earliest",
            auto_commit=False,
            session_timeout_s=session_timeout_s,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
        )

    async def run(self, stop: asyncio.Event) -> None:
        store_at = 0.0
        async with self._consumer as consumer:
            while not stop.is_set():
                for partition, records in (await consumer.getmany(_POLL_MS, _RECORDS_AT_ONCE)).items():
                    self._ledger.handled(partition.partition, records)
                    self._unstored[partition] = records[-1].offset + 1
                    self._records += len(records)
                if time.monotonic() >= store_at:
                    await self._store(self._unstored)
                    store_at = time.monotonic() + _STORE_EVERY_S
                self._tell()
            await self._store(self._unstored)

    async def _store(self, offsets: Mapping[TopicPartition, int]) -> None:
        storing = dict(offsets)
        if not storing:
            return
        for partition in storing:
            self._unstored.pop(partition, None)
        try:
            await self._consumer.commit(storing)
        except LostGrant:
            return  # some went to another member, who begins at what was stored before
        self._ledger.stored({partition.partition: offset for partition, offset in storing.items()})

    async def _on_assign(self, partitions: Iterable[TopicPartition]) -> None:
        places = {partition.partition: await self._consumer.position(partition) for partition in partitions}
        self._ledger.taken(places)

    async def _on_revoke(self, partitions: Iterable[TopicPartition]) -> None:
        await self._store({one: self._unstored[one] for one in partitions if one in self._unstored})

    def _tell(self) -> None:
        fact = (self._records, len(self._consumer.assignment()))
        if fact != self._told:
            self._told = fact
            print(json.dumps({"records": fact[0], "partitions": fact[1]}), flush=True)


async def read(addresses: list[str], topic: str, group: str, session_timeout_s: float, ledger: Path) -> None:
    stop = asyncio.Event()
    threading.Thread(target=_await_end, args=(asyncio.get_running_loop(), stop), daemon=True).start()
    async with Client(addresses, client_id="demo-reader") as client:
        await _Member(client, topic, group, session_timeout_s, LedgerWriter(ledger)).run(stop)


def _await_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while sys.stdin.readline():
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1].split(","), sys.argv[2], sys.argv[3], float(sys.argv[4]), Path(sys.argv[5])))
