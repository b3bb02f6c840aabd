"""What a check found: one fact each, with the file, the position and what is to be done."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is. All but a note keep a directory from being clean."""

    NOTE = "note"
    """Nothing is lost or wrong: left over, or made again by the broker when it is needed."""
    DAMAGE = "damage"
    """Bytes that surely were on this disk are not what was written."""
    DOUBT = "doubt"
    """What may have been acknowledged is unreadable: the replica counts for nothing until a leader has helped it."""
    DIFFERENCE = "difference"
    """Two replicas hold different bytes at one place."""
    DANGER = "danger"
    """Fewer than a majority hold what a majority once acknowledged."""
    UNJUDGED = "unjudged"
    """A later version wrote it, or the system does not let it be read: it may be whole or not."""


class Finding(NamedTuple):
    level: Level
    path: str
    """Of the file, or of the directory if a file is missing."""
    what: str
    """One line."""
    remedy: str
    """What the broker does about it, and what the operator should do. Empty: nothing."""
    position: int | None = None
    """Of the first byte, in the file."""
    from_offset: int | None = None
    """The first offset that is affected; None if no record is."""
    to_offset: int | None = None
    """The first one that is not, as far as that can be told."""
    is_past_mark: bool = False

    @property
    def is_clean(self) -> bool:
        return self.level is Level.NOTE
