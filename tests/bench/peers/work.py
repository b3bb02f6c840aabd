"""One piece of work by one Python client, in a process of its own.

    python -m tests.bench.peers.work CLIENT WORK ORDER

ORDER is JSON; what was measured is printed as JSON on the last line of standard output. CPU seconds are this process's.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .figures import latencies

DUE = struct.Struct(">q")
"""When a paced record was due, in monotonic nanoseconds (one clock for all processes of a machine); 0: warm-up."""
IN_FLIGHT_BYTES = 64 << 20
PARTITIONS = 12
WARM_UP_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to do. Whoever has no use for a field leaves it."""

    servers: str
    topic: str
    record_bytes: int = 1024
    seconds: float = 3.0
    """How long records are sent; the clock stops when all of them are acknowledged."""
    bytes_max: int = 1 << 30
    """Sending stops there even if time is left, so that disks are not filled."""
    records: int = 0
    """How many there are to read."""
    per_second: int = 1000
    way: str = ""
    """Which of the client's calls."""
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def paced_records(self) -> int:
        return int(self.per_second * self.seconds)


def values_of(size: int, count: int) -> list[bytes]:
    """Random payloads, cut from one random block at random places so that making them is cheap."""
    block = os.urandom(max(8 << 20, 2 * size))
    return [block[at : at + size] for at in (random.randrange(len(block) - size) for _ in range(count))]


class Supply:
    """Chunks of random records until time or bytes run out. They are made beforehand: making them is nobody's speed."""

    def __init__(self, order: Order) -> None:
        self._chunk = max(1, min(2000, (1 << 20) // order.record_bytes))
        self._chunks = [values_of(order.record_bytes, self._chunk) for _ in range(8)]
        self._records_max = order.bytes_max // order.record_bytes
        self._seconds = order.seconds
        self.records = 0
        self.warm_up = self._chunks[0][0]

    def start(self) -> None:
        self._began = time.monotonic()

    def next(self) -> list[bytes] | None:
        if self.records >= self._records_max or time.monotonic() - self._began >= self._seconds:
            return None
        chunk = self._chunks[(self.records // self._chunk) % len(self._chunks)]
        self.records += len(chunk)
        return chunk

    def produced(self, *, before: int = 1) -> dict[str, float]:
        """To be called once all is acknowledged. `before`: records sent to the topic before the clock ran."""
        return {"records": self.records, "seconds": time.monotonic() - self._began, "in_topic": self.records + before}


class Sampled:
    """Latencies of calls that wait for each other, the first fifth of the time left out."""

    def __init__(self, seconds: float) -> None:
        now = time.monotonic()
        self._counts_from = now + WARM_UP_SHARE * seconds
        self._ends = now + (1 + WARM_UP_SHARE) * seconds
        self._found_ms: list[float] = []

    def goes_on(self) -> bool:
        return time.monotonic() < self._ends

    def add(self, began: float) -> None:
        now = time.monotonic()
        if began >= self._counts_from:
            self._found_ms.append((now - began) * 1000)

    def result(self) -> dict[str, float]:
        return latencies(self._found_ms)


def pace(order: Order, send: Callable[[bytes], None]) -> None:
    """Call `send` with each record when it is due, however long earlier ones take. First a second of warm-up.

    Asleep in a thread rather than by the event loop, whose timers know only whole milliseconds.
    """
    warm_up = order.per_second
    values = values_of(order.record_bytes - DUE.size, 1000)
    step_ns = 1_000_000_000 // order.per_second
    began_ns = time.monotonic_ns() + 50_000_000
    for number in range(warm_up + order.paced_records):
        due_ns = began_ns + number * step_ns
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        send(DUE.pack(0 if number < warm_up else due_ns) + values[number % len(values)])


def pace_in_thread(order: Order, send: Callable[[bytes], None]) -> threading.Thread:
    thread = threading.Thread(target=pace, args=(order, send), daemon=True)
    thread.start()
    return thread


class Arrivals:
    """What a listener hears: latencies from when each record was due."""

    def __init__(self, order: Order) -> None:
        self._wanted = order.paced_records
        self._found_ms: list[float] = []
        self._ends = time.monotonic() + order.seconds + 30

    def take(self, value: bytes) -> None:
        (due_ns,) = DUE.unpack_from(value)
        if due_ns:
            self._found_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    @property
    def complete(self) -> bool:
        if time.monotonic() > self._ends:
            raise SystemExit(f"only {len(self._found_ms)} of {self._wanted} records arrived")
        return len(self._found_ms) >= self._wanted

    def result(self) -> dict[str, float]:
        return latencies(self._found_ms)


def ready() -> None:
    """Say that listening has begun."""
    print("ready", flush=True)


def main() -> None:
    _, client, work, text = sys.argv
    order = Order(**json.loads(text))
    perform = getattr(importlib.import_module(f".clients.{client}", __package__), work)
    before = resource.getrusage(resource.RUSAGE_SELF)  # importing is no part of the work
    result = perform(order)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({**result, "client_cpu_s": round(cpu, 3)}), flush=True)


if __name__ == "__main__":
    main()
