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


def readable_batches(content: bytes, *, term: int, offset: int) -> Iterator[tuple[int, BatchHeader]]:
    """All batches in `content` with a good CRC that a log may hold past (term, offset), with their positions.

    Between two of them there may be anything. Terms and offsets of what is found never fall.
    """
    position = 0
    while position >= 0:
        try:
            header = verify(content, position)
        except CorruptBatch:
            header = None
        if header is not None and header.term >= term and header.base_offset >= offset:
            yield position, header
            term, offset = header.term, header.next_offset
            position += header.size
            if content[position + _MAGIC_FIELD.start : position + _MAGIC_FIELD.stop] == _MAGIC:
                continue
        magic = content.find(_MAGIC, position + 1 + _MAGIC_FIELD.start)
        position = magic - _MAGIC_FIELD.start if magic >= 0 else -1
