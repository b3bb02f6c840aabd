"""A partition whose majority is lost goes on with one replica's log, under a new identity: what that takes on a disk.

Invariants
    nothing is touched before the note is on disk; from then on the old identity here is over, whatever crashes
    nothing before a hole is cut, and nothing destroyed: what lies at and past it is kept in `recovered/` first, with
        zeros for what the disk does not give
    the new lineage's first items stand in a term beyond every term that was promised here, and name its one voter
    the listing goes from the old identity to the new in one round of promises, with its term, without word or doubt
    the note goes last: whoever finds it begins again, and what is done already is found done
A replica that does not go on is noted as ended. It is not opened any more, and its files stay where they are until the
new lineage leads: if that never comes to be, another recovery may still choose this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import crc32c
import msgspec

from ...proto.errors import UNDECODABLE
from ...proto.record_batch import read_header, stamp
from ..environment import Disk, Environment, PartitionId, ReplicaConfig
from ..raft.messages import Voter
from ..raft.points import ORIGIN, Item, ItemKind, Point
from .log import PartitionLog, partition_path
from .promises import Promises
from .repair import read_what_can_be
from .scan import scan_log
from .segment import NEW, segment_files, segment_path
from .segment_head import SegmentHead
from .zero_width import term_start, voter_change

FILE_NAME = "lineage.note"
SET_ASIDE_DIRECTORY = "recovered"
COPY_BYTES = 1 << 20


class LineageNote(msgspec.Struct, frozen=True, array_like=True):
    """What a recovery made of the replica in a directory."""

    partition: PartitionId
    recovery: int
    """Which of the partition's recoveries it was."""
    first_number: int
    """Identities with a lower replica number are over."""
    heir: Voter | None = None
    """As whom the replica here goes on; None: it does not."""
    term: int = 0
    """Not in an earlier one."""
    end: Point = ORIGIN
    """Of a replica that does not go on: where its readable log ended, for whoever may choose it later."""
    word: Point = ORIGIN
    committed: Point = ORIGIN
    damaged: bool = False
    doubtful: bool = False
    records: bytes = b""
    """A batch that stands before all that the heir appends. Found there twice, it must say the same."""

    def ends(self, replica_number: int) -> bool:
        return replica_number < self.first_number

    def goes_on(self, replica_number: int) -> bool:
        """Is the replica that is listed under this number to become the heir, or about to be it? A note that a crash
        left behind says nothing of one that was made since, and no note brings back an heir that it ends itself.
        """
        heir = self.heir
        if heir is None or self.ends(heir.replica_number):
            return False
        return replica_number == heir.replica_number or self.ends(replica_number)


class Begun(NamedTuple):
    """What became of the old log."""

    kept: Point
    """All of it through here goes on."""
    set_aside: str
    """Directory that holds what could not be read; empty if there was nothing."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LineageNote).decode


async def write_note(disk: Disk, directory: str, note: LineageNote) -> None:
    """Decide, durably, that the identity in `directory`, a data directory's, is over. Replaces an earlier note."""
    where = partition_path(directory, note.partition)
    path = f"{where}/{FILE_NAME}"
    if disk.exists(path + NEW):
        disk.unlink(path + NEW)
    file = disk.open(path + NEW, create=True)
    try:
        body = _encode(note)
        file.write(0, [crc32c.crc32c(body).to_bytes(4, "big") + body])
        await file.fdatasync()
    finally:
        file.close()
    disk.rename(path + NEW, path)
    await disk.sync_directory(where)


def read_note(disk: Disk, directory: str, partition: PartitionId) -> LineageNote | None:
    """The note, if there is one.

    Raises OSError: one is there that cannot be read. Whether the replica may act is not known then, so it must not.
    """
    path = f"{partition_path(directory, partition)}/{FILE_NAME}"
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        content = file.read(0, file.size())
    finally:
        file.close()
    try:
        if crc32c.crc32c(content[4:]) != int.from_bytes(content[:4], "big"):
            raise ValueError("its CRC does not match")
        note = _decode(content[4:])
    except (ValueError, *UNDECODABLE):
        raise OSError(f"{path} is damaged: remove it only if no recovery of this partition was ever decided") from None
    return note if note.partition == partition else None


async def forget_note(disk: Disk, directory: str, partition: PartitionId) -> None:
    """What was noted of a replica that is not listed any more is not said of the next one. Durable on return."""
    where = partition_path(directory, partition)
    left = [path for path in (f"{where}/{FILE_NAME}", f"{where}/{FILE_NAME}{NEW}") if disk.exists(path)]
    for path in left:
        disk.unlink(path)
    if left:
        await disk.sync_directory(where)


async def carry_out(
    env: Environment,
    promises: Promises,
    directory: str,
    note: LineageNote,
    config: ReplicaConfig,
) -> Begun:
    """Make the listed replica in `directory` the heir that the note names, durably. The note is on disk.

    Nobody else uses the log. Afterwards it can be opened as the heir, the only voter of its log.
    Raises OSError: it could not be done, and can be tried again.
    """
    disk, partition, heir = env.disk, note.partition, note.heir
    assert heir is not None, f"{note} names nobody who goes on"
    known = promises.recall(partition)
    assert known is not None, f"{partition} is not listed"
    same_boot = not promises.boot_changed

    async def remember_reset(head: SegmentHead) -> None:
        await promises.sync(
            promises.note_compacted(partition, rewritten_to=head.rewritten_to, cleaned_to=head.cleaned_to)
        )

    log, verdict = await PartitionLog.recover(
        env, directory, partition, mark=known.mark, same_boot=same_boot, config=config, on_reset=remember_reset
    )
    log.close()
    known = promises.recall(partition)
    assert known is not None
    set_aside = ""
    if verdict.damage is not None or note.damaged:
        set_aside = await _set_unreadable_aside(env, directory, note, config)
        # What lies past the hole is about to be cut: nothing before a mark may ever be missing.
        await promises.sync(promises.lower_mark(partition, ORIGIN))
        log, verdict = await PartitionLog.recover(
            env, directory, partition, mark=ORIGIN, same_boot=same_boot, config=config
        )
        log.close()
        if verdict.damage is not None:
            # Not even its beginning could be read, and nothing is left where it was; or the disk does not do as told.
            if segment_files(disk, partition_path(directory, partition)):
                raise OSError(f"{partition} is unreadable again: {verdict.why}")
            log = await PartitionLog.create(env, directory, partition, (), config)
            log.close()
    if known.replica_number != heir.replica_number or known.term < note.term:
        term = max(note.term, known.term + 1, log.end.term + 1)
        # One round of promises: there is no moment at which the listing is neither the one nor the other.
        promises.note_created(partition, heir.replica_number)
        promises.note_vote(partition, term, None)
        # Recovery has made sure of all of it.
        promises.raise_mark(partition, log.end)
        await promises.sync(
            promises.note_compacted(
                partition,
                rewritten_to=min(known.rewritten_to, log.end.offset),
                cleaned_to=min(known.cleaned_to, log.end.offset),
            )
        )
        known = promises.recall(partition)
        assert known is not None
    log, verdict = await PartitionLog.recover(
        env, directory, partition, mark=known.mark, same_boot=same_boot, config=config
    )
    try:
        if verdict.damage is not None:
            raise OSError(f"{partition} is unreadable again: {verdict.why}")
        kept = log.end
        await _begin(log, known.term, heir, note.records, env.wall_ms())
        end = log.end
    finally:
        log.close()
    promises.raise_mark(partition, end)
    path = f"{partition_path(directory, partition)}/{FILE_NAME}"
    disk.unlink(path)
    await disk.sync_directory(partition_path(directory, partition))
    return Begun(kept, set_aside)


async def _begin(log: PartitionLog, term: int, heir: Voter, records: bytes, now_ms: int) -> None:
    """Append what makes the heir the only voter, as far as it is not there yet. That comes last."""
    if log.end.term < term:
        log.append([term_start(Point(term, log.end.offset, 1), now_ms)], now_ms)
    if log.voters != (heir,) or log.end.rank < 2:
        if records:
            data = stamp(records, log.end.offset, term)
            end = log.end._replace(offset=read_header(data).next_offset)
            log.append([Item(end, ItemKind.RECORDS, data)], now_ms)
        point = log.end._replace(rank=log.end.rank + 1)
        log.append([voter_change(point, (heir,), now_ms)], now_ms)
    await log.sync()


async def _set_unreadable_aside(env: Environment, directory: str, note: LineageNote, config: ReplicaConfig) -> str:
    """Keep what lies at and past the hole where it harms nobody. Returns the directory; empty if there is no hole."""
    disk = env.disk
    where = partition_path(directory, note.partition)
    found = scan_log(disk, where, note.partition, ORIGIN, config)
    if found.unreadable is None:
        return ""
    torn = found.unreadable.segment if found.segments else -1
    names = [name for name in segment_files(disk, where) if int(name[:20]) in found.bases[torn + 1 :]]
    pieces = [_Piece(f"{where}/{name}", name) for name in names]
    tail = None
    if torn >= 0:
        base, position = found.bases[torn], found.unreadable.position
        tail = _Piece(segment_path(where, base) + ".log", f"{base:020d}.log.from-{position}", position, is_tail=True)
        pieces.append(tail)
    target = await _make_set_aside(disk, directory, f"{note.partition}.{note.recovery}-unreadable", pieces)
    await _move(disk, names, where, target)
    if tail is not None:
        await _copy_tail(env, tail.path, tail.position, f"{target}/{tail.name}")
    return target


async def set_replica_aside(disk: Disk, directory: str, note: LineageNote) -> str:
    """Move the files of a replica that is over to `recovered/`, all but the note. Returns the directory."""
    where = partition_path(directory, note.partition)
    names = [name for name in disk.list(where) if name != FILE_NAME]
    pieces = [_Piece(f"{where}/{name}", name) for name in names]
    target = await _make_set_aside(disk, directory, f"{note.partition}.{note.recovery}-ended", pieces)
    await _move(disk, names, where, target)
    return target


async def _move(disk: Disk, names: Sequence[str], where: str, target: str) -> None:
    """Let files be in another directory, each under one of its two names at any moment. What has such a name there
    already holds the same.
    """
    for name in names:
        if not disk.exists(f"{target}/{name}"):
            disk.link(f"{where}/{name}", f"{target}/{name}")
    await disk.sync_directory(target)
    for name in names:
        disk.unlink(f"{where}/{name}")
    await disk.sync_directory(where)


class _Piece(NamedTuple):
    """What is to be set aside: a file, or its tail from a position on, and its name there."""

    path: str
    name: str
    position: int = 0
    is_tail: bool = False


async def _make_set_aside(disk: Disk, directory: str, name: str, pieces: Sequence[_Piece]) -> str:
    """A directory where each piece's name is free, or was given to that piece by a try that a crash cut short.

    Where `__cluster` was recovered, a recovery can have the number of one that is forgotten.
    """
    place = f"{directory}/{SET_ASIDE_DIRECTORY}/{name}"
    target, number = place, 1
    while not await _has_room(disk, target, pieces):
        number += 1
        target = f"{place}.{number}"
    disk.make_directory(target)
    await disk.sync_directory(f"{directory}/{SET_ASIDE_DIRECTORY}")
    await disk.sync_directory(directory)
    return target


async def _has_room(disk: Disk, target: str, pieces: Sequence[_Piece]) -> bool:
    for piece in pieces:
        if disk.exists(f"{target}/{piece.name}") and not await _is_held(disk, piece, f"{target}/{piece.name}"):
            return False
    return True


async def _is_held(disk: Disk, piece: _Piece, copy_path: str) -> bool:
    """Is the copy this file, or does it begin with what is left of this tail, which may have been cut since?"""
    source, copy = disk.open(piece.path), disk.open(copy_path)
    try:
        size = max(source.size() - piece.position, 0)
        if copy.size() != size and (copy.size() < size or not piece.is_tail):
            return False
        for at in range(0, size, COPY_BYTES):
            length = min(COPY_BYTES, size - at)
            if read_what_can_be(source, piece.position + at, length) != read_what_can_be(copy, at, length):
                return False
            await asyncio.sleep(0)  # a replica may be long
        return True
    finally:
        source.close()
        copy.close()


async def _copy_tail(env: Environment, path: str, position: int, to: str) -> None:
    disk = env.disk
    if disk.exists(to):
        return  # by an earlier try, which then cut it: what is there now is less
    source, copy = disk.open(path), disk.open(to + NEW, create=not disk.exists(to + NEW))
    try:
        copy.truncate(0)
        size = source.size()
        for at in range(position, size, COPY_BYTES):
            length = min(COPY_BYTES, size - at)
            try:
                content = source.read(at, length)
            except OSError as error:
                # It may be this very place that makes the hole.
                content = read_what_can_be(source, at, length)
                env.log("set_aside_with_zeros", path=path, copy=to, position=at, size=length, why=str(error))
            copy.write(at - position, [content])
        await copy.fdatasync()
    finally:
        source.close()
        copy.close()
    disk.rename(to + NEW, to)
    await disk.sync_directory(to.rpartition("/")[0])


__all__ = ["Begun", "LineageNote", "carry_out", "forget_note", "read_note", "set_replica_aside", "write_note"]
