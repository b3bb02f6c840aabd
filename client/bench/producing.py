"""One worker's load of records to send.

Always
    in an open loop latency counts from when a record was due; one that was never sent, or never answered, counts with
    the time it has waited so far
    sent and measured are told apart: the warm-up is sent, and not measured
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random

from ..delivery import Deliveries, Delivery, Durability
from ..producer import Producer
from .histogram import Histogram
from .order import WorkerOrder
from .pacer import Pacer
from .payload import STAMP_BYTES, Values, block_of, stamp
from .schedule import Schedule, share_of
from .timeline import Timeline

_CHUNK_RECORDS = 2_000
_CHUNK_BYTES = 1 << 20
_SLEEP_S_MIN = 0.0005
"""What is due within it goes together: shorter waits would cost more than they tell."""
_ON_THE_EDGE_S = 0.01
"""What was due so shortly before the end and did not go is not late."""
_LOOK_EVERY_S = 0.2
_ANSWERS_AWAITED_S = 3.0
"""After an interruption."""
_ONE_IN = 16
"""Of records sent one by one so many have their own answer looked at: looking costs as much as sending."""


class ProducerCounts:
    """What a producer's load has come to since it was last told."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.acknowledged = Histogram()
        self.late = Histogram()
        self.weakest: Durability | None = None
        self.not_sent = 0
        self.unanswered = 0


class ProducerLoad:
    """Sends as a WorkerOrder says, between `run` and its end."""

    def __init__(self, worker: WorkerOrder, producer: Producer, chance: Random) -> None:
        assert worker.producer is not None
        order = self._order = worker.order
        self._part = worker.producer
        self._topic = worker.topic
        self._producer = producer
        self._run_id = bytes.fromhex(worker.run_id)
        in_flight_share = order.in_flight_bytes // 4 // order.size
        self._chunk = max(1, min(_CHUNK_RECORDS, _CHUNK_BYTES // order.size, in_flight_share))
        content = b""
        if order.payload == "file":
            with open(order.payload_file, "rb") as file:
                content = file.read(64 << 20)
        size = order.size - (STAMP_BYTES if self._part.stamped else 0)
        block = block_of(order.payload, content, order.size, chance)
        self._values = Values(block, size, self._chunk, chance) if size else None
        self.counts = ProducerCounts()
        self._measured_from = float("inf")
        self._measured_to = float("inf")
        self._open: dict[asyncio.Task[None], tuple[float, int]] = {}
        self._failure: BaseException | None = None
        self._stopped_at = self._give_up_at = float("inf")
        self._main: asyncio.Task[None] | None = None
        self.span: tuple[float, float] | None = None

    # The run -------------------------------------------------------------------------------------------------------

    async def run(self, start_at: float) -> None:
        """From `start_at` on, until all is sent and answered, or `stop`. Raises what a delivery failed with."""
        self._main = asyncio.create_task(self._send_all(start_at))
        try:
            await asyncio.wait([self._main])
            if not self._main.cancelled():
                self._main.result()
            while self._open and self._failure is None and time.monotonic() < self._give_up_at:
                await asyncio.wait(self._open, timeout=_LOOK_EVERY_S)
            if self._failure is not None:
                raise self._failure
        finally:
            for task in list(self._open):
                task.cancel()
        now = time.monotonic()
        for due, count in self._open.values():
            self.counts.unanswered += count
            if self._is_measured(due):
                self.counts.acknowledged.record(now - due, count)
        end = min(self._measured_to, self._stopped_at, now)
        if self._measured_from < end:
            self.span = (self._measured_from, end)

    def stop(self) -> None:
        """Send nothing more, and wait for answers no longer than a moment."""
        self._stopped_at = min(self._stopped_at, time.monotonic())
        self._give_up_at = self._stopped_at + _ANSWERS_AWAITED_S
        if self._main is not None:
            self._main.cancel()

    @property
    def is_stopped(self) -> bool:
        """It was told to stop before its end."""
        return self._stopped_at < float("inf")

    async def _send_all(self, start_at: float) -> None:
        order, part = self._order, self._part
        await asyncio.sleep(start_at - time.monotonic())
        warm_at = start_at + order.warmup_s
        count = None if order.records is None else share_of(order.records, part.of, part.number)
        until = None if order.seconds is None else warm_at + order.seconds
        if order.rate is not None:
            self._measured_from, self._measured_to = warm_at, until or float("inf")
            in_all = round(order.rate * (order.warmup_s + (order.seconds or 0.0))) + (order.records or 0)
            schedule = Schedule(start_at, order.rate, in_all).of_client(part.number, part.of)
            with Pacer() as pacer:
                await self._on_schedule(schedule, until, pacer)
        elif until is not None:
            self._measured_from, self._measured_to = warm_at, until
            await self._as_fast_as_it_goes(None, until)
        else:
            if order.warmup_s:
                await self._as_fast_as_it_goes(None, warm_at)
                await self._producer.flush()
            self._measured_from = time.monotonic()
            await self._as_fast_as_it_goes(count, None)

    async def _as_fast_as_it_goes(self, count: int | None, until: float | None) -> None:
        """The closed loop: it waits for room, or for each answer."""
        left = count
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - time.monotonic())) as limit:
                while left is None or left > 0:
                    began = time.monotonic()
                    if until is not None and began >= until:
                        return
                    number = 1 if self._order.one_at_a_time else self._chunk
                    values = self._make(number if left is None else min(left, number), began)
                    if self._order.one_at_a_time:
                        sent = await self._producer.send_many(self._topic, values)
                        await self._answered(sent, began, values, None)
                    elif self._order.one_by_one:
                        await self._send_one_by_one(began, values)
                    else:
                        sent = await self._producer.send_many(self._topic, values)
                        self._expect(began, sent, values, None)
                        await asyncio.sleep(0)
                    if left is not None:
                        left -= len(values)
        except TimeoutError:
            if not limit.expired():
                raise

    async def _on_schedule(self, schedule: Schedule, until: float | None, pacer: Pacer) -> None:
        """The open loop: what is due goes, however late the answers are."""
        sent_count = 0
        free_at = schedule.start  # since when nothing but the schedule was waited for
        total = schedule.count
        assert total is not None
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - time.monotonic())) as limit:
                while sent_count < total:
                    now = time.monotonic()
                    number = min(schedule.due_by(now) - sent_count, self._chunk)
                    if number <= 0:
                        await pacer.until(max(now + _SLEEP_S_MIN, schedule.due(sent_count)))
                        continue
                    due = [schedule.due(sent_count + one) for one in range(number)]
                    values = self._make(number, due)
                    if self._is_measured(due[0]):
                        self.counts.late.record(now - max(due[0], free_at), number)
                    sent = await self._producer.send_many(self._topic, values)
                    free_at = time.monotonic()
                    self._expect(due[0], sent, values, due)
                    sent_count += number
                    await asyncio.sleep(0)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:  # what was due and not sent has waited at least so long
            now = time.monotonic() if until is None else min(until, time.monotonic())
            edge_s = self._order.edge_s
            first = max(sent_count, schedule.due_before(self._measured_from - edge_s))
            end = schedule.due_before(min(self._measured_to - edge_s, now - _ON_THE_EDGE_S))
            for waited_s, count in schedule.waits(first, end, now):
                self.counts.acknowledged.record(waited_s, count)
                self.counts.not_sent += count

    def _make(self, count: int, due: float | Sequence[float]) -> list[bytes]:
        """Values for `count` records, due at one time or each at its own."""
        bodies = self._values.next(count) if self._values is not None else [b""] * min(count, self._chunk)
        if not self._part.stamped:
            return bodies
        if isinstance(due, float):
            same = stamp(self._run_id, due)
            return [same + body for body in bodies]
        return [stamp(self._run_id, when) + body for when, body in zip(due, bodies, strict=True)]

    async def _send_one_by_one(self, began: float, values: list[bytes]) -> None:
        """A call for each. Whatever else fails than what is looked at here, the last flush tells."""
        watched: list[Delivery] = []
        for number, value in enumerate(values):
            delivery = await self._producer.send(self._topic, value)
            if number % _ONE_IN == 0:
                watched.append(delivery)
        watched.append(delivery)
        self._watch(self._settle_each(watched, began, values), began, len(values))
        await asyncio.sleep(0)

    # Answers -------------------------------------------------------------------------------------------------------

    def _is_measured(self, due: float) -> bool:
        edge_s = self._order.edge_s
        return self._measured_from - edge_s <= due < self._measured_to - edge_s

    def _expect(self, began: float, sent: Deliveries, values: Sequence[bytes], due: Sequence[float] | None) -> None:
        self._watch(self._answered(sent, began, values, due), began, len(values))

    def _watch(self, settling: object, began: float, count: int) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(settling)  # type: ignore[call-overload]
        self._open[task] = (began, count)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return  # it stays among the open ones, which are counted at the end
        del self._open[task]
        if (failure := task.exception()) is not None and self._failure is None:
            self._failure = failure
            self.stop()

    async def _answered(
        self, sent: Deliveries, began: float, values: Sequence[bytes], due: Sequence[float] | None
    ) -> None:
        ranges = await sent
        self._count(began, values, due)
        for one in ranges:
            self._note(one.durability)

    async def _settle_each(self, watched: Sequence[Delivery], began: float, values: Sequence[bytes]) -> None:
        for delivery in watched:
            self._note((await delivery).durability)
        self._count(began, values, None)

    def _count(self, began: float, values: Sequence[bytes], due: Sequence[float] | None) -> None:
        now = time.monotonic()
        self.counts.timeline.add(now, len(values), sum(map(len, values)))
        if due is None:
            if self._is_measured(began):
                self.counts.acknowledged.record(now - began, len(values))
            return
        for when in due:
            if self._is_measured(when):
                self.counts.acknowledged.record(now - when)

    def _note(self, durability: Durability) -> None:
        self.counts.weakest = weaker(self.counts.weakest, durability)


_MEDIA = ("none", "memory", "fsync")


def weaker(one: Durability | None, other: Durability | None) -> Durability | None:
    """Of two acknowledgements the one that bought less. None: there was none."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda bought: (_MEDIA.index(bought.medium), bought.copies))
