"""Items and records of one log, as they are stored: found by index, and checked before they are given.

Invariants
    an index is never trusted: what does not stand where it says is looked for anew
    what is given was checked: its CRC, and that it stands where the log knows it to stand
    where a reader stopped is kept for a while, and so are descriptors and indexes of closed segments: both bounded, and
    forgotten before the segments go
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from ...proto.errors import CorruptBatch
from ...proto.record_batch import verify
from ..cold_reads import CachedFile, NotInMemory
from ..environment import PartitionId
from ..raft.points import Item, Point, TermJournal
from .chain import place
from .contents import Contents
from .segment import WINDOW_BYTES, DamagedLog, Segment, batches
from .segments import Segments
from .sparse_index import Place
from .zero_width import item_of

CLOSED_SEGMENTS_OPEN_MAX = 4
"""Descriptors and indexes that a log keeps of closed segments that were read."""

_PLACES_KEPT = 32


class LogReader:
    """Of the segments of one log. What of them is the log, and committed, its caller knows.

    DamagedLog: stored bytes are not what was written.
    """

    def __init__(self, segments: Segments, partition: PartitionId, directory: str, index_interval_bytes: int) -> None:
        self._segments = segments
        self._partition = partition
        self._directory = directory
        self._index_interval_bytes = index_interval_bytes
        self._read_last: OrderedDict[Segment, None] = OrderedDict()
        self._places: OrderedDict[Point | int, tuple[Segment, int]] = OrderedDict()

    def items(self, journal: TermJournal, after: Point, upto: Point, bytes_max: int) -> tuple[Item, ...]:
        """As `PartitionLog.read_items`, of a log with this journal that ends at `upto` or later."""
        items: list[Item] = []
        left = bytes_max
        while after < upto and (left > 0 or not items):
            segment, position = self._place_of_point(journal, after)
            count = len(items)
            try:
                for _, header, batch in batches(segment.file, position, segment.size, _window(left), bytes_max=left):
                    if items and header.size > left:
                        break
                    verify(batch)
                    placed = place(after, header, batch)
                    if placed.point > upto:
                        upto = after
                        break
                    items.append(item_of(placed.point, placed.kind, placed.payload, batch))
                    after = placed.point
                    position += header.size
                    left -= header.size
                    if left <= 0:
                        break
            except (CorruptBatch, OSError) as error:
                if items:
                    break
                raise DamagedLog(segment.path, position, str(error)) from error
            self._keep_place(after, segment, position)
            if len(items) == count:
                if not items and after < upto:
                    raise DamagedLog(segment.path, position, f"nothing follows {after}")
                break
        return tuple(items)

    def records(
        self, journal: TermJournal, offset: int, upto_offset: int, bytes_max: int, *, only_cached: bool
    ) -> list[memoryview]:
        """As `PartitionLog.read_records`, of a log with this journal that ends at `upto_offset` or later."""
        found: list[memoryview] = []
        left = bytes_max
        while offset < upto_offset and (left > 0 or not found):
            try:
                segment, position = self._place_of_offset(offset, only_cached=only_cached)
                file = CachedFile(segment.file) if only_cached else segment.file
            except NotInMemory:
                if found:
                    break
                raise
            begin, count = position, len(found)
            # The index may point a little before the batch: what is skipped does not count.
            room = left + self._index_interval_bytes
            try:
                for _, header, batch in batches(file, position, segment.size, _window(room), bytes_max=room):
                    if header.next_offset <= offset:
                        position += header.size
                        continue
                    if header.next_offset > upto_offset:
                        upto_offset = offset
                        break
                    if found and header.size > left:
                        break
                    verify(batch)
                    # Its place and its term lie outside its CRC: what they say must be what the log knows.
                    if header.base_offset > offset or header.term != journal.term_at(header.base_offset):
                        why = f"{header.base_offset}@{header.term} stands where {offset} was looked for"
                        raise CorruptBatch(why, what="place", position=position)
                    found.append(batch)
                    offset = header.next_offset
                    position += header.size
                    left -= header.size
                    if left <= 0:
                        break
            except (CorruptBatch, OSError) as error:
                if found:
                    break
                raise DamagedLog(segment.path, position, str(error)) from error
            except NotInMemory:
                if found:
                    break
                raise
            if len(found) == count:
                if found or offset >= upto_offset:
                    break
                belongs_here = segment is self._segments[self._segments.at_offset(offset)]
                if position == begin or (position >= segment.size and belongs_here):
                    raise DamagedLog(segment.path, position, f"no batch holds offset {offset}")
                # What was skipped took up the room; from its place the batch itself is given, however large.
            self._keep_place(offset, segment, position)
        return found

    def offset_for_time(self, timestamp_ms: int, offset: int, upto_offset: int) -> tuple[int, int] | None:
        """As `PartitionLog.offset_for_time`."""
        for segment in self._segments[max(self._segments.at_offset(offset), 0) :]:
            if segment.base.offset >= upto_offset:
                return None
            index = self._opened(segment).index
            if index.max_timestamp_ms < timestamp_ms:
                continue
            position = index.before_timestamp(timestamp_ms).position
            try:
                for at, header, _ in batches(segment.file, position, segment.size):
                    position = at
                    if header.next_offset > upto_offset:
                        return None
                    is_late = header.next_offset > offset and header.max_timestamp_ms >= timestamp_ms
                    if is_late and header.width and header.record_count:
                        return header.base_offset, header.max_timestamp_ms
            except (CorruptBatch, OSError) as error:
                raise DamagedLog(segment.path, position, str(error)) from error
        return None

    def size_to(self, point: Point, end: Point) -> int:
        """As `PartitionLog.size_to`, of a log that ends at `end`."""
        at = self._segments.at(point)
        if at < 0:
            return 0
        before, segment = sum(segment.size for segment in self._segments[:at]), self._segments[at]
        if point >= (self._segments[at + 1].base if at + 1 < len(self._segments) else end):
            return before + segment.size
        try:
            return before + self._opened(segment).index.before_point(point).position
        except (CorruptBatch, DamagedLog, OSError):
            return before  # whoever reads the records there will say so

    def contents(self, at: int, point: Point) -> tuple[Contents, int]:
        """What stands before `point`, which is in the `at`-th segment, and its position there."""
        segment = self._segments[at]
        try:
            contents = Contents(segment.head())
        except ValueError as error:
            if at == 0:
                raise DamagedLog(segment.path, 0, f"head: {error}") from error
            # The head went bad since recovery: the segments before it say the same.
            contents = self.contents(at - 1, segment.base)[0].at_base(segment.base)
        position = 0
        try:
            for position, header, batch in batches(segment.file, 0, segment.size):
                if contents.end >= point:
                    return contents, position
                verify(batch)  # what it says goes into heads, of this log and of others
                contents.note(place(contents.end, header, batch), header)
                position += header.size
        except (CorruptBatch, OSError) as error:
            raise DamagedLog(segment.path, position, str(error)) from error
        assert contents.end == point, f"{point} is not in {segment.path}, which ends at {contents.end}"
        return contents, position

    def forget(self, segments: Collection[Segment]) -> None:
        """They are no part of the log any more, or not as they were."""
        for segment in segments:
            self._read_last.pop(segment, None)
        self._places = OrderedDict((key, kept) for key, kept in self._places.items() if kept[0] not in segments)

    def forget_places(self) -> None:
        """Points and offsets may stand elsewhere from here on, or nowhere."""
        self._places.clear()

    def forget_all(self) -> None:
        self._read_last.clear()
        self._places.clear()

    def _place_of_point(self, journal: TermJournal, point: Point) -> tuple[Segment, int]:
        """Segment and position of the item that follows `point`."""
        kept = self._kept_place(point)
        if kept is not None:
            return kept
        at = self._segments.at(point)
        assert at >= 0 and journal.holds(point), f"{self._partition} does not hold {point}"
        segment = self._opened(self._segments[at])
        position = _find(segment, segment.index.before_point(point), point)
        if position is None:
            segment.build_index_anew()
            position = _find(segment, segment.index.before_point(point), point)
        if position is None:
            raise DamagedLog(segment.path, 0, f"no item ends at {point}")
        return segment, position

    def _place_of_offset(self, offset: int, *, only_cached: bool = False) -> tuple[Segment, int]:
        """Segment and position from which the batch that holds `offset` is ahead."""
        kept = self._kept_place(offset)
        if kept is not None:
            return kept
        at = self._segments.at_offset(offset)
        assert at >= 0, f"{self._partition} begins after offset {offset}"
        segment = self._opened(self._segments[at])
        begin = segment.index.before_offset(offset)
        if not _stands(segment, begin, only_cached=only_cached):
            segment.build_index_anew()
            begin = segment.index.before_offset(offset)
        return segment, begin.position

    def _kept_place(self, key: Point | int) -> tuple[Segment, int] | None:
        segment, position = self._places.get(key, (None, 0))
        # What was the end of a segment may be the beginning of the next one by now.
        if segment is None or (position == segment.size and segment is not self._segments[-1]):
            return None
        return self._opened(segment), position

    def _keep_place(self, key: Point | int, segment: Segment, position: int) -> None:
        """Who reads on will ask for just this."""
        self._places[key] = (segment, position)
        self._places.move_to_end(key)
        if len(self._places) > _PLACES_KEPT:
            self._places.popitem(last=False)

    def _opened(self, segment: Segment) -> Segment:
        """Note that a segment is read, and let go of the one that was not read for the longest time."""
        if segment is not self._segments[-1]:
            self._read_last[segment] = None
            self._read_last.move_to_end(segment)
            if len(self._read_last) > CLOSED_SEGMENTS_OPEN_MAX:
                oldest, _ = self._read_last.popitem(last=False)
                if not oldest.is_dirty:
                    oldest.release()
        return segment


def _find(segment: Segment, begin: Place, point: Point) -> int | None:
    end, position = begin.point, begin.position
    try:
        for position, header, batch in batches(segment.file, begin.position, segment.size):
            if end >= point:
                break
            end = place(end, header, batch).point
            position += header.size
    except (CorruptBatch, OSError):
        return None
    return position if end == point else None


def _stands(segment: Segment, begin: Place, *, only_cached: bool = False) -> bool:
    """Is there an item where the index says? It is never trusted."""
    try:
        file = CachedFile(segment.file) if only_cached else segment.file
        for _, header, _ in batches(file, begin.position, segment.size, 0):
            return header.base_offset == begin.point.offset and header.term >= begin.point.term
    except (CorruptBatch, OSError):
        return False
    return True


def _window(bytes_left: int) -> int:
    return max(64 << 10, min(bytes_left, 4 * WINDOW_BYTES))
