"""Batches of clients on their way into partitions, whichever door they came by.

Invariants
    a batch is checked, and refused or appended, before anything else happens, or as soon as `GatheredAppends` says:
        batches given one after the other in the same way stand in the log in that order
    what is refused was not appended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..proto.errors import LograftError, UnknownOutcome
from ..proto.record_batch import BatchHeader, Buffer, check_produced
from .metrics import Metrics
from .replicas import Led

if TYPE_CHECKING:
    from ..partitions.appendings import Appended, Appending
    from ..partitions.replica import Replica
    from .replicas import Replicas

HELD_BYTES_MAX = 512 << 10
"""So much is worth a message of its own, and a flush. Of batches of 64 KiB it takes some to pay for what one costs."""
HELD_COUNT_MAX = 200
"""A turn of the loop must not become a long one."""
HELD_SECONDS_MAX = 0.02
"""A disk that is slow with one flush holds up no longer what its followers could have by then."""

Done = Callable[[Led, "Appending | LograftError"], None]


def append_entry(
    replicas: Replicas, topic: str, number: int, topic_id: str, batch: Buffer, first_open: int | None, metrics: Metrics
) -> tuple[Led, Appending]:
    """Check one batch and hand it to the partition's leader here.

    Raises whatever refuses it (nothing was appended then): UnknownTopic, UnknownTopicId, UnknownPartition, NotLeader,
    NoLeader, NotAuthorized, CorruptBatch, InvalidRecord, BatchTooLarge, OutOfOrderSequence, StaleProducer,
    ReplicaDamaged, DiskFull.
    """
    led, header = _checked(replicas, topic, number, topic_id, batch)
    appending = led.replica.append(batch, header, first_open)
    _count(metrics, topic, batch, header, appending)
    return led, appending


class GatheredAppends:
    """Batches of clients that may send many small ones at once: those of a partition are appended together.

    They cost one write, one flush and one message to each follower for as many as come while the partition's flush
    before is under way, which could not take them along anyway; not for each of them.

    Invariants
        batches of a partition are appended in the order in which they were added
        a batch waits for the end of the turn of the loop, and for a flush of its partition; but for that not longer
            than HELD_SECONDS_MAX, nor once HELD_BYTES_MAX or HELD_COUNT_MAX wait
    """

    def __init__(self, replicas: Replicas, metrics: Metrics) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._lanes: dict[Replica, _Lane] = {}

    def add(self, topic: str, number: int, batch: Buffer, done: Done) -> None:
        """Check one batch, to be appended soon; `done` is told then what became of that.

        Raises whatever `append_entry` does and is known by now. `batch` must stay as it is.
        """
        led, header = _checked(self._replicas, topic, number, "", batch)
        lane = self._lanes.get(led.replica)
        if lane is None:
            lane = self._lanes[led.replica] = _Lane(led.replica, self._metrics, self._lanes)
        lane.add(_Waiting(led, batch, header, done))


class _Waiting(NamedTuple):
    led: Led
    batch: Buffer
    header: BatchHeader
    done: Done


class _Lane:
    """One partition's batches that are about to be appended. It is among the lanes as long as there is one to come."""

    __slots__ = ("_bytes", "_flush", "_is_due", "_lanes", "_loop", "_metrics", "_replica", "_timer", "_waiting")

    def __init__(self, replica: Replica, metrics: Metrics, lanes: dict[Replica, _Lane]) -> None:
        self._replica = replica
        self._metrics = metrics
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._is_due = False
        """At the end of this turn of the loop."""
        self._flush: asyncio.Future[Appended] | None = None
        """Of what was appended last."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: _Waiting) -> None:
        self._waiting.append(one)
        self._bytes += len(one.batch)
        if len(self._waiting) >= HELD_COUNT_MAX or self._bytes >= HELD_BYTES_MAX:
            self._append()
        elif self._flush is None:
            self._append_soon()
        elif self._timer is None:
            self._timer = self._loop.call_later(HELD_SECONDS_MAX, self._append)

    def _append_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._append_if_due)

    def _append_if_due(self) -> None:
        if self._is_due:
            self._append()

    def _append(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        run, self._waiting, self._bytes = self._waiting, [], 0
        outcomes = self._replica.append_run([(one.batch, one.header, None) for one in run])
        for one, outcome in zip(run, outcomes, strict=True):
            if not isinstance(outcome, LograftError):
                _count(self._metrics, one.led.topic.name, one.batch, one.header, outcome)
                if not outcome.is_duplicate:
                    self._flush = outcome.persisted
            one.done(one.led, outcome)
        if self._flush is None or self._flush.done():
            self._flushed(self._flush)
        else:
            self._flush.add_done_callback(self._flushed)

    def _flushed(self, flush: asyncio.Future[Appended] | None) -> None:
        if flush is not self._flush:
            return  # more was appended since
        self._flush = None
        if self._waiting:
            self._append_soon()
        else:
            self._lanes.pop(self._replica, None)


def _checked(replicas: Replicas, topic: str, number: int, topic_id: str, batch: Buffer) -> tuple[Led, BatchHeader]:
    led = replicas.leading(topic, number, topic_id)
    replicas.check_writable(led)
    return led, check_produced(batch, bytes_max=led.settings.batch_bytes_max)


def _count(metrics: Metrics, topic: str, batch: Buffer, header: BatchHeader, appending: Appending) -> None:
    if appending.is_duplicate:
        metrics.traffic.duplicates.inc()
    else:
        metrics.count_produced(topic, len(batch), header.record_count)


def failure_of(future: asyncio.Future[Appended]) -> LograftError | None:
    """Why an append failed, or None if it did not."""
    if future.cancelled():
        return UnknownOutcome("the broker is stopping; the batch may have been appended")
    error = future.exception()
    if error is None or isinstance(error, LograftError):
        return error
    raise error
