"""The replicas of one partition, compared: the same bytes where logs must be the same, and enough copies of it.

Invariants
    of a term every log holds a prefix of what its leader appended, so two logs are the same through the lesser of their
        points of the highest term that both hold (`common_end`); beyond, they may differ: what is not committed is cut
    above the highest `rewritten_to` of all replicas the bytes are compared; below, the items without width and those
        records that both still have. What a leader compacted is what a follower gets, without a word of its own on
        it: so where not all voters were given, nobody knows how far that goes, and records that are missing from a
        batch of the same bounds are taken for compacted everywhere
    what is unreadable in one of them is not compared there: that is damage, and told as such
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ....proto.errors import LograftError
from ....proto.record_batch import decode
from ...raft.points import ORIGIN, Point
from ..replacement import LAST_OFFSET
from ..segment import read_head, segment_bases, segment_files, segment_path
from .chunks import Chunk
from .findings import Finding, Level
from .replica import ReplicaCheck
from .walk import BadPlace, WalkedItem, walk


class Difference(NamedTuple):
    """The first place at which two logs are not the same though they must be."""

    after: Point
    what: str


def common_end(one: ReplicaCheck, other: ReplicaCheck) -> Point:
    """Through where these logs must be the same; the origin if they share no term."""
    held, others = _held(one), _held(other)
    return max((min(held[term], others[term]) for term in held.keys() & others.keys()), default=ORIGIN)


def _held(replica: ReplicaCheck) -> dict[int, Point]:
    """Of each term, through where this log surely once went."""
    held = {span.term: span.last for span in replica.journal.spans}
    hole = replica.log.hole if replica.log is not None else None
    for claim in hole.claims if hole is not None else ():
        held[claim.term] = max(claim, held.get(claim.term, ORIGIN))
    return held


def first_difference(one: ReplicaCheck, other: ReplicaCheck, compacted_to: int) -> Difference | None:
    """Compare two replicas; below `compacted_to` either may lack records. OSError: of the disk, as it says."""
    begin, upto = max(one.base, other.base), common_end(one, other)
    known = {chunk.begin: chunk for chunk in other.table.chunks if chunk.is_exact}
    at: Point | None = None
    for chunk in one.table.chunks:
        if chunk.end <= begin or not chunk.is_exact or (at is not None and chunk.end <= at):
            continue
        if chunk.begin >= upto:
            break
        twin = known.get(chunk.begin)
        if twin is not None and (twin.end, twin.digest) == (chunk.end, chunk.digest):
            continue
        found = _compare(one, other, max(chunk.begin, begin), min(chunk.end, upto), compacted_to)
        if found is not None:
            return found
        at = chunk.end
    return None


def _compare(one: ReplicaCheck, other: ReplicaCheck, begin: Point, upto: Point, compacted_to: int) -> Difference | None:
    """The first difference in the items of both after `begin` and through `upto`."""
    left, right = _Reading(one, begin, upto), _Reading(other, begin, upto)
    while left.item is not None and right.item is not None:
        mine, theirs = left.item, right.item
        is_compacted = mine.header.base_offset < compacted_to
        if mine.placed.point == theirs.placed.point:
            if mine.batch != theirs.batch and not (is_compacted and _same_records(mine, theirs)):
                return Difference(mine.before, _told(mine))
            left.advance()
            right.advance()
            continue
        ahead, behind = (left, right) if mine.placed.point > theirs.placed.point else (right, left)
        assert ahead.item is not None and behind.item is not None
        # It lacks what the other one has: a hole in it says so by itself, and compaction merges what it emptied.
        is_merged = is_compacted and bool(behind.item.header.width) and not ahead.item.header.record_count
        if not ahead.follows_gap and not is_merged:
            return Difference(behind.item.before, f"one of them lacks {_told(behind.item)}")
        behind.advance()
    lacking, having = (left, right) if left.item is None else (right, left)
    if having.item is not None and not lacking.follows_gap and not lacking.replica.bad:
        is_compacted = having.item.header.base_offset < compacted_to
        if not is_compacted:
            return Difference(having.item.before, f"one of them lacks {_told(having.item)}")
    return None


class _Reading:
    """The items of a log after one point and through another, those that can be read and whose points are known."""

    def __init__(self, replica: ReplicaCheck, begin: Point, upto: Point) -> None:
        self.replica = replica
        self.item: WalkedItem | None = None
        self.follows_gap = False
        """Something unreadable stands before it."""
        self._items = _items(replica, begin)
        self._begin = begin
        self._upto = upto
        self.advance()

    def advance(self) -> None:
        self.item, self.follows_gap = None, False
        for step in self._items:
            if isinstance(step, BadPlace) or not step.is_exact:
                self.follows_gap = True
                continue
            if step.placed.point <= self._begin:
                continue
            if step.placed.point <= self._upto:
                self.item = step
            return


def _items(replica: ReplicaCheck, begin: Point) -> Iterator[WalkedItem | BadPlace]:
    disk, directory = replica.disk, replica.directory
    assert disk is not None, f"{directory} was not read"
    chunks = [chunk for chunk in replica.table.chunks if chunk.is_exact]
    at = bisect_right(chunks, begin, key=lambda chunk: chunk.begin) - 1
    if at < 0:
        return
    first: Chunk = chunks[at]
    bases = segment_bases(segment_files(disk, directory))
    end: Point | None = first.begin
    for base in bases[bases.index(first.base_offset) :]:
        position = first.position if base == first.base_offset else 0
        is_exact = True
        if end is None or (end.offset, position) != (base, 0):
            try:
                own = read_head(disk, directory, base).base
            except ValueError:
                own, is_exact = Point(0, base, 0), False
            begin_at = first.begin if position else own
        else:
            begin_at = end
        file = disk.open(segment_path(directory, base) + ".log")
        try:
            for step in walk(file, begin_at, position, is_exact=is_exact):
                yield step
                end = step.placed.point if isinstance(step, WalkedItem) else None
        finally:
            file.close()


def _same_records(mine: WalkedItem, theirs: WalkedItem) -> bool:
    """Do two copies of a batch, each compacted for itself, say the same of the records that both have?"""
    left_header, right_header = mine.header, theirs.header
    if not left_header.width or left_header.is_control:
        return False
    if not left_header.record_count or not right_header.record_count:
        return True
    if left_header.base_offset != right_header.base_offset:
        return False
    try:
        left, right = decode(mine.batch), decode(theirs.batch)
    except LograftError:
        return False  # what cannot be decoded is never compacted
    others = {record.offset: record for record in right}
    return all(others.get(record.offset, record) == record for record in left)


def _told(item: WalkedItem) -> str:
    if not item.header.width:
        return f"the {item.placed.kind.name.lower().replace('_', ' ')} at offset {item.header.base_offset}"
    first, last = item.header.base_offset, item.header.next_offset - 1
    return f"the record at offset {first}" if first == last else f"the records at offsets {first} to {last}"


# -- of a whole partition ----------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    findings: list[Finding]
    begin: Point
    """Where the comparison began, and through where at least two replicas were found to be the same or not."""
    end: Point


def compare(replicas: Sequence[ReplicaCheck], names: Sequence[str]) -> Compared:
    """Compare all replicas of a partition that were given, named as a person would name them."""
    judged = [at for at, replica in enumerate(replicas) if replica.is_judged]
    findings: list[Finding] = []
    first: tuple[Point, str] | None = None
    differing: set[tuple[int, int]] = set()
    upto = ORIGIN
    begin: Point | None = None
    compacted_to = _compacted_to(replicas)
    for index, one in enumerate(judged):
        for other in judged[index + 1 :]:
            upto = max(upto, common_end(replicas[one], replicas[other]))
            base = max(replicas[one].base, replicas[other].base)
            begin = base if begin is None else min(begin, base)
            found = first_difference(replicas[one], replicas[other], compacted_to)
            if found is not None:
                differing.add((one, other))
                first = min(first, found) if first is not None else found
    if first is not None:
        groups = _groups(judged, differing)
        told = " differ from ".join(", ".join(names[at] for at in group) for group in groups)
        findings.append(
            Finding(
                Level.DIFFERENCE,
                replicas[groups[-1][0]].directory,
                f"{first[1]}, of term {first[0].term} behind {first[0]}: {told}, and each has a good CRC",
                "decay cannot do that: directories were mixed, or lograft has a defect. Keep a copy of all directories "
                "before any broker starts, and report it",
                None,
                first[0].offset,
            )
        )
    findings += _dangers(replicas, judged, names)
    return Compared(findings, begin or ORIGIN, upto)


def _compacted_to(replicas: Sequence[ReplicaCheck]) -> int:
    """Below which offset a replica may lack records that another one has."""
    newest = max(replicas, key=lambda replica: replica.end, default=None)
    given = {replica.directory_id for replica in replicas}
    if newest is None or any(voter.directory_id not in given for voter in newest.voters):
        return LAST_OFFSET
    return max(replica.promises.rewritten_to if replica.promises is not None else 0 for replica in replicas)


def _groups(judged: Sequence[int], differing: set[tuple[int, int]]) -> list[list[int]]:
    """Those that are the same, together; the largest group first."""
    groups: list[list[int]] = []
    for at in judged:
        for group in groups:
            if not any((min(at, one), max(at, one)) in differing for one in group):
                group.append(at)
                break
        else:
            groups.append([at])
    return sorted(groups, key=len, reverse=True)


def _dangers(replicas: Sequence[ReplicaCheck], judged: Sequence[int], names: Sequence[str]) -> list[Finding]:
    """Does a majority of the voters hold what a majority of them once promised?"""
    if not judged:
        return []
    newest = max((replicas[at] for at in judged), key=lambda replica: replica.end)
    votes = {(voter.directory_id, voter.replica_number) for voter in newest.voters}
    counted = [
        at
        for at, replica in enumerate(replicas)
        if replica.promises is not None and (replica.directory_id, replica.promises.replica_number) in votes
    ]
    majority = len(votes) // 2 + 1
    if len(counted) < majority:
        return []
    promised = sorted((replicas[at].promised for at in counted), reverse=True)[majority - 1]
    holders = [at for at in counted if _holds(replicas[at], promised)]
    if len(holders) + len(votes) - len(counted) >= majority:
        return []  # those that were not given may hold it
    lowest = min((replicas[at].end.offset for at in counted if at not in holders), default=0)
    who = ", ".join(names[at] for at in holders) or "nobody"
    return [
        Finding(
            Level.DANGER,
            newest.directory,
            f"a majority of {len(votes)} voters once held the log through {promised}; whole through there is now "
            f"{who}, so acknowledged records from offset {lowest} on are in danger",
            "lose no disk: keep a copy of every directory, then start all brokers together; each hole is filled from "
            "whoever can read there. What is unreadable everywhere needs `lograft partition recover`",
            None,
            lowest,
            promised.offset,
        )
    ]


def _holds(replica: ReplicaCheck, point: Point) -> bool:
    return replica.is_judged and not replica.is_doubtful and (point <= replica.base or replica.journal.holds(point))
