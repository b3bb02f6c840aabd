"""When to look at what again: of many, the one that is due first, without asking all of them.

Invariant
    what is asked for is never looked at later than that; it may be looked at sooner, for nothing
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Looks:
    """By name. Time is an argument, in milliseconds of any clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        """With entries that no longer hold: who was asked for sooner since, or is forgotten."""
        self._due_ms: dict[str, float] = {}

    def by(self, name: str, due_ms: float) -> None:
        """Look at it then, unless that is to be sooner anyway."""
        if due_ms >= self._due_ms.get(name, float("inf")):
            return
        self._due_ms[name] = due_ms
        heappush(self._heap, (due_ms, name))
        if len(self._heap) > 2 * len(self._due_ms) + 16:
            self._heap = [(due, each) for each, due in self._due_ms.items()]
            heapify(self._heap)

    def next_ms(self) -> float | None:
        while self._heap and self._due_ms.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now_ms: float) -> list[str]:
        """Those that are due, the one that waited longest first. They are not to be looked at again, unless asked."""
        taken = []
        while (due_ms := self.next_ms()) is not None and due_ms <= now_ms:
            _, name = heappop(self._heap)
            del self._due_ms[name]
            taken.append(name)
        return taken
