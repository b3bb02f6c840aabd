"""A bound on bytes in flight: who would pass it waits, first come, first served.

Invariants
    what is taken is given back exactly once, by whoever settles it
    more than the bound is held only by a single taker that is larger than it
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Room:
    """Bytes that may be held at once, up to `bytes_max`."""

    __slots__ = ("_waiting", "bytes_max", "held_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if there is room and nobody waits."""
        if self._waiting or not self._fits(size):
            return False
        self.held_bytes += size
        return True

    async def take(self, size: int) -> None:
        """Take `size` bytes, once there is room."""
        if self.try_take(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(size)  # it was our turn, but we are gone
            else:
                with suppress(ValueError):  # its turn may have come, and been passed on, between the cancelling and now
                    self._waiting.remove((size, turn))
                self._admit()  # a smaller one may have stood behind us
            raise

    def give_back(self, size: int) -> None:
        assert 0 <= size <= self.held_bytes, f"giving back {size} of {self.held_bytes}"
        self.held_bytes -= size
        if self._waiting:
            self._admit()

    def fail_waiting(self, error: Exception) -> None:
        """Nobody will get room any more."""
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    def _fits(self, size: int) -> bool:
        return self.held_bytes + size <= self.bytes_max or not self.held_bytes

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if turn.done():
                continue
            self.held_bytes += size
            turn.set_result(None)
