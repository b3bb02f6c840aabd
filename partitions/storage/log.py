"""One partition's log on this disk: segments of record batches and zero-width items, in one line of points.

Invariants
    `end`, journal, voters, start and producers say what was appended and not cut, whether or not it is on disk yet
    a ticket says what was written when it was taken; one from before the last cut is worthless (`cuts` differs)
    files are synced oldest first, a segment's head and names before its items, so that none counts before the others
    an append that fails leaves the log as it was; a cut that fails ends the process
    a damaged log is read up to its hole, and nothing of what lies beyond is touched until it is cut
    a compacted segment takes the place of those it was made of at once for readers, and before they go for a crash
    segments are dropped from the front oldest first, each durably before the next; what is left is a log by itself
    an item's append time, as kept by segment, is never earlier than the truth: where it is not known, it is now

The log knows nothing of marks, votes and commits: its caller lowers the mark, durably, before a cut or a reset, and
says how far the log start that it acts on is committed and on disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from ...proto.errors import CorruptBatch
from ...proto.record_batch import BatchHeader, Buffer, verify
from ..cold_reads import CachedFile, NotInMemory
from ..environment import Environment, PartitionId, ReplicaConfig
from ..producers import ProducerTable
from ..raft.messages import Voter
from ..raft.points import ORIGIN, Item, ItemKind, Point, TermJournal
from ..raft.voter_sets import VoterSets
from .chain import Placed, is_thinned, place
from .contents import Contents
from .log_starts import LogStarts
from .promises import PARTITIONS_DIRECTORY
from .recovery import Damage, Judgement, RecoveryVerdict, judge
from .repair import Hole, claims_beyond, points_of_heads
from .replacement import Replacement, decide_replacement, finish_replacement, noted_replacements
from .reset import forget_reset, note_reset, noted_reset
from .rewriting import Rewritten
from .scan import Scan, Unreadable, evidence, look_beyond, points_beyond, scan_log
from .segment import (
    MENDED,
    NEW,
    WINDOW_BYTES,
    DamagedLog,
    Segment,
    batches,
    drop_segment,
    new_path,
    segment_bases,
    segment_files,
    segment_path,
    unlink_segment,
)
from .segment_head import SegmentHead
from .sparse_index import Place
from .zero_width import decode_log_start, decode_voters, item_of, term_start

__all__ = ["ClosedSegment", "Damage", "DamagedLog", "PartitionLog", "RecoveryVerdict", "Ticket", "partition_path"]

CLOSED_SEGMENTS_OPEN_MAX = 4
"""Descriptors and indexes that a log keeps of closed segments that were read."""

_PLACES_KEPT = 32
_STALE = -1


class Ticket(NamedTuple):
    """What had been written when it was taken."""

    cuts: int
    """Of the log, until then; -1 if a cut was under way."""
    written: int
    """Appends until then."""
    end: Point


class ClosedSegment(NamedTuple):
    """A segment that gets no more items: what retention judges."""

    base_offset: int
    end: Point
    size_bytes: int
    append_time_ms: int
    """Wall clock of the leader that appended its last item, or a later one."""


class StoredSegment(NamedTuple):
    """What of a segment is on this disk, for whoever reads its files."""

    base: Point
    end: Point
    path: str
    size: int
    append_time_before_ms: int


class _Written(NamedTuple):
    """An item on its way into a segment."""

    placed: Placed
    header: BatchHeader
    data: Buffer


def partition_path(directory: str, partition: PartitionId) -> str:
    """Where a data directory keeps a partition."""
    return f"{directory}/{PARTITIONS_DIRECTORY}/{partition}"


async def _nothing_to_do() -> None:
    return


OnReset = Callable[[SegmentHead], Awaitable[None]]
"""Takes the head at which a log begins anew."""


async def _nothing_to_promise(head: SegmentHead) -> None:
    return


class PartitionLog:
    """A replica's log. One event loop calls it; only `sync`, `cut` and the like wait for the disk.

    Raises
        CorruptBatch from `append`: of items that are not what their points say
        OSError      from `append`, `create` and `sync`: of the disk, as it says
        DamagedLog   from reads: stored bytes are not what was written
    """

    def __init__(self, env: Environment, directory: str, partition: PartitionId, config: ReplicaConfig) -> None:
        self.partition = partition
        self.cuts = 0
        self.thinned_to = 0
        """Where the last of the items appended or read here ends of which compaction had dropped records."""
        self.append_time_ms = 0
        """Wall clock of the leader that appended the last item, as far as it is known."""
        self.damage: Damage | None = None
        self.hole: Hole | None = None
        """What has to be filled in before it is whole."""
        self.journal = TermJournal(ORIGIN)
        self.voter_sets = VoterSets(ORIGIN, ())
        """As its items say, committed or not; before any voter change, as the first head does."""
        self._env = env
        self._data_directory = directory
        self._directory = partition_path(directory, partition)
        self._config = config
        self._segments: list[Segment] = []
        self._beyond: list[int] = []
        self._dropped: list[int] = []
        self._contents = Contents(_first_head(partition, ()))
        self._starts = LogStarts(ORIGIN, 0)
        self._written = 0
        self._is_cutting = False
        self._is_replacing = False
        self._dirty: list[Segment] = []
        self._read_last: OrderedDict[Segment, None] = OrderedDict()
        self._places: OrderedDict[Point | int, tuple[Segment, int]] = OrderedDict()

    # -- beginning and end ---------------------------------------------------------------------------------------------

    @classmethod
    async def create(
        cls,
        env: Environment,
        directory: str,
        partition: PartitionId,
        voters: tuple[Voter, ...],
        config: ReplicaConfig,
    ) -> PartitionLog:
        """Make an empty log: its files, head and directories are on disk on return.

        What is there already belongs to a replica that is not listed, never was or no longer is, and is removed.
        """
        log = cls(env, directory, partition, config)
        env.disk.make_directory(log._directory)
        log._beyond = segment_bases(segment_files(env.disk, log._directory))
        await forget_reset(env.disk, log._directory)
        await log._clear()
        log._contents = Contents(_first_head(partition, voters))
        log.voter_sets = VoterSets(ORIGIN, voters)
        await log._begin(_first_head(partition, voters))
        await env.disk.sync_directory(f"{directory}/{PARTITIONS_DIRECTORY}")
        await env.disk.sync_directory(directory)
        return log

    @classmethod
    async def recover(
        cls,
        env: Environment,
        directory: str,
        partition: PartitionId,
        *,
        mark: Point,
        same_boot: bool,
        config: ReplicaConfig,
        on_doubt: Callable[[], Awaitable[None]] = _nothing_to_do,
        on_reset: OnReset = _nothing_to_promise,
        term_max: int = 2**31 - 1,
        suspects: Collection[int] | None = (),
        base: Point = ORIGIN,
    ) -> tuple[PartitionLog, RecoveryVerdict]:
        """Read the log that is there, and settle where it ends. What of it lies past the mark is on disk on return.

        Nothing of a term past `term_max` was ever acknowledged. Segments with the base offsets `suspects` are read even
        if they surely were on disk once; None: all are. `base` is where it begins, if the caller knows.

        `on_doubt` is awaited before anything is cut that may have been acknowledged: the doubt must be durable by then.
        `on_reset` is awaited where a reset was under way, as `reset` awaits it.
        NewerFormat: a later version wrote it.
        """
        log = cls(env, directory, partition, config)
        env.disk.make_directory(log._directory)
        resetting = noted_reset(env.disk, log._directory, partition)
        if resetting is not None:
            await on_reset(resetting)
            await log._begin_anew(resetting)
        for replacement in noted_replacements(env.disk, log._directory):
            await finish_replacement(env.disk, log._directory, replacement)
        found = scan_log(env.disk, log._directory, partition, mark, config, suspects)
        log._take(found)
        verdict = RecoveryVerdict()
        try:
            for segment, head in found.lost_heads:
                # Nothing says when the item before it was appended.
                dated = head.dated(max(head.append_time_ms, env.wall_ms()))
                segment.append_time_before_ms = dated.append_time_ms
                await segment.replace_head(dated)
            if found.unreadable is not None:
                verdict = await log._settle(found, found.unreadable, mark, same_boot, term_max, base, on_doubt)
            await log._keep(found)
        except OSError as error:
            verdict = log._give_up_unsynced(found, mark, verdict, error)
        log.thinned_to = min(found.thinned_to, log.end.offset)
        if verdict.why:
            env.log("a log is unreadable", partition=str(partition), where=str(verdict.where), why=verdict.why)
        return log, verdict

    async def delete(self) -> None:
        """Remove every trace of the log, durably. The caller has taken it off the list of replicas, durably."""
        self.cuts += 1
        self._is_cutting = True
        self._beyond = sorted({*self._beyond, *(segment.base.offset for segment in self._segments)})
        await self._clear()
        for name in self._env.disk.list(self._directory):
            self._env.disk.unlink(f"{self._directory}/{name}")
        self._env.disk.remove_directory(self._directory)
        await self._env.disk.sync_directory(f"{self._data_directory}/{PARTITIONS_DIRECTORY}")

    def close(self) -> None:
        """Let go of all descriptors. What is not synced stays in the page cache, and no ticket is worth anything."""
        self.announce_cut()
        for segment in self._segments:
            segment.close()
        self._dirty.clear()

    # -- what it holds -------------------------------------------------------------------------------------------------

    @property
    def end(self) -> Point:
        return self._contents.end

    @property
    def start_offset(self) -> int:
        """As the newest move of the log start says, committed or not."""
        return self._starts.newest

    def start_offset_at(self, point: Point) -> int:
        """As the items through `point` say: what counts where `point` is committed. Never before the base."""
        return self._starts.at(point)

    def start_moved_past(self, offset: int) -> Point:
        """The point as of which the log starts at or after `offset`, if it does so at its end."""
        return self._starts.moved_past(offset)

    @property
    def voters(self) -> tuple[Voter, ...]:
        """As the newest voter change says, committed or not; those of the first head before any."""
        return self.voter_sets.newest

    @property
    def producers(self) -> ProducerTable:
        return self._contents.producers

    @property
    def directory(self) -> str:
        """Where its files are."""
        return self._directory

    @property
    def data_directory(self) -> str:
        return self._data_directory

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def size_to(self, point: Point) -> int:
        """Bytes before `point`, as the indexes know it: up to an index interval less than there are."""
        at = self._segment_at(point)
        if at < 0:
            return 0
        before, segment = sum(segment.size for segment in self._segments[:at]), self._segments[at]
        if point >= (self._segments[at + 1].base if at + 1 < len(self._segments) else self.end):
            return before + segment.size
        try:
            return before + self._opened(segment).index.before_point(point).position
        except (CorruptBatch, DamagedLog, OSError):
            return before  # whoever reads the records there will say so

    @property
    def base(self) -> Point:
        """Where the first segment begins, or will once a reset is over."""
        return self.journal.base

    def closed_segments(self) -> list[ClosedSegment]:
        """All but the one that is appended to, oldest first."""
        return [
            ClosedSegment(this.base.offset, following.base, this.size, following.append_time_before_ms)
            for this, following in pairwise(self._segments)
        ]

    def stored_segments(self) -> list[StoredSegment]:
        """All of them, oldest first."""
        ends = [*(segment.base for segment in self._segments[1:]), self.end]
        return [
            StoredSegment(this.base, end, this.path, this.size, this.append_time_before_ms)
            for this, end in zip(self._segments, ends, strict=True)
        ]

    def holds_segment(self, stored: StoredSegment) -> bool:
        """Is that file still a part of this log, with all that it held?"""
        at = self._segment_at(stored.base)
        segment = self._segments[at] if at >= 0 else None
        return (
            segment is not None
            and not self._is_cutting
            and (segment.base, segment.path) == (stored.base, stored.path)
            and segment.size >= stored.size
            and (segment.size == stored.size or segment is self._segments[-1] or self._segment_at(stored.end) == at)
        )

    def segment_after(self, stored: StoredSegment) -> StoredSegment | None:
        """The one that begins where that one ends."""
        return next((one for one in self.stored_segments() if one.base == stored.end and one.base > stored.base), None)

    def is_first(self, stored: StoredSegment) -> bool:
        return stored.base == self.base

    def very_first_head(self) -> SegmentHead:
        """Of a log from the origin on."""
        return _first_head(self.partition, self.voter_sets.at(ORIGIN))

    def drop_wrong_index(self, stored: StoredSegment) -> None:
        """An index that is unreadable on disk is built anew when it is needed."""
        at = self._segment_at(stored.base)
        if at + 1 < len(self._segments):
            self._segments[at].drop_index_if_wrong()

    def first_head(self) -> SegmentHead:
        """At which another replica's log can begin in the place of its own: it says all that lies before `base`.

        DamagedLog: it is unreadable.
        """
        first = self._segments[0]
        try:
            return first.head().as_first()
        except ValueError as error:
            raise DamagedLog(first.path, 0, f"head: {error}") from error

    def head_at(self, point: Point) -> SegmentHead:
        """The head of a log that begins at `point`, and holds of this one what comes after. DamagedLog: unreadable."""
        at = self._segment_at(point)
        assert at >= 0 and self.journal.holds(point), f"{self.partition} does not hold {point}"
        contents = self._read_contents(at, point)[0]
        following = self._segments[at + 1] if at + 1 < len(self._segments) else None
        append_time_ms = self.append_time_ms if following is None else following.append_time_before_ms
        return contents.next_head(self.partition, 0).as_first().dated(append_time_ms)

    @property
    def config(self) -> ReplicaConfig:
        """As its topic's settings have changed it."""
        return self._config

    # -- writing -------------------------------------------------------------------------------------------------------

    def set_segment_limits(self, bytes_max: int, ms_max: int) -> None:
        """From the next item on. A log is recovered before anybody knows its topic's settings."""
        self._config = replace(self._config, segment_bytes_max=bytes_max, segment_ms_max=ms_max)

    def roll_if_old(self, now_ms: int, ms_max: int) -> bool:
        """Close the last segment if its first item is older than that, or than a segment may get: only a closed one is
        ever dropped for its age.

        OSError: it goes on as it was.
        """
        segment = self._segments[-1]
        if self.end.offset == segment.base.offset or not self._is_old(segment, now_ms, ms_max):
            return False
        self._roll()
        return True

    def roll_if_wholly_below(self, start_offset: int) -> bool:
        """Close the last segment if it holds records, all below the log start. OSError: it goes on as it was."""
        if not self._segments[-1].base.offset < self.end.offset <= start_offset:
            return False
        self._roll()
        return True

    def append(self, items: Sequence[Item], append_time_ms: int) -> Ticket:
        """Add items, in the page cache.

        CorruptBatch: one of them is not what its point says, or its CRC is wrong; nothing was appended.
        OSError: nothing of the segment that failed is left; if the items begin a new segment in their midst, those
        before it stand, as `end` says.
        """
        assert self.damage is None, f"{self.partition} is damaged at {self.damage}: cut it first"
        assert not self._is_cutting, f"{self.partition} is being cut"
        after = self.end
        checked = []
        for item in items:
            written = _checked(after, item)
            checked.append(written)
            if is_thinned(written.placed, written.header):
                self.thinned_to = max(self.thinned_to, item.point.offset)
            after = item.point
        run: list[_Written] = []
        run_bytes = 0
        segment = self._segments[-1]
        before = self.end
        is_old = self._is_old(segment, append_time_ms)
        for written in checked:
            size = written.header.size
            is_full = segment.size + run_bytes + size > self._config.segment_bytes_max
            if (is_full or is_old) and before.offset > segment.base.offset:
                self._write(segment, run, run_bytes, append_time_ms)
                run, run_bytes, is_old = [], 0, False
                segment = self._roll()
            run.append(written)
            run_bytes += size
            before = written.placed.point
        self._write(segment, run, run_bytes, append_time_ms)
        self._written += 1
        return Ticket(self.cuts, self._written, self.end)

    def ticket(self) -> Ticket:
        """What has been written by now."""
        return Ticket(_STALE if self._is_cutting else self.cuts, self._written, self.end)

    async def sync(self) -> None:
        """Return once all that was written before this call is on disk, or as soon as the log is cut meanwhile."""
        cuts = self.cuts
        for segment in tuple(self._dirty):
            await segment.sync()
            if self.cuts != cuts:
                return
        for segment in [segment for segment in self._dirty if not segment.is_dirty]:
            self._dirty.remove(segment)
            if segment is not self._segments[-1]:
                segment.release()

    def has_segment_below(self, start_offset: int) -> bool:
        """Would a log that starts there have anything to drop, or to close first?"""
        if len(self._segments) > 1:
            return self._segments[1].base.offset <= start_offset
        return bool(self._segments) and self._segments[0].base.offset < self.end.offset <= start_offset

    def first_needed(self, start_offset: int, through: Point) -> Point:
        """Where the log could begin: at the last segment that holds the start, or to which `through` reaches.

        Everything before `through` is committed and on disk, and so is what moved the start to `start_offset`.
        """
        needed = self.base
        for segment in self._segments[1:]:
            if segment.base.offset > start_offset or segment.base > through:
                break
            if segment.has_durable_head:
                needed = segment.base
        return needed

    def drop_before(self, base: Point) -> None:
        """Begin at the segment that begins at `base`. Nothing before it is read any more; `remove_dropped` frees it."""
        assert not self._is_cutting, f"{self.partition} is being cut"
        assert not self._is_replacing, f"segments of {self.partition} are being replaced"
        at = self._segment_at(base)
        assert at >= 0 and self._segments[at].base == base, f"no segment of {self.partition} begins at {base}"
        dropped = self._segments[:at]
        for segment in dropped:
            assert segment not in self._dirty, f"{segment.path} is dropped, but what follows may not be on disk"
            self._read_last.pop(segment, None)
            segment.close()
        self._forget_places_in(dropped)
        del self._segments[:at]
        self.journal.begin_at(base)
        self._starts.begin_at(base)
        self.voter_sets.begin_at(base)
        self._dropped += [segment.base.offset for segment in dropped]

    async def remove_dropped(self) -> None:
        """Remove the files of the segments that were dropped, durably."""
        try:
            while self._dropped:
                await drop_segment(self._env.disk, self._directory, self._dropped[0])
                self._dropped.pop(0)
        except OSError as error:
            # Which of them a crash would bring back is not known any more, and they must go in their order.
            self._env.halt(f"dropping segments of {self.partition}: {error}")

    def remove_rewritten(self) -> None:
        """Remove what compaction wrote and nobody put in place. It writes no heads: a new one is a repair's."""
        if not self._is_replacing and not self._is_cutting:
            for name in segment_files(self._env.disk, self._directory):
                if name.endswith(NEW) and not name.endswith(".head" + NEW):
                    self._env.disk.unlink(f"{self._directory}/{name}")

    def _forget_places_in(self, segments: list[Segment]) -> None:
        self._places = OrderedDict((key, kept) for key, kept in self._places.items() if kept[0] not in segments)

    async def replace(self, rewritten: Rewritten, on_replaced: Callable[[], None] = lambda: None) -> bool:
        """Put a compacted segment in the place of those that it was made of, durably.

        All of them are committed and on disk, and what compaction did to them is promised. False, and nothing has
        changed: they are not what they were any more. The caller drops and resets nothing meanwhile.
        `on_replaced` is called at the moment from which on the new segment is read.
        """
        disk, directory = self._env.disk, self._directory
        replacement = Replacement(rewritten.base.offset, rewritten.end.offset, rewritten.token)
        path = new_path(segment_path(directory, rewritten.base.offset), ".log", rewritten.token)
        at = self._segment_at(rewritten.base)
        beyond = self._segment_at(rewritten.end)
        older = self._segments[max(at, 0) : beyond]
        if (
            self._is_cutting
            or not older
            or (older[0].base, self._segments[beyond].base) != (rewritten.base, rewritten.end)
            or sum(segment.size for segment in older) != rewritten.bytes_before
            or any(segment in self._dirty for segment in older)
            or not self._segments[beyond].has_durable_head
            or not disk.exists(path)
        ):
            return False
        self._is_replacing = True
        try:
            await decide_replacement(disk, directory, replacement, path)
            segment = Segment.replacing(older[0], replacement.path(directory), rewritten.size_bytes)
            at = self._segments.index(older[0])
            self._segments[at : at + len(older)] = [segment]
            for one in older:
                self._read_last.pop(one, None)
                one.close()
            self._forget_places_in(older)
            on_replaced()
            await finish_replacement(disk, directory, replacement, segment.take_its_name)
        except OSError as error:
            self._env.halt(f"replacing segments of {self.partition} at {rewritten.base}: {error}")
        self._is_replacing = False
        return True

    def reset(self, head: SegmentHead, on_decided: OnReset = _nothing_to_promise) -> Coroutine[Any, Any, None]:
        """Drop everything and begin anew at `head`, durably. The mark is at the origin, durably, and the word kept.

        `on_decided` is awaited once a crash could not bring the old log back, and before a new one is there.
        Tickets from before are worthless from this call on, before the first await, and nothing is read any more.
        """
        assert not self._is_replacing, f"segments of {self.partition} are being replaced"
        self.announce_cut()
        self._forget_all(head)
        return self._reset(head, on_decided)

    async def _reset(self, head: SegmentHead, on_decided: OnReset) -> None:
        try:
            await note_reset(self._env.disk, self._directory, head)
            await on_decided(head)
            await self._begin_anew(head)
        except OSError as error:
            self._env.halt(f"resetting {self.partition} to {head.base}: {error}")
        self.damage = self.hole = None
        self._is_cutting = False

    async def _begin_anew(self, head: SegmentHead) -> None:
        """Carry a noted reset to its end."""
        self._forget_all(head)
        self._beyond = segment_bases(segment_files(self._env.disk, self._directory))
        await self._clear()
        await self._begin(head)
        await forget_reset(self._env.disk, self._directory)

    def _forget_all(self, head: SegmentHead) -> None:
        """Be the log that begins and ends at `head`, in memory."""
        self._close_all()
        self._contents = Contents(head)
        self._starts = LogStarts(head.base, head.start_offset)
        self.voter_sets = VoterSets(head.base, head.voters)
        self.journal = TermJournal(head.base)
        self.append_time_ms = head.append_time_ms
        self.thinned_to = 0

    def announce_cut(self) -> None:
        """A cut is decided: from here on until it is done no ticket is worth anything.

        To be called before the mark is lowered. Else a sync that ends between the lowering and the cut would raise the
        mark again, to what is about to be cut.
        """
        self.cuts += 1
        self._is_cutting = True

    def cut(self, point: Point) -> Coroutine[Any, Any, None]:
        """Forget everything after `point`, durably. The mark has been lowered to it, durably.

        Tickets from before are worthless from this call on, before the first await.
        """
        assert self.journal.holds(point), f"{self.partition} cannot be cut to {point}: it ends at {self.end}"
        self.announce_cut()
        return self._cut(point)

    async def _cut(self, point: Point) -> None:
        try:
            position = self._forget_after(point)
            await self._remove_beyond()
            if self._segments:
                await self._segments[-1].cut(position)
            else:
                await self._begin(_first_head(self.partition, self.voters))
                await self._env.disk.sync_directory(f"{self._data_directory}/{PARTITIONS_DIRECTORY}")
        except OSError as error:
            self._env.halt(f"cutting {self.partition} to {point}: {error}")
        self.damage = self.hole = None
        self._is_cutting = False

    def _write(self, segment: Segment, run: list[_Written], size: int, append_time_ms: int) -> None:
        if not run:
            return
        position, index = segment.size, segment.index_to_append
        try:
            segment.append([written.data for written in run], size)
        except OSError:
            if segment.file.size() != position:
                self._env.halt(f"{segment.path} holds a part of an append, and cannot be truncated")
            raise
        if segment not in self._dirty:
            self._dirty.append(segment)
        # Never back: retention asks for the age of the youngest item in a segment.
        append_time_ms = max(append_time_ms, self.append_time_ms)
        if not position:
            segment.first_append_time_ms = append_time_ms
        contents, journal = self._contents, self.journal
        for placed, header, _ in run:
            index.note(contents.end, position, header.max_timestamp_ms)
            contents.note(placed, header)
            journal.extend(placed.point)
            self._starts.note(placed.point, contents.start_offset)
            if placed.kind is ItemKind.VOTERS:
                self.voter_sets.note(placed.point, contents.voters)
            position += header.size
        self.append_time_ms = contents.append_time_ms = append_time_ms

    def _is_old(self, segment: Segment, now_ms: int, ms_max: int | None = None) -> bool:
        ms_max = self._config.segment_ms_max if ms_max is None else min(ms_max, self._config.segment_ms_max)
        return segment.size > 0 and now_ms - segment.first_append_time_ms >= ms_max

    def _roll(self) -> Segment:
        """Begin a new segment at the end. The closed one stays dirty, and is synced first."""
        closed = self._segments[-1]
        head = self._contents.next_head(self.partition, closed.size)
        segment = Segment.create(self._env.disk, self._directory, head, self._config.index_interval_bytes)
        closed.write_index()
        if not closed.is_dirty:
            closed.release()
        self._segments.append(segment)
        self._dirty.append(segment)
        self._contents = self._contents.at_base(segment.base)
        return segment

    async def _begin(self, head: SegmentHead) -> None:
        """Make the first segment, durably."""
        segment = Segment.create(self._env.disk, self._directory, head, self._config.index_interval_bytes)
        self._segments = [segment]
        await segment.sync()

    def _close_all(self) -> None:
        for segment in self._segments:
            segment.close()
        self._segments = []
        self._dirty.clear()
        self._read_last.clear()
        self._places.clear()

    async def _clear(self) -> None:
        self._close_all()
        await self._remove_beyond()
        for name in segment_files(self._env.disk, self._directory):
            self._env.disk.unlink(f"{self._directory}/{name}")

    async def _remove_beyond(self) -> None:
        while self._beyond:
            await unlink_segment(self._env.disk, self._directory, self._beyond[-1])
            self._beyond.pop()

    def _forget_after(self, point: Point) -> int:
        """Take everything after `point` out of memory. Returns its position in the segment that is the last one now."""
        self._places.clear()
        if not self._segments:
            return 0
        at = max(0, self._segment_at(point))
        beyond = self._segments[at + 1 :]
        contents, position = self._read_contents(at, point)
        for segment in beyond:
            segment.close()
            self._read_last.pop(segment, None)
        self._dirty = [segment for segment in self._dirty if segment not in beyond]
        self._beyond = sorted({*self._beyond, *(segment.base.offset for segment in beyond)})
        del self._segments[at + 1 :]
        last = self._segments[-1]
        self._read_last.pop(last, None)
        last.size = position
        # When what is left of the segment was appended is not known: not after what is cut.
        contents.append_time_ms = self.append_time_ms
        self._contents = contents
        self._starts.cut(point)
        self.voter_sets.cut(point)
        assert self.voters == contents.voters, f"{self.voters} vote, but {contents.voters} as of {point}"
        self.journal.cut(point)
        return position

    def _read_contents(self, at: int, point: Point) -> tuple[Contents, int]:
        """What stands before `point`, which is in the `at`-th segment, and its position there."""
        segment = self._segments[at]
        try:
            contents = Contents(segment.head())
        except ValueError as error:
            if at == 0:
                raise DamagedLog(segment_path(self._directory, segment.base.offset), 0, f"head: {error}") from error
            # The head went bad since recovery: the segments before it say the same.
            contents = self._read_contents(at - 1, segment.base)[0].at_base(segment.base)
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

    # -- recovery ------------------------------------------------------------------------------------------------------

    def _take(self, found: Scan) -> None:
        for segment in self._segments:  # of a reset that was carried to its end just before
            segment.close()
        self._segments = found.segments
        self._beyond = found.bases[len(found.segments) :]
        self.journal = found.journal
        self._contents = found.contents or Contents(_first_head(self.partition, ()))
        self._starts = found.starts
        self.voter_sets = found.voter_sets
        if found.contents is not None:
            self._date_last_segment()
        for name in segment_files(self._env.disk, self._directory):
            is_orphan = name.endswith((NEW, MENDED)) or (
                not name.endswith(".log") and int(name[:20]) not in found.bases
            )
            if is_orphan:
                self._env.disk.unlink(f"{self._directory}/{name}")

    def _date_last_segment(self) -> None:
        """When its items were appended is not written down: after the item before it, and by now."""
        contents = self._contents
        last = self._segments[-1] if self._segments else None
        if last is not None and last.size:
            last.first_append_time_ms = last.append_time_before_ms or self._env.wall_ms()
            contents.append_time_ms = max(contents.append_time_ms, self._env.wall_ms())
        self.append_time_ms = contents.append_time_ms

    async def _settle(
        self,
        found: Scan,
        unreadable: Unreadable,
        mark: Point,
        same_boot: bool,
        term_max: int,
        base: Point,
        on_doubt: Callable[[], Awaitable[None]],
    ) -> RecoveryVerdict:
        disk, where = self._env.disk, self.end
        facts = evidence(disk, self._directory, found, unreadable, mark=mark, same_boot=same_boot)
        judgement = judge(facts)
        if judgement is Judgement.DAMAGE:
            beyond = look_beyond(disk, self._directory, found, unreadable, mark, term_max)
            doubtful = False
            if beyond.ends_unreadable is not None:
                last = evidence(disk, self._directory, found, beyond.ends_unreadable, mark=mark, same_boot=same_boot)
                doubtful = judge(last._replace(before_mark=False)) is Judgement.DOUBT
            if doubtful:
                await on_doubt()
            path = self._segments[unreadable.segment].path if self._segments else self._directory
            self.damage = Damage(where, unreadable.why, beyond.highest, path, unreadable.position)
            self.hole = self._hole(found, unreadable, mark, term_max, base)
            return RecoveryVerdict(self.damage, doubtful, where, unreadable.why)
        doubtful = judgement is Judgement.DOUBT
        if doubtful:
            await on_doubt()
        cut_bytes = sum(self._file_bytes(base) for base in self._beyond)
        last_segment = self._segments[-1]
        cut_bytes += last_segment.file.size() - last_segment.size
        await self._remove_beyond()
        await last_segment.cut(last_segment.size)
        return RecoveryVerdict(None, doubtful, where, unreadable.why, cut_bytes)

    def _hole(self, found: Scan, unreadable: Unreadable, mark: Point, term_max: int, known_base: Point) -> Hole:
        disk, bases = self._env.disk, tuple(found.bases)
        strays = points_beyond(disk, self._directory, found, unreadable, term_max)
        known = claims_beyond(self.end, [mark, *points_of_heads(disk, self._directory, bases), *strays])
        if found.contents is None:
            return Hole(ORIGIN, bases, -1, known_base, 0, known)
        at = unreadable.segment
        base = self._segments[at].base if at < len(self._segments) else self.end
        return Hole(self.end, bases, at, base, unreadable.position, known)

    async def _keep(self, found: Scan) -> None:
        """Make sure that everything past the mark is on disk, oldest first."""
        if self.damage is not None:
            return
        first, position = found.mark_place or (0, 0)
        for at, segment in enumerate(self._segments[first:], start=first):
            if at > first or position < segment.size or not position:
                try:
                    await segment.write_again(position if at == first else 0)
                except OSError:
                    segment.unsound = True
                    raise
        await self._env.disk.sync_directory(self._directory)
        for segment in self._segments[:-1]:
            segment.release()

    def _give_up_unsynced(self, found: Scan, mark: Point, verdict: RecoveryVerdict, error: OSError) -> RecoveryVerdict:
        """A sync failed: what is past the mark may not be on disk, and no second try would tell."""
        held = self.end
        try:
            if found.mark_place is None:
                raise DamagedLog(self._directory, 0, f"{mark} is not in the log")
            self._forget_after(mark)
        except (DamagedLog, OSError):
            for segment in self._segments:
                segment.close()
            self._beyond = sorted({*self._beyond, *(segment.base.offset for segment in self._segments)})
            self._segments, self._contents, self.journal = [], Contents(_first_head(self.partition, ())), TermJournal()
            self._starts, self.voter_sets = LogStarts(ORIGIN, 0), VoterSets(ORIGIN, ())
        for segment in self._segments:
            segment.unsound = True
        word = max(held, mark, verdict.damage.word if verdict.damage is not None else ORIGIN)
        self.damage = Damage(self.end, f"it cannot be synced: {error}", word, self._directory, 0)
        claims = claims_beyond(self.end, [mark])
        at = len(self._segments) - 1
        if at >= 0:
            last = self._segments[at]
            self.hole = Hole(self.end, tuple(found.bases), at, last.base, last.size, claims, is_unsynced=True)
        else:
            self.hole = Hole(ORIGIN, tuple(found.bases), -1, ORIGIN, 0, claims)
        return RecoveryVerdict(self.damage, verdict.doubtful, self.end, self.damage.why, verdict.cut_bytes)

    def _file_bytes(self, base_offset: int) -> int:
        file = self._env.disk.open(segment_path(self._directory, base_offset) + ".log")
        try:
            return file.size()
        finally:
            file.close()

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_items(self, after: Point, upto: Point, bytes_max: int) -> tuple[Item, ...]:
        """Items after the point `after`, which the log holds, through `upto`: at least one if there is any.

        DamagedLog: the first of them is unreadable; those before an unreadable one are given.
        """
        items: list[Item] = []
        left = bytes_max
        upto = min(upto, self.end)
        while after < upto and (left > 0 or not items):
            segment, position = self._place_of_point(after)
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
                break
        return tuple(items)

    def read_to_replicate(self, after: Point, upto: Point, bytes_max: int) -> tuple[tuple[Item, ...], int]:
        """As `read_items`, but of one segment only, with the time at which its last item was appended, or a later one.

        So a log that is copied years later rolls into segments that are as old as those it was copied from.
        """
        at = self._segment_at(after)
        if at + 1 == len(self._segments):
            return self.read_items(after, upto, bytes_max), self.append_time_ms
        following = self._segments[at + 1]
        return self.read_items(after, min(upto, following.base), bytes_max), following.append_time_before_ms

    def read_records(
        self, offset: int, upto_offset: int, bytes_max: int, *, only_cached: bool = False
    ) -> list[memoryview]:
        """Whole batches from the one that holds `offset` on, as stored, each with all its records below `upto_offset`.

        At least one if there is any. DamagedLog: the first of them is unreadable; those before such a one are given.
        With `only_cached` NotInMemory is raised, or those before it are given, where it would wait for the medium.
        """
        found: list[memoryview] = []
        left = bytes_max
        upto_offset = min(upto_offset, self.end.offset)
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
            room = left + self._config.index_interval_bytes
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
                    if header.base_offset > offset or header.term != self.journal.term_at(header.base_offset):
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
                if position == begin:
                    raise DamagedLog(segment.path, position, f"no batch holds offset {offset}")
                # What was skipped took up the room; from its place the batch itself is given, however large.
            self._keep_place(offset, segment, position)
        return found

    def offset_for_time(self, timestamp_ms: int, offset: int, upto_offset: int) -> tuple[int, int] | None:
        """Base offset and greatest timestamp of the first batch that reaches a time.

        Of those that hold `offset` or a later one, and nothing from `upto_offset` on.
        """
        for segment in self._segments[max(self._segment_at_offset(offset), 0) :]:
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

    def _segment_at(self, point: Point) -> int:
        """Index of the last segment that begins at or before `point`; -1 if none does."""
        return _last(self._segments, lambda segment: segment.base <= point)

    def _segment_at_offset(self, offset: int) -> int:
        return _last(self._segments, lambda segment: segment.base.offset <= offset)

    def _place_of_point(self, point: Point) -> tuple[Segment, int]:
        """Segment and position of the item that follows `point`."""
        kept = self._kept_place(point)
        if kept is not None:
            return kept
        at = self._segment_at(point)
        assert at >= 0 and self.journal.holds(point), f"{self.partition} does not hold {point}"
        segment = self._opened(self._segments[at])
        position = self._find(segment, segment.index.before_point(point), point)
        if position is None:
            segment.drop_index()  # it was wrong: what is built anew is right
            position = self._find(segment, segment.index.before_point(point), point)
        if position is None:
            raise DamagedLog(segment.path, 0, f"no item ends at {point}")
        return segment, position

    def _find(self, segment: Segment, begin: Place, point: Point) -> int | None:
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

    def _place_of_offset(self, offset: int, *, only_cached: bool = False) -> tuple[Segment, int]:
        """Segment and position from which the batch that holds `offset` is ahead."""
        kept = self._kept_place(offset)
        if kept is not None:
            return kept
        at = self._segment_at_offset(offset)
        assert at >= 0, f"{self.partition} begins at {self.base}, after offset {offset}"
        segment = self._opened(self._segments[at])
        begin = segment.index.before_offset(offset)
        if not self._stands(segment, begin, only_cached=only_cached):
            segment.drop_index()
            begin = segment.index.before_offset(offset)
        return segment, begin.position

    def _stands(self, segment: Segment, begin: Place, *, only_cached: bool = False) -> bool:
        """Is there an item where the index says? It is never trusted."""
        try:
            file = CachedFile(segment.file) if only_cached else segment.file
            for _, header, _ in batches(file, begin.position, segment.size, 0):
                return header.base_offset == begin.point.offset and header.term >= begin.point.term
        except (CorruptBatch, OSError):
            return False
        return True

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


def _first_head(partition: PartitionId, voters: tuple[Voter, ...]) -> SegmentHead:
    return SegmentHead(
        partition=partition,
        base=ORIGIN,
        voters=voters,
        start_offset=0,
        producers=ProducerTable().to_bytes(),
        append_time_ms=0,
    )


def _checked(after: Point, item: Item) -> _Written:
    """The item as it goes into the file. CorruptBatch: it does not follow `after`, or is not what it should be."""
    point, data = item.point, item.data
    if not data:
        assert item.kind is ItemKind.TERM_START, f"{item.kind.name} at {point} says nothing"
        data = term_start(point).data
    header = verify(data)
    placed = place(after, header, data)
    if placed.point != point or placed.kind is not item.kind or header.size != len(data):
        raise CorruptBatch(f"an item for {point} after {after} is one for {placed.point}", what="place", position=0)
    if placed.kind is ItemKind.VOTERS:
        decode_voters(placed.payload)
    elif placed.kind is ItemKind.LOG_START:
        decode_log_start(placed.payload, placed.point.offset)
    return _Written(placed, header, data)


def _last(segments: list[Segment], is_before: Callable[[Segment], bool]) -> int:
    low, high = 0, len(segments)
    while low < high:
        middle = (low + high) // 2
        if is_before(segments[middle]):
            low = middle + 1
        else:
            high = middle
    return low - 1


def _window(bytes_left: int) -> int:
    return max(64 << 10, min(bytes_left, 4 * WINDOW_BYTES))
