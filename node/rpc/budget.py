"""Bounds on the bytes that clients can make this broker hold.

Invariants
    whoever takes bytes gives exactly as many back
    at the bound one waits (and stops reading from its client); nothing is dropped
"""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bytes in flight of one client, or with `parent` None of all clients of this broker.

    Taking never fails and may pass the bound by one request; `room` is what one waits for before the next.
    """

    def __init__(self, bytes_max: int, parent: ByteBudget | None = None) -> None:
        self.bytes_max = bytes_max
        self.taken = 0
        self._parent = parent
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self, size: int) -> None:
        self.taken += size
        if self._parent is not None:
            self._parent.take(size)

    def give_back(self, size: int) -> None:
        self.taken -= size
        assert self.taken >= 0, f"{-self.taken} bytes given back that were never taken"
        if self._parent is not None:
            self._parent.give_back(size)
        self._wake_one()

    async def room(self) -> None:
        """Return once less than the bound is taken, here and in the parent. First come, first served."""
        while self.taken >= self.bytes_max:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake_one()  # the turn may have been ours already, and would be lost with us
                raise
        if self._parent is not None:
            await self._parent.room()
        self._wake_one()  # others may fit as well; if not, they wait on

    def _wake_one(self) -> None:
        while self._waiting and self.taken < self.bytes_max:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
