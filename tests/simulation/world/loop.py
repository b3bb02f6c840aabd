"""Virtual time in which every callback belongs to an incarnation of a process, which may be paused or dead.

Invariants
    code of a dead owner never runs again, whatever it waits for: none of its `finally` does either, until the run ends
    what is due for a paused owner is held back, and comes in order once it goes on
    nothing depends on addresses in memory: tasks and futures hash by the order in which they were made
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from tests.simulation.disk import Crashed
from tests.simulation.virtual_loop import NothingLeftToHappen, VirtualLoop
from tests.simulation.wires import HERE

ROUND_S = 1e-6
"""What a round of callbacks takes: a clock that stood still meanwhile would let those spin who wait for it to move."""
CALLBACKS_MAX = 200_000
"""Within a tenth of a second: far more than any load here brings."""

_T = TypeVar("_T")


class Owner:
    """One incarnation of a process: all that runs in its context is its own, and ends with it.

    `on_end` is called, once, when it ends by itself: in the middle of its own code.
    """

    def __init__(self, loop: WorldLoop, name: str, host: str, on_end: Callable[[str], None] = lambda why: None) -> None:
        self.loop = loop
        self.name = name
        self.host = host
        self.is_alive = True
        self.is_paused = False
        self.context = Context()
        self.context.run(OWNER.set, self)
        self.context.run(HERE.set, host)
        self.held: deque[asyncio.Handle] = deque()
        self._on_end = on_end

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        # A copy: a context cannot be entered twice, and what a task sets is its own.
        return self.loop.create_task(coroutine, context=self.context.copy())

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_soon(callback, *args, context=self.context.copy())

    def kill(self) -> None:
        """From outside, between two steps of it."""
        self.is_alive = False
        self.loop.dead.extend(self.held)
        self.held.clear()

    def end(self, why: str) -> None:
        """From within."""
        if self.is_alive:
            self.kill()
            self._on_end(why)

    def pause(self) -> None:
        """As SIGSTOP does."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self.loop._ready.extend(self.held)  # type: ignore[attr-defined]
        self.held.clear()


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


def _who(handle: asyncio.Handle) -> str:
    owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
    return "harness" if owner is None else owner.name


def _what(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback  # type: ignore[attr-defined]
    return str(getattr(callback, "__self__", callback))[:200]


class _Task(asyncio.Task[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = _Numbers.draw()  # first: the base enters itself in a set
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = _Numbers.draw()
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Numbers:
    last = 0

    @classmethod
    def draw(cls) -> int:
        cls.last += 1
        return cls.last


class WorldLoop(VirtualLoop):
    """`on_failure` is told of exceptions that nobody handled."""

    def __init__(self) -> None:
        super().__init__()
        _Numbers.last = 0
        self.dead: list[object] = []
        """Callbacks and tasks of the dead, kept so that nothing of them runs before the end."""
        self.world: Any = None
        self.callbacks = 0
        self._looked_at = 0.0
        self._looked_callbacks = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_looked_at = 1000

    # -- what runs ---------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        if self._timer_cancelled_count > 200 and self._timer_cancelled_count > len(scheduled) // 2:
            for handle in scheduled:
                handle._scheduled = not handle._cancelled
            self._scheduled = scheduled = [handle for handle in scheduled if not handle._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise NothingLeftToHappen("no callback is ready and no timer is set")
            if scheduled[0]._when > self._now:
                self._now = scheduled[0]._when
        self._now += ROUND_S
        due = self._now + self._clock_resolution
        while scheduled and scheduled[0]._when < due:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        count = len(ready)
        self.callbacks += count
        if self._now - self._looked_at > 0.1:
            self._looked_at, self._looked_callbacks = self._now, self.callbacks
        elif self.callbacks - self._looked_callbacks > CALLBACKS_MAX:
            waiting = ", ".join(f"{_who(handle)}: {_what(handle)}" for handle in list(ready)[:5])
            raise AssertionError(f"{CALLBACKS_MAX} callbacks within {self._now - self._looked_at:.3f} s: {waiting}")
        for _ in range(count):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is None or (owner.is_alive and not owner.is_paused):
                handle._run()
            elif owner.is_alive:
                owner.held.append(handle)
            else:
                self.dead.append(handle)
        self.steps += 1
        if self.after_step is not None:
            self.after_step()

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], *, name: Any = None, context: Any = None
    ) -> Any:
        task = _Task(coro, loop=self, name=name or "task", context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_looked_at:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks_looked_at = 2 * len(self._tasks) + 1000
        return task

    def discard(self) -> None:
        """Take apart all that waits. Whatever code of it still runs meanwhile reaches nothing."""
        self.is_discarded = True
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, Coroutine):
                with contextlib.suppress(BaseException):
                    coroutine.close()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.dead.clear()
        self._tasks.clear()
        self.world = self.sockets = None

    def close(self) -> None:
        """It has nothing to close, and what is taken apart may still ask for it."""

    def _check_closed(self) -> None:
        pass

    def __del__(self) -> None:
        pass

    # -- what a real loop does with threads and sockets ----------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """In no time, and in no other thread."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Crashed:
            raise
        except Exception as error:
            done.set_exception(error)
        return done

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)
