"""One partition as a consumer reads it: what was fetched, what is next to hand out, what to fetch next. Pure.

In a group it stands for one grant of the partition: when it is granted anew, another position takes its place.

Invariants
    records are handed out in the order of their offsets, each once, none below the offset sought
    what was fetched before a seek is never handed out after it, nothing at all once it is closed
    `finished_offset` passes no record that the application may still have in its hands
    batches are decoded one at a time, when their turn comes; until then they are bytes, counted in `buffered_bytes`
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

from ..proto.errors import BatchTooLarge, CorruptBatch, LograftError
from ..proto.record_batch import INFLATED_BYTES_MAX, Buffer, decode_columns, read_header, split
from .records import Record, TopicPartition

_new_tuple: Any = tuple.__new__  # called by `map` itself: half the time of `Record(*fields)`, or of a partial
_offset = attrgetter("offset")


class ReadBounds(NamedTuple):
    """Of one batch: for readers that must not be held up, whatever somebody wrote."""

    inflated_bytes_max: int = INFLATED_BYTES_MAX
    records_max: int = 1 << 31


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Making some thousand objects at once, all of them kept, would set off collections that find nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Position:
    """Where a consumer stands in one partition. `offset` None: still to be looked up, by the rule `reset`."""

    __slots__ = (
        "_batches",
        "_behind_ready",
        "at",
        "bounds",
        "buffered_bytes",
        "closed",
        "committed_offset",
        "failed_tries",
        "failure",
        "fetch_offset",
        "follows_taken",
        "generation",
        "halted",
        "handed_from",
        "handed_generation",
        "is_stood_at",
        "log_start_offset",
        "paused",
        "ready",
        "reset",
        "settled_offset",
        "topic_id",
        "topic_partition",
        "troubled",
        "troubled_since",
        "version",
    )

    def __init__(self, topic_partition: TopicPartition, reset: str, topic_id: str = "", generation: int = 0) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.generation = generation
        """Of the grant; 0 outside a group."""
        self.handed_generation: int | None = None
        """Of the grant under which the newest record handed out was fetched, here or before; None: none was."""
        self.reset = reset
        """start, end or error: what to do without an offset, or with one that is out of range."""
        self.fetch_offset: int | None = None
        """The next to ask a leader for."""
        self.ready: list[Record] = []
        self.at = 0
        """Index in `ready` of the next record to hand out."""
        self.follows_taken = False
        """What comes next follows the records that `take` gave last: nothing was sought since."""
        self._behind_ready: int | None = None
        self._batches: deque[tuple[memoryview, int, int, int]] = deque()  # batch, next offset, term, bytes
        self.buffered_bytes = 0
        self.bounds = ReadBounds()
        self.paused = False
        self.closed = False
        """It is not this consumer's any more, or about to be another's."""
        self.halted = False
        """Paused, closed, or somebody has to be told something first: who iterates stops before the next record."""
        self.is_stood_at = False
        """Records are taken one at a time: the one before `at` is in the application's hands."""
        self.handed_from: int | None = None
        """Of the first record that the application has in its hands, if that does not follow from `at`."""
        self.settled_offset: int | None = None
        """Where reading began, or what was stored last: up to here there is nothing to store."""
        self.failure: LograftError | None = None
        """Raised to the application once all before it is handed out; nothing is fetched meanwhile."""
        self.troubled: LograftError | None = None
        """Why the last fetch did not work; it is tried again after a while."""
        self.troubled_since: float | None = None
        """When fetches began to fail, in seconds; None while they work."""
        self.failed_tries = 0
        self.version = 0
        """Counts seeks; answers to fetches from before one are dropped."""
        self.committed_offset = -1
        self.log_start_offset = -1

    @property
    def offset(self) -> int | None:
        """Of the next record to hand out."""
        return self.ready[self.at].offset if self.at < len(self.ready) else self._behind_ready

    @property
    def finished_offset(self) -> int | None:
        """Where somebody else would have to go on, lest a record be left out that the application has not finished."""
        if self.handed_from is not None:
            return self.handed_from
        at = self.at  # read once: a blocking application moves it on in its own thread
        if self.is_stood_at and 0 < at <= len(self.ready):
            return self.ready[at - 1].offset
        return self.offset

    @property
    def generation_to_store(self) -> int:
        return self.generation if self.handed_generation is None else self.handed_generation

    @property
    def is_placed(self) -> bool:
        """It is known where to go on."""
        return self.fetch_offset is not None

    @property
    def is_fetchable(self) -> bool:
        in_order = self.failure is None and self.troubled is None and not self.paused and not self.closed
        return in_order and self.is_placed and self.topic_id != ""

    @property
    def has_records(self) -> bool:
        return not self.halted and self._has_any

    def seek(self, offset: int | None) -> None:
        """Go on at `offset`; what was fetched is dropped. None: look it up by the rule."""
        if self.is_stood_at:
            self.handed_from = self.finished_offset
        self._behind_ready = self.fetch_offset = offset
        self.ready, self.at = [], 0
        self.follows_taken = False
        self._batches.clear()
        self.buffered_bytes = 0
        self.failure = self.troubled = None
        self.troubled_since = None
        self.failed_tries = 0
        self.version += 1

    def begin_at(self, offset: int) -> None:
        """The first place, by rule or as stored: there is nothing to store until reading goes on from here."""
        self.seek(offset)
        self.settled_offset = offset

    def skip_to(self, offset: int) -> None:
        """The log does not hold what is next to fetch, but goes on at `offset`. What was fetched is kept."""
        if self.fetch_offset is None or offset < self.fetch_offset or not self._has_any:
            self.seek(offset)
            return
        self.fetch_offset = offset
        self.troubled = None
        self.version += 1

    @property
    def _has_any(self) -> bool:
        return self.at < len(self.ready) or bool(self._batches)

    def pause(self) -> None:
        self.paused = self.halted = True

    def resume(self) -> None:
        self.paused = False
        self.halted = self.closed

    def drop_prefetched(self) -> None:
        """Make room for others: what is not decoded yet is fetched again once it is wanted."""
        if self._batches:
            self._batches.clear()
            self.buffered_bytes = 0
            self.fetch_offset = self._behind_ready
            self.version += 1

    def close(self) -> None:
        """Hand nothing out any more. What was handed out is still known."""
        self.closed = self.halted = True
        self.version += 1

    def interrupt(self) -> None:
        """Have whoever iterates come back, before the next record, until `go_on`."""
        self.halted = True

    def go_on(self) -> None:
        self.halted = self.paused or self.closed

    def take_in(self, batches: Buffer, next_offset: int, term: int) -> None:
        """An answer to a fetch from `fetch_offset`: whole batches, or none and where to go on."""
        assert self.fetch_offset is not None
        after = self.fetch_offset
        for header, batch in split(batches):
            if header.next_offset > after:
                self._batches.append((batch, header.next_offset, header.term, len(batch)))
                self.buffered_bytes += len(batch)
                after = header.next_offset
        if not batches:
            after = max(after, next_offset)
        self.fetch_offset = after
        if not self._batches and self.at >= len(self.ready):
            self._behind_ready = after
        self.troubled_since = None
        self.failed_tries = 0

    def decode_next(self) -> bool:
        """Make the next batch's records ready, once those before are handed out. False if there is none.

        Raises
            CorruptBatch   names the partition; seek past the batch, to `next_offset`, to go on
            BatchTooLarge  likewise: it would be more than the bounds
        """
        while self.at >= len(self.ready):
            if not self._batches:
                return False
            batch, next_offset, term, size = self._batches[0]
            wanted = self._behind_ready or 0
            topic, number = self.topic_partition
            try:
                if (count := read_header(batch).record_count) > (most := self.bounds.records_max):
                    raise BatchTooLarge(f"a batch of {count} records is more than {most}", size=count, limit=most)
                with _no_garbage_collection():
                    columns = decode_columns(batch, inflated_bytes_max=self.bounds.inflated_bytes_max)
                    fields = zip(repeat(topic), repeat(number), *columns, repeat(term), strict=False)
                    ready = list(map(_new_tuple, repeat(Record), fields))
            except (CorruptBatch, BatchTooLarge) as error:
                text = f"{self.topic_partition} at offset {wanted}: {error}"
                place = {"topic": topic, "partition": number, "offset": wanted, "next_offset": next_offset}
                raise type(error)(text, **{**error.facts, **place}) from None
            self._batches.popleft()
            self.buffered_bytes -= size
            if ready and ready[0].offset < wanted:  # the batch begins before the place sought
                del ready[: bisect_left(ready, wanted, key=_offset)]
            self.ready = ready
            self.at = 0
            self._behind_ready = next_offset
            self.handed_generation = self.generation
        return True

    def take(self, count_max: int) -> list[Record]:
        """The next records, `count_max` at most.

        Raises
            CorruptBatch, BatchTooLarge  as `decode_next`, once all before the batch are taken
        """
        taken: list[Record] = []
        while len(taken) < count_max:
            try:
                if not self.decode_next():
                    break
            except (CorruptBatch, BatchTooLarge):
                if not taken:
                    raise
                break
            end = min(len(self.ready), self.at + count_max - len(taken))
            if not taken and self.at == 0 and end == len(self.ready):
                taken, self.ready, self.at = self.ready, [], 0
                continue
            taken += self.ready[self.at : end]
            self.at = end
        self.follows_taken = bool(taken)
        return taken

    def put_back(self, taken: list[Record]) -> None:
        """What `take` gave last is the next to be handed out again, unless something was sought since."""
        if self.follows_taken:
            self.ready, self.at = taken + self.ready[self.at :], 0
            self.follows_taken = False
