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

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ...proto.errors import CorruptBatch
from ...proto.record_batch import BatchHeader, Buffer, verify
from ..environment import Disk, Environment, PartitionId, ReplicaConfig
from ..producers import ProducerTable
from ..raft.messages import Voter
from ..raft.points import ORIGIN, Item, ItemKind, Point, TermJournal
from ..raft.voter_sets import VoterSets
from .chain import Placed, is_thinned, place
from .contents import Contents
from .disk_errors import gives_bytes_at
from .leftovers import Leftovers
from .log_starts import LogStarts
from .promises import PARTITIONS_DIRECTORY
from .reader import LogReader
from .recovery import Damage, RecoveryVerdict
from .repair import Hole, claims_beyond
from .replacement import Replacement, decide_replacement, finish_replacement, noted_replacements
from .reset import forget_reset, note_reset, noted_reset
from .rewriting import Rewritten
from .scan import Scan, scan_log
from .segment import (
    DamagedLog,
    Segment,
    new_path,
    segment_path,
)
from .segment_head import SegmentHead
from .segments import ClosedSegment, Segments, StoredSegment
from .settlement import Flaw, Settlement
from .zero_width import decode_log_start, decode_voters, term_start

__all__ = ["Damage", "DamagedLog", "PartitionLog", "RecoveryVerdict", "Ticket", "partition_path"]

_STALE = -1


class Ticket(NamedTuple):
    """What had been written when it was taken."""

    cuts: int
    """Of the log, until then; -1 if a cut was under way."""
    written: int
    """Appends until then."""
    end: Point


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
        self.may_lack_beginning = False
        """Does all that was read up to a hole say that segments before the first one are gone?"""
        self.journal = TermJournal(ORIGIN)
        self.voter_sets = VoterSets(ORIGIN, ())
        """As its items say, committed or not; before any voter change, as the first head does."""
        self._env = env
        self._data_directory = directory
        self._directory = partition_path(directory, partition)
        self._config = config
        self._segments = Segments()
        self._reader = LogReader(self._segments, partition, self._directory, config.index_interval_bytes)
        self._leftovers = Leftovers(env.disk, self._directory)
        self._contents = Contents(_first_head(partition, ()))
        self._starts = LogStarts(ORIGIN, 0)
        self._written = 0
        self._is_cutting = False
        self._is_replacing = False
        self._dirty: list[Segment] = []

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
        log._leftovers.find_all()
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
        log.may_lack_beginning = found.may_lack_beginning
        verdict = RecoveryVerdict()
        settlement = Settlement(env.disk, log._directory, found, mark)
        try:
            await settlement.restore_heads(env.wall_ms)
            if found.unreadable is not None:
                flaw = await settlement.judge(
                    found.unreadable, same_boot=same_boot, term_max=term_max, base=base, on_doubt=on_doubt
                )
                verdict = RecoveryVerdict(doubtful=flaw.doubtful)  # it is promised, whatever fails from here on
                verdict = await log._end_at(found.unreadable.why, flaw)
            if log.damage is None:
                await settlement.keep()
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
        self._leftovers.add_beyond(self._segments.base_offsets())
        await self._clear()
        for name in self._env.disk.list(self._directory):
            self._env.disk.unlink(f"{self._directory}/{name}")
        self._env.disk.remove_directory(self._directory)
        await self._env.disk.sync_directory(f"{self._data_directory}/{PARTITIONS_DIRECTORY}")

    def close(self) -> None:
        """Let go of all descriptors. What is not synced stays in the page cache, and no ticket is worth anything."""
        self.announce_cut()
        self._segments.close()
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
        return self._segments.size_bytes

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def size_to(self, point: Point) -> int:
        """Bytes before `point`, as the indexes know it: up to an index interval less than there are."""
        return self._reader.size_to(point, self.end)

    @property
    def base(self) -> Point:
        """Where the first segment begins, or will once a reset is over."""
        return self.journal.base

    def closed_segments(self) -> list[ClosedSegment]:
        """All but the one that is appended to, oldest first."""
        return self._segments.closed()

    def stored_segments(self) -> list[StoredSegment]:
        """All of them, oldest first."""
        return self._segments.stored(self.end)

    def holds_segment(self, stored: StoredSegment) -> bool:
        """Is that file still a part of this log, with all that it held?"""
        return not self._is_cutting and self._segments.hold(stored)

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
        at = self._segments.at(stored.base)
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
        at = self._segments.at(point)
        assert at >= 0 and self.journal.holds(point), f"{self.partition} does not hold {point}"
        contents = self._reader.contents(at, point)[0]
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
        at = self._segments.at(base)
        assert at >= 0 and self._segments[at].base == base, f"no segment of {self.partition} begins at {base}"
        dropped = self._segments[:at]
        for segment in dropped:
            assert segment not in self._dirty, f"{segment.path} is dropped, but what follows may not be on disk"
            segment.close()
        self._reader.forget(dropped)
        self._segments.drop_before(at)
        self.journal.begin_at(base)
        self._starts.begin_at(base)
        self.voter_sets.begin_at(base)
        self._leftovers.add_dropped(segment.base.offset for segment in dropped)

    async def remove_dropped(self) -> None:
        """Remove the files of the segments that were dropped, durably."""
        try:
            await self._leftovers.remove_dropped()
        except OSError as error:
            # Which of them a crash would bring back is not known any more, and they must go in their order.
            self._env.halt(f"dropping segments of {self.partition}: {error}")

    def remove_rewritten(self) -> None:
        """Remove what compaction wrote and nobody put in place."""
        if not self._is_replacing and not self._is_cutting:
            self._leftovers.remove_rewritten()

    async def replace(self, rewritten: Rewritten, on_replaced: Callable[[], None] = lambda: None) -> bool:
        """Put a compacted segment in the place of those that it was made of, durably.

        All of them are committed and on disk, and what compaction did to them is promised. False, and nothing has
        changed: they are not what they were any more. The caller drops and resets nothing meanwhile.
        `on_replaced` is called at the moment from which on the new segment is read.
        """
        disk, directory = self._env.disk, self._directory
        replacement = Replacement(rewritten.base.offset, rewritten.end.offset, rewritten.token)
        path = new_path(segment_path(directory, rewritten.base.offset), ".log", rewritten.token)
        older = self._segments.between(rewritten.base, rewritten.end)
        if (
            self._is_cutting
            or not older
            or sum(segment.size for segment in older) != rewritten.bytes_before
            or any(segment in self._dirty for segment in older)
            or not self._segments[self._segments.at(rewritten.end)].has_durable_head
            or not _surely_exists(disk, path)
        ):
            return False
        self._is_replacing = True
        try:
            await decide_replacement(disk, directory, replacement, path)
            segment = Segment.replacing(older[0], replacement.path(directory), rewritten.size_bytes)
            self._segments.replace(older, segment)
            for one in older:
                one.close()
            self._reader.forget(older)
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
        self._leftovers.find_all()
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

        DamagedLog: where it would end cannot be read, and nothing was cut; or it was, and shows now what is lost.
        """
        assert self.journal.holds(point), f"{self.partition} cannot be cut to {point}: it ends at {self.end}"
        self.announce_cut()
        return self._cut(point)

    async def _cut(self, point: Point) -> None:
        try:
            position = self._forget_after(point)
            await self._leftovers.remove_beyond()
            if self._segments:
                await self._segments[-1].cut(position)
            else:
                await self._begin(_first_head(self.partition, self.voters))
                await self._env.disk.sync_directory(f"{self._data_directory}/{PARTITIONS_DIRECTORY}")
        except OSError as error:
            self._env.halt(f"cutting {self.partition} to {point}: {error}")
        self.damage = self.hole = None
        self._is_cutting = False
        self._look_for_beginning()

    def _look_for_beginning(self) -> None:
        """What was cut may be all that said why nothing stands before the first segment. DamagedLog: it is lost."""
        first = self._segments[0]
        if first.base.offset == 0:
            return
        try:
            start_offset = max(first.head().start_offset, self._contents.start_offset)
        except (ValueError, OSError):
            return  # whoever needs that head finds out
        if start_offset < first.base.offset:
            raise DamagedLog(first.path, 0, f"no segment holds offset {start_offset}")

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
        self._segments.add(segment)
        self._dirty.append(segment)
        self._contents = self._contents.at_base(segment.base)
        return segment

    async def _begin(self, head: SegmentHead) -> None:
        """Make the first segment, durably."""
        segment = Segment.create(self._env.disk, self._directory, head, self._config.index_interval_bytes)
        self._segments.take([segment])
        await segment.sync()

    def _close_all(self) -> None:
        self._segments.close()
        self._segments.take([])
        self._dirty.clear()
        self._reader.forget_all()

    async def _clear(self) -> None:
        self._close_all()
        await self._leftovers.remove_all()

    def _forget_after(self, point: Point) -> int:
        """Take everything after `point` out of memory. Returns its position in the segment that is the last one now."""
        self._reader.forget_places()
        if not self._segments:
            return 0
        at = max(0, self._segments.at(point))
        contents, position = self._reader.contents(at, point)
        beyond = self._segments[at + 1 :]
        for segment in beyond:
            segment.close()
        self._dirty = [segment for segment in self._dirty if segment not in beyond]
        self._leftovers.add_beyond(segment.base.offset for segment in beyond)
        self._segments.drop_after(at)
        last = self._segments[-1]
        self._reader.forget([*beyond, last])
        last.size = position
        # When what is left of the segment was appended is not known: not after what is cut.
        contents.append_time_ms = self.append_time_ms
        self._contents = contents
        self._starts.cut(point)
        self.voter_sets.cut(point)
        assert self.voters == contents.voters, f"{self.voters} vote, but {contents.voters} as of {point}"
        self.journal.cut(point)
        return position

    # -- recovery ------------------------------------------------------------------------------------------------------

    def _take(self, found: Scan) -> None:
        self._segments.close()  # of a reset that was carried to its end just before
        self._segments.take(found.segments)
        self._leftovers.take_beyond(found.bases[len(found.segments) :])
        self.journal = found.journal
        self._contents = found.contents or Contents(_first_head(self.partition, ()))
        self._starts = found.starts
        self.voter_sets = found.voter_sets
        if found.contents is not None:
            self._date_last_segment()
        self._leftovers.remove_orphans(found.bases)

    def _date_last_segment(self) -> None:
        """When its items were appended is not written down: after the item before it, and by now."""
        contents = self._contents
        last = self._segments[-1] if self._segments else None
        if last is not None and last.size:
            last.first_append_time_ms = last.append_time_before_ms or self._env.wall_ms()
            contents.append_time_ms = max(contents.append_time_ms, self._env.wall_ms())
        self.append_time_ms = contents.append_time_ms

    async def _end_at(self, why: str, flaw: Flaw) -> RecoveryVerdict:
        """At the first place that is unreadable: leave it alone as damage, or cut it off, durably."""
        if flaw.damage is not None:
            self.damage, self.hole = flaw.damage, flaw.hole
            return RecoveryVerdict(self.damage, flaw.doubtful, self.end, why)
        last = self._segments[-1]
        cut_bytes = self._leftovers.size_beyond() + last.file.size() - last.size
        await self._leftovers.remove_beyond()
        await last.cut(last.size)
        return RecoveryVerdict(None, flaw.doubtful, self.end, why, cut_bytes)

    def _give_up_unsynced(self, found: Scan, mark: Point, verdict: RecoveryVerdict, error: OSError) -> RecoveryVerdict:
        """A sync failed: what is past the mark may not be on disk, and no second try would tell."""
        held = self.end
        try:
            if found.mark_place is None:
                raise DamagedLog(self._directory, 0, f"{mark} is not in the log")
            self._forget_after(mark)
        except (DamagedLog, OSError):
            self._segments.close()
            self._leftovers.add_beyond(self._segments.base_offsets())
            self._segments.take([])
            self._contents, self.journal = Contents(_first_head(self.partition, ())), TermJournal()
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

    @property
    def hole_can_be_read(self) -> bool:
        """Has an error of the disk passed that made the hole? What is there is not looked at."""
        return self.hole is not None and gives_bytes_at(self._env.disk, self._directory, self.hole)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_items(self, after: Point, upto: Point, bytes_max: int) -> tuple[Item, ...]:
        """Items after the point `after`, which the log holds, through `upto`: at least one if there is any.

        DamagedLog: the first of them is unreadable; those before an unreadable one are given.
        """
        return self._reader.items(self.journal, after, min(upto, self.end), bytes_max)

    def read_to_replicate(self, after: Point, upto: Point, bytes_max: int) -> tuple[tuple[Item, ...], int]:
        """As `read_items`, but of one segment only, with the time at which its last item was appended, or a later one.

        So a log that is copied years later rolls into segments that are as old as those it was copied from.
        """
        at = self._segments.at(after)
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
        upto_offset = min(upto_offset, self.end.offset)
        return self._reader.records(self.journal, offset, upto_offset, bytes_max, only_cached=only_cached)

    def offset_for_time(self, timestamp_ms: int, offset: int, upto_offset: int) -> tuple[int, int] | None:
        """Base offset and greatest timestamp of the first batch that reaches a time.

        Of those that hold `offset` or a later one, and nothing from `upto_offset` on.
        """
        return self._reader.offset_for_time(timestamp_ms, offset, upto_offset)


def _first_head(partition: PartitionId, voters: tuple[Voter, ...]) -> SegmentHead:
    return SegmentHead(
        partition=partition,
        base=ORIGIN,
        voters=voters,
        start_offset=0,
        producers=ProducerTable().to_bytes(),
        append_time_ms=0,
    )


def _surely_exists(disk: Disk, path: str) -> bool:
    try:
        return disk.exists(path)
    except OSError:
        return False


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
