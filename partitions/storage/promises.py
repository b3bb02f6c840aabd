"""The broker's word: `promises.log`, in which a data directory keeps its identity, its votes and its marks.

Invariants
    a frame's number is handed out when it is noted; `synced >= number` only once it is on disk, in both its copies
    frames reach the disk in the order of their numbers, whole rounds at a time, one round in flight
    the mark of a replica never passes what its log surely holds: a raised one may be lost, a lowered one may not
    while a lowered mark is not yet synced, raised ones past it are ignored: they come from before the cut
    the file is rewritten between two rounds; a crash finds the old file or the new one, both complete

Whoever lowers a mark in order to cut must see to it that no raise from before the cut comes once the lowering is
synced: `PartitionLog.announce_cut` makes every ticket from before worthless at the moment of the decision.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from ..environment import Environment, File, PartitionId, TimerHandle
from ..raft.messages import Voter
from ..raft.points import ORIGIN, Point
from .promise_frames import (
    BLOCK_BYTES,
    BootFrame,
    ClusterSetFrame,
    CompactedFrame,
    CreatedFrame,
    DeletedFrame,
    DirectoryFrame,
    DoubtFrame,
    Frame,
    MarkFrame,
    MemoryBootFrame,
    StartNumberFrame,
    VoteFrame,
    WordFrame,
    encode_round,
    read_rounds,
)
from .promised import Promised

FILE_NAME = "promises.log"
PARTITIONS_DIRECTORY = "partitions"
REWRITE_BYTES = 4 << 20
MARK_INTERVAL_MS = 100.0


class _Round(NamedTuple):
    """What one write to the file carries."""

    number: int
    """Of its last frame."""
    frames: list[Frame]


class Promises(Promised):
    """The promises of one data directory.

    One event loop calls it. `note_*` and `lower_mark` take effect in `recall` at once, and bind once they are synced.
    A disk that fails ends the process: what was promised is unknown then.

    Raises, from `open`
        NewerFormat  a later version wrote the file
        OSError      the directory cannot be read or written
    """

    def __init__(self, env: Environment, directory: str, mark_interval_ms: float) -> None:
        super().__init__()
        self.boot_changed = False
        """Were the logs last read under another boot than this process's? It stays so when the boot is settled."""
        self.lost_word = False
        self.synced = 0
        self._env = env
        self._directory = directory
        self._path = f"{directory}/{FILE_NAME}"
        self._mark_interval_ms = mark_interval_ms
        self._file: File | None = None
        self._end_position = 0
        self._rewrite_at_bytes = REWRITE_BYTES
        self._round_number = 0
        self._noted = 0
        self._waiting_frames: list[Frame] = []
        self._raised: dict[PartitionId, Point] = {}
        self._lowering: dict[PartitionId, tuple[int, Point]] = {}
        self._callbacks: list[tuple[int, int, Callable[[], None]]] = []
        self._callback_order = count()
        self._is_writing = False
        self._mark_timer: TimerHandle | None = None

    @classmethod
    async def open(cls, env: Environment, directory: str, *, mark_interval_ms: float = MARK_INTERVAL_MS) -> Promises:
        """Recall what was promised here, or begin anew.

        On return all that it recalled is on disk, whoever wrote it, and so is a new directory id.
        """
        promises = cls(env, directory, mark_interval_ms)
        env.disk.make_directory(directory)
        if env.disk.exists(f"{promises._path}.new"):
            env.disk.unlink(f"{promises._path}.new")
        why_lost = await promises._recover()
        if why_lost is not None:
            promises.lost_word = True
            env.log("the broker's word is lost: it starts like a wiped one", directory=directory, why=why_lost)
        if not promises.directory_id:
            promises.apply(DirectoryFrame(f"{env.random.getrandbits(128):032x}", departures_are_kept=True))
            if promises.lost_word:
                await promises._set_logs_aside()
            promises.boot_id = env.disk.boot_id
            await promises._rewrite()
        promises.boot_changed = promises.boot_id != env.disk.boot_id
        return promises

    async def settle_boot(self) -> None:
        """All listed logs have been read under this boot: the next start may go by the page cache. Durable on return.

        Earlier, that start would take for decay what the power failure left half written. Later than anything is
        acknowledged under this boot, it would take decay of that for what the power failure left.
        """
        if self.boot_changed:
            await self.sync(self._note(BootFrame(self._env.disk.boot_id)))

    def note_created(self, partition: PartitionId, replica_number: int) -> int:
        self._raised.pop(partition, None)
        return self._note(CreatedFrame(partition, replica_number))

    def note_deleted(self, partition: PartitionId) -> int:
        self._raised.pop(partition, None)
        return self._note(DeletedFrame(partition))

    def forget_departed(self, partition: PartitionId) -> None:
        """Its topic is deleted. Does not bind: a start may recall it, unless the file was rewritten before."""
        self.departed.discard(partition)

    def note_vote(self, partition: PartitionId, term: int, voted_for: Voter | None) -> int:
        return self._note(VoteFrame(partition, term, voted_for))

    def note_word(self, partition: PartitionId, word: Point | None) -> int:
        """Keep how far a damaged replica acknowledged; None, or the origin, once its log end has reached that."""
        return self._note(WordFrame(partition, None if word == ORIGIN else word))

    def note_doubt(self, partition: PartitionId, doubtful: bool) -> int:
        return self._note(DoubtFrame(partition, doubtful))

    def note_memory_boot(self, partition: PartitionId, boot_id: str | None) -> int:
        return self._note(MemoryBootFrame(partition, boot_id))

    def note_compacted(self, partition: PartitionId, *, rewritten_to: int, cleaned_to: int) -> int:
        """What compaction is about to do to the log: never less than it did, unless the log has begun anew."""
        return self._note(CompactedFrame(partition, rewritten_to, cleaned_to))

    def note_cluster_set(self, cluster_set: bytes) -> int:
        return self._note(ClusterSetFrame(cluster_set))

    def note_decisions_lost(self) -> int:
        """A topic whose deletion was among them may come back: what was here of it is not known any more."""
        return self._note(DirectoryFrame(self.directory_id, departures_are_kept=False))

    def note_start_number(self, start_number: int) -> int:
        return self._note(StartNumberFrame(start_number))

    def lower_mark(self, partition: PartitionId, point: Point) -> int:
        """The log is about to be cut to `point`; a mark that is lower stays."""
        held = self.replicas[partition].mark
        # Both are points of the log as it was before the cut, so they compare.
        lowered = min(self._raised.pop(partition, held), point)
        number = self._note(MarkFrame(partition, lowered))
        self._lowering[partition] = (number, point)
        return number

    def raise_mark(self, partition: PartitionId, point: Point) -> None:
        """This disk surely holds the log through `point`. Does not bind; goes out with the next round."""
        held = self.replicas.get(partition)
        lowering = self._lowering.get(partition)
        if held is None or (lowering is not None and point > lowering[1]):
            return
        if point <= self._raised.get(partition, held.mark):
            return
        self._raised[partition] = point
        if self._mark_timer is None and not self._is_writing:
            self._mark_timer = self._env.call_later(self._mark_interval_ms, self._flush_marks)

    def when_synced(self, number: int, callback: Callable[[], None]) -> None:
        """Call back once the frame `number` is on disk; at once if it is."""
        if number <= self.synced:
            callback()
        else:
            heapq.heappush(self._callbacks, (number, next(self._callback_order), callback))

    async def sync(self, number: int) -> None:
        """Return once the frame `number` is on disk."""
        if number > self.synced:
            done: asyncio.Event = asyncio.Event()
            self.when_synced(number, done.set)
            await done.wait()

    async def scrub(self) -> bool:
        """Read the file, and write it anew if a copy of anything in it has become unreadable. True if it had."""
        if self._file is None or self._is_writing:
            return False  # soon again
        try:
            reading = read_rounds(self._file.read(0, self._end_position))
            is_whole = reading.lost is None and all(found.whole for found in reading.rounds)
        except OSError:
            is_whole = False
        if is_whole:
            return False
        self._env.log("promises_decayed", path=self._path)
        # By a round that says nothing new: it goes on to its end if whoever scrubs is cancelled, as a stop does it.
        self._rewrite_at_bytes = 0
        await self.sync(self._note(StartNumberFrame(self.start_number)))
        return True

    async def close(self) -> None:
        """A clean stop: all that was noted or raised is on disk on return."""
        if self._raised:
            self._flush_marks()
        await self.sync(self._noted)
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- noting --------------------------------------------------------------------------------------------------------

    def _note(self, frame: Frame) -> int:
        self.apply(frame)
        self._noted += 1
        self._waiting_frames.append(frame)
        self._write_soon()
        return self._noted

    # -- writing -------------------------------------------------------------------------------------------------------

    def _flush_marks(self) -> None:
        self._mark_timer = None
        self._take_raised_marks()
        if self._waiting_frames:
            self._write_soon()

    def _take_raised_marks(self) -> None:
        for partition, mark in self._raised.items():
            frame = MarkFrame(partition, mark)
            self.apply(frame)
            self._noted += 1
            self._waiting_frames.append(frame)
        self._raised.clear()

    def _write_soon(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            # Soon, not now: all that is noted in this turn of the loop shares a round.
            self._env.call_soon(lambda: self._env.spawn(self._write_rounds()))

    async def _write_rounds(self) -> None:
        while self._waiting_frames:
            self._take_raised_marks()
            if self._mark_timer is not None:
                self._mark_timer.cancel()
                self._mark_timer = None
            round_ = _Round(self._noted, self._waiting_frames)
            self._waiting_frames = []
            try:
                if self._end_position >= self._rewrite_at_bytes:
                    await self._rewrite()
                else:
                    await self._write_round(round_.frames)
            except OSError as error:
                self._env.halt(f"{self._path}: {error}")
            self._note_synced(round_.number)
        self._is_writing = False
        if self._raised and self._mark_timer is None:
            self._mark_timer = self._env.call_later(self._mark_interval_ms, self._flush_marks)

    async def _write_round(self, frames: list[Frame]) -> None:
        assert self._file is not None, f"{self._path} is closed"
        copies = encode_round(self._round_number, frames)
        self._file.write(self._end_position, copies)
        await self._file.fdatasync()
        self._round_number += 1
        self._end_position += sum(map(len, copies))

    def _note_synced(self, number: int) -> None:
        self.synced = number
        for partition in [p for p, (lowered, _) in self._lowering.items() if lowered <= number]:
            del self._lowering[partition]
        while self._callbacks and self._callbacks[0][0] <= number:
            heapq.heappop(self._callbacks)[2]()

    async def _rewrite(self) -> None:
        """Put a file in place that says what is so, and no longer how it became so."""
        disk = self._env.disk
        content = encode_round(0, self._all_frames())
        new = disk.open(f"{self._path}.new", create=True)
        new.write(0, content)
        await new.fdatasync()
        disk.rename(f"{self._path}.new", self._path)
        await disk.sync_directory(self._directory)
        if self._file is not None:
            self._file.close()
        new.close()
        self._file = disk.open(self._path)
        self._round_number = 1
        self._end_position = sum(map(len, content))
        self._rewrite_at_bytes = max(REWRITE_BYTES, 2 * self._end_position)

    def _all_frames(self) -> list[Frame]:
        frames: list[Frame] = [
            DirectoryFrame(self.directory_id, self._departures_are_kept),
            StartNumberFrame(self.start_number),
        ]
        if self.boot_id is not None:
            frames.append(BootFrame(self.boot_id))
        if self.cluster_set is not None:
            frames.append(ClusterSetFrame(self.cluster_set))
        frames += map(DeletedFrame, sorted(self.departed))
        for partition, held in sorted(self.replicas.items()):
            frames.append(CreatedFrame(partition, held.replica_number))
            frames.append(VoteFrame(partition, held.term, held.voted_for))
            frames.append(MarkFrame(partition, held.mark))
            if held.word is not None:
                frames.append(WordFrame(partition, held.word))
            if held.doubtful:
                frames.append(DoubtFrame(partition, True))
            if held.memory_boot is not None:
                frames.append(MemoryBootFrame(partition, held.memory_boot))
            if held.rewritten_to or held.cleaned_to:
                frames.append(CompactedFrame(partition, held.rewritten_to, held.cleaned_to))
        return frames

    # -- recovery ------------------------------------------------------------------------------------------------------

    async def _recover(self) -> str | None:
        """Replay the file, if there is one. Returns why the word is lost, None if it is not."""
        disk = self._env.disk
        if not disk.exists(self._path):
            return "promises.log is missing beside partitions" if self._partition_directories() else None
        file = disk.open(self._path)
        try:
            content, failed_at, error = _read_in_blocks(file)
            reading = read_rounds(content, self._path)
        except BaseException:
            file.close()
            raise
        if error is not None and (reading.lost is not None or failed_at[-1] >= reading.end_position):
            # The disk gives no answer: that is not to say that nothing was promised. It may answer again.
            file.close()
            raise OSError(
                f"{self._path} cannot be read at {failed_at[0]}, nor the other copy: {error.strerror}; "
                "start again, and if it stays so, replace the disk and begin with an empty data directory"
            ) from error
        if reading.is_mistake:
            # To begin anew as somebody else would be wrong: what one broker wrote by mistake, all of them may have.
            file.close()
            raise OSError(
                f"{self._path}: {reading.lost}; that is a mistake of lograft's, not of the disk's: leave the file, "
                "start the version that ran before, and report it"
            )
        if reading.lost is not None:
            file.close()
            return reading.lost
        for found in reading.rounds:
            for frame in found.frames:
                self.apply(frame)
        # The last process may have died before its last round was synced, or after a sync that failed and left the
        # page marked clean: what is recalled must be written again, and what is unreadable must be gone for good.
        last = reading.rounds[-1]
        copies = encode_round(last.number, last.frames)
        second = last.position + len(copies[0])
        is_the_same = (
            copies[0] == content[last.position : second] or copies[1] == content[second : reading.end_position]
        )
        if not is_the_same or not all(found.whole for found in reading.rounds[:-1]):
            # Other bytes in the same place, as of frames of an older version, could be torn in both copies at once.
            file.close()
            await self._rewrite()
            return None
        file.truncate(reading.end_position)
        file.write(last.position, copies)
        await file.fdatasync()
        await disk.sync_directory(self._directory)
        self._file = file
        self._round_number = last.number + 1
        self._end_position = reading.end_position
        return None

    def _partition_directories(self) -> list[str]:
        path = f"{self._directory}/{PARTITIONS_DIRECTORY}"
        return self._env.disk.list(path) if self._env.disk.exists(path) else []

    async def _set_logs_aside(self) -> None:
        """Rename the files of all logs: they are no replicas any more, only sources for repair."""
        disk = self._env.disk
        for name in self._partition_directories():
            path = f"{self._directory}/{PARTITIONS_DIRECTORY}/{name}"
            for file_name in disk.list(path):
                if ".lost-" not in file_name:
                    disk.rename(f"{path}/{file_name}", f"{path}/{file_name}.lost-{self.directory_id[:8]}")
            await disk.sync_directory(path)
        if disk.exists(self._path):
            disk.rename(self._path, f"{self._path}.lost-{self.directory_id[:8]}")
            # Once the name is free nothing may be left that could be taken for the old word after a crash.
            await disk.sync_directory(self._directory)


def _read_in_blocks(file: File) -> tuple[bytes, list[int], OSError | None]:
    """All of a file; where the disk gives no answer, zeros, with the positions of those blocks and the first error.

    A bad sector fails the whole read that touches it, though the other copy of what stands there may be fine.
    """
    size = file.size()
    try:
        return file.read(0, size), [], None
    except OSError:
        pass
    content, failed_at = bytearray(size), []
    first_error = None
    for position in range(0, size, BLOCK_BYTES):
        try:
            block = file.read(position, min(BLOCK_BYTES, size - position))
        except OSError as error:
            first_error = first_error or error
            failed_at.append(position)
        else:
            content[position : position + len(block)] = block
    return bytes(content), failed_at, first_error
