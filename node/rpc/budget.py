"""Bounds on the bytes that clients can make this broker hold.

Invariants
    whoever takes bytes gives exactly as many back
    at the bound one waits (and stops reading from its client); nothing is dropped
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from .call_counts import host_of


class ByteBudget:
    """Bytes in flight of one client, or with `parent` None of all clients of this broker.

    Taking never fails and may pass the bound by one request; `room` is what one waits for before the next.
    """

    def __init__(self, bytes_max: int, parent: ByteBudget | None = None) -> None:
        self.bytes_max = bytes_max
        self.taken = 0
        self._parent = parent
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Is there no room, here or in the parent?"""
        return self.taken >= self.bytes_max or (self._parent is not None and self._parent.is_full)

    # Each request takes and gives back several times, through four budgets; calls that find nothing to do would add up.

    def take(self, size: int) -> None:
        budget: ByteBudget | None = self
        while budget is not None:
            budget.taken += size
            budget = budget._parent

    def give_back(self, size: int) -> None:
        budget: ByteBudget | None = self
        while budget is not None:
            budget.taken -= size
            assert budget.taken >= 0, f"{-budget.taken} bytes given back that were never taken"
            budget = budget._parent
        budget = self
        while budget is not None:
            if budget._waiting:
                budget._wake_one()
            budget = budget._parent

    async def room(self) -> None:
        """Return once less than the bound is taken, here and in the parent. First come, first served."""
        line_up = self._waiting.append
        while self.taken >= self.bytes_max:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            line_up(turn)
            line_up = self._waiting.appendleft  # whose turn came in vain has waited longer than those who stand there
            try:
                await turn
            except asyncio.CancelledError:
                self._wake_one()  # the turn may have been ours already, and would be lost with us
                raise
        try:
            if self._parent is not None:
                await self._parent.room()
        finally:
            self._wake_one()  # others may fit as well, though this one has gone; if not, they wait on

    def _wake_one(self) -> None:
        while self._waiting and self.taken < self.bytes_max:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class SharedBudget:
    """A budget of which one connection can take a quarter at most, and one address a half.

    So whoever takes and does not give back, as by not reading what it asked for, is in the way of itself alone.
    """

    def __init__(self, bytes_max: int) -> None:
        self._all = ByteBudget(bytes_max)
        self._shares: dict[str, ByteBudget] = {}
        self._users: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._all.taken

    def lease(self, peer: str) -> Lease:
        """For one call of the connection that gRPC calls `peer`. Whoever asks ends it, once."""
        peer, host = f"connection {peer}", f"host {host_of(peer)}"
        of_host = self._share(host, self._all.bytes_max // 2, self._all)
        return Lease(self._share(peer, self._all.bytes_max // 4, of_host), lambda: self._leave(peer, host))

    def _share(self, name: str, bytes_max: int, parent: ByteBudget) -> ByteBudget:
        self._users[name] += 1
        if name not in self._shares:
            self._shares[name] = ByteBudget(bytes_max, parent)
        return self._shares[name]

    def _leave(self, *names: str) -> None:
        for name in names:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._shares[name]


class Lease:
    """What one call takes of a shared budget."""

    def __init__(self, budget: ByteBudget, on_end: Callable[[], None] = lambda: None) -> None:
        self._budget = budget
        self._on_end = on_end
        self._taken = 0
        self._ended = False

    @property
    def is_full(self) -> bool:
        return self._budget.is_full

    async def room(self) -> None:
        await self._budget.room()

    def within(self, bytes_max: int) -> ByteBudget:
        """A budget under this lease's, whose takers give back themselves, even after the end."""
        return ByteBudget(bytes_max, self._budget)

    def take(self, size: int) -> None:
        """Not past the end: a call that is over holds nothing."""
        if not self._ended:
            self._taken += size
            self._budget.take(size)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._budget.give_back(self._taken)
            self._on_end()
