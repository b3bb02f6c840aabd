"""`python -m tests.chaos.broker -c FILE`: a broker as it is, on a machine whose boots can be told apart by the tests.

CHAOS_BOOT_ID  a file that stands for /proc/sys/kernel/random/boot_id: a power failure of one broker changes it
CHAOS_SLOW     a file that says how many seconds longer each sync takes; not there: none. (A file system that takes its
               time would hold up writes to the same file as well, as a slow disk does not.)
CHAOS_CLOCK    a file that says by how many seconds the wall clock is off; not there: not at all. (Debian's libfaketime
               breaks sleep in Python 3.11, unless it shifts the monotonic clock as well, which no clock does.)
CHAOS_BUG      the name of a bug in `bugs.py`, planted before the broker starts; empty: none
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from lograft.node.__main__ import main
from lograft.partitions import real_environment

from . import bugs
from .tools import die_with_parent

CLOCK_READ_S = 0.1


def slow_down(path: str) -> None:
    """Have each sync begin that much later."""
    right = real_environment.sync_file

    def sync_file(descriptor: int) -> None:
        try:
            with open(path) as file:
                seconds = float(file.read() or 0)
        except FileNotFoundError:
            seconds = 0.0
        time.sleep(seconds)
        right(descriptor)

    real_environment.sync_file = sync_file


class WallClock:
    """What `time.time` and `time.time_ns` say, with an offset that somebody else writes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._right_ns = time.time_ns
        self._offset_ns = 0
        self._read_at = 0.0
        time.time_ns = self.time_ns
        time.time = lambda: self.time_ns() / 1e9

    def time_ns(self) -> int:
        now = time.monotonic()
        if now - self._read_at > CLOCK_READ_S:
            self._read_at = now
            with contextlib.suppress(FileNotFoundError), open(self._path) as file:
                self._offset_ns = int(float(file.read() or 0) * 1e9)
        return self._right_ns() + self._offset_ns


if __name__ == "__main__":
    die_with_parent()
    if path := os.environ.get("CHAOS_BOOT_ID"):
        real_environment._BOOT_ID_PATH = path
    if path := os.environ.get("CHAOS_CLOCK"):
        WallClock(path)
    if path := os.environ.get("CHAOS_SLOW"):
        slow_down(path)
    if bug := os.environ.get("CHAOS_BUG"):
        bugs.BUGS[bug]()
    sys.exit(main())
