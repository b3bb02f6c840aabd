"""One segment: consecutive items in a `.log` file, with `.head`, `.index` and `.timeindex` beside it.

Invariants
    bytes are only added at the end, or cut from it; what is to be read lies below `size`
    the segment is dirty while anything written to it may not be on disk: its bytes, its head or their names
    a segment is named by its base offset, and no two of a log share one

A position is bytes from the start of the `.log` file.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from ...proto.errors import CorruptBatch
from ...proto.record_batch import HEADER_SIZE, BatchHeader, read_header
from ..environment import Buffer, Disk, File
from ..raft.points import Point
from .chain import place
from .segment_head import SegmentHead
from .sparse_index import SparseIndex

WINDOW_BYTES = 1 << 20

NEW = ".new"
"""What the name of a file ends in that is not in place yet; recovery removes it."""
MENDED = ".mended"
"""Likewise of one that repair makes."""
_SUFFIXES = (".log", ".head", ".index", ".timeindex")
_FILE_NAME = re.compile(
    r"(\d{20})(-\d{20}\.(replacement|beginning)|\.(log|head|index|timeindex)((\.[0-9a-f]+)?\.new|\.mended)?)"
)


class DamagedLog(Exception):
    """Stored bytes are unreadable where the log holds an item: repair them from another replica."""

    def __init__(self, path: str, position: int, why: str) -> None:
        super().__init__(f"{path} is unreadable at {position}: {why}")
        self.path, self.position, self.why = path, position, why


def segment_files(disk: Disk, directory: str) -> list[str]:
    """Names of all files of segments in a partition's directory; FileNotFoundError if it is not there."""
    return [name for name in disk.list(directory) if _FILE_NAME.fullmatch(name)]


def segment_bases(names: Sequence[str]) -> list[int]:
    """Base offsets of the segments whose `.log` is among `names`, rising."""
    return sorted(int(name[:20]) for name in names if name.endswith(".log"))


def segment_path(directory: str, base_offset: int) -> str:
    """Of the segment's files, but for the suffix."""
    return f"{directory}/{base_offset:020d}"


def new_path(path: str, suffix: str, token: str = "") -> str:
    """Of a segment's file that is not in place yet; `path` is that of the segment, `token` that of who writes it."""
    return f"{path}{suffix}.{token}{NEW}" if token else f"{path}{suffix}{NEW}"


def segment_base(path: str) -> int:
    """Base offset of the segment that one of these files is of; -1 if it is none."""
    match = _FILE_NAME.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else -1


async def unlink_segment(disk: Disk, directory: str, base_offset: int) -> None:
    """Remove a segment's files, durably: the items first, as a head alone says nothing."""
    path = segment_path(directory, base_offset)
    for suffix in _SUFFIXES:
        if disk.exists(path + suffix):
            disk.unlink(path + suffix)
    await disk.sync_directory(directory)


async def drop_segment(disk: Disk, directory: str, base_offset: int) -> None:
    """Remove the oldest segment's files, durably.

    Its items go first, durably: found again without their head, they would be a log whose beginning is damaged.
    """
    path = segment_path(directory, base_offset) + ".log"
    if disk.exists(path):
        disk.unlink(path)
        await disk.sync_directory(directory)
    await unlink_segment(disk, directory, base_offset)


def read_head(disk: Disk, directory: str, base_offset: int) -> SegmentHead:
    """The head of a segment.

    Raises
        ValueError   it is missing, unreadable, or another segment's
        NewerFormat  a later version wrote it
    """
    path = segment_path(directory, base_offset) + ".head"
    try:
        file = disk.open(path)
        try:
            head = SegmentHead.from_bytes(file.read(0, file.size()), path)
        finally:
            file.close()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if head.base.offset != base_offset or not directory.endswith(f"/{head.partition}"):
        raise ValueError(f"it is that of {head.partition} at {head.base.offset}")
    return head


class Readable(Protocol):
    def read(self, position: int, size: int) -> Buffer: ...


def batches(
    file: Readable, position: int, end: int, window_bytes: int = WINDOW_BYTES, *, bytes_max: int | None = None
) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """The batches from `position` on, each with its own position. CRCs are not looked at.

    With `bytes_max` it stops where the next one would pass that sum; the first is always given.

    Raises
        CorruptBatch  at the first that has no header or runs past `end`; those before it have been given
        OSError       the disk does not give the bytes
    """
    window = memoryview(b"")
    begin = start = position
    while position < end:
        at = position - start
        missing = HEADER_SIZE
        if len(window) - at >= HEADER_SIZE:
            header = read_header(window, at)
            missing = header.size if at + header.size > len(window) else 0
        if missing:
            if missing > end - position:
                raise CorruptBatch(
                    f"a batch of {missing} bytes or more at {position} is cut short at {end - position}",
                    what="cut short",
                    position=position,
                )
            if bytes_max is not None and begin < position > begin + bytes_max - missing:
                return
            try:
                window = memoryview(file.read(position, min(max(missing, window_bytes), end - position)))
            except OSError:
                if window_bytes <= missing:
                    raise
                # What cannot be read may stand further on: from here, one batch at a time.
                window_bytes = 0
                window = memoryview(file.read(position, missing))
            start = position
            if len(window) < missing:
                raise CorruptBatch(f"the file ends before {end}", what="cut short", position=position)
            continue
        yield position, header, window[at : at + header.size]
        position += header.size


class Segment:
    """A segment of one log.

    One writer, the log; readers come through it as well, all in one thread.

    Raises
        OSError      of the disk, as it says
        DamagedLog   from reads
    """

    def __init__(self, disk: Disk, directory: str, base: Point, size: int, index_interval_bytes: int) -> None:
        self.base = base
        self.size = size
        self.append_time_before_ms = 0
        """Wall clock of the leader that appended the last item before; what retention goes by."""
        self.first_append_time_ms = 0
        """Of its first item, or a little earlier; what says when the segment is to be closed."""
        self.unsound = False
        """A sync of it failed: no sync of this file can be believed any more."""
        self._disk = disk
        self._directory = directory
        self._path = segment_path(directory, base.offset)
        self._log_path = self._path + ".log"
        self._index_interval_bytes = index_interval_bytes
        self._file: File | None = None
        self._index: SparseIndex | None = None
        self._writes = 0
        self._synced_writes = 0
        self._new_head: File | None = None
        self._is_gone = False

    @classmethod
    def create(cls, disk: Disk, directory: str, head: SegmentHead, index_interval_bytes: int) -> Segment:
        """Make the files, in the page cache. OSError: none is left."""
        segment = cls(disk, directory, head.base, 0, index_interval_bytes)
        segment.append_time_before_ms = head.append_time_ms
        segment._index = SparseIndex(head.base, index_interval_bytes)
        segment._file = disk.open(segment.path, create=True)
        try:
            segment._new_head = disk.open(segment._path + ".head", create=True)
            segment._new_head.write(0, [head.to_bytes()])
        except OSError:
            segment.close()
            for suffix in (".head", ".log"):
                with contextlib.suppress(OSError):  # what came in the way says it; the other file is to go all the same
                    disk.unlink(segment._path + suffix)
            raise
        segment._writes = 1
        return segment

    @classmethod
    def replacing(cls, older: Segment, path: str, size: int) -> Segment:
        """A segment in the place of `older` and maybe of some after it, on disk under another name yet."""
        segment = cls(older._disk, older._directory, older.base, size, older._index_interval_bytes)
        segment.append_time_before_ms = older.append_time_before_ms
        segment.first_append_time_ms = older.first_append_time_ms
        segment._log_path = path
        return segment

    def take_its_name(self) -> None:
        """The file has the name of a segment now."""
        self._log_path = self._path + ".log"

    @property
    def path(self) -> str:
        return self._log_path

    @property
    def is_dirty(self) -> bool:
        return self._writes != self._synced_writes

    @property
    def has_durable_head(self) -> bool:
        """Would a crash now leave this segment, whatever of its items, under its name?"""
        return self._new_head is None

    @property
    def file(self) -> File:
        """Opened when first asked for, and after `release`."""
        if self._file is None:
            self._file = self._disk.open(self.path)
        return self._file

    def head(self) -> SegmentHead:
        """ValueError, NewerFormat: as `read_head`."""
        return read_head(self._disk, self._directory, self.base.offset)

    def append(self, buffers: Sequence[Buffer], size: int) -> None:
        """Add bytes at the end, in the page cache. OSError: the file is as it was."""
        try:
            self.file.write(self.size, buffers)
        except OSError:
            self.file.truncate(self.size)
            raise
        self.size += size
        self._writes += 1

    async def sync(self) -> None:
        """Return once all that was written before this call is on disk, or as soon as the segment is closed."""
        writes = self._writes
        if writes == self._synced_writes:
            return
        new_head = self._new_head
        if new_head is not None:
            await new_head.fdatasync()
            await self._disk.sync_directory(self._directory)
            if self._is_gone:
                return
            new_head.close()
            self._new_head = None
        await self.file.fdatasync()
        self._synced_writes = max(self._synced_writes, writes)

    async def cut(self, position: int) -> None:
        """Drop the bytes from `position` on, durably."""
        self.drop_index()
        self.size = position
        if self.unsound:
            await self._write_anew()
        else:
            self.file.truncate(position)
            await self.file.fdatasync()

    async def write_again(self, position: int) -> None:
        """Write the bytes from `position` on once more, the same ones, durably, and so the head if all are.

        A sync that failed leaves pages marked clean: only a page written again is surely synced.
        """
        for at in range(position, self.size, WINDOW_BYTES):
            self.file.write(at, [self.file.read(at, min(WINDOW_BYTES, self.size - at))])
        if position == 0:
            head = self._disk.open(self._path + ".head")
            try:
                head.write(0, [head.read(0, head.size())])
                await head.fdatasync()
            finally:
                head.close()
        await self.file.fdatasync()

    async def replace_head(self, head: SegmentHead) -> None:
        """Write a head in the place of one that was lost, durably."""
        path = self._path + ".head"
        file = self._disk.open(path, create=not self._disk.exists(path))
        try:
            file.truncate(0)
            file.write(0, [head.to_bytes()])
            await file.fdatasync()
        finally:
            file.close()
        await self._disk.sync_directory(self._directory)

    async def _write_anew(self) -> None:
        new_path = self.path + NEW
        if self._disk.exists(new_path):
            self._disk.unlink(new_path)
        new = self._disk.open(new_path, create=True)
        for at in range(0, self.size, WINDOW_BYTES):
            new.write(at, [self.file.read(at, min(WINDOW_BYTES, self.size - at))])
        await new.fdatasync()
        new.close()
        self._disk.rename(new_path, self.path)
        await self._disk.sync_directory(self._directory)
        self.release()
        self.unsound = False

    # -- index ---------------------------------------------------------------------------------------------------------

    @property
    def index(self) -> SparseIndex:
        """In memory, else read from its files, else built anew. DamagedLog: the segment cannot be read to its end."""
        if self._index is None:
            self._index = self._read_index() or self._build_index()
        return self._index

    @property
    def index_to_append(self) -> SparseIndex:
        """The index that is to know of the next item, also where what stands before it cannot all be read."""
        if self._index is None:
            try:
                return self.index
            except DamagedLog:
                self._index = SparseIndex(self.base, self._index_interval_bytes)
        return self._index

    def write_index(self) -> None:
        """Keep the index beside a segment that will not grow any more. What fails is left out: it can be built."""
        try:
            places, timestamps = self.index.to_files(self.size)
            for suffix, content in ((".index", places), (".timeindex", timestamps)):
                path = self._path + suffix
                file = self._disk.open(path, create=not self._disk.exists(path))
                file.truncate(0)
                file.write(0, [content])
                file.close()
        except (OSError, DamagedLog):
            pass

    def take_index(self, index: SparseIndex) -> None:
        """Use an index made while the segment was read."""
        self._index = index

    def drop_index(self) -> None:
        """Forget the index, and the files that hold it: the segment has changed, or the index was found wrong."""
        self._index = None
        for suffix in (".index", ".timeindex"):
            if self._disk.exists(self._path + suffix):
                self._disk.unlink(self._path + suffix)

    def drop_index_if_wrong(self) -> None:
        """Remove the files of an index that cannot be read, if the disk lets them go. None are needed."""
        names = self._path + ".index", self._path + ".timeindex"
        with contextlib.suppress(OSError):
            if any(map(self._disk.exists, names)) and not self._read_index():
                self.drop_index()

    def build_index_anew(self) -> None:
        """The index was found wrong. DamagedLog: the segment cannot be read to its end."""
        with contextlib.suppress(OSError):  # files that the disk keeps are found wrong again
            self.drop_index()
        self._index = self._build_index()

    def _read_index(self) -> SparseIndex | None:
        contents = []
        try:
            for suffix in (".index", ".timeindex"):
                file = self._disk.open(self._path + suffix)
                contents.append(file.read(0, file.size()))
                file.close()
            places, timestamps = contents
            return SparseIndex.from_files(places, timestamps, self.base, self.size, self._index_interval_bytes)
        except (OSError, ValueError):
            return None

    def _build_index(self) -> SparseIndex:
        index = SparseIndex(self.base, self._index_interval_bytes)
        end = self.base
        position = 0
        try:
            for position, header, batch in batches(self.file, 0, self.size):
                index.note(end, position, header.max_timestamp_ms)
                end = place(end, header, batch).point
        except (CorruptBatch, OSError) as error:
            raise DamagedLog(self.path, position, str(error)) from error
        return index

    # -- handles -------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let go of what can be had again: the descriptor and the index."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._index = None

    def close(self) -> None:
        """For good."""
        self._is_gone = True
        if self._new_head is not None:
            self._new_head.close()
            self._new_head = None
        self.release()
