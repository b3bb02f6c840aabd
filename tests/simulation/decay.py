"""What may decay on simulated disks without costing what no replica could give back.

Invariants
    an item decays only where the mark that is on disk has passed it, and while another machine has the very same bytes,
    and those up to that mark
    a whole segment is lost, or the end of its file, only where that is so of all its items
    a head decays only where that is so of all behind it in its segment, the first one of a log only while every other
    machine's log is whole; a round of promises loses one copy
    of what decayed, nothing is remembered: what is there now is read from the disks
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage.promise_frames import MarkFrame, read_rounds
from lograft.partitions.storage.replacement import BEGINNING, REPLACEMENT
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import CorruptBatch
from lograft.proto.record_batch import verify

from tests.simulation.disk import ROOT
from tests.simulation.machine import Machine
from tests.simulation.process import log_directory

PROMISES = f"{ROOT}/promises.log"


class Place(NamedTuple):
    """A byte that may decay; of a file that is `short` or `gone`, the first one that is lost."""

    path: str
    position: int
    what: str
    holders: int
    """How many of the other machines have what stands there."""


def decayable(
    machine: Machine, others: list[Machine], partition: PartitionId, kind: str, random: Random
) -> Place | None:
    """Somewhere in a file of that kind; None where nothing may."""
    if kind == "promises":
        return _in_promises(machine, len(others), random)
    directory = log_directory(partition)
    mark = durable_mark(machine, partition)
    if kind == "head":
        return _in_head(machine, others, directory, mark, random)
    if kind in ("gone", "short"):
        return _in_segment(machine, others, directory, mark, kind, random)
    if kind == "index":
        paths = machine.disk.paths(directory, ".index") + machine.disk.paths(directory, ".timeindex")
        return _in_file(machine, random.choice(paths), len(others), random) if paths else None
    return _in_item(machine, others, directory, mark, random)


def durable_mark(machine: Machine, partition: PartitionId) -> Point:
    """The mark that any power loss would leave."""
    inode = machine.disk.durable(PROMISES)
    mark = ORIGIN
    if inode is not None:
        for found in read_rounds(bytes(inode.synced)).rounds:
            for frame in found.frames:
                if isinstance(frame, MarkFrame) and frame.partition == partition:
                    mark = frame.mark
    return mark


def _in_file(machine: Machine, path: str, holders: int, random: Random) -> Place | None:
    size = len(machine.disk.files[path].cache)
    return Place(path, random.randrange(size), path.rpartition(".")[2], holders) if size else None


def _in_promises(machine: Machine, holders: int, random: Random) -> Place | None:
    inode = machine.disk.files.get(PROMISES)
    if inode is None or inode.cache != inode.synced or inode.unreadable:
        return None
    reading = read_rounds(bytes(inode.cache))
    if reading.lost is not None or not all(found.whole for found in reading.rounds):
        return None
    return _in_file(machine, PROMISES, holders, random)


def _in_head(machine: Machine, others: list[Machine], directory: str, mark: Point, random: Random) -> Place | None:
    heads = [_head(machine, path) for path in machine.disk.paths(directory, ".head")]
    logs = machine.disk.paths(directory, ".log")
    readable = all(head is not None for head in heads) and len(heads) == len(logs) and _reads_whole(machine, logs)
    if not heads or not readable:
        return None
    at = random.randrange(len(heads))
    head = heads[at]
    assert head is not None
    if head.base > mark:
        return None
    if at == 0 and not _are_whole(others, directory):
        return None
    behind = [
        bytes(machine.disk.files[logs[at]].cache[position : position + size])
        for position, size, _ in _items(machine, logs[at])
    ]
    holders = _holders(machine, others, directory, mark, behind)
    return _in_file(machine, machine.disk.paths(directory, ".head")[at], holders, random) if holders else None


def _in_segment(
    machine: Machine, others: list[Machine], directory: str, mark: Point, kind: str, random: Random
) -> Place | None:
    paths = machine.disk.paths(directory, ".log")
    if not paths or machine.disk.paths(directory, (BEGINNING, REPLACEMENT)) or not _reads_whole(machine, paths):
        return None
    path = random.choice(paths)
    content = bytes(machine.disk.files[path].cache)
    items = list(_items(machine, path))
    is_before_mark = bool(items) and items[-1][2] <= (mark.term, mark.offset)
    if (
        not is_before_mark
        or not machine.disk.is_settled(path)
        or (path == paths[0] and not _are_whole(others, directory))
    ):
        return None
    behind = [content[position : position + size] for position, size, _ in items]
    holders = _holders(machine, others, directory, mark, behind)
    position = random.randrange(len(content)) if kind == "short" else 0
    return Place(path, position, kind, holders) if holders else None


def _are_whole(machines: list[Machine], directory: str) -> bool:
    """Can the logs on all of them be read from the first head on?"""
    firsts = [machine.disk.paths(directory, ".head")[:1] for machine in machines]
    return all(paths and _head(one, paths[0]) for one, paths in zip(machines, firsts, strict=True)) and all(
        _reads_whole(machine, machine.disk.paths(directory, ".log")) for machine in machines
    )


def _head(machine: Machine, path: str, *, synced: bool = False) -> SegmentHead | None:
    inode = machine.disk.files.get(path)
    try:
        return None if inode is None else SegmentHead.from_bytes(inode.readable(synced=synced), path)
    except ValueError:
        return None


def _reads_whole(machine: Machine, paths: list[str]) -> bool:
    return all(
        sum(size for _, size, _ in _items(machine, path)) == len(machine.disk.files[path].cache) for path in paths
    )


def _in_item(machine: Machine, others: list[Machine], directory: str, mark: Point, random: Random) -> Place | None:
    paths = machine.disk.paths(directory, ".log")
    if not paths:
        return None
    path = random.choice(paths)
    items = [item for item in _items(machine, path) if item[2] <= (mark.term, mark.offset)]
    if not items:
        return None
    position, size, _ = random.choice(items)
    content = bytes(machine.disk.files[path].cache[position : position + size])
    holders = _holders(machine, others, directory, mark, [content])
    return Place(path, position + random.randrange(size), "log", holders) if holders else None


def _holders(machine: Machine, others: list[Machine], directory: str, mark: Point, contents: list[bytes]) -> int:
    """How many of the others hold all of it, and what this log held up to its mark?"""
    # A log that ends in an earlier term cannot prove that it held the same.
    path = machine.disk.paths(directory, ".log")[-1]
    ends = [found for found in _items(machine, path) if found[2] <= (mark.term, mark.offset)]
    end = bytes(machine.disk.files[path].cache[ends[-1][0] :][: ends[-1][1]]) if ends else b""
    return sum(all(_holds(other, directory, content) for content in (*contents, end)) for other in others)


def _items(machine: Machine, path: str) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Position, size, and (term, end offset) of the readable items from the start of a file on."""
    content = machine.disk.files[path].readable()
    position = 0
    while position < len(content):
        try:
            header = verify(content, position)
        except CorruptBatch:
            return
        yield position, header.size, (header.term, header.next_offset)
        position += header.size


def _holds(machine: Machine, directory: str, content: bytes) -> bool:
    """In a segment that a recovery would read: where its head has decayed, nobody finds what follows."""
    return any(
        content in machine.disk.files[path].readable(synced=True)
        and _head(machine, path.removesuffix(".log") + ".head", synced=True) is not None
        for path in machine.disk.paths(directory, ".log")
    )
