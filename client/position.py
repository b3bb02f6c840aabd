"""One partition as a consumer reads it: what was fetched, what is next to hand out, what to fetch next. Pure.

Invariants
    records are handed out in the order of their offsets, each once, none below the offset sought
    what was fetched before a seek is never handed out after it
    batches are decoded one at a time, when their turn comes; until then they are bytes, counted in `buffered_bytes`
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from operator import attrgetter

from ..proto.errors import CorruptBatch, LograftError
from ..proto.record_batch import decode_columns, split
from .records import Record, TopicPartition

_as_record = partial(tuple.__new__, Record)
_offset = attrgetter("offset")


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
        "buffered_bytes",
        "committed_offset",
        "failed_tries",
        "failure",
        "fetch_offset",
        "log_start_offset",
        "paused",
        "ready",
        "reset",
        "topic_id",
        "topic_partition",
        "troubled",
        "troubled_since",
        "version",
    )

    def __init__(self, topic_partition: TopicPartition, reset: str) -> None:
        self.topic_partition = topic_partition
        self.topic_id = ""
        self.reset = reset
        """start, end or error: what to do without an offset, or with one that is out of range."""
        self.fetch_offset: int | None = None
        """The next to ask a leader for."""
        self.ready: list[Record] = []
        self.at = 0
        """Index in `ready` of the next record to hand out."""
        self._behind_ready: int | None = None
        self._batches: deque[tuple[memoryview, int, int, int]] = deque()  # batch, next offset, term, bytes
        self.buffered_bytes = 0
        self.paused = False
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
    def is_placed(self) -> bool:
        """It is known where to go on."""
        return self.fetch_offset is not None

    @property
    def is_fetchable(self) -> bool:
        in_order = self.failure is None and self.troubled is None and not self.paused
        return in_order and self.is_placed and self.topic_id != ""

    @property
    def has_records(self) -> bool:
        return not self.paused and (self.at < len(self.ready) or bool(self._batches))

    def seek(self, offset: int | None) -> None:
        """Go on at `offset`; what was fetched is dropped. None: look it up by the rule."""
        self._behind_ready = self.fetch_offset = offset
        self.ready, self.at = [], 0
        self._batches.clear()
        self.buffered_bytes = 0
        self.failure = self.troubled = None
        self.troubled_since = None
        self.failed_tries = 0
        self.version += 1

    def take_in(self, batches: bytes, next_offset: int, term: int) -> None:
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
            CorruptBatch  names the partition; seek past the batch to go on
        """
        while self.at >= len(self.ready):
            if not self._batches:
                return False
            batch, next_offset, term, size = self._batches[0]
            wanted = self._behind_ready or 0
            topic, number = self.topic_partition
            try:
                with _no_garbage_collection():
                    columns = decode_columns(batch)
                    fields = zip(repeat(topic), repeat(number), *columns, repeat(term), strict=False)
                    ready = list(map(_as_record, fields))
            except CorruptBatch as error:
                text = f"{self.topic_partition} at offset {wanted}: {error}"
                raise CorruptBatch(text, **error.facts, offset=wanted, next_offset=next_offset) from None
            self._batches.popleft()
            self.buffered_bytes -= size
            if ready and ready[0].offset < wanted:  # the batch begins before the place sought
                del ready[: bisect_left(ready, wanted, key=_offset)]
            self.ready = ready
            self.at = 0
            self._behind_ready = next_offset
        return True

    def take(self, count_max: int) -> list[Record]:
        """The next records, `count_max` at most."""
        taken: list[Record] = []
        while len(taken) < count_max and self.decode_next():
            end = min(len(self.ready), self.at + count_max - len(taken))
            if not taken and self.at == 0 and end == len(self.ready):
                taken, self.ready, self.at = self.ready, [], 0
                continue
            taken += self.ready[self.at : end]
            self.at = end
        return taken
