"""A broker's disk: a platter that outlives power, and a page cache that does not.

Invariants
    a file's `synced` bytes are exactly what completed syncs put on the platter: no accident takes them away
    whatever was written since may survive a power loss or not, page by page, and a page may be torn between sectors
    a name is as durable as the last completed `sync_directory` of its directory, and of every directory above
    a killed process takes nothing with it: the next one finds the page cache as it was, under the same boot id
    a failed fdatasync leaves its pages marked clean, as ext4 and XFS do: the next one succeeds and saves none of them

`SimulatedDisk` is the machine's; `Mount` is the view that one incarnation of a broker has of it, and dies with it.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import NamedTuple

from lograft.partitions.environment import Buffer

PAGE_BYTES = 4096
SECTOR_BYTES = 512
UNBOUNDED_BYTES = 1 << 40

ROOT = "/data"
"""The data directory of every simulated broker; durable from the start."""


class Crashed(BaseException):
    """This incarnation of the broker is over: not an error it could handle, so no Exception."""


class CrashedNow(Crashed):
    """It ends at this very operation, of which a part may still have happened."""


parent_of = lru_cache(maxsize=1 << 16)(posixpath.dirname)
"""A simulation asks for the same few paths again and again."""


class SyncTimes(NamedTuple):
    """How long a sync takes, in milliseconds."""

    usual: tuple[float, float] = (0.1, 2.0)
    slow: tuple[float, float] = (20.0, 120.0)
    slow_chance: float = 0.01


class _Size(NamedTuple):
    """How long a file was at some moment."""

    version: int
    size: int


class _Snapshot(NamedTuple):
    """What a file held when a sync of it began: the least that is durable once the sync ends."""

    version: int
    size: int
    pages: dict[int, bytes]
    truncations: int


class Inode:
    """One file: its bytes in the page cache, and what the platter surely holds of it."""

    def __init__(self) -> None:
        self.cache = bytearray()
        self.synced = bytearray()
        self.unreadable: set[int] = set()  # positions that the medium answers with EIO, until they are written again
        self._version = 0
        self._dirty: dict[int, int] = {}  # page -> version of its last write that no sync has covered
        self._written_back: dict[int, bytes] = {}  # page -> what the kernel put on the platter unasked
        self._truncations: list[_Size] = []
        self._cuts: list[_Size] = []  # all truncations: a sync that began before one brings nothing back
        self._sizes: list[_Size] = []  # that the platter's inode may show, beside the synced one
        self._abandoned: set[int] = set()  # pages that a failed sync left marked clean

    def write(self, position: int, data: Buffer) -> None:
        self._version += 1
        end = position + len(data)
        first = min(position, len(self.cache))
        if position > len(self.cache):
            self.cache.extend(bytes(position - len(self.cache)))
        self.cache[position:end] = data
        if self.unreadable:
            self.unreadable = {bad for bad in self.unreadable if not position <= bad < end}
        del self._sizes[-1:]
        self._sizes.append(_Size(self._version, len(self.cache)))
        for page in range(first // PAGE_BYTES, (max(end - 1, first)) // PAGE_BYTES + 1):
            self._dirty[page] = self._version
            self._abandoned.discard(page)

    def truncate(self, size: int) -> None:
        self._version += 1
        if size < len(self.cache):
            del self.cache[size:]
            self.unreadable = {bad for bad in self.unreadable if bad < size}
            self._truncations.append(_Size(self._version, size))
            self._cuts.append(_Size(self._version, size))
            past_end = (size + PAGE_BYTES - 1) // PAGE_BYTES
            for pages in (self._dirty, self._written_back):
                for page in [page for page in pages if page >= past_end]:
                    del pages[page]
            self._abandoned = {page for page in self._abandoned if page < past_end}
        else:
            self.cache.extend(bytes(size - len(self.cache)))
        self._sizes.append(_Size(self._version, size))

    def write_back(self, random: Random) -> None:
        """The kernel writes one dirty page to the platter of its own accord."""
        if self._dirty:
            page = random.choice(list(self._dirty))
            self._written_back[page] = self._page(page)
            self._sizes.append(_Size(self._version, len(self.cache)))

    def begin_sync(self) -> _Snapshot:
        pages = {page: self._page(page) for page in self._dirty}
        return _Snapshot(self._version, len(self.cache), pages, len(self._truncations))

    def end_sync(self, snapshot: _Snapshot) -> None:
        for truncation in self._truncations[: snapshot.truncations]:
            del self.synced[truncation.size :]
        del self._truncations[: snapshot.truncations]
        size = min((snapshot.size, *(cut.size for cut in self._cuts if cut.version > snapshot.version)))
        self.synced.extend(bytes(max(0, size - len(self.synced))))
        for page, content in snapshot.pages.items():
            kept = content[: max(0, size - page * PAGE_BYTES)]
            self.synced[page * PAGE_BYTES : page * PAGE_BYTES + len(kept)] = kept
            if self._dirty.get(page, snapshot.version + 1) <= snapshot.version:
                del self._dirty[page]
                self._written_back.pop(page, None)
        self._sizes = [size for size in self._sizes if size.version > snapshot.version]

    def fail_sync(self, snapshot: _Snapshot) -> None:
        """EIO: the pages are marked clean though the platter has none of them."""
        for page in snapshot.pages:
            if self._dirty.get(page, snapshot.version + 1) <= snapshot.version:
                del self._dirty[page]
                self._abandoned.add(page)

    def evict_abandoned(self, random: Random) -> None:
        """Clean pages may leave the cache at any time; these come back as the platter has them."""
        for page in sorted(self._abandoned):
            if random.random() < 0.3:
                start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, len(self.cache))
                self.cache[start:end] = bytes(self.synced[start:end]).ljust(end - start, b"\0")

    def readable(self, *, synced: bool = False) -> bytes:
        """All of it, as the cache or the platter has it, with other bytes where the medium gives none.

        The whole page around such a place is no better: a broker that gets an error reads no finer.
        """
        content = bytearray(self.synced if synced else self.cache)
        for page in {bad // PAGE_BYTES for bad in self.unreadable}:
            begin = page * PAGE_BYTES
            content[begin : begin + PAGE_BYTES] = bytes(one ^ 0xFF for one in content[begin : begin + PAGE_BYTES])
        return bytes(content)

    def is_synced(self, position: int, size: int) -> bool:
        """Would these bytes, as the cache has them, survive any power loss?"""
        wanted = self.cache[position : position + size]
        uncut = all(truncation.size >= position + size for truncation in self._truncations)
        return len(wanted) == size and uncut and self.synced[position : position + size] == wanted

    @property
    def is_settled(self) -> bool:
        """Does the platter hold just what the cache does, whatever happens?"""
        is_clean = not (self._dirty or self._sizes or self._truncations or self._abandoned)
        return is_clean and self.cache == self.synced

    def lose_power(self, random: Random) -> None:
        """The cache is gone; what had not been synced is on the platter or not, as chance has it."""
        survivor = bytearray(self.synced)
        for truncation in self._truncations[: random.randint(0, len(self._truncations))]:
            del survivor[truncation.size :]
        if self._dirty or self._sizes:
            size = random.choice([len(survivor), len(self.cache), *(seen.size for seen in self._sizes)])
            survivor.extend(bytes(max(0, size - len(survivor))))
        fate = random.choice(("all lost", "all kept", "a prefix kept", "each by chance", "each by chance"))
        kept_before = random.choice(sorted(self._dirty)) if self._dirty else 0
        for page in sorted(self._dirty):
            if fate == "all kept" or (fate == "a prefix kept" and page < kept_before):
                self._settle(survivor, page, self._page(page), random, sectors_kept=1.0)
            elif fate == "each by chance":
                chosen = random.choice((self._page(page), self._written_back.get(page, b"")))
                self._settle(survivor, page, chosen, random, sectors_kept=random.choice((1.0, 0.5)))
        self.cache, self.synced = survivor, bytearray(survivor)
        self._dirty.clear()
        self._written_back.clear()
        self._truncations.clear()
        self._cuts.clear()
        self._sizes.clear()
        self._abandoned.clear()

    def _settle(self, survivor: bytearray, page: int, content: bytes, random: Random, sectors_kept: float) -> None:
        for start in range(0, len(content), SECTOR_BYTES):
            position = page * PAGE_BYTES + start
            end = min(position + SECTOR_BYTES, page * PAGE_BYTES + len(content), len(survivor))
            if position < end and (sectors_kept == 1.0 or random.random() < sectors_kept):
                survivor[position:end] = content[start : start + end - position]

    def _page(self, page: int) -> bytes:
        return bytes(self.cache[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])


@dataclass(frozen=True, slots=True)
class _NameChange:
    """A directory entry made, replaced or removed, that no directory sync has covered."""

    path: str
    inode: Inode | None  # None: the name is gone
    directory: bool = False
    old_path: str | None = None  # of a rename: both happen or neither


class SimulatedDisk:
    """The disk of one machine; it stays when processes come and go."""

    def __init__(
        self, random: Random, *, capacity_bytes: int = UNBOUNDED_BYTES, times: SyncTimes | None = None
    ) -> None:
        self.random = random
        self.capacity_bytes = capacity_bytes
        self.times = times or SyncTimes()
        self.boots = 1
        self.files: dict[str, Inode] = {}
        self.directories = {"/", ROOT}
        self.write_back_chance = 0.05
        self.sync_failures = 0
        """How many of the coming syncs fail with EIO."""
        self.directory_sync_failures = 0
        self.write_failures = 0
        """How many of the coming writes fail with EIO; the page cache has none of them."""
        self.read_failure_chance = 0.0
        """Of each read to fail with EIO: a medium that answers now and then."""
        self.sync_delay_ms = 0.0
        """At most this is added to a sync: a disk that stalls, now for one file, now for another."""
        self.stalls_ms: list[float] = []
        """How long the next syncs of segments get stuck, each in its turn."""
        self.removals = 0
        """How often anything was taken away: truncated, unlinked, replaced, lost."""
        self._durable_files: dict[str, Inode] = {}
        self._durable_directories = set(self.directories)
        self._changes: dict[str, list[_NameChange]] = {}
        self._names = 0
        self._sorted_paths: dict[tuple[str, str | tuple[str, ...]], tuple[int, list[str]]] = {}

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    @property
    def is_bounded(self) -> bool:
        """Could it be full one day?"""
        return self.capacity_bytes < UNBOUNDED_BYTES

    def kill(self) -> None:
        """The process died; the machine did not."""
        self.removals += 1
        for path in sorted(self.files):
            self.files[path].evict_abandoned(self.random)

    def lose_power(self) -> None:
        """The machine died: unsynced pages and names are lost or kept as chance has it."""
        self.boots += 1
        self.removals += 1
        self._names += 1
        keeps = self.random.choice((0.0, 0.5, 0.9, 1.0))
        for directory in sorted(self._changes):
            for change in self._changes[directory]:
                if self.random.random() < keeps:
                    self._make_durable(change)
        self._changes.clear()
        self.directories = {path for path in self._durable_directories if self._is_reachable(path)}
        self._durable_directories = set(self.directories)
        self._durable_files = {
            path: inode for path, inode in self._durable_files.items() if parent_of(path) in self.directories
        }
        self.files = dict(self._durable_files)
        for path in sorted(self.files):
            self.files[path].lose_power(self.random)

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        self.boots += 1
        self.removals += 1
        self._names += 1
        self.files.clear()
        self.directories = {"/", ROOT}
        self._durable_files.clear()
        self._durable_directories = set(self.directories)
        self._changes.clear()

    def is_synced(self, path: str, position: int, size: int) -> bool:
        """Would these bytes be found under this name after any power loss?"""
        return self.is_name_durable(path) and self.files[path].is_synced(position, size)

    def is_name_durable(self, path: str) -> bool:
        """Would this file, whatever of it, be found under this name after any power loss?"""
        inode = self.files.get(path)
        return inode is not None and self._durable_files.get(path) is inode and self._is_reachable(parent_of(path))

    def durable(self, path: str) -> Inode | None:
        """The file that a power loss would leave under this name, if names that are not synced yet were lost."""
        return self._durable_files.get(path) if self._is_reachable(parent_of(path)) else None

    def renamed_from(self, path: str) -> str | None:
        """The name that the file here had until a rename that is not synced yet."""
        inode = self.files.get(path)
        for change in self._changes.get(parent_of(path), ()):
            if change.path == path and change.inode is inode:
                return change.old_path
        return None

    def flip_bit(self, path: str, position: int, bit: int) -> None:
        """The medium decays: this bit reads the other way round from now on."""
        inode = self.files[path]
        self.removals += 1
        for content in (inode.cache, inode.synced):
            if position < len(content):
                content[position] ^= 1 << bit

    def break_byte(self, path: str, position: int) -> None:
        """The medium gives no answer any more where this byte is."""
        self.removals += 1
        self.files[path].unreadable.add(position)

    def vanish(self, path: str) -> None:
        """A file is gone, durably, without anybody having removed it."""
        self.removals += 1
        self._names += 1
        del self.files[path], self._durable_files[path]

    def shorten(self, path: str, size: int) -> None:
        """A file has lost its end, durably, without anybody having cut it."""
        self.removals += 1
        inode = self.files[path]
        for content in (inode.cache, inode.synced):
            del content[size:]

    def is_settled(self, path: str) -> bool:
        """Is all of this file on the platter, under this name, and nothing about to change that?"""
        changes = self._changes.get(parent_of(path), ())
        is_named = self.is_name_durable(path) and not any(path in (change.path, change.old_path) for change in changes)
        return is_named and self.files[path].is_settled

    def scribble(self, path: str, random: Random) -> None:
        """Something else than the broker has written over all of a file."""
        inode = self.files[path]
        self.removals += 1
        for content in (inode.cache, inode.synced):
            content[:] = random.randbytes(len(content))

    def paths(self, directory: str, suffix: str | tuple[str, ...]) -> list[str]:
        """Sorted paths of the files in a directory whose names end so, or in one of these."""
        names, paths = self._sorted_paths.get((directory, suffix), (-1, []))
        if names != self._names:
            prefix = f"{directory}/"
            paths = sorted(path for path in self.files if path.startswith(prefix) and path.endswith(suffix))
            self._sorted_paths[directory, suffix] = (self._names, paths)
        return paths

    def used_bytes(self) -> int:
        return sum(len(inode.cache) for inode in self.files.values())

    def change_name(self, change: _NameChange) -> None:
        self._names += 1
        self.removals += change.inode is None or change.old_path is not None
        self._changes.setdefault(parent_of(change.path), []).append(change)

    def name_changes(self, directory: str) -> int:
        return len(self._changes.get(directory, ()))

    def make_names_durable(self, directory: str, count: int) -> None:
        changes = self._changes.get(directory, [])
        for change in changes[:count]:
            self._make_durable(change)
        del changes[:count]

    def _make_durable(self, change: _NameChange) -> None:
        if change.directory:
            if change.old_path is None:
                self._durable_directories.add(change.path)
            else:
                self._durable_directories.discard(change.path)
        elif change.inode is None:
            self._durable_files.pop(change.path, None)
        else:
            self._durable_files[change.path] = change.inode
            if change.old_path is not None:
                self._durable_files.pop(change.old_path, None)

    def _is_reachable(self, directory: str) -> bool:
        while directory != "/":
            if directory not in self._durable_directories:
                return False
            directory = parent_of(directory)
        return True


class Mount:
    """`partitions.environment.Disk` for one incarnation of a broker.

    Every call that changes anything is a numbered operation, and `before_operation` may raise Crashed at any of them.
    """

    def __init__(
        self,
        disk: SimulatedDisk,
        call_later: Callable[[float, Callable[[], None]], object],
        before_operation: Callable[[str], None],
    ) -> None:
        self._disk = disk
        self._call_later = call_later
        self._before_operation = before_operation
        self._reads = 0
        self.boot_id = disk.boot_id

    def is_cold(self) -> bool:
        """Now and then what is to be read has left the page cache."""
        self._reads += 1
        return self._reads % 5 == 0

    def open(self, path: str, *, create: bool = False) -> OpenFile:
        if create:
            self._before_operation(f"create {path}")
            if path in self._disk.files:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            self._check_directory(parent_of(path))
            inode = self._disk.files[path] = Inode()
            self._disk.change_name(_NameChange(path, inode))
        return OpenFile(self, path, self._inode(path))

    def exists(self, path: str) -> bool:
        return path in self._disk.files or path in self._disk.directories

    def list(self, directory: str) -> list[str]:
        self._check_directory(directory)
        paths = [*self._disk.files, *self._disk.directories]
        return sorted(path.rpartition("/")[2] for path in paths if parent_of(path) == directory and path != "/")

    def make_directory(self, path: str) -> None:
        if path in self._disk.directories:
            return
        self.make_directory(parent_of(path))
        self._before_operation(f"make directory {path}")
        self._disk.directories.add(path)
        self._disk.change_name(_NameChange(path, None, directory=True))

    def remove_directory(self, path: str) -> None:
        self._before_operation(f"remove directory {path}")
        if self.list(path):
            raise OSError(errno.ENOTEMPTY, "directory not empty", path)
        self._disk.directories.remove(path)
        self._disk.change_name(_NameChange(path, None, directory=True, old_path=path))

    def rename(self, old: str, new: str) -> None:
        assert parent_of(old) == parent_of(new), "one directory sync must cover a rename"
        self._before_operation(f"rename {old} to {new}")
        self._disk.files[new] = self._inode(old)
        del self._disk.files[old]
        self._disk.change_name(_NameChange(new, self._disk.files[new], old_path=old))

    def link(self, old: str, new: str) -> None:
        self._before_operation(f"link {old} to {new}")
        if new in self._disk.files:
            raise FileExistsError(errno.EEXIST, "file exists", new)
        self._disk.files[new] = self._inode(old)
        self._disk.change_name(_NameChange(new, self._disk.files[new]))

    def unlink(self, path: str) -> None:
        self._before_operation(f"unlink {path}")
        self._inode(path)
        del self._disk.files[path]
        self._disk.change_name(_NameChange(path, None))

    def free_bytes(self) -> int:
        return max(0, self._disk.capacity_bytes - self._disk.used_bytes())

    def total_bytes(self) -> int:
        return self._disk.capacity_bytes

    async def sync_directory(self, path: str) -> None:
        self._before_operation(f"sync directory {path}")
        self._check_directory(path)
        count = self._disk.name_changes(path)
        await self.wait(self._sync_ms())
        if self._disk.directory_sync_failures > 0:
            self._disk.directory_sync_failures -= 1
            raise OSError(errno.EIO, "input/output error", path)
        self._before_operation(f"synced directory {path}")
        self._disk.make_names_durable(path, count)

    async def sync(self, path: str, inode: Inode) -> None:
        self._before_operation(f"fdatasync {path}")
        snapshot = inode.begin_sync()
        stall_ms = self._disk.stalls_ms.pop() if self._disk.stalls_ms and path.endswith(".log") else 0.0
        await self.wait(self._sync_ms() + stall_ms)
        if self._disk.sync_failures > 0:
            self._disk.sync_failures -= 1
            inode.fail_sync(snapshot)
            raise OSError(errno.EIO, "input/output error", path)
        inode.end_sync(snapshot)
        self._before_operation(f"fdatasynced {path}")

    def write(self, path: str, inode: Inode, position: int, data: bytes) -> None:
        random = self._disk.random
        try:
            self._before_operation(f"write {path} {position}+{len(data)}")
        except CrashedNow:
            if data and random.random() < 0.5:
                inode.write(position, data[: random.randrange(len(data))])
            raise
        growth = position + len(data) - len(inode.cache)
        if self._disk.write_failures > 0:
            self._disk.write_failures -= 1
            raise OSError(errno.EIO, "input/output error", path)
        if self._disk.is_bounded and growth > self.free_bytes():
            raise OSError(errno.ENOSPC, "no space left on device", path)
        inode.write(position, data)
        if random.random() < self._disk.write_back_chance:
            inode.write_back(random)

    def before_read(self, path: str, inode: Inode, position: int, size: int) -> None:
        chance = self._disk.read_failure_chance
        fails = bool(chance) and self._disk.random.random() < chance
        if fails or (inode.unreadable and any(position <= bad < position + size for bad in inode.unreadable)):
            raise OSError(errno.EIO, "input/output error", path)

    def truncate(self, path: str, inode: Inode, size: int) -> None:
        self._before_operation(f"truncate {path} to {size}")
        self._disk.removals += size < len(inode.cache)
        inode.truncate(size)

    async def wait(self, delay_ms: float) -> None:
        done = asyncio.get_running_loop().create_future()
        self._call_later(delay_ms, lambda: done.done() or done.set_result(None))
        await done

    def _sync_ms(self) -> float:
        random, times = self._disk.random, self._disk.times
        span = times.slow if random.random() < times.slow_chance else times.usual
        return random.uniform(*span) + random.uniform(0, self._disk.sync_delay_ms)

    def _inode(self, path: str) -> Inode:
        inode = self._disk.files.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return inode

    def _check_directory(self, path: str) -> None:
        if path not in self._disk.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)


class OpenFile:
    """`partitions.environment.File` on a Mount."""

    def __init__(self, mount: Mount, path: str, inode: Inode) -> None:
        self._mount = mount
        self._path = path
        self._inode = inode
        self._open = True

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        return len(self._opened().cache)

    def read(self, position: int, size: int) -> bytes:
        self._mount.before_read(self._path, self._opened(), position, size)
        return bytes(self._opened().cache[position : position + size])

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        self._mount.write(self._path, self._opened(), position, b"".join(buffers))

    def truncate(self, size: int) -> None:
        self._mount.truncate(self._path, self._opened(), size)

    def read_cached(self, position: int, size: int) -> bytes | None:
        return None if self._mount.is_cold() else self.read(position, size)

    async def bring_in(self, position: int, size: int) -> None:
        await asyncio.sleep(0)

    async def fdatasync(self) -> None:
        await self._mount.sync(self._path, self._opened())

    def close(self) -> None:
        self._open = False

    def _opened(self) -> Inode:
        if not self._open:
            raise OSError(errno.EBADF, "file is closed", self._path)
        return self._inode
