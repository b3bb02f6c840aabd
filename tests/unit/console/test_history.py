from __future__ import annotations

from lograft.node.console.history import History, per_second, total


def test_a_rate_is_taken_over_the_time_asked_for() -> None:
    history = History()
    for second in range(0, 60, 5):
        history.add("t", second * 1000, second * 100)
    assert history.rate("t", over_ms=10_000) == 100
    history.add("t", 60_000, 10_000)
    assert history.rate("t", over_ms=10_000) == (10_000 - 5_000) / 10


def test_of_few_samples_the_rate_is_over_all_there_are_and_of_one_there_is_none() -> None:
    history = History()
    assert history.rate("t") is None
    history.add("t", 1_000, 5)
    assert history.rate("t") is None
    history.add("t", 2_000, 8)
    assert history.rate("t") == 3


def test_a_count_that_went_back_or_is_not_known_is_no_rate() -> None:
    assert per_second(0, 10, 1_000, 5) is None
    assert per_second(0, None, 1_000, 5) is None
    assert per_second(1_000, 1, 1_000, 5) is None


def test_the_oldest_samples_give_way_and_series_are_bounded() -> None:
    history = History(samples_max=3, series_max=2)
    for at in range(1, 6):
        history.add("a", at, at)
    assert history.columns("a") == [[3, 4, 5], [3, 4, 5]]
    history.add("b", 1, 1)
    history.add("c", 1, 1)
    assert history.columns("c") == []
    history.keep_only({"b"})
    history.add("c", 1, 1)
    assert history.columns("a") == [] and history.columns("c") == [[1], [1]]


def test_a_clock_that_went_back_adds_nothing() -> None:
    history = History()
    history.add("a", 5, 1)
    history.add("a", 4, 2)
    assert history.columns("a") == [[5], [1]]


def test_a_sum_of_which_a_part_is_not_known_is_not_known() -> None:
    assert total([1, 2]) == 3 and total([]) == 0 and total([1, None]) is None
