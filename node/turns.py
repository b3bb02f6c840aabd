"""What may come in hundreds at once is dealt with a few at a time, so that every turn of the loop stays short.

A broker whose loop is held up for an election timeout gives up what it leads, and its peers take it for dead. Where
every partition of a thousand has something to say, its messages are therefore spread over several turns, and heartbeats
and ticks come in between.

Invariants
    things are dealt with in the order in which they came; as long as they are few, at once
    no more than `waiting_max` wait: whoever brings more has to wait until there is room again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")

PER_TURN = 64
"""Each takes a tenth of a millisecond or two."""
WAITING_MAX = 16_384


class Turns(Generic[Thing]):
    """A queue before `do`. `call_soon` calls back in the next turn of the loop."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], None],
        do: Callable[[Thing], None],
        *,
        per_turn: int = PER_TURN,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._call_soon = call_soon
        self._do = do
        self._per_turn = per_turn
        self._waiting_max = waiting_max
        self._waiting: deque[Thing] = deque()
        self._left = per_turn
        """Of this turn of the loop."""
        self._is_counting = False
        self._is_working = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self, things: Iterable[Thing]) -> None:
        """Deal with these things, now if it is their turn."""
        self._waiting.extend(things)
        self._work()

    def _work(self) -> None:
        if not self._is_counting and self._waiting:
            self._is_counting = True
            self._call_soon(self._next_turn)
        if self._is_working:
            return  # `do` brought more: it has its place in the queue
        self._is_working = True
        try:
            while self._waiting and (self._left > 0 or len(self._waiting) > self._waiting_max):
                self._left -= 1
                self._do(self._waiting.popleft())
        finally:
            self._is_working = False

    def _next_turn(self) -> None:
        self._is_counting = False
        self._left = self._per_turn
        self._work()
