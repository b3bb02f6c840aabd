"""The work of compaction: reads closed segments, and writes new ones without the records that no longer count.

Invariants
    nothing that is there already is touched: what is written gets names of its own, and is on disk on return
    the newest record of a key is kept, and so is every record without a key or in a batch that cannot be read
    a tombstone is dropped only where all older records of its key go too, here or in a segment replaced before this one
    items keep their points; only batches without any record left are merged, within one term, so bounds vanish there
    a batch that the producer table remembers is never merged, so a table built from what is written is the same
    a batch is as readable each time as it was the first time, or nothing comes of the job

Whoever puts the new segments in place does so oldest first, each durably before the next, as soon as it is written: so
that no more than one of them at a time takes space that is not had back.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from ...proto.errors import CorruptBatch, LograftError
from ...proto.record_batch import BatchHeader, Unpacked, emptied, read_header, unpack, verify
from ..environment import Buffer, Disk, File
from ..producers import ProducerTable
from ..raft.points import Point
from .chain import place
from .segment import WINDOW_BYTES, DamagedLog, batches, new_path, read_head, segment_path
from .sparse_index import SparseIndex
from .superseded import Superseded

SYNC_BYTES = 4 << 20
"""Written between two syncs of a new segment."""
_WIDTH_MAX = (1 << 31) - 1

Pace = Callable[[int], Awaitable[None]]
"""Awaited after so many bytes were read or written: whoever calls decides how fast it goes on."""


class Source(msgspec.Struct, frozen=True):
    """A segment to be rewritten."""

    base: Point
    size_bytes: int
    is_ripe: bool
    """So old that every reader has seen its tombstones, and every follower passed its bounds: here these go."""


class Group(msgspec.Struct, frozen=True):
    """Neighbours that become one segment."""

    sources: tuple[Source, ...]

    @property
    def base(self) -> Point:
        return self.sources[0].base


class Job(msgspec.Struct, frozen=True):
    """What is to be compacted: all of a log from its first segment up to `end`, where another segment begins."""

    directory: str
    groups: tuple[Group, ...]
    end: Point
    table_bytes_max: int
    """For keys."""
    index_interval_bytes: int
    free_bytes_min: int = 0
    """Of the disk: with less left, nothing more is written. Votes, promises and deletions need their reserve."""


class Rewritten(msgspec.Struct, frozen=True):
    """A segment to be put in the place of a group."""

    base: Point
    end: Point
    size_bytes: int
    bytes_before: int
    cleaned_to: int
    """The highest offset before which a tombstone was dropped or batches were merged; 0 if none was."""
    token: str = ""
    """In the names of its files until it is in place."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a job."""

    segments: tuple[Rewritten, ...]
    """Oldest first; groups that are not here had nothing to lose."""
    records: int
    records_dropped: int
    readings: int
    has_leftovers: bool
    """Tombstones, or empty batches side by side, that will go once they are old enough."""
    bytes_read: int = 0


Take = Callable[[Rewritten], Awaitable[None]]
"""Given each new segment as soon as it is on disk, oldest first."""


async def _leave(_: Rewritten) -> None:
    return


async def rewrite(job: Job, disk: Disk, pace: Pace, take: Take = _leave, *, token: str = "") -> Outcome:
    """Do all of it.

    `token`, of hexadecimal digits, is in the names of all that is written. Where a process that did the same before
    may not be gone yet, it must be another's: else its bytes could be found under the names of these.

    Raises
        DamagedLog  a segment is not what was written; nothing is to be put in place
        OSError     of the disk, as it says
    """
    return await _Rewriting(job, disk, pace, take, token).run()


class _Seen(NamedTuple):
    """What the first reading learned of a source."""

    first_number: int
    end_number: int
    tombstones: int
    mergeable: bool
    """Empty batches stand side by side."""


class _Opened(NamedTuple):
    """A batch of records, with the number of its first one."""

    header: BatchHeader
    data: Buffer
    unpacked: Unpacked | None
    """None: it cannot be read."""
    first_number: int


class _Rewriting:
    def __init__(self, job: Job, disk: Disk, pace: Pace, take: Take, token: str) -> None:
        self._job = job
        self._disk = disk
        self._pace = pace
        self._take = take
        self._token = token
        self._bytes_read = 0
        self._superseded = Superseded(job.table_bytes_max)
        self._remembered: set[int] = set()
        self._seen: list[_Seen] = []
        self._unreadable: set[int] = set()
        """Base offsets of the batches whose keys nobody knows, as the first reading found."""
        self._unreadable_from: int | None = None
        """The first of them."""
        self._is_writing = False
        self._has_leftovers = False
        self._dropped = 0

    async def run(self) -> Outcome:
        job = self._job
        try:
            following = read_head(self._disk, job.directory, job.end.offset)
            self._remembered = ProducerTable.from_bytes(following.producers).remembered_offsets()
        except ValueError as error:
            raise DamagedLog(f"{segment_path(job.directory, job.end.offset)}.head", 0, str(error)) from error
        sources = [source for group in job.groups for source in group.sources]
        while self._superseded.begin_reading():
            number = 0
            for source in sources:
                number = await self._read(source, number)
        rewritten = []
        at = 0
        for group, following_group in zip(job.groups, (*job.groups[1:], None), strict=True):
            seen = self._seen[at : at + len(group.sources)]
            at += len(group.sources)
            end = job.end if following_group is None else following_group.base
            if self._is_worth_it(group, seen):
                rewritten.append(await self._write(group, seen, end))
                await self._take(rewritten[-1])
            else:
                self._has_leftovers |= any(
                    (one.tombstones or one.mergeable) and not source.is_ripe
                    for source, one in zip(group.sources, seen, strict=True)
                )
        return Outcome(
            segments=tuple(rewritten),
            records=self._seen[-1].end_number if self._seen else 0,
            records_dropped=self._dropped,
            readings=self._superseded.readings,
            has_leftovers=self._has_leftovers,
            bytes_read=self._bytes_read,
        )

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _read(self, source: Source, first_number: int) -> int:
        """Show all keys of a segment. Returns the number that comes after its records."""
        number = first_number
        tombstones = 0
        mergeable = was_empty = False
        with self._file(source) as file:
            for header, data in self._batches(source, file):
                if header.width:
                    is_empty = not header.record_count
                    if not is_empty:
                        tombstones += self._show(self._open(header, data, number))
                        number += header.record_count
                    is_empty = is_empty and not self._is_remembered(header)
                    mergeable |= is_empty and was_empty
                    was_empty = is_empty
                else:
                    was_empty = False
                await self._note_read(header)
        if self._superseded.readings == 1:
            self._seen.append(_Seen(first_number, number, tombstones, mergeable))
        return number

    async def _note_read(self, header: BatchHeader) -> None:
        self._bytes_read += header.size
        await self._pace(header.size)

    def _show(self, opened: _Opened) -> int:
        """Show the batch's keys. Returns how many of its records are tombstones."""
        if opened.unpacked is None:
            return 0
        tombstones = 0
        columns = opened.unpacked.columns
        show = self._superseded.show
        for number, (key, value) in enumerate(zip(columns.keys, columns.values, strict=True), opened.first_number):
            if key is not None:
                show(number, key)
                tombstones += value is None
        return tombstones

    def _open(self, header: BatchHeader, data: Buffer, first_number: int) -> _Opened:
        try:
            return _Opened(header, data, unpack(data), first_number)
        except LograftError as error:
            # Its CRC is good, so this is what a client sent: it is as opaque to every reader, and kept as it is.
            if self._superseded.readings == 1 and not self._is_writing:
                self._unreadable.add(header.base_offset)
                if self._unreadable_from is None:
                    self._unreadable_from = header.base_offset
            elif header.base_offset not in self._unreadable:
                # As where memory was short. What was decided of its keys before could not be carried out.
                why = f"the batch at {header.base_offset} could be read, and cannot any more: {error}"
                raise OSError(why) from error
            return _Opened(header, data, None, first_number)

    @contextmanager
    def _file(self, source: Source) -> Iterator[File]:
        file = self._disk.open(segment_path(self._job.directory, source.base.offset) + ".log")
        try:
            yield file
        finally:
            file.close()

    @staticmethod
    def _batches(source: Source, file: File) -> Iterator[tuple[BatchHeader, Buffer]]:
        """All batches of a segment, checked: each by its CRC, and by its place, which the CRC does not cover."""
        position = 0
        end = source.base
        try:
            for at, header, data in batches(file, 0, source.size_bytes):
                position = at
                verify(data)
                end = place(end, header, data).point
                yield header, data
        except CorruptBatch as error:
            raise DamagedLog(file.path, position, str(error)) from error

    # -- writing -------------------------------------------------------------------------------------------------------

    def _is_remembered(self, header: BatchHeader) -> bool:
        return header.has_producer and header.base_offset in self._remembered

    def _is_worth_it(self, group: Group, seen: list[_Seen]) -> bool:
        if len(group.sources) > 1:
            return True
        if self._superseded.any_between(seen[0].first_number, seen[-1].end_number):
            return True
        return any(
            (one.mergeable and source.is_ripe)
            or (one.tombstones and self._may_drop_tombstones(source, source.base.offset))
            for source, one in zip(group.sources, seen, strict=True)
        )

    def _may_drop_tombstones(self, source: Source, offset: int) -> bool:
        # An older record of the same key may stand in a batch that cannot be read: it would be in force again.
        return source.is_ripe and (self._unreadable_from is None or offset < self._unreadable_from)

    async def _write(self, group: Group, seen: list[_Seen], end: Point) -> Rewritten:
        self._is_writing = True
        output = _Output(self._disk, self._job, group.base, self._token)
        try:
            for source, one in zip(group.sources, seen, strict=True):
                number = one.first_number
                with self._file(source) as file:
                    for header, data in self._batches(source, file):
                        if header.width and header.record_count:
                            self._write_records(output, source, self._open(header, data, number))
                            number += header.record_count
                        elif header.width:
                            self._write_empty(output, source, header, data)
                        else:
                            output.add(header, data)
                        await output.sync_at_times()
                        await self._note_read(header)
            await output.finish()
        finally:
            output.close()
        if output.end != end:
            path = segment_path(self._job.directory, group.base.offset)
            raise DamagedLog(f"{path}.log", 0, f"it ends at {output.end}, but the next segment begins at {end}")
        return Rewritten(
            base=group.base,
            end=end,
            size_bytes=output.size,
            bytes_before=sum(source.size_bytes for source in group.sources),
            cleaned_to=output.cleaned_to,
            token=self._token,
        )

    def _write_records(self, output: _Output, source: Source, opened: _Opened) -> None:
        header, unpacked = opened.header, opened.unpacked
        if unpacked is None:
            output.add(header, opened.data)
            return
        kept = []
        may_drop = self._may_drop_tombstones(source, header.base_offset)
        columns = unpacked.columns
        for at, key in enumerate(columns.keys):
            if opened.first_number + at in self._superseded:
                continue
            if key is not None and columns.values[at] is None:
                if may_drop:
                    output.cleaned_to = max(output.cleaned_to, columns.offsets[at] + 1)
                    continue
                self._has_leftovers |= not source.is_ripe
            kept.append(at)
        self._dropped += header.record_count - len(kept)
        if len(kept) == header.record_count:
            output.add(header, opened.data)
        elif kept:
            smaller = unpacked.retaining(kept)
            output.add(read_header(smaller), smaller)
        else:
            empty = emptied(header)
            self._write_empty(output, source, read_header(empty), empty)

    def _write_empty(self, output: _Output, source: Source, header: BatchHeader, data: Buffer) -> None:
        if self._is_remembered(header):
            output.add(header, data)
        elif source.is_ripe:
            output.add_empty(header, data)
        else:
            output.add(header, data)
            self._has_leftovers = True


class _Output:
    """A new segment, and its index, under names of their own."""

    def __init__(self, disk: Disk, job: Job, base: Point, token: str) -> None:
        self.end = base
        self.size = 0
        self.cleaned_to = 0
        self._disk = disk
        self._path = segment_path(job.directory, base.offset)
        self._token = token
        self._free_bytes_min = job.free_bytes_min
        self._index = SparseIndex(base, job.index_interval_bytes)
        self._file = self._create(".log")
        self._buffers: list[Buffer] = []
        self._buffered_bytes = 0
        self._synced_bytes = 0
        self._empty: list[tuple[BatchHeader, Buffer]] = []
        """A run of empty batches of one term; only its first and its last are needed."""
        self._empty_count = 0

    def add(self, header: BatchHeader, data: Buffer) -> None:
        """The next item, as it is to be stored."""
        self._add_run()
        self._write(header, data)

    def add_empty(self, header: BatchHeader, data: Buffer) -> None:
        """The next item, which holds no record, and is merged with neighbours that hold none."""
        if self._empty and header.next_offset - self._empty[0][0].base_offset > _WIDTH_MAX:
            self._add_run()
        self._empty = [*self._empty[:1], (header, bytes(data))]
        self._empty_count += 1

    async def sync_at_times(self) -> None:
        """Little by little: much at once would keep the disk from those who wait for it."""
        if self.size - self._synced_bytes >= SYNC_BYTES:
            self._synced_bytes = self.size
            await self._file.fdatasync()

    async def finish(self) -> None:
        """Return once the segment is on disk. Its index need not be: it is never trusted."""
        self._add_run()
        self._flush()
        await self._file.fdatasync()
        for suffix, content in zip((".index", ".timeindex"), self._index.to_files(self.size), strict=True):
            file = self._create(suffix)
            file.write(0, [content])
            file.close()

    def close(self) -> None:
        self._file.close()

    def _add_run(self) -> None:
        if not self._empty:
            return
        (first, data), (last, _) = self._empty[0], self._empty[-1]
        if self._empty_count > 1:
            data = emptied(first, last.next_offset)
            self.cleaned_to = max(self.cleaned_to, last.next_offset)
        self._empty, self._empty_count = [], 0
        self._write(read_header(data), data)

    def _write(self, header: BatchHeader, data: Buffer) -> None:
        self._index.note(self.end, self.size + self._buffered_bytes, header.max_timestamp_ms)
        # The rule by which whoever reads it will judge it.
        self.end = place(self.end, header, data).point
        self._buffers.append(data)
        self._buffered_bytes += header.size
        if self._buffered_bytes >= WINDOW_BYTES:
            self._flush()

    def _flush(self) -> None:
        free = self._disk.free_bytes()
        if free < self._free_bytes_min + self._buffered_bytes:
            raise OSError(errno.ENOSPC, f"{free} bytes of disk are left, compaction leaves {self._free_bytes_min}")
        self._file.write(self.size, self._buffers)
        self.size += self._buffered_bytes
        self._buffers, self._buffered_bytes = [], 0

    def _create(self, suffix: str) -> File:
        path = new_path(self._path, suffix, self._token)
        if self._disk.exists(path):
            self._disk.unlink(path)
        return self._disk.open(path, create=True)
