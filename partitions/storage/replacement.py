"""A compacted, or mended, segment on its way into the place of those it was made of.

Invariants
    a file called `<base>-<end>.replacement` is whole and on disk, and counts instead of all segments from `base` up to
        `end`: once it has that name durably it gets its place, after a crash as well
    the head that follows is told of it before the older segments go, as only their heads say what it must be told
    the older segments are gone, durably, before the file takes the first one's name
    of a log that begins anew there, the file is called `<base>-<end>.beginning`, and all segments up to `end` are older

So a crash leaves the older segments, or a replacement that recovery puts in place, or the new segment alone. What the
log promises of it (how far it is rewritten, and cleaned) is on disk before it gets the first of these names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..environment import Disk
from ..raft.points import Point
from ..raft.voter_sets import VoterChange
from .segment import NEW, new_path, read_head, segment_bases, segment_files, segment_path, unlink_segment
from .segment_head import SegmentHead

LAST_OFFSET = 10**20 - 1
"""The end of a replacement behind which no segment stays."""

BEGINNING = ".beginning"
REPLACEMENT = ".replacement"

_NAME = re.compile(r"(\d{20})-(\d{20})(\.replacement|\.beginning)")


class Replacement(NamedTuple):
    """Which offsets it is for."""

    base_offset: int
    end_offset: int
    token: str = ""
    """Of whoever wrote it; nobody knows it any more after a crash."""
    begins_log: bool = False
    """It is the log's first segment from then on, and without a head: no other one's may be taken for its own."""

    def path(self, directory: str) -> str:
        suffix = BEGINNING if self.begins_log else REPLACEMENT
        return f"{directory}/{self.base_offset:020d}-{self.end_offset:020d}{suffix}"


def noted_replacements(disk: Disk, directory: str) -> list[Replacement]:
    """Those that a crash kept from their place, oldest first."""
    found = [_NAME.fullmatch(name) for name in segment_files(disk, directory)]
    return [Replacement(int(match[1]), int(match[2]), begins_log=match[3] == BEGINNING) for match in found if match]


async def decide_replacement(disk: Disk, directory: str, replacement: Replacement, new: str) -> None:
    """From here on it counts. The new segment's bytes are on disk already, in the file `new`."""
    disk.rename(new, replacement.path(directory))
    await disk.sync_directory(directory)


async def finish_replacement(
    disk: Disk, directory: str, replacement: Replacement, on_renamed: Callable[[], None] = lambda: None
) -> None:
    """Bring it to its place. On return there is one segment, durably. OSError: of the disk, as it says.

    `on_renamed` is called as soon as the file is found under the segment's name alone.
    """
    path, goal = replacement.path(directory), segment_path(directory, replacement.base_offset)
    before_end = [base for base in segment_bases(segment_files(disk, directory)) if base < replacement.end_offset]
    older = [base for base in before_end if base > replacement.base_offset]
    await _tell_following_head(disk, directory, replacement, older)
    for base in reversed(sorted({*before_end, replacement.base_offset}) if replacement.begins_log else older):
        await unlink_segment(disk, directory, base)
    for suffix in (".index", ".timeindex"):
        if disk.exists(goal + suffix):
            disk.unlink(goal + suffix)
        new = new_path(goal, suffix, replacement.token)
        if disk.exists(new):
            disk.rename(new, goal + suffix)
    disk.rename(path, goal + ".log")
    on_renamed()
    await disk.sync_directory(directory)


async def _tell_following_head(disk: Disk, directory: str, replacement: Replacement, older: list[int]) -> None:
    """Let the next head say what stands before it now, so that the new segment need not be read at each start."""
    try:
        heads = [read_head(disk, directory, base) for base in (*older, replacement.end_offset)]
    except ValueError:
        return  # it costs a reading, no more: heads are not believed where they contradict the segments
    file = disk.open(replacement.path(directory))
    try:
        size = file.size()
    finally:
        file.close()
    told = heads[-1].following(replacement.base_offset, size, _joined(heads), _voter_changes(heads))
    if told == heads[-1]:
        return
    path = segment_path(directory, replacement.end_offset) + ".head"
    try:
        if disk.exists(path + NEW):
            disk.unlink(path + NEW)
        new = disk.open(path + NEW, create=True)
        try:
            new.write(0, [told.to_bytes()])
            await new.fdatasync()
        finally:
            new.close()
    except OSError:
        return  # as on a full disk. Nothing depends on this file yet, and the segment needs no more room
    disk.rename(path + NEW, path)
    await disk.sync_directory(directory)


def _voter_changes(heads: list[SegmentHead]) -> tuple[VoterChange, ...]:
    """Those of several segments as those of one. The last head may have been told already, before a crash."""
    joined: list[VoterChange] = []
    for change in (change for head in heads for change in head.voter_changes_before):
        if not joined or change.point > joined[-1].point:
            joined.append(change)
    return tuple(joined)


def _joined(heads: list[SegmentHead]) -> tuple[Point, ...]:
    """The landmarks of several segments as those of one: of records' ends in a row the last one is enough."""
    joined: list[Point] = []
    for landmark in (landmark for head in heads for landmark in head.landmarks_before):
        if joined and landmark <= joined[-1]:
            continue  # the last head was told of it already, before a crash
        # Three of one term and rank: the first may be a zero-width item, the second is none.
        if len(joined) > 1 and joined[-2][::2] == joined[-1][::2] == landmark[::2]:
            joined.pop()
        joined.append(landmark)
    return tuple(joined)
