"""A plan to move a group, before anybody is asked to carry it out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.client.offset_bounds import Bound
from lograft.client.records import TopicPartition
from lograft.client.seek_plan import LeftOut, SameAs, SeekGoal, SeekPlan, Shift, Standing, parse_goal, plan_moves
from lograft.proto.errors import InvalidRequest, OffsetOutOfRange

NOW_MS = 1_700_000_000_000
T0, T1, T2 = (TopicPartition("t", number) for number in range(3))


def a_standing(stored: int | None = 50, start: int = 10, end: int = 100, owner: str = "m1") -> Standing:
    return Standing(owner, stored, start, end, "id")


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("start", Bound("start")),
        ("end", Bound("end")),
        ("+5", Bound("start", 5)),
        ("-5", Bound("end", -5)),
        ("47", Bound("zero", 47)),
        ("@-1h", Bound("time", NOW_MS - 3_600_000)),
        ("@1699999999", Bound("time", 1_699_999_999_000)),
        ("shift:+3", Shift(3)),
        ("shift:-300", Shift(-300)),
        ("group:billing", SameAs("billing")),
        ("group:a:b", SameAs("a:b")),
    ],
)
def test_every_place_that_help_names_is_understood(text: str, goal: SeekGoal) -> None:
    assert parse_goal(text, now_ms=NOW_MS) == goal


@pytest.mark.parametrize(
    "text", ["", "stored", "shift:3", "shift:", "group:", "yesterday", "@soon", "start:end", "x" * 999]
)
def test_what_is_no_place_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InvalidRequest, match="shift:-N or group:NAME") as refusal:
        parse_goal(text, now_ms=NOW_MS)
    assert len(str(refusal.value)) < 400


def test_a_time_to_come_is_refused_but_a_clock_that_is_a_little_ahead_is_not() -> None:
    with pytest.raises(InvalidRequest, match=r"still to come.* use end"):
        parse_goal(f"@{NOW_MS + 61_000}", now_ms=NOW_MS)
    assert parse_goal(f"@{NOW_MS + 59_000}", now_ms=NOW_MS) == Bound("time", NOW_MS + 59_000)


@pytest.mark.parametrize(
    ("goal", "to", "change"),
    [
        (Bound("start"), 10, -40),
        (Bound("end"), 100, 50),
        (Bound("start", 5), 15, -35),
        (Bound("end", -5), 95, 45),
        (Bound("zero", 47), 47, -3),
        (Bound("zero", 100), 100, 50),
        (Shift(7), 57, 7),
        (Shift(-7), 43, -7),
    ],
)
def test_a_goal_is_an_offset_in_each_partition(goal: SeekGoal, to: int, change: int) -> None:
    (move,), left_out = plan_moves(goal, {T0: a_standing()}, {})
    assert (move.to_offset, move.change, move.is_cut_short, left_out) == (to, change, False, ())


@pytest.mark.parametrize(
    ("goal", "to"), [(Shift(-1000), 10), (Shift(1000), 100), (Bound("start", 1000), 100), (Bound("end", -1000), 10)]
)
def test_a_count_that_leads_out_of_the_log_stops_at_its_bound_and_says_so(goal: SeekGoal, to: int) -> None:
    (move,), _ = plan_moves(goal, {T0: a_standing()}, {})
    assert (move.to_offset, move.is_cut_short) == (to, True)


@pytest.mark.parametrize("offset", [9, 101])
def test_an_offset_that_a_partition_does_not_hold_is_refused_and_its_bounds_are_named(offset: int) -> None:
    with pytest.raises(OffsetOutOfRange, match="t-0 holds offsets from 10 up to 100"):
        plan_moves(Bound("zero", offset), {T0: a_standing()}, {})


def test_without_a_stored_offset_there_is_nothing_to_shift_but_all_else_can_be() -> None:
    standings = {T0: a_standing(stored=None), T1: a_standing()}
    moves, left_out = plan_moves(Shift(-1), standings, {})
    assert [move.partition for move in moves] == [T1]
    assert left_out == (LeftOut(T0, "nothing is stored to shift"),)
    moves, _ = plan_moves(Bound("start"), standings, {})
    assert [(move.partition, move.change) for move in moves] == [(T0, None), (T1, -40)]


def test_another_groups_offsets_are_taken_over_where_it_has_any_as_far_as_the_log_still_holds_them() -> None:
    standings = {T0: a_standing(), T1: a_standing(), T2: a_standing()}
    moves, left_out = plan_moves(SameAs("other"), standings, {T0: 60, T1: 3})
    assert [(move.partition, move.to_offset, move.is_cut_short) for move in moves] == [(T0, 60, False), (T1, 10, True)]
    assert left_out == (LeftOut(T2, "other has nothing stored there"),)


def test_a_plan_says_what_it_comes_to() -> None:
    standings = {
        T0: a_standing(stored=90, owner="m1"),
        T1: a_standing(stored=20, owner=""),
        T2: a_standing(stored=None),
    }
    plan = SeekPlan("g", 3, *plan_moves(Bound("zero", 50), standings, {}))
    assert plan.offsets == {T0: 50, T1: 50, T2: 50}
    assert (plan.records_back, plan.records_forward, plan.owners) == (40, 30, ("m1",))


@given(
    st.one_of(
        st.builds(Shift, st.integers(-(10**18), 10**18)),
        st.builds(Bound, st.just("start"), st.integers(0, 10**18)),
        st.builds(Bound, st.just("end"), st.integers(-(10**18), 0)),
        st.builds(Bound, st.just("time"), st.integers(0, 10**15)),
    ),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.one_of(st.none(), st.integers(0, 3000)),
)
def test_no_plan_leads_out_of_what_the_log_holds(goal: SeekGoal, start: int, length: int, stored: int | None) -> None:
    moves, left_out = plan_moves(goal, {T0: Standing("", stored, start, start + length)}, {T0: start + length // 2})
    assert len(moves) + len(left_out) == 1
    assert all(start <= move.to_offset <= start + length for move in moves)
