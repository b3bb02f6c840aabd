"""What happened, in order: the last of it to read, all of it as one number to compare.

Invariants
    two runs of one seed give the same digest, or something outside the seed has had a say
    a note costs little: it is formatted for people only when somebody looks
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from zlib import crc32


class Trace:
    """Notes of one run. `now_ms` is the virtual time."""

    def __init__(self, now_ms: Callable[[], float], *, kept: int = 60) -> None:
        self.digest = 0
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        """What brokers noted for operators, by event."""
        self._now_ms = now_ms
        self._notes: deque[tuple[float, str, str | Callable[[], str]]] = deque(maxlen=kept)

    def note(self, kind: str, what: str = "") -> None:
        now = self._now_ms()
        self.count += 1
        self.kinds[kind] += 1
        self.digest = crc32(f"{now:.6f} {kind} {what}".encode(), self.digest)
        self._notes.append((now, kind, what))

    def note_bytes(self, kind: str, what: bytes, told: Callable[[], str]) -> None:
        """All of `what` goes into the digest; how it is told to people is asked only when somebody looks."""
        now = self._now_ms()
        self.count += 1
        self.kinds[kind] += 1
        self.digest = crc32(what, crc32(f"{now:.6f} {kind}".encode(), self.digest))
        self._notes.append((now, kind, told))

    def last(self, count: int) -> str:
        """The last notes, a line each."""
        return "\n".join(
            f"{now:12.3f} ms  {kind:<12} {what if isinstance(what, str) else what()}"
            for now, kind, what in list(self._notes)[-count:]
        )
