"""What an unreadable place in a log means. Judgement alone: whoever asks has read the bytes.

Invariants
    before the mark nothing is ever cut: what is unreadable there is damage
    past the mark, only what surely never was acknowledged is cut without a doubt
    a wrong judgement errs towards doubt or damage, which a leader or the peers can lift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ...proto.errors import CorruptBatch
from ...proto.record_batch import HEADER_SIZE, BatchHeader, verify
from ..raft.points import Point

SECTOR_BYTES = 512

_LENGTH_FIELD = range(8, 12)
_MAGIC_FIELD = range(16, 17)
_MAGIC = b"\x02"
_SIZE_BEFORE_LENGTH = 12


class Judgement(Enum):
    DAMAGE = "damage"
    """The disk surely held what was here: repair it, cut nothing."""
    UNFINISHED = "unfinished"
    """Never acknowledged: the log ends before it."""
    DOUBT = "doubt"
    """May have been acknowledged: the log ends before it, and the replica is doubtful."""


class Evidence(NamedTuple):
    """What is known of an unreadable place."""

    before_mark: bool
    same_boot: bool
    """The page cache into which it was written is still there."""
    runs_past_end: bool
    """The file ends before the item does."""
    holds_zero_sector: bool
    items_beyond: bool
    """Readable items stand after it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A hole in a log, at which its usable part ends."""

    where: Point
    """The last point before the hole."""
    why: str
    word: Point
    """What the replica once held, as its mark or a readable item beyond the hole shows."""
    path: str
    position: int


@dataclass(frozen=True, slots=True)
class RecoveryVerdict:
    """What recovery found, and did."""

    damage: Damage | None = None
    doubtful: bool = False
    """Newly so; `on_doubt` has been awaited."""
    where: Point | None = None
    """The last point before the unreadable place; None if there was none."""
    why: str = ""
    cut_bytes: int = 0


def judge(evidence: Evidence) -> Judgement:
    if evidence.before_mark:
        return Judgement.DAMAGE
    if evidence.same_boot:
        # The page cache holds what was written in the order in which it was written. An item with others behind it
        # was finished once, whatever its length field says now.
        unfinished = evidence.runs_past_end and not evidence.items_beyond
    else:
        unfinished = evidence.runs_past_end or evidence.holds_zero_sector
    return Judgement.UNFINISHED if unfinished else Judgement.DOUBT


def holds_zero_sector(content: bytes, position: int) -> bool:
    """Does the item at the start of `content` show that a part of it never reached the disk?

    `content` is the rest of the file from `position` on. The item shows it by a whole aligned sector of zeros within
    its length; or, if even its length or its magic is zero, which no written item has, by having left nothing from
    there to the end of the sector.
    """
    if any(_left_nothing(content, position, field) for field in (_LENGTH_FIELD, _MAGIC_FIELD)):
        return True
    size = int.from_bytes(content[_LENGTH_FIELD.start : _LENGTH_FIELD.stop], "big", signed=True) + _SIZE_BEFORE_LENGTH
    if size < HEADER_SIZE:
        return False
    first = -position % SECTOR_BYTES
    last = min(size, len(content)) - SECTOR_BYTES
    zeros = bytes(SECTOR_BYTES)
    return any(content[at : at + SECTOR_BYTES] == zeros for at in range(first, last + 1, SECTOR_BYTES))


def _left_nothing(content: bytes, position: int, field: range) -> bool:
    begin = max(0, field.start - (position + field.start) % SECTOR_BYTES)
    end = field.stop + -(position + field.stop) % SECTOR_BYTES
    return len(content) >= field.stop and not any(content[begin:end])


def readable_batches(content: bytes) -> Iterator[tuple[int, BatchHeader]]:
    """All batches in `content` with a good CRC, with their positions. Between two of them there may be anything."""
    position = 0
    while position >= 0:
        try:
            header = verify(content, position)
        except CorruptBatch:
            header = None
        if header is not None:
            yield position, header
            position += header.size
            if content[position + _MAGIC_FIELD.start : position + _MAGIC_FIELD.stop] == _MAGIC:
                continue
        magic = content.find(_MAGIC, position + 1 + _MAGIC_FIELD.start)
        position = magic - _MAGIC_FIELD.start if magic >= 0 else -1


class Stray(NamedTuple):
    """A readable item beyond an unreadable place, as far as it can be believed."""

    position: int
    size_bytes: int
    term: int
    next_offset: int
    is_zero_width: bool
    is_confirmed: bool
    """The item before or behind it says the same of its place."""


def stray_items(content: bytes, *, after: Point, term_max: int, follows: bool = True) -> list[Stray]:
    """The readable items in `content`, which begins at an unreadable place of a log that can be read to `after`.

    An item's term and base offset lie outside its CRC. So it is believed if its neighbour agrees, or if it has none;
    if its neighbours contradict it, it stands where they leave room for it. `follows` is False if the content does not
    begin right behind `after`.
    """
    found = list(readable_batches(content))
    strays: list[Stray] = []
    left: Stray | None = None
    for at, (position, header) in enumerate(found):
        if left is not None and left.position + left.size_bytes != position:
            left = None
        right = found[at + 1][1] if at + 1 < len(found) and found[at + 1][0] == position + header.size else None
        term, base_offset = header.term, header.base_offset
        expected: tuple[int, int] | None = None
        if left is not None:
            expected = (left.term, left.next_offset)
        elif position == 0 and follows:
            expected = after[:2]
        is_left = expected is not None and _may_follow(expected, header)
        is_right = right is not None and _may_follow((term, header.next_offset), right)
        is_confirmed = (is_left and left is not None) or is_right
        if not is_left and not is_right:
            if expected is not None:
                term, base_offset = expected
            elif right is not None and at + 2 < len(found) and _may_follow(_end_of(right), found[at + 2][1]):
                left = None
                continue  # the one behind it knows better, and stands further
        if (term, base_offset) < after[:2] or term > term_max:
            left = None
            continue
        left = Stray(position, header.size, term, base_offset + header.width, header.width == 0, is_confirmed)
        strays.append(left)
    return strays


def _end_of(header: BatchHeader) -> tuple[int, int]:
    return header.term, header.next_offset


def _may_follow(before: tuple[int, int], header: BatchHeader) -> bool:
    """Can the item with this header stand right behind one of that term and end offset?"""
    term, offset = before
    return header.base_offset == offset and (header.term == term or (header.term > term and header.width == 0))
