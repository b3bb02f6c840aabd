"""One replica's directory, checked: every item, head and index, what recovery will make of it, what is left over.

Invariants
    nothing is changed: the broker's own recovery runs on a `DryDisk`, and says what the broker will do
    everything is read once; what the walk finds unreadable, and the last segment, recovery reads once more
    what stands before the mark and is unreadable is damage; past it, what recovery judges it to be
    an index that is missing or wrong is a note: it is never trusted and made again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ....proto.errors import CorruptBatch, LograftError, NewerFormat
from ...environment import Disk, File, PartitionId, ReplicaConfig
from ...raft.messages import Voter
from ...raft.points import ORIGIN, Point, TermJournal
from ..contents import Contents
from ..lineage import FILE_NAME as LINEAGE_NOTE
from ..lineage import read_note
from ..log import PartitionLog, partition_path
from ..promised import ReplicaPromises
from ..recovery import RecoveryVerdict
from ..replacement import BEGINNING, REPLACEMENT, finish_replacement, noted_replacements
from ..reset import FILE_NAME as RESET_NOTE
from ..reset import noted_reset
from ..segment import MENDED, NEW, read_head, segment_bases, segment_files, segment_path
from ..segment_head import SegmentHead
from ..sparse_index import NO_TIMESTAMP, Place, SparseIndex
from .chunks import ChunkTable
from .dry_disk import DryDisk, DryEnvironment, finished
from .findings import Finding, Level
from .walk import BadPlace, walk

REPORT_BYTES = 1 << 20
"""Read between two calls of whoever watches."""
LOST = ".lost-"
"""In the names of files of replicas whose broker's word was lost (`Promises`)."""

ITS_REPAIR = (
    "start the broker beside the others: the replica repairs itself from them once it reads there, at the latest when "
    "it is scrubbed (scrub.interval_ms); keep the others' disks until then"
)

OnRead = Callable[[int], None]
"""Told of bytes that were read."""


@dataclass(slots=True)
class ReplicaCheck:
    """What one replica's directory holds."""

    data_directory: str
    directory_id: str
    partition: PartitionId
    promises: ReplicaPromises | None
    """None: it is not listed."""
    findings: list[Finding] = field(default_factory=list)
    is_judged: bool = True
    """False: nothing here is, or will be, this replica's log."""
    base: Point = ORIGIN
    end: Point = ORIGIN
    """As far as it can be read without a hole."""
    start_offset: int = 0
    voters: tuple[Voter, ...] = ()
    journal: TermJournal = field(default_factory=TermJournal)
    bad: list[BadPlace] = field(default_factory=list)
    """Before the mark, and those past it that matter."""
    table: ChunkTable = field(default_factory=ChunkTable)
    size_bytes: int = 0
    item_count: int = 0
    record_count: int = 0
    disk: Disk | None = None
    """As recovery will find it."""
    log: PartitionLog | None = None
    """As recovery will leave it, to be read from; None if it could not be opened."""

    @property
    def directory(self) -> str:
        return partition_path(self.data_directory, self.partition)

    @property
    def mark(self) -> Point:
        return self.promises.mark if self.promises is not None else ORIGIN

    @property
    def promised(self) -> Point:
        """The highest point that it may have acknowledged, as its mark and its word say."""
        word = self.promises.word if self.promises is not None else None
        return max(self.mark, word or ORIGIN)

    @property
    def is_doubtful(self) -> bool:
        """Does it count for nothing as it is?"""
        return any(finding.level is Level.DOUBT for finding in self.findings)

    @property
    def is_clean(self) -> bool:
        return all(finding.is_clean for finding in self.findings)

    def tell(self, level: Level, path: str, what: str, remedy: str = "", position: int | None = None) -> None:
        self.findings.append(Finding(level, path, what, remedy, position))


def check_replica(
    disk: Disk,
    data_directory: str,
    partition: PartitionId,
    promises: ReplicaPromises,
    *,
    directory_id: str,
    same_boot: bool,
    on_read: OnRead = lambda size: None,
    is_live: bool = False,
) -> ReplicaCheck:
    """Check a listed replica. `same_boot`: the machine did not restart since a broker last used the directory.

    `is_live`: a broker is at work on it. Then only what stands before the mark is judged, as the rest is under way.
    """
    found = ReplicaCheck(data_directory, directory_id, partition, promises)
    try:
        _Checking(disk, found, promises, same_boot, on_read, is_live).run()
    except NewerFormat as error:
        found.is_judged = False
        found.tell(
            Level.UNJUDGED,
            str(error.facts.get("file", found.directory)),
            f"it has format {error.facts.get('found')}, and this lograft reads up to {error.facts.get('known')}",
            "check it with the lograft that wrote it",
        )
    except OSError as error:
        found.is_judged = False
        path = str(error.filename or found.directory)
        found.tell(Level.UNJUDGED, path, f"it cannot be read: {error.strerror or error}", "see to it, and check again")
    return found


class _Checking:
    def __init__(
        self,
        disk: Disk,
        found: ReplicaCheck,
        promises: ReplicaPromises,
        same_boot: bool,
        on_read: OnRead,
        is_live: bool,
    ) -> None:
        self._beneath = disk
        self._found = found
        self._promises = promises
        self._same_boot = same_boot
        self._on_read = on_read
        self._is_live = is_live
        self._where = found.directory
        self._disk = DryDisk(disk)
        self._due = 0
        self._suspects: set[int] = set()
        self._bases: list[int] = []
        self._bad: list[tuple[str, BadPlace]] = []
        self._journal: TermJournal | None = None
        """Of a log that is being written, before its mark and its first flaw."""

    def run(self) -> None:
        found = self._found
        found.disk = self._disk
        try:
            names = self._beneath.list(self._where)
        except FileNotFoundError:
            found.is_judged = False
            found.tell(Level.DAMAGE, self._where, "the replica is listed, but its directory is missing", ITS_REPAIR)
            return
        self._look_at_names(names)
        self._look_at_promises()
        if not self._may_go_on():
            found.is_judged = False
            return
        for replacement in noted_replacements(self._disk, self._where):
            finished(finish_replacement(self._disk, self._where, replacement))
        self._walk_all()
        if self._is_live:
            self._take_live()
        else:
            self._recover()

    # -- names and notes -----------------------------------------------------------------------------------------------

    def _look_at_names(self, names: list[str]) -> None:
        found = self._found
        segments = set(segment_files(self._beneath, self._where))
        bases = set(segment_bases(sorted(segments)))
        lost = [name for name in names if LOST in name]
        if lost:
            found.tell(
                Level.NOTE,
                self._where,
                f"{len(lost)} files of a replica from before the broker's word was lost, such as {lost[0]}",
                "delete them once the replica is whole again",
            )
        for name in names:
            path = f"{self._where}/{name}"
            if name.endswith((NEW, MENDED)) and name in segments:
                found.tell(Level.NOTE, path, "left over from a rewriting that did not end", "the broker removes it")
            elif name.endswith((BEGINNING, REPLACEMENT)) and name in segments:
                found.tell(
                    Level.NOTE,
                    path,
                    "a compacted or repaired segment, whole and on its way to its place",
                    "the broker puts it there",
                )
            elif name in segments and not name.endswith(".log") and int(name[:20]) not in bases:
                found.tell(Level.NOTE, path, "no segment is beside it", "the broker removes it")
            elif name not in segments and name not in (LINEAGE_NOTE, RESET_NOTE) and LOST not in name:
                found.tell(Level.NOTE, path, "it does not belong there; the broker passes it over", "move it away")

    def _look_at_promises(self) -> None:
        found, promises = self._found, self._promises
        if promises.mark.term > promises.term:
            found.tell(
                Level.DAMAGE,
                self._where,
                f"its mark {promises.mark} is of a later term than the {promises.term} that was promised",
                "the promises are not of this log: restore neither from a copy; report it",
            )
        if promises.doubtful:
            found.tell(
                Level.NOTE,
                self._where,
                "it is in doubt since an earlier start, and does not count until a leader has helped it",
                "start the broker beside the others",
            )
        if promises.memory_boot is not None and promises.memory_boot != self._beneath.boot_id:
            found.tell(
                Level.NOTE,
                self._where,
                "it acknowledged records that only memory held, and the machine has restarted since",
                "it will be in doubt until a leader has helped it",
            )

    def _may_go_on(self) -> bool:
        """Is what lies here the replica's log, and will it be?"""
        found, where = self._found, self._where
        try:
            note = read_note(self._beneath, found.data_directory, found.partition)
        except OSError as error:
            found.tell(
                Level.DAMAGE,
                f"{where}/{LINEAGE_NOTE}",
                "the note of a recovery is unreadable, so the broker does not open the replica",
                one_remedy(error),
            )
            return False
        goes_on = note is not None and note.goes_on(self._promises.replica_number)
        if note is not None and not goes_on and note.ends(self._promises.replica_number):
            found.tell(
                Level.NOTE,
                f"{where}/{LINEAGE_NOTE}",
                f"recovery {note.recovery} ended this replica, which held {note.end}",
                "the broker sets it aside once the new lineage leads",
            )
            return False
        if note is not None and goes_on:
            found.tell(
                Level.NOTE,
                f"{where}/{LINEAGE_NOTE}",
                f"recovery {note.recovery} goes on with this replica, and is not finished",
                "start the broker: it finishes it",
            )
        reset = noted_reset(self._beneath, where, found.partition)
        if reset is not None:
            found.tell(
                Level.NOTE,
                f"{where}/{RESET_NOTE}",
                f"the log is about to begin anew at {reset.base}; what is here counts for nothing",
                "start the broker: it copies the log from the leader",
            )
            found.base = found.end = reset.base
            found.journal = TermJournal(reset.base)
            found.voters = reset.voters
            return False
        return True

    # -- reading -------------------------------------------------------------------------------------------------------

    def _walk_all(self) -> None:
        self._bases = segment_bases(segment_files(self._disk, self._where))
        contents: Contents | None = None
        end: Point | None = None
        for at, base in enumerate(self._bases):
            head = self._head(base)
            if isinstance(head, SegmentHead):
                begin, is_exact = head.base, True
                expected = None
                if contents is not None and contents.end == begin:
                    expected = contents.next_head(self._found.partition, self._size(self._bases[at - 1]))
                # What a head says wrongly must not be told of all that follow.
                is_right = expected is None or self._is_right(head, expected, self._bases[at - 1])
                contents = Contents(head) if is_right or contents is None else contents.at_base(begin)
            elif contents is not None and end is not None and end.offset == base:
                begin, is_exact = end, True
                contents = contents.at_base(end)
            else:
                begin = Point(end.term if end is not None else 0, base, 0)
                is_exact = False
                contents = None
            if end is not None and end != begin:
                self._found.table.note_gap()
            contents, end = self._walk_segment(base, begin, contents, is_exact=is_exact)
        self._found.table.close()
        self._report(0, final=True)

    def _head(self, base: int) -> SegmentHead | None:
        path = segment_path(self._where, base) + ".head"
        try:
            head = read_head(self._disk, self._where, base)
            Contents(head)
        except ValueError as error:
            self._suspects.add(base)
            if not self._is_live or base < self._promises.mark.offset:
                self._found.tell(
                    Level.DAMAGE,
                    path,
                    f"the head of the segment at offset {base} is unreadable: {error}",
                    "the broker makes it again from the segment before, or the replica repairs itself from the others",
                )
            return None
        return head

    def _size(self, base: int) -> int:
        file = self._disk.open(segment_path(self._where, base) + ".log")
        try:
            return file.size()
        finally:
            file.close()

    def _is_right(self, head: SegmentHead, expected: SegmentHead, before: int) -> bool:
        """Does a head say what the items of the segment at `before` say? What is no more than slow is right."""
        path = segment_path(self._where, head.base.offset) + ".head"
        # A first head that was offered, or given for a repair, says that the log starts there, whatever later ones say.
        start, expected_start = (max(one.start_offset, self._bases[0]) for one in (head, expected))
        remedy = "it is that of another log or time: move it away while the broker is stopped, and it is made again"
        if (head.voters, start) != (expected.voters, expected_start):
            self._found.tell(
                Level.DAMAGE,
                path,
                f"the head says that {_named(head.voters)} vote and the log starts at {start}, but the items before it "
                f"say {_named(expected.voters)} and {expected_start}",
                remedy,
            )
            return False
        # Batches that compaction emptied and merged name their producers no more; heads made before still do.
        is_merged = before < self._promises.cleaned_to
        if head.producers != expected.producers and not is_merged:
            what = "the head remembers other producers than the items before it name"
            self._found.tell(Level.NOTE, path, what, "the items count; should records be doubled, report it")
        described, is_there = (
            (one.base_offset_before, one.bytes_before, one.landmarks_before) for one in (head, expected)
        )
        if described != is_there:
            self._found.tell(
                Level.NOTE,
                path,
                "the head describes the segment before it otherwise than it is now",
                "the broker reads that segment at each start, which takes longer",
            )
        return True

    def _walk_segment(
        self, base: int, begin: Point, contents: Contents | None, *, is_exact: bool
    ) -> tuple[Contents | None, Point | None]:
        """Returns what is known at its end; None of what is not known there."""
        found, mark, table = self._found, self._promises.mark, self._found.table
        path = segment_path(self._where, base) + ".log"
        file = self._disk.open(path)
        index = _IndexCheck(self._disk, path, begin, file.size()) if is_exact else None
        end: Point | None = begin
        last_position = 0
        try:
            found.size_bytes += file.size()
            for step in walk(file, begin, is_exact=is_exact):
                if isinstance(step, BadPlace):
                    self._suspects.add(base)
                    self._bad.append((path, step))
                    table.note_gap()
                    contents, index = None, None
                    last_position = step.end_position
                    end = step.after if step.ends_file else None
                    continue
                before, placed, header, batch, position, item_is_exact = step
                if item_is_exact:
                    if before < mark < placed.point:
                        self._suspects.add(base)
                    table.note(before, placed.point, batch, header.size, base, position)
                else:
                    table.note_gap()
                if self._is_live and item_is_exact and not self._bad and placed.point <= mark:
                    self._journal = self._journal or TermJournal(before)
                    if self._journal.last == before:
                        self._journal.extend(placed.point)
                if contents is not None:
                    try:
                        contents.note(placed, header)
                    except CorruptBatch as error:
                        self._suspects.add(base)
                        self._bad.append(
                            (path, BadPlace(before, position, position + header.size, str(error), before.offset, True))
                        )
                        contents = None
                if index is not None:
                    index.note(before, position, header.max_timestamp_ms)
                found.item_count += 1
                found.record_count += 0 if header.is_control else header.record_count
                self._report(header.size)
                end = placed.point
                last_position = position + header.size
            if index is not None and base != self._bases[-1]:
                self._tell_of_index(index, last_position)
            if contents is None or contents.end != end:
                return None, end
            return contents, end
        finally:
            file.close()

    def _tell_of_index(self, index: _IndexCheck, size: int) -> None:
        why = index.finish(size)
        if why is not None:
            self._found.tell(Level.NOTE, why[0], why[1], "the broker makes it again when it is needed")

    def _report(self, size: int, *, final: bool = False) -> None:
        self._due += size
        if self._due >= REPORT_BYTES or final:
            self._on_read(self._due)
            self._due = 0

    # -- judging -------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Let the broker's own recovery say what it will do."""
        found, promises = self._found, self._promises
        log, verdict = finished(
            PartitionLog.recover(
                DryEnvironment(self._disk),
                found.data_directory,
                found.partition,
                mark=promises.mark,
                same_boot=self._same_boot,
                config=ReplicaConfig(),
                term_max=promises.term,
                suspects=frozenset(self._suspects),
            )
        )
        found.log = log
        found.base, found.end, found.start_offset = log.base, log.end, log.start_offset
        found.voters, found.journal = log.voters, log.journal
        self._tell_of_bad_places(verdict)
        self._tell_of_verdict(log, verdict)
        if promises.word is not None and promises.word > log.end and verdict.damage is None:
            found.tell(
                Level.NOTE,
                self._where,
                f"it once held {promises.word}, and holds {log.end} now: it votes by what it held, and is repaired",
                "start the broker beside the others",
            )

    def _take_live(self) -> None:
        """Of a log that is being written only what stands before the mark is judged."""
        found = self._found
        if self._journal is not None:
            found.journal, found.base, found.end = self._journal, self._journal.base, self._journal.last
        self._tell_of_bad_places(RecoveryVerdict())

    def _tell_of_bad_places(self, verdict: RecoveryVerdict) -> None:
        """Those before the mark. What comes first past it is the verdict's to tell, and what follows that is cut."""
        found, mark = self._found, self._promises.mark
        for path, bad in self._bad:
            is_past = bad.after >= mark
            if is_past and (verdict.damage is None or bad.ends_file):
                continue
            found.bad.append(bad)
            following = (
                f"offset {bad.next_offset} can be read again"
                if bad.next_offset is not None
                else ("nothing after it in this file can be read")
            )
            found.findings.append(
                Finding(
                    Level.DAMAGE,
                    self._disk.origin(path),
                    f"unreadable behind {bad.after}, {bad.end_position - bad.position} bytes: {bad.why}; {following}",
                    ITS_REPAIR,
                    bad.position,
                    bad.after.offset,
                    bad.next_offset,
                    is_past,
                )
            )

    def _tell_of_verdict(self, log: PartitionLog, verdict: RecoveryVerdict) -> None:
        found = self._found
        damage = verdict.damage
        if damage is not None:
            path = self._disk.origin(damage.path)
            if not any(finding.position == damage.position and finding.path == path for finding in found.findings):
                found.findings.append(
                    Finding(
                        Level.DAMAGE,
                        path,
                        f"the log can be read to {damage.where} only, and surely held {damage.word}: {damage.why}",
                        ITS_REPAIR,
                        damage.position,
                        damage.where.offset,
                        max(damage.word.offset, damage.where.offset),
                    )
                )
            return
        if verdict.where is None:
            return
        last = log.stored_segments()[-1]
        found.findings.append(
            Finding(
                Level.DOUBT if verdict.doubtful else Level.NOTE,
                self._disk.origin(last.path),
                f"{verdict.cut_bytes} bytes past the mark {self._promises.mark} are unreadable behind {verdict.where}: "
                f"{verdict.why}",
                "the broker cuts them, and the replica counts for nothing until a leader has helped it: they may have "
                "been acknowledged"
                if verdict.doubtful
                else "the broker cuts them: an unfinished write that was never acknowledged",
                last.size,
                verdict.where.offset,
                None,
                is_past_mark=True,
            )
        )


class _IndexCheck:
    """Does an index say of a segment what is so? Told of its items, one after the other."""

    def __init__(self, disk: Disk, path: str, base: Point, size: int) -> None:
        self._path = path.removesuffix(".log") + ".index"
        self._why: str | None = None
        self._max_timestamp_ms = NO_TIMESTAMP
        self._index: SparseIndex | None = None
        try:
            places = _content(disk, self._path)
            timestamps = _content(disk, self._path.removesuffix("index") + "timeindex")
            self._index = SparseIndex.from_files(places, timestamps, base, size, 1)
        except FileNotFoundError:
            self._why = "there is no index of the segment"
        except (OSError, ValueError) as error:
            self._why = f"the index is unreadable: {error}"
        self._entries = iter(self._index.entries() if self._index is not None else ())
        self._next: tuple[Place, int] | None = next(self._entries, None)

    def note(self, before: Point, position: int, max_timestamp_ms: int) -> None:
        if self._next is not None and self._next[0].position <= position:
            expected = (Place(before, position), self._max_timestamp_ms)
            if self._next != expected and self._why is None:
                self._why = f"the index says that {self._next[0].point} is at {self._next[0].position}: it is not"
            self._next = next(self._entries, None)
        self._max_timestamp_ms = max(self._max_timestamp_ms, max_timestamp_ms)

    def finish(self, size: int) -> tuple[str, str] | None:
        """Path, and what is wrong; None if all is right."""
        if self._why is None and self._next is not None and self._next[0].position < size:
            self._why = f"the index says that {self._next[0].point} is at {self._next[0].position}: it is not"
        if self._why is None and self._index is not None and self._index.max_timestamp_ms != self._max_timestamp_ms:
            self._why = "the index says another newest time than the segment holds"
        return None if self._why is None else (self._path, self._why)


def _content(disk: Disk, path: str) -> bytes:
    file: File = disk.open(path)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def one_remedy(error: LograftError | OSError) -> str:
    """The second half of a message that says why and what to do."""
    return str(error).rpartition(": ")[2]


def _named(voters: tuple[Voter, ...]) -> str:
    return "brokers " + ", ".join(str(voter.broker_id) for voter in voters) if voters else "nobody"
