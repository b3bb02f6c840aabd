"""Who waits until the committed end of one log has passed an offset.

Invariants
    a callback is called once, or never if whoever waited gave up
    those who gave up are forgotten in time, also where nothing is committed any more
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

SWEPT_AT = 64
"""How many may wait before those who gave up are looked for."""


class CommitWaiter:
    """A callback to be called once, when the committed end passes an offset or leadership is lost."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class CommitWaiters:
    """Of one replica."""

    def __init__(self) -> None:
        self._by_offset: list[tuple[int, int, CommitWaiter]] = []
        self._count = 0
        self._swept_at = SWEPT_AT

    def __len__(self) -> int:
        return len(self._by_offset)

    def add(self, offset: int, waiter: CommitWaiter) -> None:
        if len(self._by_offset) >= self._swept_at:
            self._sweep()
        self._count += 1
        heapq.heappush(self._by_offset, (offset, self._count, waiter))

    def fire_below(self, committed: int) -> None:
        """The committed end has passed all offsets below this one."""
        while self._by_offset and self._by_offset[0][0] < committed:
            heapq.heappop(self._by_offset)[2].fire()

    def fire_all(self) -> None:
        waiters, self._by_offset = self._by_offset, []
        for _, _, waiter in waiters:
            waiter.fire()

    def _sweep(self) -> None:
        """Forget those who gave up: on an idle partition no commit would ever do so."""
        self._by_offset = [entry for entry in self._by_offset if entry[2].callback is not None]
        heapq.heapify(self._by_offset)
        self._swept_at = max(SWEPT_AT, 2 * len(self._by_offset))
