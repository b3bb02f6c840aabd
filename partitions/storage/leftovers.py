"""Files of segments that a log has given up, and that are still on disk.

Invariants
    what was cut away goes newest first, and what was dropped from the front oldest first, each durably before the next:
        what a crash leaves is a log by itself
    what could not be removed is known still, and goes first the next time
"""

from __future__ import annotations

from collections.abc import Iterable

from ..environment import Disk
from .segment import MENDED, NEW, drop_segment, segment_bases, segment_files, segment_path, unlink_segment


class Leftovers:
    """Of one log. OSError: of the disk, as it says."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._beyond: list[int] = []
        """Base offsets of segments past the log's end, rising."""
        self._dropped: list[int] = []
        """Of those before its base, rising."""

    def size_beyond(self) -> int:
        """Bytes of items in the segments past the log's end."""
        return sum(self._file_bytes(base) for base in self._beyond)

    def take_beyond(self, bases: list[int]) -> None:
        """These, rising, and no others are past the log's end."""
        self._beyond = bases

    def add_beyond(self, bases: Iterable[int]) -> None:
        self._beyond = sorted({*self._beyond, *bases})

    def add_dropped(self, bases: Iterable[int]) -> None:
        self._dropped += bases

    async def remove_beyond(self) -> None:
        while self._beyond:
            await unlink_segment(self._disk, self._directory, self._beyond[-1])
            self._beyond.pop()

    async def remove_dropped(self) -> None:
        while self._dropped:
            await drop_segment(self._disk, self._directory, self._dropped[0])
            self._dropped.pop(0)

    def find_all(self) -> None:
        """Nothing of what is in the directory is a part of the log."""
        self._beyond = segment_bases(segment_files(self._disk, self._directory))

    async def remove_all(self) -> None:
        """What is past the log's end, and every other file of a segment."""
        await self.remove_beyond()
        for name in segment_files(self._disk, self._directory):
            self._disk.unlink(f"{self._directory}/{name}")

    def remove_orphans(self, bases: list[int]) -> None:
        """Files that belong to none of the segments with these base offsets, or never came to their place."""
        for name in segment_files(self._disk, self._directory):
            if name.endswith((NEW, MENDED)) or (not name.endswith(".log") and int(name[:20]) not in bases):
                self._disk.unlink(f"{self._directory}/{name}")

    def remove_rewritten(self) -> None:
        """What compaction wrote and nobody put in place. It writes no heads: a new one is a repair's."""
        for name in segment_files(self._disk, self._directory):
            if name.endswith(NEW) and not name.endswith(".head" + NEW):
                self._disk.unlink(f"{self._directory}/{name}")

    def _file_bytes(self, base_offset: int) -> int:
        file = self._disk.open(segment_path(self._directory, base_offset) + ".log")
        try:
            return file.size()
        finally:
            file.close()
