"""Points and the term journal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.partitions.raft.points import ORIGIN, Point, TermJournal


def next_points(last: Point) -> st.SearchStrategy[Point]:
    """What may follow `last` in a log."""
    options = [st.builds(lambda ahead: Point(last.term + ahead, last.offset, 1), st.integers(1, 3))]
    if last.term:
        options.append(st.builds(lambda width: last._replace(offset=last.offset + width), st.integers(1, 5)))
        options.append(st.just(last._replace(rank=last.rank + 1)))
    return st.one_of(options)


@st.composite
def logs(draw: st.DrawFn, size_max: int = 20) -> list[Point]:
    points = [ORIGIN]
    for _ in range(draw(st.integers(0, size_max))):
        points.append(draw(next_points(points[-1])))
    return points


def journal_of(points: list[Point]) -> TermJournal:
    journal = TermJournal()
    journal.extend_all(points[1:])
    return journal


@given(logs())
def test_points_of_a_log_rise_strictly(points: list[Point]) -> None:
    assert points == sorted(set(points))


@given(logs(), st.data())
def test_log_cut_to_a_point_is_the_log_that_never_went_further(points: list[Point], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(points) - 1))
    journal = journal_of(points)
    journal.cut(points[at])
    assert journal.spans == journal_of(points[: at + 1]).spans
    assert journal.last == points[at]


@given(logs())
def test_log_holds_all_its_points_and_nothing_past_its_end(points: list[Point]) -> None:
    journal = journal_of(points)
    assert all(journal.holds(point) for point in points)
    last = points[-1]
    assert not journal.holds(last._replace(offset=last.offset + 1, term=max(last.term, 1)))
    assert not journal.holds(Point(last.term + 1, last.offset, 1))


@given(logs(8), st.data())
def test_common_point_of_two_logs_is_found_in_at_most_one_step_a_term(points: list[Point], data: st.DataObject) -> None:
    """Two logs that share a prefix and then differ, as a leader and a follower find out by `floor`."""
    at = data.draw(st.integers(0, len(points) - 1))
    other = points[: at + 1]
    term = points[-1].term + 1
    other.append(Point(term, other[-1].offset, 1))
    for _ in range(data.draw(st.integers(0, 5))):
        other.append(data.draw(next_points(other[-1])))
    leader, follower = journal_of(other), journal_of(points)
    probe = leader.last
    for _ in range(len(leader.spans) + len(follower.spans) + 1):
        if follower.holds(probe):
            break
        probe = leader.floor(follower.floor(probe))
    assert probe == points[at]


@given(logs())
def test_rank_of_a_batch_follows_from_its_term_and_end(points: list[Point]) -> None:
    journal = journal_of(points)
    for before, point in itertools.pairwise(points):
        if point.offset > before.offset:
            assert journal.point_after_records(point.offset, point.term) == point


def test_term_of_an_offset_is_that_of_the_leader_that_wrote_it() -> None:
    journal = journal_of([ORIGIN, Point(1, 0, 1), Point(1, 3, 1), Point(4, 3, 1), Point(4, 5, 1)])
    assert [journal.term_at(offset) for offset in range(6)] == [1, 1, 1, 4, 4, 4]


@pytest.mark.parametrize("wrong", [Point(2, 4, 1), Point(2, 3, 2), Point(1, 3, 3), Point(1, 3, 1), Point(1, 2, 1)])
def test_item_that_cannot_follow_is_a_mistake(wrong: Point) -> None:
    journal = journal_of([ORIGIN, Point(1, 0, 1), Point(1, 3, 1)])
    with pytest.raises(AssertionError):
        journal.extend(wrong)
