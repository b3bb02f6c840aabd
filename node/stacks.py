"""What a broker waits for, asked by SIGUSR1: for whoever has to find out why it does not go on.

The tasks of the loop go to the log, as one event. The threads go to standard error, written by the interpreter itself:
that works also where the loop is stuck.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
from collections.abc import Callable

FRAMES_MAX = 12
"""Of each task, innermost first."""


def answer_signal(log: Callable[..., object]) -> None:
    """From now on SIGUSR1 tells. Called in the loop; `log` takes an event and its facts."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: log("stacks", tasks=waiting_tasks()))
    faulthandler.register(signal.SIGUSR1, chain=True)


def waiting_tasks() -> dict[str, list[str]]:
    """Name and coroutine of each task -> where it stands, innermost frame first: `file:line function`."""
    found = {}
    for task in asyncio.all_tasks():
        coroutine = getattr(task.get_coro(), "__qualname__", "?")
        frames: list[str] = []
        # Task.get_stack() ends at the first coroutine: what that one awaits is the question.
        waiting: object = task.get_coro()
        while waiting is not None and len(frames) < FRAMES_MAX:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
            if frame is not None:
                file = "/".join(frame.f_code.co_filename.rsplit("/", 2)[-2:])
                frames.append(f"{file}:{frame.f_lineno} {frame.f_code.co_name}")
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
        found[f"{task.get_name()} {coroutine}"] = frames[::-1]
    return found
