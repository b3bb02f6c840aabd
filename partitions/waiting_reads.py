"""Reads that wait until a round among the voters has confirmed that their leader still leads.

Invariants
    a read is answered by its own round: one that began before it was asked says nothing
    each is answered once
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class WaitingReads:
    """Of one replica. A round is known to the core by its token."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._count = 0

    def begin(self) -> tuple[int, asyncio.Future[int]]:
        """A new round's token, and what will be the committed end. Whoever began it ends it."""
        self._count += 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[self._count] = future
        return self._count, future

    def end(self, token: int) -> None:
        self._waiting.pop(token, None)

    def confirm(self, tokens: Iterable[int], committed: int) -> None:
        for token in tokens:
            future = self._waiting.get(token)
            if future is not None and not future.done():
                future.set_result(committed)

    def refuse(self, tokens: Iterable[int], why: Callable[[], Exception]) -> None:
        for token in tokens:
            future = self._waiting.get(token)
            if future is not None and not future.done():
                future.set_exception(why())

    def refuse_all(self, why: Callable[[], Exception]) -> None:
        self.refuse(tuple(self._waiting), why)
