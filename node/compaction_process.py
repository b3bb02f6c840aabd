"""The process in which compaction is done, seen from the broker and from within.

Invariants
    it is started afresh (never forked), with the lowest claim on the CPU, and keeps to so many bytes a second
    it ends with the broker, however that ends: its standard input closes then
    a job and its outcome are a line of JSON each; whatever else comes of it is an OSError

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
from ..partitions.storage.rewriting import Job, Outcome, rewrite
from ..partitions.storage.segment import DamagedLog

NICENESS = 10
LINE_BYTES_MAX = 64 << 20
STOP_S = 5.0
_PACE_BYTES = 1 << 20
"""Read or written between two looks at the clock."""


class _Order(msgspec.Struct, frozen=True):
    job: Job
    bytes_per_s: int


class _Answer(msgspec.Struct, frozen=True):
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

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
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

    async def work(self, job: Job) -> Outcome:
        try:
            answer = await self._ask(_Order(job, self._bytes_per_s))
        except (asyncio.CancelledError, OSError):
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
        await asyncio.wait_for(process.wait(), STOP_S)

    async def _ask(self, order: _Order) -> _Answer:
        await self.start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise OSError(f"the process that compacts has ended ({await process.wait()})")
        return msgspec.json.decode(line, type=_Answer)


class _Pace:
    """Sleeps off what was done too fast."""

    def __init__(self, bytes_per_s: int) -> None:
        self._seconds_per_byte = 1 / bytes_per_s
        self._bytes = 0
        self._began = time.monotonic()

    async def __call__(self, size: int) -> None:
        self._bytes += size
        if self._bytes >= _PACE_BYTES:
            due = self._began + self._bytes * self._seconds_per_byte
            await asyncio.sleep(max(due - time.monotonic(), 0))
            # Time that was not used is not saved up.
            self._bytes, self._began = 0, time.monotonic()


async def _answer(order: _Order, disk: Disk) -> _Answer:
    try:
        return _Answer(outcome=await rewrite(order.job, disk, _Pace(order.bytes_per_s)))
    except DamagedLog as damage:
        return _Answer(damage=(damage.path, damage.position, damage.why))
    except Exception as error:  # whatever it is, the broker tells its operator, and goes on
        return _Answer(error=f"{type(error).__name__}: {error}")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    disk = RealDisk(loop, sync_threads=1)
    reading = asyncio.ensure_future(orders.readline())
    while line := await reading:
        order = msgspec.json.decode(line, type=_Order)
        # Read on at once, to see the end of the broker while a job is under way.
        reading = asyncio.ensure_future(orders.readline())
        answering = asyncio.ensure_future(_answer(order, disk))
        await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            break
        sys.stdout.buffer.write(msgspec.json.encode(answering.result()) + b"\n")
        sys.stdout.flush()


def main() -> None:
    os.nice(NICENESS)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole terminal's group: the broker ends us
        asyncio.run(_serve())
    os._exit(0)  # not waiting for a sync that nobody needs any more


if __name__ == "__main__":
    main()
