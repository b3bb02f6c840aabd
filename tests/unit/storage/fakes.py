"""A disk in memory that loses what was not synced, and an environment around it.

Invariants
    synced bytes and names survive `lose_power`; of the others, each page and each name survives as `keep` says
    a process that only dies loses nothing: go on with a new `FakeEnvironment` on the same disk
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Any, NoReturn

from lograft.partitions.environment import Buffer, PartitionId, ReplicaConfig
from lograft.partitions.raft.messages import Message, Voter
from lograft.partitions.raft.points import Item, ItemKind, Point
from lograft.partitions.storage import zero_width
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.recovery import RecoveryVerdict
from lograft.proto.record_batch import Compression, NewRecord, encode, stamp

PAGE_BYTES = 4096
DATA = "/data"
PARTITION = PartitionId("0" * 31 + "a", 3)
LOG_DIRECTORY = f"{DATA}/partitions/{PARTITION}"
VOTERS = (Voter(1, "d1", 1), Voter(2, "d2", 1), Voter(3, "d3", 1))


class PowerCut(BaseException):
    """The machine stops here."""


class Halted(BaseException):
    """The process ended itself."""


class Inode:
    def __init__(self) -> None:
        self.cache = bytearray()
        self.synced = bytearray()


class FakeDisk:
    def __init__(self) -> None:
        self.boot = 1
        self.names: dict[str, Inode] = {}
        self.synced_names: dict[str, Inode] = {}
        self.directories: set[str] = {"/", DATA}
        self.free = 1 << 40
        self.blocks_that_fail: set[tuple[str, int]] = set()
        """Path and number of each block of 4 KiB that no read gets."""
        self.lookups_that_fail: set[str] = set()
        """Paths of which the disk does not say whether they are there."""
        self.syncs_that_fail: Callable[[str], bool] = lambda path: False
        self.operations = 0
        self.cut_power_at: int | None = None
        self.history: list[str] = []
        """Syncs, truncations and changes of names, in order."""

    @property
    def boot_id(self) -> str:
        return f"boot {self.boot}"

    def lose_power(self, keep: Callable[[str, int], bool] = lambda path, page: False) -> None:
        """`keep(path, page)`: did this unsynced page reach the platter? `keep(path, -1)`: did this change of a name?"""
        self.boot += 1
        self.cut_power_at = None
        for path in sorted({*self.names, *self.synced_names}):
            if self.names.get(path) is not self.synced_names.get(path) and keep(path, -1):
                if path in self.names:
                    self.synced_names[path] = self.names[path]
                else:
                    del self.synced_names[path]
        self.names = dict(self.synced_names)
        for path, inode in self.names.items():
            survivor = bytearray(inode.synced)
            for start in range(0, len(inode.cache), PAGE_BYTES):
                page = inode.cache[start : start + PAGE_BYTES]
                if page != inode.synced[start : start + PAGE_BYTES] and keep(path, start // PAGE_BYTES):
                    survivor.extend(bytes(max(0, start + len(page) - len(survivor))))
                    survivor[start : start + len(page)] = page
            inode.cache, inode.synced = survivor, bytearray(survivor)

    def flip(self, path: str, position: int) -> None:
        for content in (self.names[path].cache, self.names[path].synced):
            content[position] ^= 0x40

    def put(self, path: str, content: bytes) -> None:
        """Replace what a file holds, behind everyone's back."""
        inode = self.names[path]
        inode.cache, inode.synced = bytearray(content), bytearray(content)

    def remove(self, path: str) -> None:
        del self.names[path]
        self.synced_names.pop(path, None)

    def step(self, what: str) -> None:
        self.operations += 1
        if self.operations == self.cut_power_at:
            raise PowerCut(what)

    def look_up(self, path: str) -> None:
        if path in self.lookups_that_fail:
            raise OSError(errno.EIO, "input/output error", path)

    def open(self, path: str, *, create: bool = False) -> FakeFile:
        self.look_up(path)
        if create:
            self.step(f"create {path}")
            if path in self.names:
                raise FileExistsError(errno.EEXIST, "exists", path)
            if os.path.dirname(path) not in self.directories:
                raise FileNotFoundError(errno.ENOENT, "no directory", path)
            self.names[path] = Inode()
            # It stands elsewhere than the one that had this name.
            self.blocks_that_fail -= {(failing, block) for failing, block in self.blocks_that_fail if failing == path}
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no file", path)
        return FakeFile(self, path, self.names[path])

    def exists(self, path: str) -> bool:
        self.look_up(path)
        return path in self.names or path in self.directories

    def list(self, directory: str) -> list[str]:
        if directory not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "no directory", directory)
        paths = [*self.names, *self.directories]
        return sorted(os.path.basename(path) for path in paths if os.path.dirname(path) == directory and path != "/")

    def make_directory(self, path: str) -> None:
        while path not in self.directories:
            self.directories.add(path)
            path = os.path.dirname(path)

    def remove_directory(self, path: str) -> None:
        if self.list(path):
            raise OSError(errno.ENOTEMPTY, "not empty", path)
        self.directories.remove(path)

    def rename(self, old: str, new: str) -> None:
        self.step(f"rename {old}")
        self.history.append(f"rename {os.path.basename(old)}")
        self.names[new] = self.names.pop(old)

    def link(self, old: str, new: str) -> None:
        self.step(f"link {old}")
        if new in self.names:
            raise FileExistsError(errno.EEXIST, "exists", new)
        self.names[new] = self.names[old]

    def unlink(self, path: str) -> None:
        self.step(f"unlink {path}")
        self.look_up(path)
        self.history.append(f"unlink {os.path.basename(path)}")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no file", path)
        del self.names[path]

    def free_bytes(self) -> int:
        return self.free

    def total_bytes(self) -> int:
        return max(self.free, 1 << 40)

    async def sync_directory(self, path: str) -> None:
        self.step(f"sync directory {path}")
        names = {name: inode for name, inode in self.names.items() if os.path.dirname(name) == path}
        await asyncio.sleep(0)
        self.step(f"synced directory {path}")
        if self.syncs_that_fail(path):
            raise OSError(errno.EIO, "input/output error", path)
        self.history.append("sync directory")
        for name in [name for name in self.synced_names if os.path.dirname(name) == path]:
            del self.synced_names[name]
        self.synced_names.update(names)


class FakeFile:
    def __init__(self, disk: FakeDisk, path: str, inode: Inode) -> None:
        self._disk, self._path, self._inode = disk, path, inode
        self._is_closed = False

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        return len(self._content())

    def read(self, position: int, size: int) -> bytes:
        touched = range(position // PAGE_BYTES, (position + size - 1) // PAGE_BYTES + 1)
        if any((self._path, block) in self._disk.blocks_that_fail for block in touched):
            raise OSError(errno.EIO, "input/output error", self._path)
        return bytes(self._content()[position : position + size])

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        content, data = self._content(), b"".join(buffers)
        self._disk.step(f"write {self._path}")
        fits = data[: len(content) - position + self._disk.free] if self._disk.free < len(data) else data
        self._disk.free -= max(0, position + len(fits) - len(content))
        content.extend(bytes(max(0, position - len(content))))
        content[position : position + len(fits)] = fits
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, "no space left", self._path)

    def truncate(self, size: int) -> None:
        self._disk.step(f"truncate {self._path}")
        self._disk.history.append(f"truncate {os.path.basename(self._path)}")
        content = self._content()
        self._disk.free += max(0, len(content) - size)
        del content[size:]
        content.extend(bytes(size - len(content)))

    def read_cached(self, position: int, size: int) -> bytes:
        return self.read(position, size)

    async def bring_in(self, position: int, size: int) -> None:
        return

    async def fdatasync(self) -> None:
        self._disk.step(f"fdatasync {self._path}")
        snapshot = bytes(self._content())
        await asyncio.sleep(0)
        self._disk.step(f"fdatasynced {self._path}")
        if self._disk.syncs_that_fail(self._path):
            raise OSError(errno.EIO, "input/output error", self._path)
        self._disk.history.append(f"sync {os.path.basename(self._path)}")
        self._inode.synced = bytearray(snapshot)

    def close(self) -> None:
        self._is_closed = True

    def _content(self) -> bytearray:
        if self._is_closed:
            raise OSError(errno.EBADF, "closed", self._path)
        return self._inode.cache


class FakeTimer:
    def __init__(self, timers: list[FakeTimer], callback: Callable[[], None]) -> None:
        self._timers, self.callback = timers, callback

    def cancel(self) -> None:
        if self in self._timers:
            self._timers.remove(self)


class FakeEnvironment:
    """Timers run only when the test says so."""

    def __init__(self, disk: FakeDisk, seed: int = 0) -> None:
        self.disk = disk
        self.random = Random(f"{seed} {disk.boot}")
        self.transport = self
        self.timers: list[FakeTimer] = []
        self.events: list[str] = []
        self.halted: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, partition: PartitionId, message: Message) -> None:
        raise AssertionError("a log sends nothing")

    def monotonic_ms(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 1_000

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> FakeTimer:
        self.timers.append(FakeTimer(self.timers, callback))
        return self.timers[-1]

    def run_timers(self) -> None:
        timers, self.timers[:] = list(self.timers), []
        for timer in timers:
            timer.callback()

    def call_soon(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def contained() -> None:
            with contextlib.suppress(Halted, PowerCut):
                await coroutine

        task = asyncio.get_running_loop().create_task(contained())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def halt(self, reason: str) -> NoReturn:
        self.halted = reason
        raise Halted(reason)

    def log(self, event: str, **facts: Any) -> None:
        self.events.append(event)


async def turns(count: int = 50) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- logs --------------------------------------------------------------------------------------------------------------


def batch(
    offset: int, term: int, *, records: int = 1, size: int = 10, timestamp_ms: int = 1, fill: bytes = b"x"
) -> bytes:
    made = encode([NewRecord(timestamp_ms, None, fill * size) for _ in range(records)], compression=Compression.NONE)
    return bytes(stamp(made, offset, term))


def records(after: Point, count: int = 1, **shape: Any) -> Item:
    """The item of `count` records that follows `after`."""
    data = batch(after.offset, after.term, records=count, **shape)
    return Item(Point(after.term, after.offset + count, after.rank), ItemKind.RECORDS, data)


def term_start(after: Point, term: int) -> Item:
    return zero_width.term_start(Point(term, after.offset, 1))


def voter_change(after: Point, voters: Iterable[Voter]) -> Item:
    return zero_width.voter_change(Point(after.term, after.offset, after.rank + 1), voters)


def items_of(after: Point, *shapes: Any) -> list[Item]:
    """Items one after the other: "T5" begins term 5, a number is a batch of so many records, voters change voters."""
    items: list[Item] = []
    for shape in shapes:
        match shape:
            case str():
                items.append(term_start(after, int(shape[1:])))
            case int():
                items.append(records(after, shape))
            case tuple():
                items.append(voter_change(after, shape))
        after = items[-1].point
    return items


CONFIG = ReplicaConfig(segment_bytes_max=400, index_interval_bytes=100)
ONE_SEGMENT = ReplicaConfig(segment_bytes_max=1 << 20, index_interval_bytes=100)


async def a_log(env: FakeEnvironment, *shapes: Any, config: ReplicaConfig = ONE_SEGMENT) -> PartitionLog:
    log = await PartitionLog.create(env, DATA, PARTITION, VOTERS, config)
    for item in items_of(log.end, *shapes):
        log.append([item], 5)
    return log


async def recovered(
    env: FakeEnvironment,
    mark: Point,
    *,
    same_boot: bool,
    config: ReplicaConfig = ONE_SEGMENT,
    doubts: list[bool] | None = None,
) -> tuple[PartitionLog, RecoveryVerdict]:
    async def on_doubt() -> None:
        if doubts is not None:
            doubts.append(True)

    return await PartitionLog.recover(
        env, DATA, PARTITION, mark=mark, same_boot=same_boot, config=config, on_doubt=on_doubt
    )


def points_of(log: PartitionLog) -> list[Point]:
    return [item.point for item in log.read_items(log.base, log.end, 1 << 30)]
