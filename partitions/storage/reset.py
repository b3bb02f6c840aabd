"""A log that is about to be replaced by another one, which begins at a head: the note that makes it happen or not.

Invariants
    before the note is on disk nothing of the old log is touched; once it is, the old log counts for nothing
    the note is removed, durably, before the new log gets its first item
    so a crash leaves the old log, or the note, with which recovery carries the reset to its end, or the new log

The caller has lowered the mark and kept the replica's word, durably, before the note is written.
"""

from __future__ import annotations

from ..environment import Disk, PartitionId
from .contents import Contents
from .segment_head import SegmentHead

FILE_NAME = "reset.head"


async def note_reset(disk: Disk, directory: str, head: SegmentHead) -> None:
    """Decide, durably, that the log in `directory` begins anew at `head`."""
    path = f"{directory}/{FILE_NAME}"
    if disk.exists(path):
        disk.unlink(path)
    file = disk.open(path, create=True)
    try:
        file.write(0, [head.to_bytes()])
        await file.fdatasync()
    finally:
        file.close()
    await disk.sync_directory(directory)


def noted_reset(disk: Disk, directory: str, partition: PartitionId) -> SegmentHead | None:
    """The head at which the log was about to begin anew; None if nothing of the old one can have been touched.

    NewerFormat: a later version wrote it.
    """
    path = f"{directory}/{FILE_NAME}"
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        head = SegmentHead.from_bytes(file.read(0, file.size()), path)
        Contents(head)
    except ValueError:
        return None  # the write of the note itself was cut short
    finally:
        file.close()
    return head if head.partition == partition else None


async def forget_reset(disk: Disk, directory: str) -> None:
    """The reset is over, or never began. Durable on return, as are all changes of names before."""
    path = f"{directory}/{FILE_NAME}"
    if disk.exists(path):
        disk.unlink(path)
    await disk.sync_directory(directory)
