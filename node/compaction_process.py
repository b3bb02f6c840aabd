"""The process in which compaction is done, seen from the broker and from within.

Invariants
    it is started afresh (never forked), with the lowest claim on the CPU, and keeps to so many bytes a second
    it ends with the broker, however that ends: its standard input closes then
    a job, each segment that is ready, and the outcome are a line of JSON each; whatever else comes of it is an OSError
    it says how far it is at least every few seconds; whoever hears nothing for long ends it
    what it writes bears names of its own, so that one that outlives its broker writes into nobody's files

`python -m lograft.node.compaction_process` is what runs in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

import msgspec

from ..partitions.environment import Disk
from ..partitions.real_environment import RealDisk
from ..partitions.storage.rewriting import Job, Outcome, Rewritten, Take, rewrite
from ..partitions.storage.segment import DamagedLog

NICENESS = 10
LINE_BYTES_MAX = 64 << 20
STOP_S = 5.0
SILENCE_S = 300.0
"""Without a word of it, it hangs; a disk that is busy may keep it waiting for long."""
_PROGRESS_S = 5.0
_PACE_BYTES = 1 << 20
"""Read or written between two looks at the clock."""


class _Order(msgspec.Struct, frozen=True):
    job: Job
    bytes_per_s: int


class _Answer(msgspec.Struct, frozen=True):
    """One line: how far it is, a segment that is ready, or how it ended."""

    bytes_done: int | None = None
    """Read or written by now."""
    segment: Rewritten | None = None
    outcome: Outcome | None = None
    damage: tuple[str, int, str] | None = None
    """Path, position, and why it is unreadable."""
    error: str = ""


class CompactionProcess:
    """Started for the first job, and kept until `stop`.

    Raises, from `work`
        DamagedLog  the job met stored bytes that are not what was written
        OSError     the disk refused something, or the process ended
    """

    def __init__(self, bytes_per_s: int, *, silence_s: float = SILENCE_S) -> None:
        self._bytes_per_s = bytes_per_s
        self._silence_s = silence_s
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Have it there, so that the first job need not wait for it."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lograft.node.compaction_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
            )

    async def work(self, job: Job, take: Take) -> Outcome:
        """Have a job done, and hand over each segment that is ready, while it goes on with the next.

        If handing over fails, it is met with that, and has stopped.
        """
        try:
            answer = await self._ask(_Order(job, self._bytes_per_s), take)
        except BaseException:
            await self.stop()
            raise
        if answer.damage is not None:
            raise DamagedLog(*answer.damage)
        if answer.outcome is None:
            raise OSError(answer.error)
        return answer.outcome

    async def stop(self) -> None:
        """End it, whatever it is doing: what it wrote and nobody took is removed before the next job, or at a start."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # One that waits for a disk that hangs is gone as soon as it wakes up; it does nothing more.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)

    async def _ask(self, order: _Order, take: Take) -> _Answer:
        await self.start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.stdin.drain()
        while True:
            answer = await self._hear(process, process.stdout)
            if answer.segment is not None:
                await take(answer.segment)
            elif answer.bytes_done is None:
                return answer

    async def _hear(self, process: asyncio.subprocess.Process, lines: asyncio.StreamReader) -> _Answer:
        try:
            line = await asyncio.wait_for(lines.readline(), self._silence_s)
        except TimeoutError:
            raise OSError(f"the process that compacts said nothing for {self._silence_s} s, and is ended") from None
        if not line.endswith(b"\n"):
            raise OSError(f"the process that compacts has ended ({await process.wait()})")
        try:
            return msgspec.json.decode(line, type=_Answer)
        except (ValueError, msgspec.MsgspecError) as error:
            raise OSError(f"the process that compacts said {line[:80]!r}: {error}") from error


class _Pace:
    """Sleeps off what was done too fast, and says at times how much that was."""

    def __init__(self, bytes_per_s: int) -> None:
        self._seconds_per_byte = 1 / bytes_per_s
        self._bytes = 0
        self._all_bytes = 0
        self._began = self._said = time.monotonic()

    async def __call__(self, size: int) -> None:
        self._bytes += size
        if self._bytes >= _PACE_BYTES:
            due = self._began + self._bytes * self._seconds_per_byte
            self._all_bytes += self._bytes
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, _PROGRESS_S))
                self._say()
            await asyncio.sleep(0)
            self._say()
            # Time that was not used is not saved up.
            self._bytes, self._began = 0, time.monotonic()

    def _say(self) -> None:
        if time.monotonic() - self._said >= _PROGRESS_S:
            self._said = time.monotonic()
            _tell(_Answer(bytes_done=self._all_bytes))


def _tell(answer: _Answer) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.flush()
    except OSError:
        os._exit(0)  # the broker is gone


async def _hand_over(rewritten: Rewritten) -> None:
    _tell(_Answer(segment=rewritten))


async def _answer(order: _Order, disk: Disk, token: str) -> _Answer:
    try:
        pace = _Pace(order.bytes_per_s)
        return _Answer(outcome=await rewrite(order.job, disk, pace, _hand_over, token=token))
    except DamagedLog as damage:
        return _Answer(damage=(damage.path, damage.position, damage.why))
    except Exception as error:  # whatever it is, the broker tells its operator, and goes on
        return _Answer(error=f"{type(error).__name__}: {error}")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    token = os.urandom(4).hex()
    reading = asyncio.ensure_future(orders.readline())
    while line := await reading:
        order = msgspec.json.decode(line, type=_Order)
        # Read on at once, to see the end of the broker while a job is under way.
        reading = asyncio.ensure_future(orders.readline())
        disk = RealDisk(loop, root=order.job.directory, sync_threads=1)
        answering = asyncio.ensure_future(_answer(order, disk, token))
        await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            break
        disk.stop()
        _tell(answering.result())


def main() -> None:
    os.nice(NICENESS)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole terminal's group: the broker ends us
        asyncio.run(_serve())
    os._exit(0)  # not waiting for a sync that nobody needs any more


if __name__ == "__main__":
    main()
