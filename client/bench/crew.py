"""The worker processes of a run: started, begun at one moment, listened to, and ended.

Always
    no process outlives its crew: each ends when its standard input does
    what a worker failed with is told in its own words, once
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from ..cli.endings import Refused, one_line
from .merging import Gathered
from .order import Command, Told, WorkerOrder

_LINE_BYTES_MAX = 64 << 20
_BEGIN_AFTER_S = 0.1
_LAST_WORDS_S = 8.0
"""After a stop: what is under way is waited for by the workers themselves, for less than this."""


class _Member:
    """One worker process."""

    def __init__(self, number: int, order: WorkerOrder, process: asyncio.subprocess.Process) -> None:
        self.number = number
        self.order = order
        self.process = process
        self.state = "starting"
        self.why = ""
        self.listening: asyncio.Task[None] | None = None

    def send(self, message: WorkerOrder | Command) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            self.process.stdin.write(msgspec.json.encode(message) + b"\n")


class Crew:
    """Workers that begin together. Leave it by `async with`: then none of them runs any more."""

    def __init__(self, orders: Sequence[WorkerOrder]) -> None:
        self._orders = orders
        self._members: list[_Member] = []
        self.gathered = Gathered()
        self.start_at = 0.0
        self._changed = asyncio.Event()
        self._stopped = False

    async def __aenter__(self) -> Crew:
        try:
            for number, order in enumerate(self._orders):
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "lograft.client.bench.worker"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=_LINE_BYTES_MAX,
                    start_new_session=True,  # Ctrl-C is for the crew to take
                )
                member = _Member(number, order, process)
                self._members.append(member)
                member.send(order)
                member.listening = asyncio.create_task(self._listen(member))
            await self._until(lambda member: member.state != "starting")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    def begin(self) -> float:
        """Let all begin at one moment, which is returned: of the monotonic clock, which all processes share."""
        self.start_at = time.monotonic() + _BEGIN_AFTER_S
        self._tell_all(Command(start_at=self.start_at))
        return self.start_at

    async def produced(self) -> None:
        """Until all that is to be sent is sent and answered. Raises Refused if a worker fails."""
        await self._until(lambda member: member.order.producer is None or member.state in ("produced", "done"))

    async def done(self) -> None:
        """Until all have ended. Raises Refused if one fails."""
        await self._until(lambda member: member.state == "done")

    def stop_consuming(self) -> None:
        self._tell_all(Command(stop_consuming=True))

    async def stop(self) -> None:
        """Stop it all now, and take what has been counted so far. What does not answer is left out."""
        self._stopped = True
        self._tell_all(Command(stop=True))
        with suppress(TimeoutError, Refused):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.done()

    def _tell_all(self, command: Command) -> None:
        for member in self._members:
            member.send(command)

    async def _until(self, holds: Callable[[_Member], bool]) -> None:
        while True:
            self._changed.clear()
            for member in self._members:
                if member.state == "failed" and not (self._stopped and holds(member)):
                    raise Refused(member.why)
            if all(map(holds, self._members)):
                return
            await self._changed.wait()

    async def _listen(self, member: _Member) -> None:
        stdout, stderr = member.process.stdout, member.process.stderr
        assert stdout is not None and stderr is not None
        last_words = asyncio.create_task(_last_line(stderr))
        async for line in stdout:
            told = msgspec.json.decode(line, type=Told)
            self.gathered.take(member.number, told)
            if told.state != "working":
                member.state, member.why = told.state, told.why
                self._changed.set()
        said = await last_words
        code = await member.process.wait()
        if member.state not in ("done", "failed"):
            why = f": {one_line(said)}" if said else ""
            member.state, member.why = "failed", f"a client process ended early, with exit code {code}{why}"
            self._changed.set()

    async def _end(self) -> None:
        for member in self._members:
            assert member.process.stdin is not None
            if member.state == "done":  # it closes its connections, and then ends by itself
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_S):
                        await member.process.wait()
            member.process.stdin.close()
        for member in self._members:
            with suppress(ProcessLookupError):
                if member.process.returncode is None:
                    member.process.kill()
            await member.process.wait()
            if member.listening is not None:
                with suppress(Exception):
                    await member.listening


async def _last_line(stream: asyncio.StreamReader) -> str:
    last = b""
    async for line in stream:
        last = line.strip() or last
    return last.decode("utf-8", "replace")
