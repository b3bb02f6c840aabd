"""What is fuzzed: a reader of bytes that others wrote, with the errors that it may answer wrong ones with.

A reader returns or raises one of its refusals. Any other exception, an example that takes seconds, and one that takes
memory out of all proportion are bugs.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SECONDS_MAX = 5.0
"""Of one example: far more than any takes on a busy machine, far less than a loop without end."""
GROWTH_BYTES_MAX = 256 << 20
"""Of this process's largest size, by one example of a few kilobytes."""


def as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One reader.

    `seal` makes the checksums of altered bytes right again, so that what stands behind them is reached.
    `write`, where there is one, gives back the bytes of what was read: those of every seed.
    `takes_seeds` is False where even right bytes are told by raising.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: Sequence[bytes] = field(repr=False)
    refusals: tuple[type[Exception], ...] = ()
    seal: Callable[[bytes], bytes] = as_it_is
    write: Callable[[object], bytes] | None = None
    takes_seeds: bool = True

    def attempt(self, data: bytes) -> bool:
        """Read `data`: True if it was taken, False if refused. Raises what no reader may raise, and AssertionError."""
        began, size_before = time.monotonic(), _largest_bytes()
        try:
            self.read(data)
        except self.refusals:
            return False
        finally:
            took_s, grew = time.monotonic() - began, _largest_bytes() - size_before
        assert took_s < SECONDS_MAX, f"{self.name}: {len(data)} bytes took {took_s:.1f} s"
        assert grew < GROWTH_BYTES_MAX, f"{self.name}: {len(data)} bytes took {grew >> 20} MiB"
        return True


def _largest_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
