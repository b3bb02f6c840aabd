"""The real outside of a broker: the machine's clock and chance, its disk, and asyncio's timers.

Invariants
    reads and writes go to the page cache, in the loop's own thread; only syncs wait, in a few threads, and what brings
        bytes into the page cache, in two others: readers of what is old keep no sync waiting for a thread
    a file that is closed while a thread is at work on it stays open until that ends: its number is not reused
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NoReturn

from .environment import Buffer, Disk, Environment, File, PartitionId, TimerHandle, Transport
from .raft.messages import Message

SYNC_THREADS = 8
READ_THREADS = 2
READ_AHEAD_BYTES = 4 << 20
"""What the system is told to read on, beyond what is brought in: who reads on finds it there."""

_BUFFERS_PER_WRITE = 1024  # IOV_MAX on Linux and macOS
_BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"

_can_read_cached = hasattr(os, "RWF_NOWAIT")

_log = logging.getLogger("lograft")


def boot_id() -> str:
    """Changes when the machine restarts."""
    try:
        with open(_BOOT_ID_PATH, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        pass
    # Without the kernel's own: the moment of the boot. Taken to ten seconds, as a corrected clock moves it a little; a
    # moment that comes out otherwise only makes recovery more careful.
    booted_s = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return f"{uuid.getnode():012x}-{round(booted_s / 10)}"


def sync_file(descriptor: int) -> None:
    """Return once the file's bytes, and its size, are on the medium. OSError if they may not be."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync leaves the bytes in the drive's cache there
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bring_in(descriptor: int, position: int, size: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, position, size + READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
    end = position + size
    while position < end and (found := os.pread(descriptor, min(end - position, 256 << 10), position)):
        position += len(found)


def _nobody_else() -> None:
    """Is told of a call's end."""


_Answer = tuple[asyncio.Future[None], Callable[[], None]]
"""Who waits for a call, and whom else to tell of its end."""


class _SyncThreads:
    """Runs blocking calls in threads; however many end at about the same time wake the loop once.

    A pool of its own: an executor's futures, locks and callbacks would cost as much as syncing a small batch does. Its
    threads are started as they are needed, and end with `stop`, or with the process.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: int,
        on_sync: Callable[[float], None] | None = None,
        *,
        name: str = "sync",
    ) -> None:
        self._loop = loop
        self._on_sync = on_sync
        self._name = name
        self._threads_max = threads
        self._threads: list[Thread] = []
        self._calls: SimpleQueue[tuple[Callable[[], None], _Answer] | None] = SimpleQueue()
        self._open = 0
        """Calls that have not been answered yet."""
        self._is_stopped = False
        self._lock = Lock()
        self._ended: deque[tuple[_Answer, BaseException | None]] = deque()
        self._is_waking = False

    async def run(self, call: Callable[[], None], on_end: Callable[[], None] = _nobody_else) -> None:
        """`on_end` is called in the loop once the thread is done, also if nobody waits any more."""
        if self._is_stopped:
            on_end()
            raise RuntimeError("the threads were stopped")
        answer: asyncio.Future[None] = self._loop.create_future()
        self._open += 1
        if len(self._threads) < min(self._open, self._threads_max):
            thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more of them: those there are do the work
                if not self._threads:
                    self._open -= 1
                    on_end()
                    raise OSError(errno.EAGAIN, f"no thread to reach the disk with: {error}") from error
            else:
                self._threads.append(thread)
        self._calls.put((call, (answer, on_end)))
        await answer

    def stop(self) -> None:
        """Once all calls so far are over."""
        self._is_stopped = True
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, answer = asked
            error: BaseException | None = None
            began = time.monotonic()
            try:
                call()
            except BaseException as raised:
                error = raised
            else:
                if self._on_sync is not None:
                    with contextlib.suppress(Exception):  # a mistake in measuring costs a figure, never a sync
                        self._on_sync(time.monotonic() - began)
            self._note_end(answer, error)
            del asked, call, answer, error  # nothing is kept alive while it waits

    def _note_end(self, answer: _Answer, error: BaseException | None) -> None:
        with self._lock:
            self._ended.append((answer, error))
            if self._is_waking:
                return
            self._is_waking = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, deque()
            self._is_waking = False
        self._open -= len(ended)
        for (answer, on_end), error in ended:
            try:
                on_end()
            except OSError as raised:
                error = error or raised
            if answer.done():
                continue
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)


class RealFile:
    """`environment.File` over a descriptor."""

    def __init__(self, path: str, descriptor: int, threads: _SyncThreads, readers: _SyncThreads) -> None:
        self._path = path
        self._descriptor = descriptor
        self._threads = threads
        self._readers = readers
        self._in_threads = 0
        """Syncs and reads that threads are at work on."""
        self._is_closed = False

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, position: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, position)
        if len(found) == size or not found:
            return found
        # A short read is not yet the end of the file.
        pieces = [found]
        length = len(found)
        while length < size:
            found = os.pread(self._descriptor, size - length, position + length)
            if not found:
                break
            pieces.append(found)
            length += len(found)
        return b"".join(pieces)

    def read_cached(self, position: int, size: int) -> Buffer | None:
        if not _can_read_cached:
            return self.read(position, size)
        found = bytearray(size)
        try:
            length = os.preadv(self._descriptor, [found], position, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                return self.read(position, size)  # not on this file system
            raise
        if length == size:
            return found
        if position + length < self.size():
            return None  # only the beginning of it is there
        return memoryview(found)[:length]

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        for first in range(0, len(buffers), _BUFFERS_PER_WRITE):
            position = self._write_some(position, list(buffers[first : first + _BUFFERS_PER_WRITE]))

    def _write_some(self, position: int, buffers: list[Buffer]) -> int:
        wanted = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, position)
        if written < wanted:
            # As when the disk fills up: the next call tells why, or carries on.
            left = memoryview(b"".join(buffers))
            while written < wanted:
                written += os.pwrite(self._descriptor, left[written:], position + written)
        return position + wanted

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    async def bring_in(self, position: int, size: int) -> None:
        if self._is_closed:
            return
        self._in_threads += 1
        # Whoever reads it then is told why it could not be had.
        with contextlib.suppress(OSError):
            await self._readers.run(lambda: _bring_in(self._descriptor, position, size), self._thread_ended)

    async def fdatasync(self) -> None:
        assert not self._is_closed, f"{self._path} is closed"
        self._in_threads += 1
        await self._threads.run(lambda: sync_file(self._descriptor), self._thread_ended)

    def _thread_ended(self) -> None:
        # Who waited may have been cancelled long before, as a fetch is whose client has gone.
        self._in_threads -= 1
        self._close_if_unused()

    def close(self) -> None:
        self._is_closed = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closed and not self._in_threads and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    """`environment.Disk` over the machine's file system."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        root: str = ".",
        sync_threads: int = SYNC_THREADS,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        self.boot_id = boot_id()
        self._root = root
        self._threads = _SyncThreads(loop, sync_threads, on_sync)
        self._readers = _SyncThreads(loop, READ_THREADS, name="read")

    def open(self, path: str, *, create: bool = False) -> File:
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return RealFile(path, os.open(path, flags, 0o644), self._threads, self._readers)

    def exists(self, path: str) -> bool:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def remove_directory(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def free_bytes(self) -> int:
        """Of the file system that holds the data directory."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def total_bytes(self) -> int:
        """Likewise."""
        found = os.statvfs(self._root)
        return found.f_blocks * found.f_frsize

    async def sync_directory(self, path: str) -> None:
        await self._threads.run(lambda: _sync_directory(path))

    def stop(self) -> None:
        """Wait for the syncs in flight, and end the threads."""
        self._readers.stop()
        self._threads.stop()


class NoTransport:
    """Stands for the way to the other brokers until the node has one: drops everything."""

    def send(self, partition: PartitionId, message: Message) -> None:
        return


class RealEnvironment(Environment):
    """One broker's outside, in the running event loop. The node puts its own transport in place.

    `on_sync` is told the seconds of each sync that went well, in the thread that ran it.
    """

    def __init__(
        self,
        directory: str = ".",
        *,
        transport: Transport | None = None,
        log: Callable[..., None] | None = None,
        sync_threads: int = SYNC_THREADS,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self.random = random.Random(int.from_bytes(os.urandom(32), "big"))
        self._disk = RealDisk(self._loop, root=directory, sync_threads=sync_threads, on_sync=on_sync)
        self.disk: Disk = self._disk
        self.transport: Transport = transport if transport is not None else NoTransport()

    def monotonic_ms(self) -> float:
        return time.monotonic() * 1000.0

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle:
        return self._loop.call_later(delay_ms / 1000.0, self._guarded, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(self._guarded, callback)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end_of_task)

    def halt(self, reason: str) -> NoReturn:
        try:
            _log.critical("halting: %s", reason)
            sys.stderr.write(f"lograft: halted: {reason}\n")
            sys.stderr.flush()
        finally:
            os._exit(70)

    def fail(self, error: Exception) -> NoReturn:
        _log.critical("a mistake came to light", exc_info=error)
        self.halt(f"{type(error).__name__}: {error}")

    def log(self, event: str, **facts: Any) -> None:
        if self._log is not None:
            self._log(event, **facts)
        else:
            _log.info("%s %s", event, " ".join(f"{name}={fact}" for name, fact in facts.items()))

    def stop(self) -> None:
        """Wait for the syncs in flight, and end the threads."""
        self._disk.stop()

    def _guarded(self, callback: Callable[[], None]) -> None:
        # A callback of the log or of a replica that raises has left something half done.
        try:
            callback()
        except Exception as error:
            _log.exception("a callback failed")
            self.halt(f"a callback failed: {error!r}")

    def _end_of_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.critical("a task failed", exc_info=task.exception())
            self.halt(f"a task failed: {task.exception()!r}")
