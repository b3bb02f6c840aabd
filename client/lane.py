"""One partition's batches on their way: sealed, numbered, sent, sent again, settled. Pure: no clock, no network.

Invariants (DESIGN section 5, "Idempotence")
    batches are numbered in the order of their records, from 0 for each producer id, without holes
    at most `window` numbered batches are unsettled-or-behind-an-unsettled-one; so a duplicate's offset is remembered
    while any attempt is under way after a failure, nothing is sent; then all go again from the oldest, same numbers
    `first_open` never passes a batch without a final answer, so no leader can take a later one in its place
    once a batch is given up that may be in the log, all later ones fail with it, and a new producer id begins
    once a batch fails that surely is not, no later one can be in the log either: they are numbered anew
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..proto.errors import (
    BatchTooLarge,
    CorruptBatch,
    DiskFull,
    InvalidRecord,
    InvalidRequest,
    LograftError,
    NoLeader,
    NotAuthorized,
    NotLeader,
    OutOfOrderSequence,
    Overloaded,
    StaleProducer,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
    UnsupportedCompression,
)
from ..proto.record_batch import BatchBuilder, Compression, decode, encode
from ..proto.record_batch import NewRecord as EncodedRecord
from .delivery import DeliveryFailed, Durability, Failures, Outcome, Settlement
from .records import TopicPartition

SEQUENCE_MAX = (1 << 31) - 1
SURELY_NOT_APPENDED = (
    BatchTooLarge,
    CorruptBatch,
    DiskFull,
    InvalidRecord,
    InvalidRequest,
    NoLeader,
    NotAuthorized,
    NotLeader,
    OutOfOrderSequence,
    Overloaded,
    StaleProducer,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
    UnsupportedCompression,
)
"""Answers after which this attempt has left nothing in the log. Any other error leaves it open."""

_SAMPLES_MAX = 3
_SAMPLE_CHARS = 40


class Batch:
    """Records that are sent, answered and fail together."""

    __slots__ = (
        "_count",
        "_waiters",
        "attempt",
        "begun_at",
        "builder",
        "encoded",
        "held_bytes",
        "in_flight",
        "lingered",
        "maybe_appended",
        "partition",
        "sequence",
        "sequence_end",
        "settlement",
    )

    def __init__(self, partition: TopicPartition, builder: BatchBuilder, begun_at: float) -> None:
        self.partition = partition
        self.builder: BatchBuilder | None = builder
        self.encoded = b""
        self._count = 0
        self.held_bytes = 0
        """What it holds of the producer's room."""
        self.begun_at = begun_at
        """When its first record came, in seconds."""
        self.lingered = False
        """It has waited for more records long enough."""
        self.sequence = -1
        self.sequence_end = -1
        self.attempt = 0
        """Answers to earlier attempts are not listened to."""
        self.in_flight = False
        self.maybe_appended = False
        """Some attempt ended without an answer, or with one that leaves it open."""
        self.settlement: Settlement | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def count(self) -> int:
        """Records in it."""
        return self._count if self.builder is None else self.builder.count

    def wait(self) -> asyncio.Future[None]:
        """Done once the batch is settled. One for each who waits, so that a cancelled one disturbs nobody."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.settlement is not None:
            waiter.set_result(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def seal(self, compression: Compression, producer_id: int, sequence: int) -> None:
        """Encode it under these numbers, for the first time or again."""
        epoch = -1 if producer_id < 0 else 0
        if self.builder is not None:
            self._close(self.builder.build(producer_id, epoch, sequence, compression))
        else:
            records = [EncodedRecord(*record[1:]) for record in decode(self.encoded)]
            self.encoded = encode(
                records,
                compression=compression,
                producer_id=producer_id,
                producer_epoch=epoch,
                base_sequence=sequence,
            )
        self.sequence, self.sequence_end = sequence, sequence + self.count

    def _close(self, encoded: bytes) -> None:
        assert self.builder is not None
        self._count, self.encoded, self.builder = self.builder.count, encoded, None

    def samples(self) -> list[str]:
        """The first few records, for a message to people."""
        if self.builder is not None:
            self._close(self.builder.build())
        shown = []
        for record in decode(self.encoded)[:_SAMPLES_MAX]:
            name, content = ("key", record.key) if record.key is not None else ("value", record.value)
            text = "null" if content is None else content.decode("utf-8", "replace")
            shown.append(f"{name} {text[:_SAMPLE_CHARS]!r}{'…' if len(text) > _SAMPLE_CHARS else ''}")
        return shown

    def settle(self, settlement: Settlement) -> None:
        assert self.settlement is None, f"{self.partition} {self.sequence} settled twice"
        self.settlement = settlement
        self.encoded = b""
        self.in_flight = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Attempt(NamedTuple):
    """A batch as it goes into one request."""

    batch: Batch
    number: int
    first_open: int | None


class Lane:
    """The batches of one partition, in order.

    `draw_producer_id` gives a fresh id (None: not idempotent, one batch at a time, retries may duplicate).
    `on_settled` is told of each batch once, right after it was settled.
    """

    def __init__(
        self,
        partition: TopicPartition,
        topic_id: str,
        *,
        compression: Compression,
        draw_producer_id: Callable[[], int] | None,
        failures: Failures,
        on_settled: Callable[[Batch], None],
        window: int = 5,
    ) -> None:
        self.partition = partition
        self.topic_id = topic_id
        self._compression = compression
        self._draw_producer_id = draw_producer_id
        self._failures = failures
        self._on_settled = on_settled
        self._window = window if draw_producer_id else 1
        self.producer_id = draw_producer_id() if draw_producer_id else -1
        self._next_sequence = 0
        self.building: Batch | None = None
        """Still takes records."""
        self.last_batch_bytes = 0
        """Of the room, held by the batch that was closed last."""
        self._waiting: deque[Batch] = deque()  # closed, without numbers
        self._open: deque[Batch] = deque()  # numbered; its head is not settled
        self.in_flight = 0
        self._recovering = False
        self.failed_tries = 0
        """In a row; the back-off grows with it. Whoever backs off counts it up; an acknowledgement sets it to 0."""
        self.last_error: LograftError | None = None
        self.carrier: object = None
        """The stream that its batches in flight went by."""

    # Filling -------------------------------------------------------------------------------------------------------

    def close_building(self) -> None:
        """Let the batch being built take no more records."""
        if self.building is not None:
            self.last_batch_bytes = self.building.held_bytes
            self._waiting.append(self.building)
            self.building = None

    # Sending -------------------------------------------------------------------------------------------------------

    @property
    def is_sendable(self) -> bool:
        return self._next_to_send() is not None

    @property
    def has_closed_batch(self) -> bool:
        """One that is to be sent, and takes no more records."""
        return bool(self._waiting) or self.in_flight < len(self._open)

    @property
    def is_idle(self) -> bool:
        return not self._open and not self._waiting and self.building is None

    def _next_to_send(self) -> Batch | None:
        if self._recovering:
            if self.in_flight:
                return None
            self._recovering = False
        if self.in_flight < len(self._open):
            for batch in self._open:
                if batch.settlement is None and not batch.in_flight:
                    return batch
        if len(self._open) >= self._window:
            return None
        if self._waiting:
            batch = self._waiting[0]
        elif self.building is not None and self.building.lingered:
            batch = self.building
        else:
            return None
        if self._next_sequence + batch.count > SEQUENCE_MAX and self._open:
            return None  # a new producer id begins with an empty window
        return batch

    def take(self) -> Attempt | None:
        """The next batch to send; it is in flight from now on. None if there is none, or the window is full."""
        batch = self._next_to_send()
        if batch is None:
            return None
        if batch is self.building:
            self.close_building()
        if self._waiting and batch is self._waiting[0]:
            if self._next_sequence + batch.count > SEQUENCE_MAX:
                self._begin_producer()
            batch.seal(self._compression, self.producer_id, self._next_sequence if self.producer_id >= 0 else -1)
            if self.producer_id >= 0:
                self._next_sequence = batch.sequence_end
            self._waiting.popleft()
            self._open.append(batch)
        batch.attempt += 1
        batch.in_flight = True
        self.in_flight += 1
        return Attempt(batch, batch.attempt, self._open[0].sequence if self.producer_id >= 0 else None)

    def _begin_producer(self) -> None:
        if self._draw_producer_id is not None:
            self.producer_id = self._draw_producer_id()
        self._next_sequence = 0

    # Answers -------------------------------------------------------------------------------------------------------

    def _land(self, attempt: Attempt) -> bool:
        """The attempt is over. False if nobody listens to it any more."""
        batch = attempt.batch
        if batch.attempt != attempt.number or not batch.in_flight:
            return False
        batch.in_flight = False
        self.in_flight -= 1
        return True

    def acknowledged(self, attempt: Attempt, base_offset: int, term: int, durability: Durability) -> None:
        """It is in the log (or was there already)."""
        if not self._land(attempt):
            return
        self.failed_tries = 0
        self._settle(attempt.batch, Settlement(base_offset, term, durability))

    def refused(self, attempt: Attempt, error: LograftError) -> None:
        """The leader answered with an error."""
        if not self._land(attempt):
            return
        batch = attempt.batch
        self.last_error = error
        if not isinstance(error, SURELY_NOT_APPENDED):
            batch.maybe_appended = True
        if isinstance(error, OutOfOrderSequence) and batch is self._open[0] and not batch.maybe_appended:
            # All before it is settled, yet the leader misses some of it: an acknowledgement that was no promise
            # (acks=leader, memory) was lost. Nothing of ours was appended since; begin anew.
            self._number_anew()
        elif error.retriable:
            self._recovering = True
        else:
            self.fail(batch, error)

    def lost(self, attempt: Attempt, error: LograftError) -> None:
        """No answer will come."""
        if self._land(attempt):
            self.last_error = error
            attempt.batch.maybe_appended = True
            self._recovering = True

    def abandon(self) -> None:
        """Stop waiting for the answers under way, and send all again."""
        for batch in self._open:
            if batch.in_flight:
                batch.in_flight = False
                batch.attempt += 1
                batch.maybe_appended = True
        self.in_flight = 0

    # Giving up -----------------------------------------------------------------------------------------------------

    def _unsettled(self) -> Iterator[Batch]:
        """All without a final answer, the oldest first."""
        yield from (batch for batch in self._open if batch.settlement is None)
        yield from self._waiting
        if self.building is not None:
            yield self.building

    def unsettled(self) -> list[Batch]:
        return list(self._unsettled())

    @property
    def oldest(self) -> Batch | None:
        return next(self._unsettled(), None)

    def fail(self, batch: Batch, cause: LograftError) -> None:
        """Give `batch` up; with it all later ones, if it may be in the log."""
        if batch.in_flight or batch.maybe_appended:
            self._give_up_from(batch, cause)
            return
        if batch is self.building:
            self.building = None
        elif batch in self._waiting:
            self._waiting.remove(batch)
        else:
            assert batch in self._open, f"{batch.partition} {batch.sequence} is not ours"
            self._number_anew(but=batch)
        self._settle_failed(batch, "failed", cause)

    def fail_all(self, cause: LograftError) -> None:
        """Give up everything."""
        if (oldest := self.oldest) is not None:
            self._give_up_from(oldest, cause)

    def _give_up_from(self, batch: Batch, cause: LograftError) -> None:
        doomed = self.unsettled()
        doomed = doomed[doomed.index(batch) :]
        outcomes: list[Outcome] = ["unknown" if b.in_flight or b.maybe_appended else "failed" for b in doomed]
        survivors = [b for b in self._open if b.settlement is None and b not in doomed]
        if survivors:
            # Older ones still wait for their answers; they keep their numbers, and nothing new joins them.
            self._open = deque(b for b in self._open if b not in doomed)
        else:
            self._open.clear()
            self._begin_producer()
        self._waiting.clear()
        self.building = None
        self._recovering = bool(survivors) and self._recovering
        self.in_flight = sum(b.in_flight for b in survivors)
        if survivors:
            self._next_sequence = SEQUENCE_MAX  # the next batch waits for an empty window and begins a new producer
        for lost, outcome in zip(doomed, outcomes, strict=True):
            lost.attempt += 1
            self._settle_failed(lost, outcome, cause)

    def _number_anew(self, but: Batch | None = None) -> None:
        """Open batches, none of which can have been appended, go back to wait for numbers of a new producer id."""
        older = [b for b in self._open if b.settlement is None]
        if but is not None:
            at = older.index(but)
            older, behind = older[:at], older[at + 1 :]
        else:
            older, behind = [], older
        for batch in reversed(behind):
            batch.attempt += 1
            batch.in_flight = batch.maybe_appended = False
            self._waiting.appendleft(batch)
        self.in_flight = sum(b.in_flight for b in older)
        if older:
            self._open = deque(older)
            self._next_sequence = SEQUENCE_MAX
        else:
            self._open.clear()
            self._recovering = False
            self._begin_producer()

    def _settle(self, batch: Batch, settlement: Settlement) -> None:
        batch.settle(settlement)
        while self._open and self._open[0].settlement is not None:
            self._open.popleft()
        self._on_settled(batch)

    def _settle_failed(self, batch: Batch, outcome: Outcome, cause: LograftError) -> None:
        untold = self._failures.add(batch.partition, outcome, cause, batch.count, batch.samples())
        failure = DeliveryFailed(batch.partition, outcome, cause)
        self._settle(batch, Settlement(-1, -1, None, failure, untold))
