"""Records are due by the clock alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.bench.schedule import Schedule, share_of

rates = st.floats(0.01, 5e6)
starts = st.floats(0, 1e7)


def test_record_by_record_the_schedule_goes_on_whatever_the_answers_do() -> None:
    schedule = Schedule(start=100.0, per_second=10)
    assert [schedule.due_by(now) for now in (99.9, 100.0, 100.05, 100.1, 101.0)] == [0, 1, 1, 2, 11]


def test_records_that_waited_for_a_stalled_cluster_keep_the_times_they_were_due() -> None:
    schedule = Schedule(start=0.0, per_second=1000)
    sent = schedule.due_by(0.1)
    after_stall = schedule.due_by(2.1)
    assert after_stall - sent == 2000
    assert schedule.due(sent) < 0.102  # not 2.1: its latency holds the stall


def test_a_schedule_with_an_end_has_so_many_records_and_no_more() -> None:
    assert Schedule(0.0, 100, count=5).due_by(1000.0) == 5


@given(starts, rates, st.integers(0, 10**6))
def test_a_record_is_due_at_its_time_and_not_before(start: float, rate: float, index: int) -> None:
    schedule = Schedule(start, rate)
    due = schedule.due(index)
    assert schedule.due_by(due) >= index + 1
    assert schedule.due(schedule.due_by(due) - 1) <= due < schedule.due(schedule.due_by(due))


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_what_is_dealt_out_to_clients_is_all_of_it(total: int, clients: int) -> None:
    shares = [share_of(total, clients, number) for number in range(clients)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(st.integers(1, 16), st.integers(1, 200))
def test_the_schedules_of_several_clients_laid_over_each_other_are_the_schedule_of_one(
    clients: int, count: int
) -> None:
    whole = Schedule(0.0, 64.0, count)
    parts = [whole.of_client(number, clients) for number in range(clients)]
    due = sorted(part.due(index) for part in parts for index in range(part.count or 0))
    assert [round(at, 6) for at in due] == [round(whole.due(index), 6) for index in range(count)]


@given(starts, rates, st.integers(0, 10**6))
def test_what_is_due_before_a_time_is_not_due_at_it(start: float, rate: float, index: int) -> None:
    schedule = Schedule(start, rate)
    number = schedule.due_before(schedule.due(index))
    assert number <= index
    assert number == 0 or schedule.due(number - 1) < schedule.due(index)


@given(rates, st.integers(0, 1000), st.integers(0, 5000))
def test_of_each_record_that_waits_it_is_told_how_long_at_least_and_at_most_a_millisecond_less(
    rate: float, first: int, count: int
) -> None:
    schedule = Schedule(0.0, rate)
    end = first + count
    now = schedule.due(end) + 1.0
    told = [waited_s for waited_s, number in schedule.waits(first, end, now) for _ in range(number)]
    assert len(told) == count
    for index, waited_s in enumerate(told, first):
        assert waited_s <= now - schedule.due(index) <= waited_s + 0.001 + 1e-9


def test_a_hundred_million_records_that_wait_are_told_of_in_a_few_thousand_pieces() -> None:
    assert sum(1 for _ in Schedule(0.0, 1e8).waits(0, 2 * 10**8, 2.0)) == 2000
