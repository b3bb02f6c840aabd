"""Produce requests of Kafka's protocol as fast as a broker answers them, with next to no work on the client's side.

What clients do with their batches is nobody's speed here: a request is one batch for each of some partitions, made
beforehand; a connection has so many of them under way. Each connection is an idempotent producer of its own, unless
told otherwise, as real ones are.

    python -m tests.bench.kafka_requests --servers 127.0.0.1:9603 --topic events [--connections 8] [--in-flight 5]
        [--batch-bytes 0] [--partitions-each 1] [--acks -1] [--seconds 3] [--bytes-max N]

Prints JSON: requests, records, seconds, each a second, mb_per_s, p50_ms, p99_ms, client_cpu_s. A batch that is refused
ends it: leaders that move make no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import struct
import sys
import time
from collections import deque
from typing import Any

import uvloop
from crc32c import crc32c
from lograft.proto.record_batch import Compression, NewRecord, encode

VERSION = 7
"""Of Produce: the newest without tagged fields; every broker and door has it."""
_HEAD = struct.Struct(">hhi")
_ANSWER = struct.Struct(">hqqq")
_SEQUENCE_AT, _CRC_AT, _CHECKED_FROM = 53, 17, 21


class Batch:
    """A batch that is sent again and again, under the next sequence of its producer."""

    def __init__(self, batch_bytes: int, record_bytes: int, producer_id: int) -> None:
        count = max(1, batch_bytes // record_bytes)
        block = os.urandom(1 << 20)
        values = [
            block[at : at + record_bytes] for at in (random.randrange((1 << 20) - record_bytes) for _ in range(count))
        ]
        now_ms = int(time.time() * 1000)
        producer = {} if producer_id < 0 else {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": 0}
        self.records = count
        self.value_bytes = count * record_bytes
        self._bytes = bytearray(
            encode([NewRecord(now_ms, None, value) for value in values], compression=Compression.NONE, **producer)
        )
        self._is_numbered = producer_id >= 0

    def numbered(self, sequence: int) -> bytes:
        if self._is_numbered:
            struct.pack_into(">i", self._bytes, _SEQUENCE_AT, sequence % (1 << 31))
            struct.pack_into(">I", self._bytes, _CRC_AT, crc32c(memoryview(self._bytes)[_CHECKED_FROM:]))
        return bytes(self._bytes)


class Connection(asyncio.Protocol):
    """Keeps its requests under way until told to stop."""

    def __init__(self, run: Run, partitions: list[int]) -> None:
        self._run = run
        self._partitions = partitions
        """Those led by this broker, in the order in which they take turns."""
        self._turn = random.randrange(len(partitions))
        producer_id = random.getrandbits(60) if run.given.idempotent else -1
        self._batch = Batch(run.given.batch_bytes, run.given.record_bytes, producer_id)
        self._sequences = dict.fromkeys(partitions, 0)
        self._sent: deque[float] = deque()
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport: Any = transport
        for _ in range(self._run.given.in_flight):
            self._send()

    def _send(self) -> None:
        if not self._run.goes_on(self._batch.value_bytes * min(self._run.given.partitions_each, len(self._partitions))):
            return
        chosen = []
        for _ in range(min(self._run.given.partitions_each, len(self._partitions))):
            chosen.append(self._partitions[self._turn % len(self._partitions)])
            self._turn += 1
        topic = self._run.given.topic.encode()
        pieces = [
            struct.pack(">h4shhi", 4, b"load", -1, self._run.given.acks, 30_000),
            struct.pack(f">ih{len(topic)}si", 1, len(topic), topic, len(chosen)),
        ]
        for partition in chosen:
            batch = self._batch.numbered(self._sequences[partition])
            self._sequences[partition] += self._batch.records
            pieces += [struct.pack(">ii", partition, len(batch)), batch]
        body = b"".join(pieces)
        self._sent.append(time.monotonic())
        self._transport.writelines([struct.pack(">ihhi", _HEAD.size + len(body), 0, VERSION, len(self._sent)), body])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (size := 4 + int.from_bytes(self._buffer[:4], "big")):
            answer = bytes(self._buffer[8:size])
            del self._buffer[:size]
            self._run.answered(time.monotonic() - self._sent.popleft())
            self._check(answer)
            self._send()
        if not self._sent:
            self._run.one_less(self)
            self._transport.close()

    def _check(self, answer: bytes) -> None:
        at = 4 + 2 + int.from_bytes(answer[4:6], "big")
        (count,) = struct.unpack_from(">i", answer, at)
        for number in range(count):
            (code,) = struct.unpack_from(">h", answer, at + 8 + number * 30)
            if code:
                self._run.fail(f"a batch was refused with error {code}")

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent:
            self._run.fail(f"the broker closed a connection: {error or 'no reason'}")


class Run:
    """All connections together."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open: set[Connection] = set()
        self._latencies: list[float] = []
        self._bytes = 0
        self._until = 0.0

    def goes_on(self, size: int) -> bool:
        if time.monotonic() >= self._until or self._bytes + size > self.given.bytes_max:
            return False
        self._bytes += size
        return True

    def answered(self, seconds: float) -> None:
        self._latencies.append(seconds)

    def fail(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(why))

    def one_less(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open and not self._ended.done():
            self._ended.set_result(None)

    async def work(self, led: dict[tuple[str, int], list[int]]) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        began, cpu_before = time.monotonic(), time.process_time()
        self._until = began + self.given.seconds
        places = list(led.items())
        made = [(places[number % len(places)]) for number in range(self.given.connections)]
        connections = [(Connection(self, partitions), address) for address, partitions in made]
        self._open = {connection for connection, _ in connections}
        for connection, (host, port) in connections:
            await loop.create_connection(lambda one=connection: one, host, port)  # type: ignore[misc]
        await asyncio.wait_for(self._ended, self.given.seconds + 60)
        seconds = time.monotonic() - began
        ordered = sorted(self._latencies)
        records = self._bytes // self.given.record_bytes
        return {
            "requests": len(ordered),
            "seconds": round(seconds, 3),
            "requests_per_s": round(len(ordered) / seconds),
            "records": records,
            "records_per_s": round(records / seconds),
            "mb_per_s": round(self._bytes / seconds / 1e6, 2),
            "mb": round(self._bytes / 1e6, 1),
            "brokers": len(led),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 2),
            "p99_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 2),
            "client_cpu_s": round(time.process_time() - cpu_before, 3),
        }


def leaders(servers: str, topic: str, brokers_max: int) -> dict[tuple[str, int], list[int]]:
    """The partitions that each broker leads, by its address."""
    from confluent_kafka.admin import AdminClient

    told = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(topic, timeout=20)
    found: dict[tuple[str, int], list[int]] = {}
    for number, partition in sorted(told.topics[topic].partitions.items()):
        broker = told.brokers[partition.leader]
        found.setdefault((broker.host, broker.port), []).append(number)
    return dict(list(found.items())[:brokers_max])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=5)
    parser.add_argument("--record-bytes", type=int, default=100)
    parser.add_argument("--batch-bytes", type=int, default=0, help="of values in a batch; 0: one record")
    parser.add_argument("--partitions-each", type=int, default=1, help="batches in one request")
    parser.add_argument("--brokers-max", type=int, default=100, help="send to so many of the brokers alone")
    parser.add_argument("--acks", type=int, default=-1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--bytes-max", type=int, default=512 << 20)
    parser.add_argument("--not-idempotent", dest="idempotent", action="store_false")
    return parser


async def _work(given: argparse.Namespace) -> dict[str, float]:
    return await Run(given).work(leaders(given.servers, given.topic, given.brokers_max))


def main() -> int:
    given = arguments().parse_args()
    try:
        print(json.dumps(uvloop.run(_work(given))), flush=True)
    except (RuntimeError, OSError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
