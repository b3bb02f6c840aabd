"""A process of a run: `python -m lograft.client.bench.worker`. Orders come as JSON lines on standard input, what was
counted goes back as JSON lines on standard output.

Always
    it ends once its standard input does: whoever started it is gone
    it ends by itself for no other reason than that its work is done, or failed, and says which
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, suppress
from random import Random

import msgspec

from ..client import Client
from ..delivery import Durability
from .consuming import ConsumerCounts, ConsumerLoad
from .order import Command, Told, WorkerOrder
from .producing import ProducerCounts, ProducerLoad, weaker

_TELL_EVERY_S = 0.25
_ENCODE = msgspec.json.Encoder()
_LINE_BYTES_MAX = 16 << 20


class _Worker:
    def __init__(self, order: WorkerOrder, commands: asyncio.StreamReader) -> None:
        self._order = order
        self._commands = commands
        self._begin: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._producing: ProducerLoad | None = None
        self._consuming: ConsumerLoad | None = None
        self._weakest: Durability | None = None
        self._cpu_at_start = 0.0
        self._measuring = False

    async def run(self) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            async with AsyncExitStack() as stack:
                await self._work(stack)
        finally:
            listening.cancel()

    async def _work(self, stack: AsyncExitStack) -> None:
        worker, order = self._order, self._order.order
        client = await stack.enter_async_context(Client(worker.addresses, client_id="lograft-bench"))
        reads_back = worker.consumer is not None and worker.consumer.stops is not None
        if worker.consumer is not None:
            self._consuming = ConsumerLoad(worker, client)
            if not reads_back:
                if worker.consumer.group is None:
                    self._consuming.assign()
                await stack.enter_async_context(self._consuming.consumer)
                if worker.consumer.group is not None:
                    await self._consuming.await_assignment()
        if worker.producer is not None:
            producer = client.producer(
                acks=order.acks,
                linger_ms=order.linger_ms,
                max_batch_bytes=order.batch_bytes,
                compression=order.compression,
                idempotent=order.idempotent,
                max_in_flight_bytes=order.in_flight_bytes,
            )
            self._producing = ProducerLoad(worker, producer, Random())
        self._tell("ready")
        start_at = await self._begin
        if start_at < 0:
            return  # stopped before it began
        telling = asyncio.create_task(self._tell_now_and_then(start_at))
        consuming: asyncio.Task[None] | None = None
        try:
            if self._consuming is not None:
                if reads_back:  # fetching begins when the consumer is entered, so that is part of what is measured
                    await asyncio.sleep(start_at - time.monotonic())
                    self._consuming.assign()
                    await stack.enter_async_context(self._consuming.consumer)
                consuming = asyncio.create_task(self._consuming.run(start_at))
            if self._producing is not None:
                await self._watch(self._producing.run(start_at), consuming)
                await producer.close(flush=not self._producing.is_stopped)
                self._tell("produced")
            if consuming is not None:
                await consuming
        finally:
            telling.cancel()
            if consuming is not None:
                consuming.cancel()
        self._tell("done")

    async def _watch(self, work: object, beside: asyncio.Task[None] | None) -> None:
        """Do the work; raises what goes wrong beside it."""
        doing: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        tasks = {doing} if beside is None else {doing, beside}
        while not doing.done():
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks -= ended
            for task in ended:
                task.result()
        doing.result()

    # Commands ------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while line := await self._commands.readline():
            command = msgspec.json.decode(line, type=Command)
            if command.start_at is not None and not self._begin.done():
                self._begin.set_result(command.start_at)
            if command.stop:
                self._stop()
            elif command.stop_consuming and self._consuming is not None:
                self._consuming.stop()
        os._exit(1)  # nobody is there to be told anything

    def _stop(self) -> None:
        if not self._begin.done():
            self._begin.set_result(-1.0)
        if self._producing is not None:
            self._producing.stop()
        if self._consuming is not None:
            self._consuming.stop()

    # What is told --------------------------------------------------------------------------------------------------

    async def _tell_now_and_then(self, start_at: float) -> None:
        warm_at = start_at + self._order.order.warmup_s
        while True:
            now = time.monotonic()
            wait_s = _TELL_EVERY_S if self._measuring else min(_TELL_EVERY_S, max(0.001, warm_at - now))
            await asyncio.sleep(wait_s)
            if not self._measuring and time.monotonic() >= warm_at:
                self._measuring = True
                self._cpu_at_start = time.process_time()
            self._tell("working")

    def _tell(self, state: str) -> None:
        told = Told(state=state)  # type: ignore[arg-type]
        if self._producing is not None:
            counts, self._producing.counts = self._producing.counts, ProducerCounts()
            self._weakest = weaker(self._weakest, counts.weakest)
            told.produced = counts.timeline.packed()
            told.acknowledged, told.late = counts.acknowledged.packed(), counts.late.packed()
            told.not_sent, told.unanswered = counts.not_sent, counts.unanswered
            told.weakest = self._weakest
            told.produce_span = self._producing.span
        if self._consuming is not None:
            read, self._consuming.counts = self._consuming.counts, ConsumerCounts()
            told.consumed, told.end_to_end = read.timeline.packed(), read.end_to_end.packed()
            told.consume_span = self._consuming.span
        if state == "done":
            told.cpu_s = time.process_time() - self._cpu_at_start
        write(told)


def write(told: Told) -> None:
    """One line to whoever started us."""
    rest = memoryview(_ENCODE.encode(told) + b"\n")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


async def _main() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    line = await commands.readline()
    if not line:
        return
    try:
        await _Worker(msgspec.json.decode(line, type=WorkerOrder), commands).run()
    except Exception as error:
        from ..cli.endings import one_line, refusal_of

        why = refusal_of(error)
        write(Told(state="failed", why=why or f"{type(error).__name__}: {one_line(str(error))}"))
        if why is None and os.environ.get("LOGRAFT_DEBUG"):
            raise


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        asyncio.run(_main())
