"""What several processes counted becomes one rate, of one window."""

from __future__ import annotations

import pytest
from lograft.client.bench.histogram import Histogram
from lograft.client.bench.merging import Gathered, figures_of
from lograft.client.bench.order import Told
from lograft.client.bench.timeline import Span, Timeline, common_window


def a_timeline(start: float, seconds: float, per_second: int, size: int = 100) -> Timeline:
    timeline = Timeline()
    for number in range(round(seconds * per_second)):
        timeline.add(start + number / per_second, 1, size)
    return timeline


def told(timeline: Timeline, span: tuple[float, float] | None, latencies: tuple[float, ...] = ()) -> Told:
    histogram = Histogram()
    for latency in latencies:
        histogram.record(latency)
    return Told(state="done", produced=timeline.packed(), produce_span=span, acknowledged=histogram.packed())


def test_a_rate_is_what_was_done_in_the_window_in_which_all_were_at_work_divided_by_that_window() -> None:
    gathered = Gathered()
    gathered.take(0, told(a_timeline(10, 10, 1000), (10.0, 20.0)))
    gathered.take(1, told(a_timeline(10, 2, 5000), (10.0, 12.0)))  # done early: 10,000 in 2 s, then nothing
    amount = figures_of(gathered).produced
    assert amount is not None
    assert amount.seconds == pytest.approx(2.0, abs=0.01)
    assert amount.records_per_s == pytest.approx(6000, rel=0.01)
    assert amount.mb_per_s == pytest.approx(0.6, rel=0.01)
    assert any("2.00 s in which all clients were at work, of 10.00 s" in note for note in figures_of(gathered).notes)


def test_rates_over_different_windows_are_not_added() -> None:
    gathered = Gathered()
    gathered.take(0, told(a_timeline(0, 1, 1000), (0.0, 1.0)))
    gathered.take(1, told(a_timeline(5, 1, 1000), (5.0, 6.0)))
    figures = figures_of(gathered)
    assert figures.produced is not None
    assert figures.produced.records_per_s == pytest.approx(2000 / 6, rel=0.01)
    assert any("never all at work at once" in note for note in figures.notes)


def test_what_comes_in_parts_and_in_any_order_is_the_same_as_all_at_once() -> None:
    early, late = a_timeline(10, 1, 100), a_timeline(11, 1, 100)
    gathered = Gathered()
    gathered.take(0, Told(state="working", produced=late.packed()))
    gathered.take(0, told(early, (10.0, 11.99)))
    amount = figures_of(gathered).produced
    assert amount is not None
    assert amount.records == 200


def test_warm_up_and_what_is_answered_after_the_end_are_not_counted() -> None:
    gathered = Gathered()
    gathered.take(0, told(a_timeline(0, 10, 1000), (2.0, 5.0)))
    amount = figures_of(gathered).produced
    assert amount is not None
    assert amount.records_per_s == pytest.approx(1000, rel=0.001)
    assert amount.records == pytest.approx(3000, abs=2)


def test_a_run_shorter_than_a_millisecond_counts_all_its_records_and_divides_by_no_zero() -> None:
    gathered = Gathered()
    timeline = Timeline()
    timeline.add(7.0004, 5, 500)
    gathered.take(0, told(timeline, (7.0001, 7.0004)))
    amount = figures_of(gathered).produced
    assert amount is not None
    assert (amount.records, amount.seconds) == (5, 0.001)


def test_consumers_beside_producers_are_measured_in_the_producers_window() -> None:
    gathered = Gathered()
    gathered.take(0, told(a_timeline(10, 4, 1000), (10.0, 14.0)))
    read = Told(state="done", consumed=a_timeline(10, 8, 500).packed(), consume_span=(10.0, 18.0))
    gathered.take(1, read)
    figures = figures_of(gathered)
    assert figures.consumed is not None
    assert figures.consumed.records_per_s == pytest.approx(500, rel=0.01)
    assert figures.consumed.seconds == pytest.approx(4.0, abs=0.01)


def test_latencies_are_of_all_clients_and_the_weakest_acknowledgement_is_the_one_told() -> None:
    gathered = Gathered()
    one = told(Timeline(), None, (0.001,) * 99)
    one.weakest = ("fsync", 3, 3)
    other = told(Timeline(), None, (0.5,))
    other.weakest = ("fsync", 2, 3)
    gathered.take(0, one)
    gathered.take(1, other)
    figures = figures_of(gathered)
    assert figures.acknowledged.summary_ms() == {
        "p50": 1.0, "p90": 1.0, "p99": 1.0, "p99_9": 500.0, "max": 500.0, "count": 100,
    }  # fmt: skip
    assert str(figures.weakest) == "fsync x 2 of 3"
    memory = Told(state="working", weakest=("memory", 3, 3))
    gathered.take(0, memory)
    assert str(figures_of(gathered).weakest) == "memory x 3 of 3"


def test_what_ended_within_its_warm_up_measured_nothing() -> None:
    gathered = Gathered()
    gathered.take(0, told(a_timeline(0, 1, 100), None))
    assert figures_of(gathered).produced is None


def test_the_common_window_is_from_the_last_start_to_the_first_end() -> None:
    assert common_window([Span(1, 9), Span(2, 8), Span(0, 10)]) == (Span(2, 8), True)
    assert common_window([Span(0, 1), Span(3, 4)]) == (Span(0, 4), False)


def test_a_long_run_takes_no_more_memory_than_a_short_one_and_loses_nothing() -> None:
    timeline = Timeline()
    for number in range(200_000):
        timeline.add(number / 100, 2, 10)
    assert len(timeline.packed()) <= 3 * 50_000
    assert (timeline.records, timeline.bytes) == (400_000, 2_000_000)
    assert timeline.within(Span(500.0, 1500.0)).records_per_s == pytest.approx(200, rel=0.001)
    copied = Timeline()
    copied.add_packed(timeline.packed())
    assert copied.within(Span(500.0, 1500.0)).records_per_s == pytest.approx(200, rel=0.001)


def test_recent_latencies_are_told_once() -> None:
    gathered = Gathered()
    gathered.take(0, told(Timeline(), None, (0.1, 0.2)))
    assert gathered.take_recent().count == 2
    assert gathered.take_recent().count == 0
