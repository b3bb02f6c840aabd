"""A hole in a log, and how it is filled with what another replica holds there.

Invariants
    what is taken is proved to be what stood there: of one term a log holds a prefix of what its leader appended, so two
        logs that both surely held something of a term are the same up to the lesser of their points of that term
    a compacted log gives nothing where it lacks a tombstone that the other one needs (`cleaned_to`), and nothing of the
        own log is joined on before where that lacks one
    the own bytes are joined on only where it is certain which item they are: right where the item before them ends
        (logs of which neither is compacted there are the same byte by byte), behind an item of records that both have,
        or at a point that a head names
    nothing is written over bytes that are there: a new file is made, synced, read again, and then takes their place

One hole at a time, the first one: once it is filled the log is read anew, which finds the next one if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from ...proto.errors import CorruptBatch, NewerFormat
from ...proto.record_batch import HEADER_SIZE, BatchHeader, Buffer, read_header, verify
from ..environment import Disk, File
from ..raft.messages import RepairRequest, Serving
from ..raft.points import ORIGIN, Item, Point, TermJournal
from .chain import place
from .replacement import LAST_OFFSET, Replacement, decide_replacement, finish_replacement
from .segment import MENDED, WINDOW_BYTES, batches, drop_segment, read_head, segment_path
from .segment_head import SegmentHead
from .zero_width import term_start

CLAIMS_MAX = 1000
PIECE_BYTES = 4096
"""What is read at a time where the disk gives errors."""

Breathe = Callable[[], Coroutine[Any, Any, None]]
"""Lets others go on for a moment."""


@dataclass(frozen=True, slots=True)
class Hole:
    """The first place at which a log cannot be read."""

    where: Point
    """The last point before it."""
    bases: tuple[int, ...]
    """Base offsets of all segments, those beyond the hole too."""
    segment: int
    """Index of the one that has it; -1: the log's beginning is lost, and nothing of it can be read."""
    base: Point
    """Where that segment begins; of a lost beginning, where it was, if that is known, else the origin."""
    position: int
    """Of the first unreadable byte there."""
    claims: tuple[Point, ...]
    """Points beyond it that this log surely held: of each term the highest one known."""
    copied_past: Point | None = None
    """What stands before the hole is given up too, as no other log goes back so far, or lacks what compaction dropped:
    all is copied, from where another log begins. The hole begins here; before, nothing of the own log is joined on."""
    is_unsynced: bool = False
    """All is readable, but what follows may not be on disk, whatever is read: it must not be kept."""
    is_error: bool = False
    """The disk gave an error there: it may give the bytes another time."""

    def copied(self) -> Hole:
        """The same if the log is to be copied from its beginning on."""
        return replace(self, where=ORIGIN, segment=-1, base=ORIGIN, position=0, copied_past=self.where)

    @property
    def goal(self) -> Point:
        return max(self.claims, default=self.where)


def claims_beyond(where: Point, points: Iterable[Point]) -> tuple[Point, ...]:
    """Of each term the highest of these points that lies beyond a hole."""
    highest: dict[int, Point] = {}
    for point in points:
        if point > where:
            highest[point.term] = max(point, highest.get(point.term, ORIGIN))
    return tuple(sorted(highest.values())[-CLAIMS_MAX:])


def points_of_heads(disk: Disk, directory: str, bases: Sequence[int]) -> list[Point]:
    """Points that stand in the readable ones of these heads: each once was in this log."""
    points: list[Point] = []
    for base in bases:
        head = readable_head(disk, directory, base)
        if head is not None:
            points += (*head.landmarks_before, head.base)
    return points


def readable_head(disk: Disk, directory: str, base: int) -> SegmentHead | None:
    try:
        return read_head(disk, directory, base)
    except ValueError:
        return None


# -- the one that is asked ---------------------------------------------------------------------------------------------


class Common(NamedTuple):
    """How far two logs are proved to be the same."""

    upto: Point
    conflicts: bool
    """This log does not hold the other's highest claim, or not the point before its hole."""


def common_with(journal: TermJournal, own_claims: Sequence[Point], where: Point, claims: Sequence[Point]) -> Common:
    """What this log, and what it once held beyond a hole of its own, has in common with one that held these points."""
    held = {span.term: span.last for span in journal.spans}
    claims = [_exact(claim, journal) for claim in claims]
    for claim in own_claims:
        held[claim.term] = max(claim, held.get(claim.term, ORIGIN))
    upto = max((min(claim, held[claim.term]) for claim in claims if claim.term in held), default=ORIGIN)
    highest = max(claims, default=where)
    holds_highest = highest == ORIGIN or highest <= journal.base or highest <= held.get(highest.term, ORIGIN)
    if where >= journal.base and not journal.holds(where):
        return Common(ORIGIN, conflicts=True)
    return Common(max(upto, where if journal.holds(where) else ORIGIN), conflicts=not holds_highest)


def _exact(claim: Point, journal: TermJournal) -> Point:
    """A claim drawn from an item of records does not know the zero-width items before it: this log does."""
    last = journal.last_of(claim.term)
    if last is None or last.offset < claim.offset:
        return claim
    return max(claim, journal.point_after_records(claim.offset, claim.term))


def first_point_at(journal: TermJournal, offset: int) -> Point:
    """The first point of a log at this offset, or its base if that lies behind it."""
    if offset <= journal.base.offset or not journal.spans:
        return journal.base
    return journal.point_after_records(offset, journal.term_at(offset - 1))


def judge_request(request: RepairRequest, common: Common, begin: Point, base: Point, cleaned_to: int) -> Serving:
    """May items after `begin` be given? They go through `common.upto` at most.

    Whoever copies a log from its very base on lacks just what this one lacks, and takes `cleaned_to` over.
    """
    first = begin if request.base_offset >= 0 else request.hole
    if begin < base or (first.offset < cleaned_to and first != base):
        return Serving.CLEANED
    if begin <= common.upto:
        return Serving.ITEMS
    # Where this log begins, the other one is not known to have been: it starts later.
    return Serving.CLEANED if request.base_offset >= 0 and begin == base else Serving.UNPROVED


# -- the one that asks -------------------------------------------------------------------------------------------------


class _Tail(NamedTuple):
    """Own bytes that follow what was filled in."""

    base_offset: int
    """Of the segment in whose file they are."""
    position: int


class Mending:
    """The file that takes the place of the one with a hole; one hole, items from one or several replicas.

    `rewritten_to` and `cleaned_to` say how far the own log is compacted.
    Raises
        CorruptBatch  from `take`, and nothing is taken: an item is not what it should be
        OSError       of the disk, as it says; give up then
    """

    def __init__(
        self, disk: Disk, directory: str, hole: Hole, *, rewritten_to: int, cleaned_to: int, breathe: Breathe
    ) -> None:
        self.hole = hole
        self.after = hole.where
        self.is_whole = False
        """Nothing more is needed."""
        self.rewritten_to = 0
        """How far those are compacted that items were taken from."""
        self.items_taken = 0
        self.bytes_taken = 0
        self.head: SegmentHead | None = None
        """Where the log begins, if its beginning was lost."""
        self._disk = disk
        self._directory = directory
        self._own_rewritten_to = rewritten_to
        self._own_cleaned_to = cleaned_to
        self._breathe = breathe
        self._file: File | None = None
        self._size = 0
        self._position = hole.position if hole.segment >= 0 else -1
        """Where the next item stands in the own file, if it is there; -1: not known."""
        self._own: dict[int, File] = {}
        self._searched: dict[int, bytes] = {}
        self._heads = [readable_head(disk, directory, base) for base in hole.bases]
        self._kept_from = max(hole.segment, 0) + 1
        """Index of the first segment that stays as it is."""
        self._tail: _Tail | None = None
        self._path = ""

    @property
    def base_offset(self) -> int:
        """Of the segment that is mended."""
        return self.head.base.offset if self.head is not None else self.hole.bases[self.hole.segment]

    async def begin(self) -> None:
        """Copy what stands before the hole. Of a log without a beginning, nothing: `begin_at` goes on then."""
        hole = self.hole
        if hole.segment < 0:
            return
        base_offset = hole.bases[hole.segment]
        self._create(base_offset)
        await self._copy(_Tail(base_offset, 0), hole.position)
        self._look_around(None)

    def begin_at(self, head: SegmentHead) -> None:
        """The log begins at `head`, which another replica gave."""
        assert self.hole.segment < 0 and self.head is None, f"{self.hole} has a beginning"
        if not head.voters:
            # It comes from a log that began as a learner's. The own second head knows better, if no item before it
            # names others: that item may yet be cut, and with it must go whom it named.
            second = self._heads[1] if len(self._heads) > 1 else None
            if second is not None and _follows_without_changes(second, head, self.hole.bases[0]):
                head = msgspec.structs.replace(head, voters=second.voters)
        self.head = head
        self.after = head.base
        self._own_cleaned_to = max(self._own_cleaned_to, head.cleaned_to)
        bases = self.hole.bases
        is_own_base = bool(bases) and bases[0] == head.base.offset and head.base == self.hole.base
        if is_own_base and self._may_join():
            # What stands in that file follows it. (The only point at offset 0 is the origin.)
            self._kept_from = 0
            self.is_whole = True
            return
        self._kept_from = next((at for at, base in enumerate(bases) if base >= head.base.offset), len(bases))
        if self._kept_from < len(bases) and bases[self._kept_from] == head.base.offset:
            found = self._heads[self._kept_from]
            if found is not None and found.base == head.base and self._may_join():
                if not head.voters:
                    # As above; and all before a beginning is committed: no item there will be cut.
                    self.head = msgspec.structs.replace(head, voters=found.voters)
                self.is_whole = True
                return
            self._kept_from += 1
        self._create(head.base.offset)
        self._look_around(None)

    def take(self, items: Sequence[Item], rewritten_to: int) -> None:
        """Add items that follow `after`, from a log that is compacted so far; what is too much is left out."""
        assert self._file is not None, "taking before the beginning is there"
        for item in items:
            if self.is_whole:
                return
            data = item.data or term_start(item.point).data
            header = verify(data)
            placed = place(self.after, header, data)
            if placed.point != item.point or header.size != len(data):
                raise CorruptBatch(
                    f"an item for {item.point} after {self.after} is one for {placed.point}", what="place"
                )
            if max(rewritten_to, self._own_rewritten_to) > self.hole.where.offset:
                self._position = -1
            self._file.write(self._size, [data])
            self._size += len(data)
            self.after = placed.point
            self.items_taken += 1
            self.bytes_taken += len(data)
            if rewritten_to > self.hole.where.offset:
                self.rewritten_to = max(self.rewritten_to, rewritten_to)
            if self._position >= 0:
                self._position += len(data)
            self._look_around(header)

    def _look_around(self, header: BatchHeader | None) -> None:
        """Does the own log go on here? `header` is that of the item just taken."""
        hole = self.hole
        while self._kept_from < len(hole.bases) and hole.bases[self._kept_from] < self.after.offset:
            self._kept_from += 1  # what was taken reaches into it
        if self._kept_from < len(hole.bases) and self._may_join():
            head = self._heads[self._kept_from]
            if head is not None and head.base == self.after:
                self.is_whole = True
                return
        if header is not None and self._may_join():
            self._tail = self._own_continuation(header)
        if self._tail is not None:
            self.is_whole = True
        elif self.after >= hole.goal:
            # What follows is past all that was surely held. Whoever reads the log judges it.
            self.is_whole = True
            if self._position >= 0 and not hole.is_unsynced:
                self._tail = _Tail(hole.bases[hole.segment], self._position)

    def _may_join(self) -> bool:
        """May anything of the own log stand after what was taken? Not what lacks a tombstone for what stands before."""
        hole = self.hole
        is_past = hole.copied_past is None or self.after > hole.copied_past
        return is_past and self.after.offset >= self._own_cleaned_to and not hole.is_unsynced

    def _own_continuation(self, header: BatchHeader) -> _Tail | None:
        """Where the own log goes on behind the item just taken, if that is certain."""
        hole = self.hole
        if self._position >= 0 and self._follows(hole.bases[hole.segment], self._position):
            return _Tail(hole.bases[hole.segment], self._position)
        if header.is_control:
            return None  # which of several it is cannot be told
        at = self._kept_from - 1
        candidates = [at] if self._position < 0 and 0 <= at < len(hole.bases) else []
        if at + 1 < len(hole.bases) and self._heads[at + 1] is None:
            candidates.append(at + 1)  # at which point it begins is not known
        for index in candidates:
            position = self._find(index, header)
            if position is not None:
                self._kept_from = index + 1
                return _Tail(hole.bases[index], position)
        return None

    def _follows(self, base_offset: int, position: int) -> bool:
        """Is there a readable item that can stand after the last one taken?"""
        own = self._own_file(base_offset)
        try:
            if own is None:
                return False
            size = read_header(own.read(position, HEADER_SIZE)).size
            content = own.read(position, size)
            place(self.after, verify(content), content)
        except (CorruptBatch, OSError):
            return False
        return True

    def _find(self, index: int, header: BatchHeader) -> int | None:
        """The position right behind the own copy, compacted or not, of an item of records."""
        hole = self.hole
        begin = hole.position if index == hole.segment else 0
        if index not in self._searched:
            self._searched[index] = self._read(hole.bases[index], begin)
        content = self._searched[index]
        wanted = header.base_offset.to_bytes(8, "big")
        at = content.find(wanted)
        while at >= 0:
            try:
                found = verify(content, at)
            except CorruptBatch:
                found = None
            if found is not None and _bounds(found) == _bounds(header) and not found.is_control:
                return begin + at + found.size
            at = content.find(wanted, at + 1)
        return None

    async def finish(self) -> None:
        """Make the new file durable, and read it again. CorruptBatch: it is not what was written."""
        if self._file is None:
            return
        joined_at = self._size
        if self._tail is not None:
            await self._copy(self._tail, None)
        await self._file.fdatasync()
        point = self.head.base if self.head is not None else self.hole.base
        breathe_at = WINDOW_BYTES
        for position, header, batch in batches(self._file, 0, joined_at):
            verify(batch)
            point = place(point, header, batch).point
            if position >= breathe_at:
                breathe_at = position + WINDOW_BYTES
                await self._breathe()
        if point != self.after:
            raise CorruptBatch(f"what was written ends at {point}, not at {self.after}", what="place")

    async def put_in_place(self) -> None:
        """Let the new file take the place of what it was made of, durably. Safe under a crash at any write."""
        if self.head is not None:
            await self._begin_log_anew(self.head)
            return
        await self._replace(self.base_offset)

    async def _replace(self, base_offset: int, *, begins_log: bool = False) -> None:
        bases = self.hole.bases
        end = bases[self._kept_from] if self._kept_from < len(bases) else LAST_OFFSET
        replacement = Replacement(base_offset, end, begins_log=begins_log)
        self.close()
        await decide_replacement(self._disk, self._directory, replacement, self._path)
        await finish_replacement(self._disk, self._directory, replacement)

    async def _begin_log_anew(self, head: SegmentHead) -> None:
        """A crash leaves a log without a readable beginning, or one that reads as its own head says."""
        disk, bases = self._disk, self.hole.bases
        if self._kept_from == len(bases) or bases[self._kept_from] != head.base.offset:
            # With all that stands before it, and the head that was found there: either could be taken for what the new
            # file follows, if that head had not come to its place when the power failed.
            await self._replace(self.base_offset, begins_log=True)
        else:
            # The file stays. Segments before it would be joined to the new head, which says more than they do, such as
            # how far the start was moved later: they go first.
            for base in bases[: self._kept_from]:
                await drop_segment(disk, self._directory, base)
        await write_head(disk, self._directory, head)

    def close(self) -> None:
        """Let go of all files. What is not in place is removed when the log is next read."""
        for file in (*self._own.values(), *([self._file] if self._file is not None else [])):
            file.close()
        self._own.clear()
        self._file = None

    def _create(self, base_offset: int) -> None:
        self._path = segment_path(self._directory, base_offset) + ".log" + MENDED
        if self._disk.exists(self._path):
            self._disk.unlink(self._path)
        self._file = self._disk.open(self._path, create=True)

    async def _copy(self, tail: _Tail, end: int | None) -> None:
        assert self._file is not None
        own = self._own_file(tail.base_offset)
        if own is None:
            return
        position = tail.position
        end = own.size() if end is None else end
        while position < end:
            content = read_what_can_be(own, position, min(WINDOW_BYTES, end - position))
            if not content:
                break
            self._file.write(self._size, [content])
            self._size += len(content)
            position += len(content)
            await self._breathe()

    def _read(self, base_offset: int, position: int) -> bytes:
        own = self._own_file(base_offset)
        if own is None:
            return b""
        return read_what_can_be(own, position, max(own.size() - position, 0))

    def _own_file(self, base_offset: int) -> File | None:
        if base_offset not in self._own:
            try:
                self._own[base_offset] = self._disk.open(segment_path(self._directory, base_offset) + ".log")
            except OSError:
                return None
        return self._own[base_offset]


def read_what_can_be(file: File, position: int, size: int) -> bytes:
    """Bytes of a file; zeros where the disk gives none."""
    try:
        return file.read(position, size)
    except OSError:
        pass
    pieces: list[Buffer] = []
    at, end = position, position + size
    while at < end:
        # By the disk's blocks: one that fails must not take along what stands beside it.
        length = min(PIECE_BYTES - at % PIECE_BYTES, end - at)
        try:
            pieces.append(file.read(at, length))
        except OSError:
            pieces.append(bytes(length))
        at += length
    return b"".join(pieces)


def _follows_without_changes(second: SegmentHead, first: SegmentHead, base_offset: int) -> bool:
    """Is `second` the head behind the segment of `first`, which begins at `base_offset`, and changes no voters?"""
    return base_offset == first.base.offset == second.base_offset_before and not second.voter_changes_before


def _bounds(header: BatchHeader) -> tuple[int, int, int]:
    """What says which item of records of a log it is."""
    return header.term, header.base_offset, header.next_offset


class NamesNotSynced(OSError):
    """A directory could not be synced. What is synced later says nothing of the names that were changed before."""


async def write_head(
    disk: Disk, directory: str, head: SegmentHead, is_wanted: Callable[[], bool] = lambda: True
) -> None:
    """Put a head in place, durably: the old one, if there is one, or this one is found after a crash.

    OSError: the old one is still there. NamesNotSynced: nobody knows which, nor whether other names are on disk.
    `is_wanted` is asked right before: what the log held there may have been cut, and begun anew, meanwhile.
    """
    path = segment_path(directory, head.base.offset) + ".head"
    if disk.exists(path + MENDED):
        disk.unlink(path + MENDED)
    new = disk.open(path + MENDED, create=True)
    try:
        new.write(0, [head.to_bytes()])
        await new.fdatasync()
    finally:
        new.close()
    if is_wanted():
        disk.rename(path + MENDED, path)
        try:
            await disk.sync_directory(directory)
        except OSError as error:
            raise NamesNotSynced(error.errno, error.strerror, directory) from error


def head_of_reply(content: bytes, path: str) -> SegmentHead:
    """ValueError: it is no head that this version understands."""
    try:
        return SegmentHead.from_bytes(content, path)
    except NewerFormat as error:
        raise ValueError(error.message) from error
