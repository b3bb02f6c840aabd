"""A file system that forgets what was not synced: `python -m tests.chaos.volatile_disk MEDIUM MOUNT SOCKET`, by FUSE.

Everything goes to the medium at once, and for whatever was not synced it is remembered how to undo it: the bytes that a
page held when its file was last synced, the names as they were when their directory was. That is how a page cache looks
from outside; told to `lose`, it undoes all of it, or a part that is drawn page by page, as a power failure would.

Invariants
    a read sees the newest write; so does every process, whether it wrote or not
    after fsync or fdatasync of a file its bytes and size survive any loss; its name only after fsync of its directory
    of the names that were changed and not synced, a loss keeps those changed first, as a journal does
    pages of one file reach the medium in any order; of a page sometimes only some 512-byte sectors

On the socket, one JSON object each: {"do": "lose", "seed": 7}, {"do": "sync"}, {"do": "count"}, and {"do": "trouble",
"sync_s": 0.5, "sync_error": true, "write_error": false, "read_error": false}: until the next such, in force at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fuse import FUSE, FuseOSError, Operations

from .tools import die_with_parent

PAGE_BYTES = 4096
SECTOR_BYTES = 512


@dataclass(slots=True, eq=False)
class Unsynced:
    """What a file was like when it was last synced, where it is not so now."""

    descriptor: int
    synced_size: int
    pages: dict[int, bytes] = field(default_factory=dict)
    """By number; shorter than a page at the end of the file."""
    is_syncing: bool = False
    """A sync of it is under way: what is written from now on is not part of it."""


@dataclass(slots=True, eq=False)
class NameChange:
    """Of one directory. `undo` puts the earlier name back, `forget` gives up what that would take."""

    directory: str
    undo: Callable[[], None]
    forget: Callable[[], None]


class PageCache:
    """What lies between the files of a medium and their being safe there. All calls under one lock."""

    def __init__(self, graveyard: str) -> None:
        self._graveyard = graveyard
        self._files: dict[int, list[Unsynced]] = {}
        """By inode: the oldest first, whose sync is under way, and then what was written since that began."""
        self._names: list[NameChange] = []
        self._graves = 0

    # Files ---------------------------------------------------------------------------------------------------------

    def about_to_change(self, descriptor: int, begin: int, end: int) -> None:
        """Bytes from `begin` up to `end` of an open file."""
        found = os.fstat(descriptor)
        layers = self._files.setdefault(found.st_ino, [])
        if not layers or layers[-1].is_syncing:
            layers.append(Unsynced(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR), found.st_size))
        file = layers[-1]
        for page in range(begin // PAGE_BYTES, -(-end // PAGE_BYTES)):
            if page not in file.pages:
                before = os.pread(file.descriptor, PAGE_BYTES, page * PAGE_BYTES)
                file.pages[page] = before[: max(file.synced_size - page * PAGE_BYTES, 0)]

    def begin_sync(self, descriptor: int) -> tuple[int, list[Unsynced]]:
        """What was written until now. It is on the medium once `end_sync` is told of it."""
        number = os.fstat(descriptor).st_ino
        layers = list(self._files.get(number, ()))
        for layer in layers:
            layer.is_syncing = True
        return number, layers

    def end_sync(self, number: int, synced: list[Unsynced]) -> None:
        left = []
        for layer in self._files.pop(number, []):
            if layer in synced:
                os.close(layer.descriptor)
            else:
                left.append(layer)
        if left:
            self._files[number] = left

    # Names ---------------------------------------------------------------------------------------------------------

    def a_grave(self) -> str:
        """A place outside of the file system, for what a name stood for."""
        self._graves += 1
        return os.path.join(self._graveyard, str(self._graves))

    def name_changed(self, path: str, undo: Callable[[], None], forget: Callable[[], None] = lambda: None) -> None:
        self._names.append(NameChange(os.path.dirname(path), undo, forget))

    def changes_in(self, path: str) -> list[NameChange]:
        return [change for change in self._names if change.directory == path]

    def names_synced(self, synced: list[NameChange]) -> None:
        for change in synced:
            if change in self._names:
                self._names.remove(change)
                change.forget()

    def sync_all(self) -> None:
        for number, layers in list(self._files.items()):
            self.end_sync(number, layers)
        for change in self._names:
            change.forget()
        self._names.clear()

    # Loss ----------------------------------------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        return {
            "files": len(self._files),
            "pages": sum(len(layer.pages) for layers in self._files.values() for layer in layers),
            "names": len(self._names),
        }

    def lose(self, chance: random.Random) -> dict[str, int]:
        """All of it, or some; then what is left is on the medium for good."""
        told = self.count()
        told["pages_kept"] = told["names_kept"] = 0
        keeps = chance.choice([0.0, 0.0, 0.3, 0.7])
        for layers in self._files.values():
            told["pages_kept"] += self._lose_pages(layers, keeps, chance)
        kept = chance.randint(0, len(self._names)) if keeps else 0
        for change in reversed(self._names[kept:]):
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                change.undo()
        told["names_kept"] = kept
        for change in self._names[:kept]:
            change.forget()
        self._names.clear()
        self.sync_all()
        return told

    def _lose_pages(self, layers: list[Unsynced], keeps: float, chance: random.Random) -> int:
        oldest, descriptor = layers[0], layers[0].descriptor
        size_now = os.fstat(descriptor).st_size
        size = chance.choice([oldest.synced_size, size_now]) if keeps else oldest.synced_size
        kept: set[int] = set()
        for layer in reversed(layers):
            for page, before in layer.pages.items():
                if page in kept:
                    continue
                if chance.random() < keeps:
                    kept.add(page)
                    continue
                now = os.pread(descriptor, PAGE_BYTES, page * PAGE_BYTES)
                # Beyond what was synced there was nothing: a page that never got there reads as zeros.
                back = bytearray(before.ljust(max(len(now), len(before)), b"\0"))
                if keeps and chance.random() < 0.3:
                    for sector in range(0, len(now), SECTOR_BYTES):
                        if chance.random() < 0.5:
                            back[sector : sector + SECTOR_BYTES] = now[sector : sector + SECTOR_BYTES]
                os.pwrite(descriptor, back, page * PAGE_BYTES)
        os.ftruncate(descriptor, size)
        return len(kept)


class VolatileDisk(Operations):  # type: ignore[misc]
    """The tree below `medium`/root, and what became of it."""

    def __init__(self, medium: str) -> None:
        self._root = os.path.join(medium, "root")
        self._lock = threading.RLock()
        graveyard = os.path.join(medium, "graveyard")
        os.makedirs(self._root, exist_ok=True)
        os.makedirs(graveyard, exist_ok=True)
        self._cache = PageCache(graveyard)
        self._trouble: dict[str, Any] = {}

    def _at(self, path: str) -> str:
        return self._root + path.rstrip("/")

    # Questions from outside ----------------------------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            match question.pop("do"):
                case "lose":
                    self._trouble = {}
                    return self._cache.lose(random.Random(question["seed"]))
                case "sync":
                    self._cache.sync_all()
                    return {}
                case "count":
                    return self._cache.count()
                case "trouble":
                    self._trouble = question
                    return {}
                case other:
                    return {"error": f"unknown: {other}"}

    def _fail_if(self, kind: str) -> None:
        if self._trouble.get(kind):
            raise FuseOSError(errno.EIO)

    # Files ---------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        # Read too, whatever is asked: what a page held is to be known before it changes.
        access = os.O_RDWR if flags & (os.O_WRONLY | os.O_RDWR) else os.O_RDONLY
        with self._lock:
            descriptor = os.open(self._at(path), access)
            if flags & os.O_TRUNC:
                self._truncate(descriptor, 0)
            return descriptor

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        at = self._at(path)
        with self._lock:
            descriptor = os.open(at, os.O_RDWR | os.O_CREAT, mode)
            self._cache.name_changed(at, lambda: os.unlink(at))
            return descriptor

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._fail_if("read_error")
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._fail_if("write_error")
        with self._lock:
            size = os.fstat(fh).st_size
            self._cache.about_to_change(fh, min(offset, size), offset + len(data))
            return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        with self._lock:
            descriptor = os.open(self._at(path), os.O_RDWR)
            try:
                self._truncate(descriptor, length)
            finally:
                os.close(descriptor)

    def _truncate(self, descriptor: int, length: int) -> None:
        size = os.fstat(descriptor).st_size
        self._cache.about_to_change(descriptor, min(length, size), max(length, size))
        os.ftruncate(descriptor, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._fail_if("sync_error")
        with self._lock:
            synced = self._cache.begin_sync(fh)
        if delay_s := self._trouble.get("sync_s"):
            time.sleep(delay_s)
        with self._lock:
            self._cache.end_sync(*synced)

    def flush(self, path: str, fh: int) -> None:
        return

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    # Names ---------------------------------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        at = self._at(path)
        with self._lock:
            grave = self._cache.a_grave()
            os.rename(at, grave)
            self._cache.name_changed(at, lambda: os.rename(grave, at), lambda: os.unlink(grave))

    def rename(self, old: str, new: str) -> None:
        old_at, new_at = self._at(old), self._at(new)
        with self._lock:
            grave = None
            if os.path.isfile(new_at):
                grave = self._cache.a_grave()
                os.link(new_at, grave)
            os.rename(old_at, new_at)

            def undo() -> None:
                os.rename(new_at, old_at)
                if grave is not None:
                    os.rename(grave, new_at)

            self._cache.name_changed(new_at, undo, lambda: os.unlink(grave) if grave is not None else None)

    def link(self, target: str, source: str) -> None:
        at = self._at(target)
        with self._lock:
            os.link(self._at(source), at)
            self._cache.name_changed(at, lambda: os.unlink(at))

    def mkdir(self, path: str, mode: int) -> None:
        at = self._at(path)
        with self._lock:
            os.mkdir(at, mode)
            self._cache.name_changed(at, lambda: shutil.rmtree(at))

    def rmdir(self, path: str) -> None:
        at = self._at(path)
        with self._lock:
            os.rmdir(at)
            self._cache.name_changed(at, lambda: os.mkdir(at))

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._fail_if("sync_error")
        with self._lock:
            synced = self._cache.changes_in(self._at(path))
        if delay_s := self._trouble.get("sync_s"):
            time.sleep(delay_s)
        with self._lock:
            self._cache.names_synced(synced)

    def opendir(self, path: str) -> int:
        return 0

    def releasedir(self, path: str, fh: int) -> None:
        return

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        return iter([".", "..", *os.listdir(self._at(path))])

    # The rest ------------------------------------------------------------------------------------------------------

    def access(self, path: str, mode: int) -> None:
        if not os.access(self._at(path), mode):
            raise FuseOSError(errno.EACCES)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._at(path))
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid", "st_blocks")
        return {name: getattr(found, name) for name in names}

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> None:
        os.utime(self._at(path), times)

    def statfs(self, path: str) -> dict[str, Any]:
        found = os.statvfs(self._root)
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize")
        return {**{name: getattr(found, name) for name in names}, "f_namemax": 255}


def _listen(path: str, disk: VolatileDisk) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("r") as questions:
                try:
                    answer = disk.answer(json.loads(questions.readline()))
                except Exception as error:
                    answer = {"error": repr(error)}
                connection.sendall(json.dumps(answer).encode())


def main() -> None:
    die_with_parent()
    medium, mount, socket_path = sys.argv[1:]
    disk = VolatileDisk(medium)
    threading.Thread(target=_listen, args=(socket_path, disk), daemon=True).start()
    # What the kernel remembers is forgotten sooner than a broker can start again: what is lost must be seen to be lost.
    FUSE(
        disk,
        mount,
        foreground=True,
        nothreads=False,
        big_writes=True,
        entry_timeout=0.2,
        attr_timeout=0.2,
        negative_timeout=0,
        fsname="volatile",
    )


if __name__ == "__main__":
    main()
