"""Latencies are told as HdrHistogram would tell them, from one process or from several."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.bench.histogram import Histogram, bucket_of, highest_in

microseconds = st.integers(0, 10**11)


def a_histogram(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value / 1e6)
    return histogram


@given(microseconds)
def test_a_value_is_told_within_a_thousandth_of_what_it_was(value: int) -> None:
    told = highest_in(bucket_of(value))
    assert value <= told <= value + value / 1000


@given(microseconds)
def test_buckets_lie_beside_each_other_and_in_the_order_of_their_values(value: int) -> None:
    assert bucket_of(highest_in(bucket_of(value)) + 1) == bucket_of(value) + 1


@given(st.lists(microseconds.map(lambda value: value % 3_600_000_000 + 1), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_well_known_library(values: list[int]) -> None:
    from hdrh.histogram import HdrHistogram

    theirs, ours = HdrHistogram(1, 3_600_000_000, 3), Histogram()
    for value in values:  # a thousand times each: theirs rounds a rank to the nearest, where ours takes the next above
        theirs.record_value(value, 1000)
        ours.record(value / 1e6, 1000)
    for percent in (1, 50, 90, 99, 99.9, 100):
        told = theirs.get_value_at_percentile(percent)
        assert ours.percentile_us(percent) == min(told, max(values))


@given(st.lists(st.lists(microseconds, max_size=30), max_size=5))
def test_histograms_of_several_processes_together_are_the_histogram_of_one(parts: list[list[int]]) -> None:
    together = Histogram()
    for part in parts:
        together.add(a_histogram(part))
    alone = a_histogram([value for part in parts for value in part])
    assert together.summary_ms() == alone.summary_ms()
    assert sorted(together.packed()) == sorted(alone.packed())
    assert together.min_us == alone.min_us


def test_percentiles_count_upwards_to_the_exact_maximum() -> None:
    histogram = a_histogram([number * 1000 for number in range(1, 1001)])
    assert histogram.summary_ms() == {
        "p50": 500.223,  # the highest value that its bucket counts
        "p90": 900.095,
        "p99": 990.207,
        "p99_9": 999.423,
        "max": 1000.0,
        "count": 1000,
    }


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    histogram = a_histogram([1, 2, 3, 4])
    assert [histogram.percentile_us(percent) for percent in (0, 25, 25.1, 50, 75, 99, 100)] == [1, 1, 2, 2, 3, 4, 4]


def test_nothing_measured_is_told_as_nothing_and_a_clock_that_went_back_as_zero() -> None:
    histogram = Histogram()
    assert histogram.percentile_us(99) == 0
    assert histogram.packed() == []
    histogram.record(-0.001)
    assert (histogram.count, histogram.max_us) == (1, 0)


def test_one_call_counts_many_records_that_took_equally_long() -> None:
    histogram = Histogram()
    histogram.record(0.001, 99)
    histogram.record(1.0)
    assert (histogram.count, histogram.percentile_us(99), histogram.percentile_us(99.5)) == (100, 1000, 1_000_000)
