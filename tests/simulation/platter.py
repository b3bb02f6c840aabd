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
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import HEADER_SIZE, read_header

from tests.simulation.disk import SimulatedDisk


@dataclass(slots=True)
class _Reading:
    removals: int
    base: Point = ORIGIN
    end: Point = ORIGIN
    path: str = ""
    position: int = 0
    points: set[Point] = field(default_factory=set)


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
        return point in reading.points or (bool(reading.path) and point < reading.base)

    def _read_on(self, directory: str, reading: _Reading) -> None:
        paths = self._disk.paths(directory, ".log")
        at = max(0, bisect_right(paths, reading.path) - 1)
        for path in paths[at:]:
            if path != reading.path:
                head = f"{path.removesuffix('.log')}.head"
                inode = self._disk.files.get(head)
                if inode is None or not inode.cache or not self._disk.is_synced(head, 0, len(inode.cache)):
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

    def _read_segment(self, path: str, reading: _Reading) -> bool:
        """Read on in one segment; True if all of it is durable."""
        if not self._disk.is_name_durable(path):
            return False
        inode = self._disk.files[path]
        cache = inode.cache
        while reading.position < len(cache):
            if len(cache) - reading.position < HEADER_SIZE:
                return False
            try:
                header = read_header(cache, reading.position)
            except CorruptBatch:
                return False
            if not inode.is_synced(reading.position, header.size):
                return False
            end = reading.end
            if header.term > end.term:
                end = Point(header.term, end.offset, 0)
            if header.width == 0:
                end = end._replace(rank=end.rank + 1)
            reading.end = end._replace(offset=header.next_offset)
            reading.points.add(reading.end)
            reading.position += header.size
        return True
