"""When records are due. Latency counts from then, whatever the cluster does: late answers hide nothing. Pure.

Always
    a record is due once, and the next one not before it
    the schedules of several clients, laid over each other, are the schedule of one
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


def share_of(total: int, clients: int, number: int) -> int:
    """How many of `total` records are for client `number` (from 0) of `clients`."""
    return total // clients + (number < total % clients)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Record i (from 0) is due at `start + i / per_second`; `count` of them, None: without end."""

    start: float
    per_second: float
    count: int | None = None

    def due(self, index: int) -> float:
        return self.start + index / self.per_second

    def due_by(self, now: float) -> int:
        """How many records are due at `now` or before."""
        number = max(0, int((now - self.start) * self.per_second) + 1)
        while number and self.due(number - 1) > now:
            number -= 1
        while self.due(number) <= now:
            number += 1
        return number if self.count is None else min(number, self.count)

    def due_before(self, when: float) -> int:
        """How many records are due before `when`."""
        number = self.due_by(when)
        while number and self.due(number - 1) >= when:
            number -= 1
        return number

    def waits(self, first: int, end: int, now: float) -> Iterator[tuple[float, int]]:
        """How many seconds records `first` to `end - 1` have waited at least, and how many have: those of a millisecond
        are told together, for there may be many millions."""
        together = max(1, int(self.per_second / 1000))
        for index in range(first, end, together):
            count = min(together, end - index)
            yield now - self.due(index + count - 1), count

    def of_client(self, number: int, clients: int) -> Schedule:
        """The part of client `number` (from 0): every `clients`-th record."""
        count = None if self.count is None else share_of(self.count, clients, number)
        return Schedule(self.due(number), self.per_second / clients, count)
