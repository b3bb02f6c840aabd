"""Standard input becomes records, and every one of them is accounted for.

Always
    a record counts as delivered once its acknowledgement is here
    the first failure ends it: nothing is read any more, and what was not delivered is counted and named
    input is read no faster than the cluster takes it
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...proto.errors import BatchTooLarge, InvalidRecord, LograftError
from ..client import Client
from ..delivery import Deliveries, DeliveryErrors, Durability
from ..producer import Acks, Codec, Producer
from ..records import NewRecord
from .endings import Refused, say
from .formats import InputFormat, InputRecord, WrongInput
from .tables import count, size

_READ_BYTES = 256 << 10
_READS_AHEAD = 4
_INTERRUPTED_FLUSH_S = 5.0


@dataclass(frozen=True, slots=True)
class ProduceOrder:
    """What `lograft produce` was asked to do."""

    topic: str
    input_format: InputFormat
    key: bytes | None
    partition: int | None
    headers: tuple[tuple[str, bytes | None], ...]
    acks: Acks
    compression: Codec


@dataclass(slots=True)
class Tally:
    """How many records were read and what became of them."""

    read: int = 0
    delivered: int = 0
    bytes_delivered: int = 0
    weakest: Durability | None = None
    failures: list[str] = field(default_factory=list)
    _open: deque[tuple[Deliveries, int]] = field(default_factory=deque)

    def expect(self, deliveries: Deliveries, size_bytes: int) -> None:
        self._open.append((deliveries, size_bytes))

    @property
    def has_failed(self) -> bool:
        return bool(self.failures)

    def settle_done(self) -> None:
        """Count what is settled by now, oldest first."""
        while self._open and self._open[0][0].done:
            self._settle(*self._open.popleft())

    async def settle_all(self) -> None:
        while self._open:
            deliveries, size_bytes = self._open[0]
            with contextlib.suppress(DeliveryErrors):  # told when it is counted
                await deliveries
            self._open.popleft()
            self._settle(deliveries, size_bytes)

    def _settle(self, deliveries: Deliveries, size_bytes: int) -> None:
        try:
            ranges = deliveries.result()
        except DeliveryErrors as error:
            self.failures.extend(str(failure) for failure in error.failures)
            self.delivered += len(deliveries) - error.count
            return
        self.delivered += sum(one.count for one in ranges)
        self.bytes_delivered += size_bytes
        for one in ranges:
            if self.weakest is None or one.durability.copies < self.weakest.copies:
                self.weakest = one.durability


class _Input:
    """Standard input, read in a thread of its own so that whoever waits for it can also be interrupted."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._room = threading.Semaphore(_READS_AHEAD)
        # A daemon: a read that waits for somebody to type cannot be ended, and must not keep the process.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        while True:
            self._room.acquire()
            try:
                chunk: bytes | OSError = os.read(sys.stdin.fileno(), _READ_BYTES)
            except OSError as error:
                chunk = error
            try:
                self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop is closed: nobody wants it any more
            if not isinstance(chunk, bytes) or not chunk:
                return

    async def next(self) -> bytes:
        """The next bytes; empty at the end."""
        chunk = await self._chunks.get()
        self._room.release()
        if isinstance(chunk, OSError):
            raise Refused(f"standard input cannot be read: {chunk.strerror}")
        return chunk


async def produce_input(addresses: Sequence[str], order: ProduceOrder) -> None:
    """Send standard input, and say on standard error what came of it. Raises Refused if not all was delivered."""
    begun_at = time.monotonic()
    tally = Tally()
    wrong: str | None = None
    async with Client(addresses, client_id="lograft-cli") as client:
        await client.admin.describe_topic(order.topic)  # a name mistyped is said before anything is typed in
        producer = client.producer(acks=order.acks, compression=order.compression)
        async with producer:
            try:
                await _send_input(producer, order, tally)
            except (LograftError, WrongInput, Refused) as error:
                wrong = str(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()  # what was typed before Ctrl-C is still sent
                try:
                    async with asyncio.timeout(_INTERRUPTED_FLUSH_S):
                        await tally.settle_all()
                except TimeoutError:
                    wrong = "interrupted"
                _sum_up(order, tally, time.monotonic() - begun_at)
                _refuse_if_incomplete(tally, wrong)
                raise
            await tally.settle_all()
    _sum_up(order, tally, time.monotonic() - begun_at)
    _refuse_if_incomplete(tally, wrong)


async def _send_input(producer: Producer, order: ProduceOrder, tally: Tally) -> None:
    source = _Input()
    while True:
        chunk = await source.next()
        cut = order.input_format.feed(chunk) if chunk else order.input_format.finish()
        batch: list[InputRecord] = []
        refusal: WrongInput | None = None
        try:
            batch.extend(cut)
        except WrongInput as error:
            refusal = error  # those before it are good, and are sent
        await _send(producer, order, tally, batch)
        tally.settle_done()
        if refusal is not None:
            raise refusal
        if not chunk or tally.has_failed:
            return


async def _send(producer: Producer, order: ProduceOrder, tally: Tally, batch: Iterable[InputRecord]) -> None:
    for partition, run in itertools.groupby(batch, key=lambda record: record.partition):
        read = list(run)
        tally.read += len(read)
        number = order.partition if partition is None else partition
        try:
            tally.expect(await producer.send_many(order.topic, _to_send(order, read), partition=number), _size(read))
        except (InvalidRecord, BatchTooLarge):
            # One of them cannot be sent, so none of them was: those before it still are, and it is the one named.
            for one in ([record] for record in read):
                tally.expect(await producer.send_many(order.topic, _to_send(order, one), partition=number), _size(one))
            raise


def _to_send(order: ProduceOrder, read: Sequence[InputRecord]) -> list[bytes] | list[NewRecord]:
    if order.key is None and not order.headers and order.input_format.is_value_alone:
        return [record.value for record in read]  # the producer's fast way
    return [
        NewRecord(record.value, order.key if record.key is None else record.key, order.headers, record.timestamp_ms)
        for record in read
    ]


def _size(read: Sequence[InputRecord]) -> int:
    return sum(len(record.value) + len(record.key or b"") for record in read)


def _sum_up(order: ProduceOrder, tally: Tally, seconds: float) -> None:
    if tally.weakest is None or order.acks == "none":
        bought = "no acknowledgement was asked for" if order.acks == "none" else "nothing was sent"
    else:
        bought = f"durability {tally.weakest}"
    say(f"{count(tally.delivered, 'record')}, {size(tally.bytes_delivered)} in {seconds:.2f} s, {bought}")


def _refuse_if_incomplete(tally: Tally, wrong: str | None) -> None:
    lost = tally.read - tally.delivered
    why = "; ".join(dict.fromkeys(([wrong] if wrong else []) + tally.failures))
    if lost:
        raise Refused(
            f"{lost:,} of {tally.read:,} records read were not delivered: {why}", "the rest of the input was not read"
        )
    if wrong:
        raise Refused(wrong, f"what came before it was delivered ({count(tally.delivered, 'record')}), nothing after")
