"""What a log may forget, by size, by age, and by who still needs it."""

from __future__ import annotations

from lograft.partitions.raft.points import Point
from lograft.partitions.storage.retention import RetentionLimits, start_to_keep
from lograft.partitions.storage.segments import ClosedSegment

COMMITTED = Point(1, 1_000, 1)


def segments(*times_ms: int, size_bytes: int = 100) -> list[ClosedSegment]:
    """Segments of ten records and 100 bytes each, the last item of each appended at that time."""
    return [
        ClosedSegment(at * 10, Point(1, at * 10 + 10, 1), size_bytes, time_ms) for at, time_ms in enumerate(times_ms)
    ]


def start(
    kept: list[ClosedSegment],
    limits: RetentionLimits,
    *,
    now_ms: int | None = 0,
    start_offset: int = 0,
    committed: Point = COMMITTED,
    followers: tuple[int, ...] = (),
    active_bytes: int = 50,
) -> int:
    return start_to_keep(
        kept,
        active_bytes,
        start_offset=start_offset,
        committed=committed,
        limits=limits,
        now_ms=now_ms,
        followers=followers,
    )


def test_without_limits_all_is_kept() -> None:
    assert start(segments(1, 2, 3), RetentionLimits(), now_ms=1 << 60) == 0


def test_by_size_at_least_so_much_is_kept_and_less_than_a_segment_more() -> None:
    kept = segments(0, 0, 0, 0, 0)  # 550 bytes with the one that is appended to
    for bytes_max, first in ((1_000, 0), (550, 0), (451, 0), (450, 10), (251, 20), (250, 30), (50, 50), (1, 50)):
        assert start(kept, RetentionLimits(bytes_max=bytes_max)) == first, bytes_max


def test_by_age_a_segment_goes_once_its_youngest_item_is_too_old() -> None:
    kept = segments(1_000, 2_000, 3_000)
    limits = RetentionLimits(ms_max=500)
    assert [start(kept, limits, now_ms=now) for now in (1_500, 1_501, 2_501, 99_999)] == [0, 10, 20, 30]


def test_a_young_segment_keeps_those_after_it() -> None:
    """A clock that was wrong for a while made the second: what comes later does not overtake it."""
    assert start(segments(1_000, 9_000, 2_000), RetentionLimits(ms_max=500), now_ms=5_000) == 10


def test_with_a_clock_that_cannot_be_trusted_nothing_goes_for_its_age_but_still_for_its_size() -> None:
    kept = segments(1, 1, 1)
    assert start(kept, RetentionLimits(ms_max=1), now_ms=None) == 0
    assert start(kept, RetentionLimits(ms_max=1, bytes_max=150), now_ms=None) == 20


def test_what_is_not_committed_is_kept() -> None:
    kept, limits = segments(1, 1, 1), RetentionLimits(bytes_max=1)
    assert start(kept, limits, committed=Point(1, 20, 1)) == 20
    assert start(kept, limits, committed=Point(1, 19, 1)) == 10


def test_the_start_does_not_move_back() -> None:
    assert start(segments(1, 1, 1), RetentionLimits(bytes_max=250), start_offset=25) == 25


def test_a_slow_follower_holds_back_what_it_lacks() -> None:
    kept = segments(*[1] * 6)
    limits = RetentionLimits(bytes_max=1, follower_bytes_max=10_000)
    assert start(kept, limits, followers=(60, 35)) == 30
    assert start(kept, limits, followers=(60, 60)) == 60
    assert start(kept, limits, followers=(0, 60)) == 0


def test_a_slow_follower_holds_back_no_more_than_it_may() -> None:
    kept = segments(*[1] * 6)
    for bytes_max, first in ((600, 0), (599, 10), (250, 40), (99, 60), (0, 60)):
        assert start(kept, RetentionLimits(bytes_max=1, follower_bytes_max=bytes_max), followers=(0,)) == first
