"""The outside of one incarnation of a broker: its clock, its chance, its timers, and its end.

Invariants
    the broker's code runs only through `enter`, its timers and its tasks, so nothing of it outlives its incarnation
    after the end no callback runs, no task goes on, no byte reaches the disk and no message leaves
    a paused broker takes nothing in; when it goes on, all of it comes in the order in which it would have come
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, NoReturn

from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Message

from tests.simulation.disk import Crashed, CrashedNow, Mount, SimulatedDisk
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop

WALL_START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, when every simulation begins."""


@dataclass(slots=True)
class Clock:
    """A machine's clocks. They differ from the simulation's time, and from each other's."""

    rate: float = 1.0
    """Of the monotonic clock and of timers: 1.01 gains a hundredth."""
    monotonic_offset_ms: float = 0.0
    wall_offset_ms: float = 0.0

    def run_at(self, rate: float, now_ms: float) -> None:
        """Go at another rate from now on, without a jump."""
        self.monotonic_offset_ms += now_ms * (self.rate - rate)
        self.rate = rate


class SimulatedTransport:
    """`partitions.environment.Transport`: hands messages to the simulated network while the broker lives."""

    def __init__(
        self, environment: SimulatedEnvironment, deliver: Callable[[SimulatedEnvironment, PartitionId, Message], None]
    ) -> None:
        self._environment = environment
        self._deliver = deliver

    def send(self, partition: PartitionId, message: Message) -> None:
        if self._environment.is_alive:
            self._deliver(self._environment, partition, message)


class SimulatedEnvironment:
    """`partitions.environment.Environment` for one incarnation of a broker.

    `on_end` is told why the incarnation ended unless the harness itself ended it; `on_failure` gets an exception that
    the broker's code let out, which is always a bug.
    """

    def __init__(
        self,
        *,
        name: str,
        loop: VirtualLoop,
        random: Random,
        disk: SimulatedDisk,
        clock: Clock,
        trace: Trace,
        deliver: Callable[[SimulatedEnvironment, PartitionId, Message], None],
        on_end: Callable[[SimulatedEnvironment, str], None],
        on_failure: Callable[[SimulatedEnvironment, BaseException], None],
    ) -> None:
        self.name = name
        self.random = random
        self.clock = clock
        self.is_alive = True
        self.transport = SimulatedTransport(self, deliver)
        self.disk = Mount(disk, self.call_later, self._before_disk_operation)
        self.disk_operations = 0
        self.crash_at_operation: int | None = None
        """The number of the disk operation at which this incarnation ends."""
        self._loop = loop
        self._trace = trace
        self._on_end = on_end
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._is_paused = False
        self._held_back: deque[Callable[[], None]] = deque()

    # -- partitions.environment.Environment ----------------------------------------------------------------------------

    def monotonic_ms(self) -> float:
        return self.clock.monotonic_offset_ms + self._loop.now_ms() * self.clock.rate

    def wall_ms(self) -> int:
        return int(WALL_START_MS + self._loop.now_ms() + self.clock.wall_offset_ms)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_ms / self.clock.rate / 1000.0, self.enter, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(self.enter, callback)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.start(coroutine)

    def halt(self, reason: str) -> NoReturn:
        self._end(f"halted: {reason}")
        raise Crashed(reason)

    def fail(self, error: Exception) -> NoReturn:
        raise error

    def log(self, event: str, **facts: Any) -> None:
        told = " ".join(f"{name}={fact}" for name, fact in facts.items())
        self._trace.said[event] += 1
        self._trace.note("log", f"{self.name} {event} {told}")

    # -- for the harness -----------------------------------------------------------------------------------------------

    def enter(self, callback: Callable[[], None]) -> None:
        """Run some of the broker's code: now, after its pause, or never if it is dead."""
        if not self.is_alive:
            return
        if self._is_paused:
            self._held_back.append(callback)
            return
        try:
            callback()
        except Crashed:
            self._end("crashed")
        except Exception as failure:
            self._on_failure(self, failure)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it as one of the broker's tasks. The task's result is None if the broker ended first."""
        task = self._loop.create_task(self._contain(coroutine))
        self._tasks[task] = None

        def forget(done: asyncio.Task[Any]) -> None:
            self._tasks.pop(done, None)
            coroutine.close()  # a task that is cancelled before it began has not touched it

        task.add_done_callback(forget)
        return task

    def crash(self) -> None:
        """End this incarnation from outside, between two steps of it."""
        self.is_alive = False
        self._held_back.clear()
        for task in list(self._tasks):
            task.cancel()
        self._tasks.clear()

    def pause(self) -> None:
        """As SIGSTOP does."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        while self._held_back and not self._is_paused and self.is_alive:
            self.enter(self._held_back.popleft())

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    async def _contain(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except Crashed:
            self._end("crashed")
        except asyncio.CancelledError:
            if self.is_alive:
                raise
        except Exception as failure:
            if self.is_alive:
                self._on_failure(self, failure)
        return None

    def _before_disk_operation(self, operation: str) -> None:
        if not self.is_alive:
            raise Crashed("this incarnation has ended")
        self.disk_operations += 1
        if self.disk_operations == self.crash_at_operation:
            self._end(f"crashed at {operation}")
            raise CrashedNow(operation)

    def _end(self, why: str) -> None:
        if self.is_alive:
            self.crash()
            self._on_end(self, why)
