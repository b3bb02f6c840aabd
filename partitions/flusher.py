"""Group commit: makes logs durable, a few at once, and tells those who wait how far.

Invariants
    a log has at most one round in flight; what is asked meanwhile shares the next one
    `done` gets the ticket taken when its round began, after the request, once all up to it is on disk
    a log that nobody asks about costs nothing
    a log that was let go is not touched any more: its files may be closed, or removed
    a sync that fails ends the process: its pages are marked clean now, and a second try would lie
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .environment import Environment
from .storage.log import PartitionLog, Ticket

Done = Callable[[Ticket], None]


class Flusher:
    """One a broker. `syncs_at_once` bounds the rounds in flight, and with them the threads that a disk keeps busy."""

    def __init__(self, env: Environment, *, syncs_at_once: int = 4) -> None:
        self._env = env
        self._syncs_at_once = syncs_at_once
        self._asked: dict[PartitionLog, list[Done]] = {}
        self._ready: deque[PartitionLog] = deque()
        self._in_flight: dict[PartitionLog, asyncio.Event] = {}
        """The logs being flushed, each with what is set at the end of its round."""
        self._workers = 0
        self._idle: list[asyncio.Future[None]] = []

    def request(self, log: PartitionLog, done: Done) -> None:
        """Call `done` once all that was written to `log` before this call is on disk."""
        asked = self._asked.get(log)
        if asked is not None:
            asked.append(done)
            return
        self._asked[log] = [done]
        if log not in self._in_flight:
            self._make_ready(log)

    async def let_go(self, log: PartitionLog) -> None:
        """Answer no request for `log` that is open yet. Returns once no round of it is in flight."""
        self._asked.pop(log, None)
        if log in self._ready:
            self._ready.remove(log)  # or it stood there twice, once somebody asks again, and two rounds were in flight
        if log in self._in_flight:
            await self._in_flight[log].wait()

    async def drain(self) -> None:
        """Return once every request so far is answered."""
        while self._workers:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def _make_ready(self, log: PartitionLog) -> None:
        self._ready.append(log)
        if self._workers < self._syncs_at_once:
            self._workers += 1
            self._env.spawn(self._work())

    async def _work(self) -> None:
        while self._ready:
            log = self._ready.popleft()
            if log not in self._asked:
                continue
            self._in_flight[log] = asyncio.Event()
            await self._flush(log)
            self._in_flight.pop(log).set()
            if log in self._asked:
                self._ready.append(log)
        self._workers -= 1
        if not self._workers:
            idle, self._idle = self._idle, []
            for waiting in idle:
                if not waiting.done():
                    waiting.set_result(None)

    async def _flush(self, log: PartitionLog) -> None:
        waiting = self._asked.pop(log)
        ticket = log.ticket()
        try:
            await log.sync()
        except OSError as error:
            self._env.halt(f"fsync failed: {error}")
        for done in waiting:
            done(ticket)
