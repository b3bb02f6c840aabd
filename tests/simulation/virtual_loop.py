"""An asyncio event loop whose time is a number.

Invariants
    time moves only when nothing is ready, and then to the next timer: a minute of waiting costs nothing
    no threads, no signals, no real sockets: what runs, and in which order, follows from what was scheduled
    when nothing is ready and no timer is set, the loop raises instead of waiting for ever
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tests.simulation.sockets import Sockets


class NothingLeftToHappen(Exception):
    """No callback is ready and no timer is set: whoever still waits would wait for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time. `after_step`, if set, runs after each round of ready callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.after_step: Callable[[], None] | None = None
        self.steps = 0
        self.sockets: Sockets | None = None
        """Where `create_server` and `create_connection` lead. Without it there is no network."""
        self._now = 0.0
        self._selector = _Leap(self)
        self._clock_resolution = 1e-9  # what BaseEventLoop adds to `time` when it looks for timers that are due

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def now_ms(self) -> float:
        return self._now * 1000.0

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        assert self.sockets is not None, "the simulation has no network, but somebody listens"
        return self.sockets.listen(protocol_factory, host, port)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        assert self.sockets is not None, "the simulation has no network, but somebody connects"
        return await self.sockets.connect(protocol_factory, host, port)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:
        raise AssertionError(f"the simulation has no threads, but {func} asks for one")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> NoReturn:
        raise AssertionError(f"the simulation has no threads, but {callback} comes from one")

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        # As asyncio's own, but for the way there: garbage collection runs in any thread, and there is only one.
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon(self.create_task, generator.aclose())

    def _leap_to_next_timer(self) -> None:
        if self._stopping or self._ready:
            return
        if not self._scheduled:
            raise NothingLeftToHappen("no callback is ready and no timer is set")
        self._now = max(self._now, self._scheduled[0].when())

    def _run_once(self) -> None:
        super()._run_once()
        self.steps += 1
        if self.after_step is not None:
            self.after_step()

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _Leap:
    """Stands where a real loop has its selector: instead of waiting it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._loop._leap_to_next_timer()
        return []

    def close(self) -> None:
        pass
