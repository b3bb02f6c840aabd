"""When a log is compacted, and which of its segments become one. Planning alone: nothing is read or written.

Invariants
    only closed segments are compacted, from the first one on, and none past what the caller says is safe
    without a clock that can be trusted nothing is dropped for its age
    neighbours become one segment only while they fit, and only if they are of about the same age: so what is dropped by
        age, tombstones or whole segments, is not kept long by younger neighbours
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..raft.points import Point
from .rewriting import Group, Job, Outcome, Source
from .segments import ClosedSegment

AGE_STEPS = 8
"""Segments become one if they differ in age by no more than this part of the time that their age matters for."""


CLOCK_PAUSE_MS = 3_600_000
"""Without a clock to trust, until what was kept for its age is looked at again."""


class CompactionSettings(NamedTuple):
    """What a topic and its broker ask of compaction."""

    tombstones_ms: int
    """How long a tombstone is kept after it was written, at least, and the bounds of batches without records."""
    segment_bytes_max: int
    ages_ms: int | None = None
    """Segments are dropped at this age as well (`compact,delete`); None if they are not."""
    dirty_bytes_max: int = 256 << 20
    """More that was never compacted than this, and it is time; before, once it is more than what was."""
    table_bytes_max: int = 64 << 20
    index_interval_bytes: int = 64 << 10
    is_clock_trusted: bool = True
    """Else nobody knows how old anything is, and tombstones stay."""
    free_bytes_min: int = 0
    """Of the disk, that compaction leaves to others."""


class CompactionState:
    """What is known of one log's compaction since its replica was opened."""

    def __init__(self, rewritten_to: int) -> None:
        self.compacted_to = rewritten_to
        """Every segment that ends at or before this offset was compacted: only a guess that saves work, as what is
        wrong with it is put right by the next compaction."""
        self.leftovers_due_ms: int | None = None
        """When all tombstones that were kept will be old enough; None: there are none."""

    def note(self, job: Job, outcome: Outcome, now_ms: int, settings: CompactionSettings) -> None:
        """A compaction is over, and what it made is in place."""
        self.compacted_to = job.end.offset
        wait_ms = settings.tombstones_ms if settings.is_clock_trusted else max(settings.tombstones_ms, CLOCK_PAUSE_MS)
        self.leftovers_due_ms = now_ms + wait_ms if outcome.has_leftovers else None


def dirty_bytes(segments: Sequence[ClosedSegment], through: Point, compacted_to: int) -> int:
    """Bytes that could be compacted and never were."""
    return sum(one.size_bytes for one in segments if one.end <= through and one.end.offset > compacted_to)


def plan_compaction(
    directory: str,
    base: Point,
    segments: Sequence[ClosedSegment],
    through: Point,
    state: CompactionState,
    settings: CompactionSettings,
    now_ms: int,
) -> Job | None:
    """The work to do now, if it is time: `segments` are all closed ones, the first begins at `base`.

    Everything through `through` is committed, on this disk, and held by every follower that is catching up.
    """
    ready = [one for one in segments if one.end <= through]
    dirty = dirty_bytes(segments, through, state.compacted_to)
    clean = sum(one.size_bytes for one in ready) - dirty
    is_due = dirty > min(clean, settings.dirty_bytes_max)
    if state.leftovers_due_ms is not None and now_ms >= state.leftovers_due_ms:
        is_due = True
    if not ready or not is_due:
        return None
    groups: list[list[Source]] = []
    group_bytes, group_age = 0, (False, 0)
    for one in ready:
        is_ripe = settings.is_clock_trusted and now_ms - one.append_time_ms >= settings.tombstones_ms
        source = Source(base, one.size_bytes, is_ripe)
        age = (is_ripe, _age_step(one.append_time_ms, settings, is_ripe=is_ripe))
        if groups and age == group_age and group_bytes + one.size_bytes <= settings.segment_bytes_max:
            groups[-1].append(source)
            group_bytes += one.size_bytes
        else:
            groups.append([source])
            group_bytes, group_age = one.size_bytes, age
        base = one.end
    return Job(
        directory=directory,
        groups=tuple(Group(tuple(group)) for group in groups),
        end=base,
        table_bytes_max=settings.table_bytes_max,
        index_interval_bytes=settings.index_interval_bytes,
        free_bytes_min=settings.free_bytes_min,
    )


def _age_step(append_time_ms: int, settings: CompactionSettings, *, is_ripe: bool) -> int:
    """Segments of the same step may become one."""
    times = [time for time in (None if is_ripe else settings.tombstones_ms, settings.ages_ms) if time is not None]
    return append_time_ms // max(min(times) // AGE_STEPS, 1) if times else 0
