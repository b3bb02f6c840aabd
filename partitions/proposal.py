"""Batches that a leader has taken, and is about to propose at once.

Invariants
    each is stamped with the offset and term that it will have if nothing else is proposed before
    one write and one message to each follower can carry all of it
    what a producer sent is judged by the log, and by what of it stands here before
"""

from __future__ import annotations

import asyncio

from ..proto.record_batch import BatchHeader, stamp
from .appendings import Appending
from .producers import next_sequence
from .raft.points import Item, ItemKind, Point

Offered = tuple[bytes | bytearray | memoryview, BatchHeader, int | None]
"""A checked batch, its header, and the lowest sequence of its producer without a final answer, if it said so."""


class Proposal:
    """Made empty, filled, proposed once."""

    __slots__ = ("_bytes", "_numbered", "appendings", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.appendings: list[Appending] = []
        self._bytes = 0
        self._numbered: dict[int, tuple[int, int]] = {}
        """Of the producers of what is here: epoch, and the sequence after their last batch."""

    def follows(self, header: BatchHeader) -> bool:
        """Is it its producer's next batch, after one of these?"""
        return self._numbered.get(header.producer_id) == (header.producer_epoch, header.base_sequence)

    def can_take(self, header: BatchHeader, size: int, bytes_max: int) -> bool:
        """Not if its producer has another here that it does not follow: only what is in the log is in the table of
        producers."""
        is_unclear = header.producer_id in self._numbered and not self.follows(header)
        return not is_unclear and self._bytes + size <= bytes_max

    def add(
        self,
        batch: bytes | bytearray | memoryview,
        header: BatchHeader,
        log_end: Point,
        term: int,
        *,
        loop: asyncio.AbstractEventLoop,
        began_ms: float,
    ) -> Appending:
        last = self.items[-1].point if self.items else log_end
        data = stamp(batch, last.offset, term)
        end = Point(term, last.offset + header.width, last.rank)
        appending = Appending(last.offset, end, term, duplicate=False, loop=loop, began_ms=began_ms)
        self.items.append(Item(end, ItemKind.RECORDS, data))
        self.appendings.append(appending)
        self._bytes += len(batch)
        if header.has_producer:
            self._numbered[header.producer_id] = header.producer_epoch, next_sequence(header)
        return appending
