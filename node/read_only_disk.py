"""The machine's file system, for whoever must not change anything on it.

Invariants
    every file is opened for reading alone, so a mistake of ours is refused by the system
    no symbolic link is followed: what is read lies where it is named
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NoReturn

from ..partitions.environment import Buffer, Disk, File
from ..partitions.real_environment import boot_id


class ReadOnlyFile:
    """`environment.File`, for reading."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, position: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, position)
        while 0 < len(found) < size:
            more = os.pread(self._descriptor, size - len(found), position + len(found))
            if not more:
                break
            found += more
        return found

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        _refuse(self._path)

    def truncate(self, size: int) -> None:
        _refuse(self._path)

    def read_cached(self, position: int, size: int) -> bytes:
        return self.read(position, size)

    async def bring_in(self, position: int, size: int) -> None:
        return

    async def fdatasync(self) -> None:
        _refuse(self._path)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class ReadOnlyDisk(Disk):
    """`environment.Disk`, for reading."""

    def __init__(self) -> None:
        self.boot_id = boot_id()

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            _refuse(path)
        return ReadOnlyFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    def exists(self, path: str) -> bool:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def make_directory(self, path: str) -> None:
        _refuse(path)

    def remove_directory(self, path: str) -> None:
        _refuse(path)

    def rename(self, old: str, new: str) -> None:
        _refuse(old)

    def link(self, old: str, new: str) -> None:
        _refuse(new)

    def unlink(self, path: str) -> None:
        _refuse(path)

    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    async def sync_directory(self, path: str) -> None:
        _refuse(path)


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
