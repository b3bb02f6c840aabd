"""What of a replica's log would survive any power loss: read from the platter, not asked of the code under test.

Invariants
    a point is durable here only if its item and every item before it, from the log's base on, are synced, under names
    that are synced too; what lies before the base is not looked for
    nothing is remembered across a cut, a removed file or a restart: then it is read again from the start
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage.replacement import BEGINNING, REPLACEMENT
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import HEADER_SIZE, read_header, verify

from tests.simulation.disk import Inode, SimulatedDisk


@dataclass(slots=True)
class _Reading:
    removals: int
    base: Point = ORIGIN
    end: Point = ORIGIN
    path: str = ""
    position: int = 0
    points: set[Point] = field(default_factory=set)
    merged: list[tuple[Point, int]] = field(default_factory=list)
    """Compacted batches: their end, and the offset where they begin. Points in between were there once."""


class Platter:
    """Reads the logs on one disk, as far as they are durable."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._readings: dict[str, _Reading] = {}

    def holds(self, directory: str, point: Point) -> bool:
        """Is the log in `directory` durable through exactly this point?"""
        reading = self._readings.get(directory)
        if reading is None or reading.removals != self._disk.removals:
            reading = self._readings[directory] = _Reading(self._disk.removals)
        if point not in reading.points:
            self._read_on(directory, reading)
        if point in reading.points or (bool(reading.path) and point < reading.base):
            return True
        return any(end[::2] == point[::2] and begin < point.offset < end.offset for end, begin in reading.merged)

    def points(self, directory: str) -> set[Point]:
        """All that `holds` says yes to by reading them."""
        self.holds(directory, ORIGIN)
        self._read_on(directory, self._readings[directory])
        return set(self._readings[directory].points)

    def _is_synced(self, inode: Inode, position: int, size: int) -> bool:
        return inode.is_synced(position, size)

    def _is_head_synced(self, inode: Inode) -> bool:
        return inode.is_synced(0, len(inode.cache))

    def _is_name_durable(self, path: str) -> bool:
        return self._disk.is_name_durable(path)

    def _durable(self, path: str) -> Inode | None:
        return self._disk.durable(path)

    def _read_on(self, directory: str, reading: _Reading) -> None:
        paths = self._segments(directory)
        at = max(0, bisect_right(paths, reading.path) - 1)
        for path in paths[at:]:
            if path != reading.path:
                head = f"{directory}/{path.rpartition('/')[2][:20]}.head"
                inode = self._durable(head)  # or the one that is about to take its place, which says as much
                if inode is None or not inode.cache or not self._is_head_synced(inode):
                    return
                if not reading.path:
                    try:
                        base = SegmentHead.from_bytes(bytes(inode.cache), head).base
                    except ValueError:
                        return  # of a log that was about to begin here
                    reading.base = reading.end = base
                    reading.points.add(base)
                reading.path, reading.position = path, 0
            if not self._read_segment(path, reading):
                return

    def _segments(self, directory: str) -> list[str]:
        """The files that count: a replacement with a durable name instead of the segments it is for."""
        paths = self._disk.paths(directory, ".log")
        for path in self._disk.paths(directory, (BEGINNING, REPLACEMENT)):
            if self._is_name_durable(path):
                base, end = path.rpartition("/")[2].partition(".")[0].split("-")
                if path.endswith(BEGINNING):
                    base = ""  # nothing before it counts
                paths = [found for found in paths if not base <= found.rpartition("/")[2][:20] < end]
                paths.append(path)
        return sorted(paths)

    def _read_segment(self, path: str, reading: _Reading) -> bool:
        """Read on in one segment; True if all of it is durable."""
        inode = self._disk.files[path]
        older = self._disk.renamed_from(path)
        if not self._is_name_durable(path) and not (
            older is not None and older.endswith((BEGINNING, REPLACEMENT)) and self._disk.durable(older) is inode
        ):
            return False
        cache = inode.cache
        while reading.position < len(cache):
            if len(cache) - reading.position < HEADER_SIZE:
                return False
            try:
                header = read_header(cache, reading.position)
            except CorruptBatch:
                return False
            if not self._is_synced(inode, reading.position, header.size):
                return False
            end = reading.end
            if header.term > end.term:
                end = Point(header.term, end.offset, 0)
            if header.width == 0:
                end = end._replace(rank=end.rank + 1)
            reading.end = end._replace(offset=header.next_offset)
            reading.points.add(reading.end)
            if header.record_count < header.width:
                reading.merged.append((reading.end, header.base_offset))
            reading.position += header.size
        return True


class PageCache(Platter):
    """The same of what would survive the end of any process: all that is written, as long as the machine has power."""

    def _is_synced(self, inode: Inode, position: int, size: int) -> bool:
        try:
            verify(inode.cache, position)
        except CorruptBatch:
            return False
        return True

    def _is_head_synced(self, inode: Inode) -> bool:
        # A power failure may have torn it, and left the items behind it: recovery ends the log before such a head.
        try:
            SegmentHead.from_bytes(bytes(inode.cache), "a head")
        except ValueError:
            return False
        return True

    def _is_name_durable(self, path: str) -> bool:
        return path in self._disk.files

    def _durable(self, path: str) -> Inode | None:
        return self._disk.files.get(path)
