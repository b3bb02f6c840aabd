"""A partition's directory, read as a log: how far it can be read, what it says up to there, and what stands beyond.

Invariants
    reading changes nothing on disk
    a closed segment is taken unread only if the mark is past it, its size is what the next head says, and nobody
    suspects it; the journal of it comes from the next head. Its bytes were synced when the mark passed them; a flaw
    that came later is found by the reads that meet it, each of which checks CRCs
    of every other segment every item is read and checked
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ...proto.errors import CorruptBatch
from ...proto.record_batch import read_header, verify
from ..environment import Disk, PartitionId, ReplicaConfig
from ..raft.points import ORIGIN, ItemKind, Point, TermJournal
from ..raft.voter_sets import VoterSets
from .chain import is_thinned, links, place
from .contents import Contents
from .disk_errors import is_disk_error
from .log_starts import LogStarts
from .recovery import SECTOR_BYTES, Evidence, Stray, holds_zero_sector, readable_batches, stray_items
from .repair import read_what_can_be
from .segment import Segment, batches, read_head, segment_bases, segment_files, segment_path
from .segment_head import SegmentHead, head_size
from .sparse_index import SparseIndex


class Unreadable(NamedTuple):
    """Where a log cannot be read on."""

    why: str
    segment: int
    """Index of the segment, in the order of base offsets; 0 if there is none."""
    position: int
    runs_past_end: bool
    can_be_zeros: bool
    """Bytes stand there; False where a whole segment or its head is what is missing."""
    is_error: bool = False
    """The disk gave an error: it may give the bytes another time."""


class Beyond(NamedTuple):
    """What stands past an unreadable place."""

    highest: Point
    """The mark, or the highest point that a head or an item there shows. Its rank is the least it can be."""
    ends_unreadable: Unreadable | None
    """The last unreadable place, if no readable item stands after it."""


@dataclass(slots=True)
class Scan:
    """What reading found."""

    segments: list[Segment]
    """Those that hold readable items, in order; the last one holds the end."""
    bases: list[int]
    """Base offsets of all segments in the directory."""
    lost_heads: list[tuple[Segment, SegmentHead]]
    """Heads that must be written again; what stands before them says what they held."""
    contents: Contents | None
    """At the end; None without a readable first segment."""
    journal: TermJournal
    starts: LogStarts
    """As exact as the segments were read; of one taken unread, as of the next head."""
    voter_sets: VoterSets
    unreadable: Unreadable | None = None
    mark_place: tuple[int, int] | None = None
    """Segment and position right after the mark, if it was met; None: all that was read is past it."""
    thinned_to: int = 0
    """Where the last of the items read ends of which compaction had dropped records."""
    may_lack_beginning: bool = False
    """All that was read up to a hole says that the log starts before its first segment."""


def scan_log(
    disk: Disk,
    directory: str,
    partition: PartitionId,
    mark: Point,
    config: ReplicaConfig,
    suspects: Collection[int] | None = (),
) -> Scan:
    """Read a log as far as it goes. NewerFormat: a later version wrote it.

    `suspects` are the base offsets of segments in which something unreadable was met; None: it may be any.
    """
    return _Scanner(disk, directory, partition, mark, config, suspects).scan()


class _Scanner:
    def __init__(
        self,
        disk: Disk,
        directory: str,
        partition: PartitionId,
        mark: Point,
        config: ReplicaConfig,
        suspects: Collection[int] | None,
    ) -> None:
        self._suspects = suspects
        self._disk = disk
        self._directory = directory
        self._partition = partition
        self._mark = mark
        self._interval_bytes = config.index_interval_bytes
        self._bases: list[int] = []
        self._heads: list[SegmentHead | str] = []
        self._is_error_at_beginning = False

    def scan(self) -> Scan:
        try:
            self._bases = segment_bases(segment_files(self._disk, self._directory))
        except FileNotFoundError:
            self._bases = []
        self._heads = [self._head(base) for base in self._bases]
        found = self._nothing()
        if not self._heads:
            found.unreadable = Unreadable("no segment is there", 0, 0, False, False)
            return found
        first = self._heads[0]
        if isinstance(first, str):
            found.unreadable = Unreadable(
                f"the first head: {first}", 0, 0, False, False, is_error=self._is_error_at_beginning
            )
            return found
        found.contents = Contents(first)
        found.journal = TermJournal(first.base)
        found.starts = LogStarts(first.base, first.start_offset)
        found.voter_sets = VoterSets(first.base, first.voters)
        while found.unreadable is None and len(found.segments) < len(self._bases):
            if not self._take_unread(found, found.contents):
                self._read_segment(found, found.contents)
        start_offset = max(first.start_offset, found.contents.start_offset)
        found.may_lack_beginning = start_offset < self._bases[0]
        # What is unreadable past the mark may be cut, and is none then; behind one before it, what moved the start may
        # stand.
        is_read = found.unreadable is None or found.contents.end >= self._mark
        if is_read and found.may_lack_beginning:
            # All that is there says that the log starts earlier: segments before the first one are gone. (Where a log
            # began anew the first head says so; later heads may be older, and what moved the start may be yet to come.)
            missing = Unreadable(f"no segment holds offset {start_offset}", 0, 0, False, False)
            found = self._nothing()
            found.unreadable = missing
        return found

    def _nothing(self) -> Scan:
        return Scan([], self._bases, [], None, TermJournal(ORIGIN), LogStarts(ORIGIN, 0), VoterSets(ORIGIN, ()))

    def _head(self, base_offset: int) -> SegmentHead | str:
        try:
            head = read_head(self._disk, self._directory, base_offset)
            Contents(head)
            if base_offset == self._bases[0]:
                # A log has its beginning where both can be had: it is cut and joined to what stands in that file.
                self._segment(head.base).close()
        except ValueError as error:
            if base_offset == self._bases[0]:
                self._is_error_at_beginning = is_disk_error(error.__cause__)
            return str(error)
        except OSError as error:
            self._is_error_at_beginning = is_disk_error(error)
            return f"the file beside it cannot be opened: {error}"
        return head

    def _segment(self, base: Point) -> Segment:
        """OSError: its size cannot be had."""
        segment = Segment(self._disk, self._directory, base, 0, self._interval_bytes)
        segment.size = segment.file.size()
        return segment

    def _take_unread(self, found: Scan, contents: Contents) -> bool:
        """Take the next segment as the head behind it describes it. False if it must be read."""
        at = len(found.segments)
        if at + 1 == len(self._heads) or self._suspects is None or self._bases[at] in self._suspects:
            return False
        this, following = self._heads[at], self._heads[at + 1]
        if isinstance(this, str) or isinstance(following, str) or following.base > self._mark:
            return False
        # Another one may have stood between these two, and be gone; segments of the same size are common.
        if this.base != contents.end or following.base_offset_before != this.base.offset:
            return False
        try:
            segment = self._segment(this.base)
        except OSError:
            return False
        segment.append_time_before_ms = this.append_time_ms
        segment.release()
        journal = found.journal.copy()
        for landmark in following.landmarks_before:
            if not links(journal.last, landmark):
                return False
            journal.extend(landmark)
        changes = following.voter_changes_before
        points = [found.voter_sets.changed_at, *(change.point for change in changes)]
        if any(later <= earlier for earlier, later in pairwise(points)):
            return False
        voters = changes[-1].voters if changes else found.voter_sets.newest
        if (segment.size, journal.last, voters) != (following.bytes_before, following.base, following.voters):
            return False
        for change in changes:
            found.voter_sets.note(*change)
        if following.base == self._mark:
            found.mark_place = (at, segment.size)
        found.segments.append(segment)
        found.journal = journal
        found.contents = Contents(following)
        found.starts.note(following.base, following.start_offset)
        return True

    def _read_segment(self, found: Scan, contents: Contents) -> None:
        at = len(found.segments)
        head = self._heads[at]
        offset = self._bases[at]
        if offset != contents.end.offset or (isinstance(head, SegmentHead) and head.base != contents.end):
            base = head.base if isinstance(head, SegmentHead) else Point(contents.end.term, offset, contents.end.rank)
            found.unreadable = Unreadable(
                f"the log can be read to {contents.end}, but the next segment begins at {base}",
                at - 1,
                found.segments[-1].size,
                runs_past_end=base > contents.end,
                can_be_zeros=False,
            )
            return
        try:
            segment = self._segment(contents.end)
        except OSError as error:
            found.unreadable = Unreadable(
                f"it cannot be opened: {error}", at, 0, False, False, is_error=is_disk_error(error)
            )
            return
        if isinstance(head, str) and segment.size and contents.end >= self._mark:
            # What stands before it would say what the head held, but past the mark an item without width may be missing
            # there: the file's name tells offsets only, and the log would be joined over the gap.
            segment.close()
            found.unreadable = Unreadable(
                f"the head at {offset}: {head}",
                at - 1,
                found.segments[-1].size,
                runs_past_end=is_head_unfinished(self._disk, self._directory, offset),
                can_be_zeros=False,
            )
            return
        if isinstance(head, str):
            head = self._heads[at] = contents.next_head(self._partition, found.segments[-1].size)
            found.lost_heads.append((segment, head))
        segment.append_time_before_ms = head.append_time_ms
        found.segments.append(segment)
        # A new segment's landmarks are its own, and the append time is the one that its head knows.
        found.contents = contents = Contents(head)
        if contents.voters != found.voter_sets.newest:
            # The beginning was lost, and had from a replica whose log names nobody there. This head is our own.
            found.voter_sets.note(contents.end, contents.voters)
        index = SparseIndex(segment.base, self._interval_bytes)
        position = 0
        try:
            for position, header, batch in batches(segment.file, 0, segment.size):
                verify(batch)
                if contents.end == self._mark and found.mark_place is None:
                    found.mark_place = (at, position)
                placed = place(contents.end, header, batch)
                if contents.end < self._mark < placed.point:
                    raise CorruptBatch(f"the log holds {placed.point}, not its mark {self._mark}", what="place")
                before = contents.end
                contents.note(placed, header)
                if is_thinned(placed, header):
                    found.thinned_to = placed.point.offset
                index.note(before, position, header.max_timestamp_ms)
                found.journal.extend(placed.point)
                found.starts.note(placed.point, contents.start_offset)
                if placed.kind is ItemKind.VOTERS:
                    found.voter_sets.note(placed.point, contents.voters)
                position += header.size
        except CorruptBatch as error:
            found.unreadable = Unreadable(str(error), at, position, error.facts["what"] == "cut short", True)
            segment.size = position
        except OSError as error:
            found.unreadable = Unreadable(f"it cannot be read: {error}", at, position, False, False, is_error=True)
            segment.size = position
        if contents.end == self._mark and found.mark_place is None:
            found.mark_place = (at, segment.size)
        if len(found.segments) == len(self._bases) or found.unreadable is not None:
            segment.take_index(index)
        else:
            segment.release()
        if found.unreadable is None and len(found.segments) == len(self._bases) and contents.end < self._mark:
            why = f"the log ends at {contents.end}, before its mark {self._mark}"
            found.unreadable = Unreadable(why, at, segment.size, False, False)


def is_head_unfinished(disk: Disk, directory: str, base_offset: int) -> bool:
    """Does an unreadable head show that it never reached the disk, as a whole? Then no item behind it ever counted."""
    path = segment_path(directory, base_offset) + ".head"
    try:
        if not disk.exists(path):
            return True
        file = disk.open(path)
        try:
            content = file.read(0, file.size())
        finally:
            file.close()
    except OSError:
        return False
    sectors = (content[at : at + SECTOR_BYTES] for at in range(0, len(content), SECTOR_BYTES))
    return len(content) < head_size(content) or not all(any(sector) for sector in sectors)


def evidence(disk: Disk, directory: str, found: Scan, place_: Unreadable, *, mark: Point, same_boot: bool) -> Evidence:
    """What judging an unreadable place takes."""
    end = found.contents.end if found.contents is not None else ORIGIN
    rest = _read_on(disk, directory, found, place_) if place_.can_be_zeros else _Rest(b"", is_whole=True)
    return Evidence(
        before_mark=end < mark or found.contents is None,
        same_boot=same_boot,
        runs_past_end=place_.runs_past_end,
        holds_zero_sector=rest.is_whole and holds_zero_sector(rest.content, place_.position),
        # What the disk does not give may be items, too.
        items_beyond=not rest.is_whole
        or place_.segment + 1 < len(found.bases)
        or any(
            header.term >= end.term and header.base_offset >= end.offset
            for _, header in readable_batches(rest.content[1:])
        ),
    )


def look_beyond(disk: Disk, directory: str, found: Scan, place_: Unreadable, mark: Point, term_max: int) -> Beyond:
    """Everything past an unreadable place that can still be read.

    An item's term and base offset lie outside its CRC: one of a term past `term_max` is not what it says.
    """
    end = found.contents.end if found.contents is not None else ORIGIN
    highest = max(mark, end)
    last = end
    last_unreadable: Unreadable | None = place_
    for at in range(place_.segment, len(found.bases)):
        begin = place_.position if at == place_.segment else 0
        if at > place_.segment:
            try:
                base = read_head(disk, directory, found.bases[at]).base
                last = base
                highest = max(highest, base)
                if base >= mark:
                    last_unreadable = None
            except ValueError as error:
                last_unreadable = Unreadable(str(error), at, 0, False, False)
        content, is_whole = _read_on(disk, directory, found, Unreadable("", at, begin, False, True))
        readable_to = 0
        follows = at == place_.segment and place_.can_be_zeros
        for stray in stray_items(content, after=end, term_max=term_max, follows=follows):
            if (stray.term, stray.next_offset) > (mark.term, mark.offset):
                last = max(last, mark)
            last = max(last, _point_beyond(last, stray))
            highest = max(highest, last)
            # Where zeros stand for what the disk did not give, an item alone may say less than was held.
            if (stray.term, stray.next_offset) >= (mark.term, mark.offset) and (is_whole or stray.is_confirmed):
                last_unreadable = None
            readable_to = stray.position + stray.size_bytes
        if readable_to < len(content) or not (content or is_whole):
            is_cut_short = is_whole and _is_cut_short(content[readable_to:])
            last_unreadable = Unreadable("", at, begin + readable_to, is_cut_short, is_whole)
    if last_unreadable is not None and last_unreadable.segment == len(found.bases) - 1 and place_.can_be_zeros:
        begins = (end, place_.position) if place_.segment == last_unreadable.segment else None
        if begins is None:
            try:
                begins = (read_head(disk, directory, found.bases[-1]).base, 0)
            except ValueError:
                return Beyond(highest, last_unreadable)
        rest = _read_on(disk, directory, found, Unreadable("", len(found.bases) - 1, begins[1], False, True))
        if rest.is_whole and _ends_with_mark(rest.content, begins[0], mark):
            last_unreadable = None
    return Beyond(highest, last_unreadable)


def _ends_with_mark(content: bytes, end: Point, mark: Point) -> bool:
    """Do the headers alone say that nothing follows the mark? Then nothing past it can have been lost."""
    position = 0
    while position < len(content):
        try:
            header = read_header(content, position)
            end = place(end, header, content[position : position + header.size]).point
        except CorruptBatch:
            return False
        position += header.size
    return position == len(content) and end == mark


def points_beyond(disk: Disk, directory: str, found: Scan, place_: Unreadable, term_max: int) -> list[Point]:
    """Points that readable items beyond an unreadable place show, where two of them agree; of each the least rank.

    Looked for where no head says the same: in the segment with that place, and in the last one.
    """
    end = found.contents.end if found.contents is not None else ORIGIN
    points: list[Point] = []
    for at in sorted({place_.segment, len(found.bases) - 1} & {*range(len(found.bases))}):
        begin = place_.position if at == place_.segment else 0
        content, _ = _read_on(disk, directory, found, Unreadable("", at, begin, False, True))
        strays = stray_items(content, after=end, term_max=term_max, follows=at == place_.segment)
        points += [Point(stray.term, stray.next_offset, 1) for stray in strays if stray.is_confirmed]
    return points


def _point_beyond(before: Point, stray: Stray) -> Point:
    """The least point at which an item can end that stands somewhere after the one at `before`."""
    if stray.term > before.term:
        return Point(stray.term, stray.next_offset, 1)
    return Point(stray.term, stray.next_offset, before.rank + stray.is_zero_width)


def _is_cut_short(content: bytes) -> bool:
    try:
        verify(content)
    except CorruptBatch as error:
        return error.facts["what"] in ("cut short", "short header")
    return False


class _Rest(NamedTuple):
    """What stands in a segment's file from some place on."""

    content: bytes
    """Zeros where the disk gives none; nothing if it does not give the file."""
    is_whole: bool
    """The disk gave all of it."""


def _read_on(disk: Disk, directory: str, found: Scan, place_: Unreadable) -> _Rest:
    if place_.segment >= len(found.bases):
        return _Rest(b"", is_whole=True)
    try:
        file = disk.open(segment_path(directory, found.bases[place_.segment]) + ".log")
    except OSError:
        return _Rest(b"", is_whole=False)
    try:
        size = max(0, file.size() - place_.position)
        try:
            return _Rest(file.read(place_.position, size), is_whole=True)
        except OSError:
            return _Rest(read_what_can_be(file, place_.position, size), is_whole=False)
    except OSError:
        return _Rest(b"", is_whole=False)
    finally:
        file.close()
