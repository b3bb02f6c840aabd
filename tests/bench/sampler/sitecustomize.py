"""Python runs this at its start where this folder is on PYTHONPATH: a sampling profiler that waits to be asked.

SIGUSR1 begins, SIGUSR2 ends and writes what was seen to `$LOGRAFT_SAMPLES/PID.txt`: a stack a line, outermost frame
first, and how often it was seen. A sample is taken for each tick of CPU that the process uses (a millisecond, or as
often as the system counts), of the main thread: what other threads use, and what C code does between two lines of
Python, shows as whatever that thread was at.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from types import FrameType

_EVERY_S = 0.001
_FRAMES_MAX = 80


def _install(directory: str) -> None:
    seen: Counter[str] = Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        stack: list[str] = []
        while frame is not None and len(stack) < _FRAMES_MAX:
            code = frame.f_code
            folder, _, name = code.co_filename.rpartition("/")
            stack.append(f"{folder.rpartition('/')[2]}/{name}:{code.co_qualname}")
            frame = frame.f_back
        seen[";".join(reversed(stack))] += 1

    def begin(number: int, frame: FrameType | None) -> None:
        seen.clear()
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path = f"{directory}/{os.getpid()}.txt"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.writelines(f"{stack} {count}\n" for stack, count in seen.items())
        os.replace(f"{path}.new", path)

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if os.environ.get("LOGRAFT_SAMPLES"):
    _install(os.environ["LOGRAFT_SAMPLES"])
