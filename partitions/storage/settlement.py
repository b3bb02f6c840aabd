"""What follows from what was found when a log was read: does it end where it cannot be read on, or has it a hole there?
And all of the rest is brought onto the disk.

Invariants
    nothing is cut here: whoever asks cuts, and only where there is neither damage nor hole
    the doubt is durable (`on_doubt`) before anybody learns of a place that may be cut with something acknowledged
    what is past the mark is written again, not only synced, oldest first
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ..environment import Disk
from ..raft.points import ORIGIN, Point
from .recovery import Damage, Judgement, judge
from .repair import Hole, claims_beyond, points_of_heads
from .scan import Scan, Unreadable, evidence, look_beyond, points_beyond
from .segment import segment_path


class Flaw(NamedTuple):
    """What an unreadable place is."""

    doubtful: bool
    """Something that was acknowledged may be lost; `on_doubt` has been awaited."""
    damage: Damage | None
    hole: Hole | None
    """Both None: the log ends there."""


class Settlement:
    """Of one log, just read. Its files change meanwhile only as the methods say."""

    def __init__(self, disk: Disk, directory: str, found: Scan, mark: Point) -> None:
        self._disk = disk
        self._directory = directory
        self._found = found
        self._mark = mark
        self._end = found.contents.end if found.contents is not None else ORIGIN

    async def restore_heads(self, wall_ms: Callable[[], int]) -> None:
        """Write those that were lost, durably."""
        for segment, head in self._found.lost_heads:
            # Nothing says when the item before it was appended.
            dated = head.dated(max(head.append_time_ms, wall_ms()))
            segment.append_time_before_ms = dated.append_time_ms
            await segment.replace_head(dated)

    async def judge(
        self,
        unreadable: Unreadable,
        *,
        same_boot: bool,
        term_max: int,
        base: Point,
        on_doubt: Callable[[], Awaitable[None]],
    ) -> Flaw:
        """What the place is at which the log cannot be read on. For the arguments see `PartitionLog.recover`."""
        judgement = self._judge(unreadable, same_boot)
        if judgement is not Judgement.DAMAGE:
            doubtful = judgement is Judgement.DOUBT
            if doubtful:
                await on_doubt()
            return Flaw(doubtful, None, None)
        found = self._found
        beyond = look_beyond(self._disk, self._directory, found, unreadable, self._mark, term_max)
        doubtful = (
            beyond.ends_unreadable is not None
            and self._judge(beyond.ends_unreadable, same_boot, past_mark=True) is Judgement.DOUBT
        )
        if doubtful:
            await on_doubt()
        at = unreadable.segment
        path = f"{segment_path(self._directory, found.bases[at])}.log" if found.segments else self._directory
        damage = Damage(self._end, unreadable.why, beyond.highest, path, unreadable.position)
        return Flaw(doubtful, damage, self._hole(unreadable, term_max, base))

    async def keep(self) -> None:
        """Make sure that everything past the mark is on disk. OSError: the segment that failed is unsound."""
        segments = self._found.segments
        first, position = self._found.mark_place or (0, 0)
        for at, segment in enumerate(segments[first:], start=first):
            if at > first or position < segment.size or not position:
                try:
                    await segment.write_again(position if at == first else 0)
                except OSError:
                    segment.unsound = True
                    raise
        await self._disk.sync_directory(self._directory)
        for segment in segments[:-1]:
            segment.release()

    def _judge(self, unreadable: Unreadable, same_boot: bool, *, past_mark: bool = False) -> Judgement:
        facts = evidence(self._disk, self._directory, self._found, unreadable, mark=self._mark, same_boot=same_boot)
        return judge(facts._replace(before_mark=False) if past_mark else facts)

    def _hole(self, unreadable: Unreadable, term_max: int, known_base: Point) -> Hole:
        found, bases = self._found, tuple(self._found.bases)
        strays = points_beyond(self._disk, self._directory, found, unreadable, term_max)
        heads = points_of_heads(self._disk, self._directory, bases)
        known = claims_beyond(self._end, [self._mark, *heads, *strays])
        if found.contents is None:
            return Hole(ORIGIN, bases, -1, known_base, 0, known, is_error=unreadable.is_error)
        at = unreadable.segment
        base = found.segments[at].base if at < len(found.segments) else self._end
        return Hole(self._end, bases, at, base, unreadable.position, known, is_error=unreadable.is_error)
