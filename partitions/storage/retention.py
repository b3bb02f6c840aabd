"""How much of a log is kept: a judgement about whole closed segments, by size, by age, and by who still needs them.

Invariants
    only segments that are committed to their end are given up, oldest first, and never the one that is appended to
    without a clock that can be trusted nothing is given up for its age
    a follower that is slow, but there, delays this; by no more bytes than it may
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..raft.points import Point
from .segments import ClosedSegment


class RetentionLimits(NamedTuple):
    """What a partition may keep. None: without limit."""

    ms_max: int | None = None
    """A segment whose last item the leader appended longer ago than this is given up."""
    bytes_max: int | None = None
    """The oldest segment is given up while the others alone have so many bytes."""
    follower_bytes_max: int = 1 << 30
    """Of segments that would be given up, but are kept for a follower that has not got them yet."""


def start_to_keep(
    segments: Sequence[ClosedSegment],
    active_bytes: int,
    *,
    start_offset: int,
    committed: Point,
    limits: RetentionLimits,
    now_ms: int | None,
    followers: Iterable[int],
) -> int:
    """Where the log should start.

    `now_ms` is the leader's wall clock, None if it cannot be trusted; `followers` are the log ends of those in touch.
    """
    given_up = _past_limits(segments, active_bytes, committed, limits, now_ms)
    needed_from = min(followers, default=None)
    if needed_from is not None:
        kept_for_follower = [segment for segment in given_up if segment.end.offset > needed_from]
        kept_bytes = sum(segment.size_bytes for segment in kept_for_follower)
        while kept_bytes > limits.follower_bytes_max:
            kept_bytes -= kept_for_follower.pop(0).size_bytes
        given_up = given_up[: len(given_up) - len(kept_for_follower)]
    return max([start_offset, *(segment.end.offset for segment in given_up[-1:])])


def _past_limits(
    segments: Sequence[ClosedSegment],
    active_bytes: int,
    committed: Point,
    limits: RetentionLimits,
    now_ms: int | None,
) -> list[ClosedSegment]:
    left_bytes = active_bytes + sum(segment.size_bytes for segment in segments)
    found: list[ClosedSegment] = []
    for segment in segments:
        left_bytes -= segment.size_bytes
        too_much = limits.bytes_max is not None and left_bytes >= limits.bytes_max
        too_old = limits.ms_max is not None and now_ms is not None and now_ms - segment.append_time_ms > limits.ms_max
        if segment.end > committed or not (too_much or too_old):
            break
        found.append(segment)
    return found
