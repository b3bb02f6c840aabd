"""Reads of what the page cache does not hold any more, without a wait in the loop.

A reader that catches up on gigabytes reads from the medium. In the loop's own thread each such read would hold up all
that a broker does; so the loop reads only what is in memory, and has the rest brought in by a few threads meant for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .environment import Buffer, File

Found = TypeVar("Found")

TRIES = 4
"""What was brought in may be gone again when memory is short; then it is read in the loop after all."""


class NotInMemory(Exception):
    """To read this would take a wait for the medium: bring it in, and try again."""

    def __init__(self, file: File, position: int, size: int) -> None:
        super().__init__(f"{file.path} is not in memory at {position}")
        self._file, self._position, self._size = file, position, size

    async def bring_in(self) -> None:
        await self._file.bring_in(self._position, self._size)


class CachedFile:
    """A file of which only what is in memory is read. Raises NotInMemory instead of a wait."""

    __slots__ = ("_file",)

    def __init__(self, file: File) -> None:
        self._file = file

    def read(self, position: int, size: int) -> Buffer:
        found = self._file.read_cached(position, size)
        if found is None:
            raise NotInMemory(self._file, position, size)
        return found


def _nobody_counts() -> None:
    """Until somebody wants to know."""


async def read_when_cached(read: Callable[[bool], Found], on_wait: Callable[[], None] = _nobody_counts) -> Found:
    """What `read(True)` gives, as soon as it does not raise NotInMemory; `read(False)` is one that may wait.

    `on_wait` is called for each wait for the medium.
    """
    for _ in range(TRIES):
        try:
            return read(True)
        except NotInMemory as missing:
            on_wait()
            await missing.bring_in()
    return read(False)
